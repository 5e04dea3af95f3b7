
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_sha1.h>
#include "ngx_http_lunary_auth.h"


#define NGX_HTTP_LUNARY_SECRET_LEN  64
#define NGX_HTTP_LUNARY_DIGEST_LEN  20


/* a verdict: the key itself is nowhere in it */

typedef struct {
    ngx_str_node_t          node;       /* "str" is the digest */
    ngx_queue_t             queue;      /* the last used first */
    ngx_msec_t              expires;
    u_char                  digest[NGX_HTTP_LUNARY_DIGEST_LEN];
    u_char                  project[NGX_LUNARY_UUID_LEN];
} ngx_http_lunary_cache_node_t;


typedef struct {
    ngx_rbtree_t            rbtree;
    ngx_rbtree_node_t       sentinel;
    ngx_queue_t             queue;
    u_char                  secret[NGX_HTTP_LUNARY_SECRET_LEN];
} ngx_http_lunary_cache_sh_t;


static ngx_http_lunary_key_e ngx_http_lunary_x_api_key(ngx_http_request_t *r,
    u_char *key);
static ngx_int_t ngx_http_lunary_cache_secret(u_char *secret, ngx_log_t *log);
static void ngx_http_lunary_cache_digest(ngx_http_lunary_cache_sh_t *sh,
    uint64_t *database, u_char *key, u_char *digest);
static uint32_t ngx_http_lunary_cache_hash(u_char *digest);
static ngx_http_lunary_cache_node_t *ngx_http_lunary_cache_lookup(
    ngx_http_lunary_cache_sh_t *sh, u_char *digest);
static ngx_http_lunary_cache_node_t *ngx_http_lunary_cache_room(
    ngx_slab_pool_t *shpool, ngx_http_lunary_cache_sh_t *sh);
static void ngx_http_lunary_cache_remove(ngx_slab_pool_t *shpool,
    ngx_http_lunary_cache_sh_t *sh, ngx_http_lunary_cache_node_t *node);


static ngx_str_t  ngx_http_lunary_key_messages[] = {
    ngx_null_string,
    ngx_string("Missing API key"),
    ngx_string("Invalid access token"),
    ngx_string("Invalid API key"),
    ngx_string("This route requires a private API key"),
    ngx_string("Org API key cannot access this route")
};


ngx_http_lunary_key_e
ngx_http_lunary_credential(ngx_http_request_t *r, u_char *key)
{
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL) {
        return ngx_http_lunary_x_api_key(r, key);
    }

    return ngx_lunary_uuid_bearer(h->value.data, h->value.len, key) == NGX_OK
           ? NGX_HTTP_LUNARY_KEY_PRIVATE : NGX_HTTP_LUNARY_KEY_INVALID;
}


static ngx_http_lunary_key_e
ngx_http_lunary_x_api_key(ngx_http_request_t *r, u_char *key)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    static const ngx_str_t  name = ngx_string("x-api-key");

    found = NULL;
    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len != name.len
            || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
        {
            continue;
        }

        if (found) {
            return NGX_HTTP_LUNARY_KEY_INVALID;
        }

        found = &h[i];
    }

    if (found == NULL) {
        return NGX_HTTP_LUNARY_KEY_NONE;
    }

    return ngx_lunary_uuid_parse(found->value.data, found->value.len, key)
           == NGX_OK
           ? NGX_HTTP_LUNARY_KEY_PRIVATE : NGX_HTTP_LUNARY_KEY_INVALID;
}


ngx_str_t *
ngx_http_lunary_key_message(ngx_http_lunary_key_e verdict)
{
    return &ngx_http_lunary_key_messages[verdict];
}


char *
ngx_http_lunary_challenge(ngx_http_lunary_key_e verdict)
{
    return verdict == NGX_HTTP_LUNARY_KEY_NONE
           ? "Bearer realm=\"lunary\""
           : "Bearer realm=\"lunary\", error=\"invalid_token\"";
}


ngx_int_t
ngx_http_lunary_cache_init(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t             *shpool;
    ngx_http_lunary_cache_sh_t  *sh;

    /* a reload keeps the verdicts, and the secret they are kept under */

    if (data) {
        zone->data = data;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    sh = ngx_slab_calloc(shpool, sizeof(ngx_http_lunary_cache_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_lunary_cache_secret(sh->secret, zone->shm.log) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&sh->rbtree, &sh->sentinel, ngx_str_rbtree_insert_value);
    ngx_queue_init(&sh->queue);

    /* a full cache is no fault: the least used verdict makes room */
    shpool->log_nomem = 0;

    zone->data = sh;

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_cache_secret(u_char *secret, ngx_log_t *log)
{
    ssize_t   n;
    ngx_fd_t  fd;

    fd = ngx_open_file("/dev/urandom", NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                      ngx_open_file_n " \"/dev/urandom\" failed");
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, secret, NGX_HTTP_LUNARY_SECRET_LEN);

    if (n != NGX_HTTP_LUNARY_SECRET_LEN) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                      ngx_read_fd_n " \"/dev/urandom\" failed");
    }

    (void) ngx_close_file(fd);

    return n == NGX_HTTP_LUNARY_SECRET_LEN ? NGX_OK : NGX_ERROR;
}


/*
 * the lengths are fixed, so that nothing can be appended; the secret before
 * and after is what makes the digest worth nothing to who reads the memory
 */

static void
ngx_http_lunary_cache_digest(ngx_http_lunary_cache_sh_t *sh,
    uint64_t *database, u_char *key, u_char *digest)
{
    ngx_sha1_t  sha1;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, sh->secret, NGX_HTTP_LUNARY_SECRET_LEN);
    ngx_sha1_update(&sha1, database, 2 * sizeof(uint64_t));
    ngx_sha1_update(&sha1, key, NGX_LUNARY_UUID_LEN);
    ngx_sha1_final(digest, &sha1);
}


static uint32_t
ngx_http_lunary_cache_hash(u_char *digest)
{
    uint32_t  hash;

    ngx_memcpy(&hash, digest, sizeof(uint32_t));

    return hash;
}


static ngx_http_lunary_cache_node_t *
ngx_http_lunary_cache_lookup(ngx_http_lunary_cache_sh_t *sh, u_char *digest)
{
    ngx_str_t  str;

    str.data = digest;
    str.len = NGX_HTTP_LUNARY_DIGEST_LEN;

    return (ngx_http_lunary_cache_node_t *)
               ngx_str_rbtree_lookup(&sh->rbtree, &str,
                                     ngx_http_lunary_cache_hash(digest));
}


ngx_http_lunary_cache_e
ngx_http_lunary_cache_find(ngx_shm_zone_t *zone, uint64_t *database,
    u_char *key, u_char *project)
{
    u_char                         digest[NGX_HTTP_LUNARY_DIGEST_LEN];
    ngx_slab_pool_t               *shpool;
    ngx_http_lunary_cache_e        found;
    ngx_http_lunary_cache_sh_t    *sh;
    ngx_http_lunary_cache_node_t  *cn;

    sh = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    ngx_http_lunary_cache_digest(sh, database, key, digest);

    ngx_shmtx_lock(&shpool->mutex);

    cn = ngx_http_lunary_cache_lookup(sh, digest);

    if (cn == NULL) {
        found = NGX_HTTP_LUNARY_CACHE_MISS;

    } else if ((ngx_msec_int_t) (ngx_current_msec - cn->expires) >= 0) {
        ngx_http_lunary_cache_remove(shpool, sh, cn);
        found = NGX_HTTP_LUNARY_CACHE_EXPIRED;

    } else {
        ngx_queue_remove(&cn->queue);
        ngx_queue_insert_head(&sh->queue, &cn->queue);
        ngx_memcpy(project, cn->project, NGX_LUNARY_UUID_LEN);
        found = NGX_HTTP_LUNARY_CACHE_HIT;
    }

    ngx_shmtx_unlock(&shpool->mutex);

    return found;
}


void
ngx_http_lunary_cache_keep(ngx_shm_zone_t *zone, uint64_t *database,
    u_char *key, u_char *project, ngx_msec_t expires)
{
    u_char                         digest[NGX_HTTP_LUNARY_DIGEST_LEN];
    ngx_slab_pool_t               *shpool;
    ngx_http_lunary_cache_sh_t    *sh;
    ngx_http_lunary_cache_node_t  *cn;

    sh = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    ngx_http_lunary_cache_digest(sh, database, key, digest);

    ngx_shmtx_lock(&shpool->mutex);

    cn = ngx_http_lunary_cache_lookup(sh, digest);

    if (cn == NULL) {
        cn = ngx_http_lunary_cache_room(shpool, sh);

        if (cn == NULL) {
            ngx_shmtx_unlock(&shpool->mutex);
            return;
        }

        ngx_memcpy(cn->digest, digest, NGX_HTTP_LUNARY_DIGEST_LEN);
        cn->node.node.key = ngx_http_lunary_cache_hash(digest);
        cn->node.str.data = cn->digest;
        cn->node.str.len = NGX_HTTP_LUNARY_DIGEST_LEN;

        ngx_rbtree_insert(&sh->rbtree, &cn->node.node);

    } else {
        ngx_queue_remove(&cn->queue);
    }

    ngx_queue_insert_head(&sh->queue, &cn->queue);

    ngx_memcpy(cn->project, project, NGX_LUNARY_UUID_LEN);
    cn->expires = expires;

    ngx_shmtx_unlock(&shpool->mutex);
}


/* where there is none, the verdict that was used least recently leaves */

static ngx_http_lunary_cache_node_t *
ngx_http_lunary_cache_room(ngx_slab_pool_t *shpool,
    ngx_http_lunary_cache_sh_t *sh)
{
    ngx_queue_t                   *q;
    ngx_http_lunary_cache_node_t  *cn;

    for ( ;; ) {

        cn = ngx_slab_alloc_locked(shpool,
                                   sizeof(ngx_http_lunary_cache_node_t));

        if (cn || ngx_queue_empty(&sh->queue)) {
            return cn;
        }

        q = ngx_queue_last(&sh->queue);

        ngx_http_lunary_cache_remove(shpool, sh,
                                     ngx_queue_data(q,
                                                ngx_http_lunary_cache_node_t,
                                                queue));
    }
}


static void
ngx_http_lunary_cache_remove(ngx_slab_pool_t *shpool,
    ngx_http_lunary_cache_sh_t *sh, ngx_http_lunary_cache_node_t *node)
{
    ngx_queue_remove(&node->queue);
    ngx_rbtree_delete(&sh->rbtree, &node->node.node);
    ngx_slab_free_locked(shpool, node);
}
