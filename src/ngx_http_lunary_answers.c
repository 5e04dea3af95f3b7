
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_answers.h"


/*
 * no answer is older, and none was seen longer ago, in milliseconds: columns
 * may come and go without a new version of the rows
 */
#define NGX_HTTP_LUNARY_ANSWERS_AGE    10000

/*
 * where fewer pages are free, an answer makes room for others only when it was
 * not asked for as long: with more of them in use than there is room for, most
 * would else be replaced before they are of use
 */
#define NGX_HTTP_LUNARY_ANSWERS_FREE   32
#define NGX_HTTP_LUNARY_ANSWERS_REST   5000

/* an answer takes no more than this part of the memory */
#define NGX_HTTP_LUNARY_ANSWERS_SHARE  8


/* what an answer is the answer to; it has no holes */

typedef struct {
    uint64_t                          database[2];
    u_char                            project[NGX_LUNARY_UUID_LEN];
    u_char                            run[NGX_LUNARY_UUID_LEN];
    uint64_t                          null_fields;
} ngx_http_lunary_answer_key_t;


/* a page each, as the slab allocator has them */

typedef struct ngx_http_lunary_answer_part_s  ngx_http_lunary_answer_part_t;

struct ngx_http_lunary_answer_part_s {
    ngx_http_lunary_answer_part_t    *next;
    size_t                            len;
    u_char                            data[1];
};


typedef struct {
    ngx_str_node_t                    node;     /* "str" is the key */
    ngx_queue_t                       queue;    /* the last used first */
    ngx_http_lunary_answer_key_t      key;
    ngx_msec_t                        expires;
    ngx_msec_t                        used;
    ngx_uint_t                        nruns;
    size_t                            len;
    ngx_http_lunary_answer_part_t    *parts;    /* NULL: only seen */
    u_char                            fingerprint[
                                               NGX_HTTP_LUNARY_FINGERPRINT_LEN];
} ngx_http_lunary_answer_t;


typedef struct {
    ngx_rbtree_t                      rbtree;
    ngx_rbtree_node_t                 sentinel;
    ngx_queue_t                       queue;
    ngx_slab_pool_t                  *shpool;
} ngx_http_lunary_answers_sh_t;


static ngx_int_t ngx_http_lunary_answers_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_http_lunary_answers_sh_t *ngx_http_lunary_answers_get(
    ngx_http_request_t *r);
static void ngx_http_lunary_answers_key(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_answer_key_t *key);
static uint32_t ngx_http_lunary_answers_hash(
    ngx_http_lunary_answer_key_t *key);
static ngx_http_lunary_answer_t *ngx_http_lunary_answers_lookup(
    ngx_http_lunary_answers_sh_t *sh, ngx_http_lunary_answer_key_t *key);
static ngx_http_lunary_answer_t *ngx_http_lunary_answers_place(
    ngx_http_lunary_answers_sh_t *sh, ngx_http_lunary_answer_key_t *key);
static ngx_uint_t ngx_http_lunary_answers_room(
    ngx_http_lunary_answers_sh_t *sh);
static ngx_int_t ngx_http_lunary_answers_copy(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer, ngx_chain_t *in);
static void *ngx_http_lunary_answers_alloc(ngx_http_lunary_answers_sh_t *sh,
    size_t size);
static void ngx_http_lunary_answers_empty(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer);
static void ngx_http_lunary_answers_remove(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer);


ngx_int_t
ngx_http_lunary_answers_zone(ngx_conf_t *cf)
{
    ngx_http_lunary_main_conf_t  *lmcf;

    static ngx_str_t  name = ngx_string(NGX_HTTP_LUNARY_ANSWERS_ZONE);

    lmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_lunary_module);

    if (lmcf->answers_size == NGX_CONF_UNSET_SIZE) {
        lmcf->answers_size = NGX_HTTP_LUNARY_ANSWERS_SIZE;
    }

    /* only with a project at hand can an answer be looked up */

    if (lmcf->answers_size == 0 || !lmcf->keys_cached) {
        return NGX_OK;
    }

    lmcf->answers = ngx_shared_memory_add(cf, &name, lmcf->answers_size,
                                          &ngx_http_lunary_module);
    if (lmcf->answers == NULL) {
        return NGX_ERROR;
    }

    lmcf->answers->init = ngx_http_lunary_answers_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_answers_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t               *shpool;
    ngx_http_lunary_answers_sh_t  *sh;

    if (data) {
        zone->data = data;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    sh = ngx_slab_calloc(shpool, sizeof(ngx_http_lunary_answers_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    ngx_rbtree_init(&sh->rbtree, &sh->sentinel, ngx_str_rbtree_insert_value);
    ngx_queue_init(&sh->queue);
    sh->shpool = shpool;

    /* full memory is no fault: the least used answer makes room */
    shpool->log_nomem = 0;

    zone->data = sh;

    return NGX_OK;
}


static ngx_http_lunary_answers_sh_t *
ngx_http_lunary_answers_get(ngx_http_request_t *r)
{
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_lunary_module);

    return lmcf->answers ? lmcf->answers->data : NULL;
}


static void
ngx_http_lunary_answers_key(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_answer_key_t *key)
{
    key->database[0] = ctx->conf->conninfo->hash[0];
    key->database[1] = ctx->conf->conninfo->hash[1];
    ngx_memcpy(key->project, ctx->project, NGX_LUNARY_UUID_LEN);
    ngx_memcpy(key->run, ctx->run, NGX_LUNARY_UUID_LEN);
    key->null_fields = ctx->conf->null_fields;
}


static uint32_t
ngx_http_lunary_answers_hash(ngx_http_lunary_answer_key_t *key)
{
    return ngx_crc32_short(key->run, NGX_LUNARY_UUID_LEN);
}


static ngx_http_lunary_answer_t *
ngx_http_lunary_answers_lookup(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_key_t *key)
{
    ngx_str_t  str;

    str.data = (u_char *) key;
    str.len = sizeof(ngx_http_lunary_answer_key_t);

    return (ngx_http_lunary_answer_t *)
               ngx_str_rbtree_lookup(&sh->rbtree, &str,
                                     ngx_http_lunary_answers_hash(key));
}


ngx_http_lunary_answer_e
ngx_http_lunary_answers_find(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_lunary_answer_e       found;
    ngx_http_lunary_answer_t      *answer;
    ngx_http_lunary_answer_key_t   key;
    ngx_http_lunary_answers_sh_t  *sh;

    sh = ngx_http_lunary_answers_get(ctx->request);

    if (sh == NULL) {
        return NGX_HTTP_LUNARY_ANSWER_NEW;
    }

    ngx_http_lunary_answers_key(ctx, &key);

    ngx_shmtx_lock(&sh->shpool->mutex);

    answer = ngx_http_lunary_answers_lookup(sh, &key);

    if (answer == NULL) {
        found = NGX_HTTP_LUNARY_ANSWER_NEW;

    } else if ((ngx_msec_int_t) (ngx_current_msec - answer->expires) >= 0) {

        /* one that was kept is asked for often enough to be kept again */

        found = answer->parts ? NGX_HTTP_LUNARY_ANSWER_SEEN
                              : NGX_HTTP_LUNARY_ANSWER_NEW;

        ngx_http_lunary_answers_remove(sh, answer);

    } else if (answer->parts) {
        found = NGX_HTTP_LUNARY_ANSWER_KEPT;

    } else {
        found = ngx_http_lunary_answers_room(sh) ? NGX_HTTP_LUNARY_ANSWER_SEEN
                                                 : NGX_HTTP_LUNARY_ANSWER_NEW;
    }

    ngx_shmtx_unlock(&sh->shpool->mutex);

    return found;
}


/* whether one more answer may be kept */

static ngx_uint_t
ngx_http_lunary_answers_room(ngx_http_lunary_answers_sh_t *sh)
{
    ngx_http_lunary_answer_t  *last;

    if (sh->shpool->pfree >= NGX_HTTP_LUNARY_ANSWERS_FREE) {
        return 1;
    }

    last = ngx_queue_data(ngx_queue_last(&sh->queue),
                          ngx_http_lunary_answer_t, queue);

    return ngx_current_msec - last->used >= NGX_HTTP_LUNARY_ANSWERS_REST;
}


void
ngx_http_lunary_answers_keep(ngx_http_lunary_ctx_t *ctx)
{
    ngx_chain_t                   *in;
    ngx_http_lunary_answer_t      *answer;
    ngx_http_lunary_answer_key_t   key;
    ngx_http_lunary_answers_sh_t  *sh;

    sh = ngx_http_lunary_answers_get(ctx->request);

    if (sh == NULL || !ctx->has_project) {
        return;
    }

    in = ngx_http_lunary_stream_whole(&ctx->stream);

    if (in == NULL || ctx->stream.length > (sh->shpool->end - sh->shpool->start)
                                           / NGX_HTTP_LUNARY_ANSWERS_SHARE)
    {
        return;
    }

    ngx_http_lunary_answers_key(ctx, &key);

    ngx_shmtx_lock(&sh->shpool->mutex);

    answer = ngx_http_lunary_answers_place(sh, &key);

    if (answer && ctx->has_fingerprint) {
        answer->nruns = ctx->nruns;
        ngx_memcpy(answer->fingerprint, ctx->fingerprint,
                   NGX_HTTP_LUNARY_FINGERPRINT_LEN);

        if (ngx_http_lunary_answers_copy(sh, answer, in) != NGX_OK) {
            ngx_http_lunary_answers_remove(sh, answer);
        }
    }

    ngx_shmtx_unlock(&sh->shpool->mutex);
}


/* a place for an answer with nothing in it, the first to be kept */

static ngx_http_lunary_answer_t *
ngx_http_lunary_answers_place(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_key_t *key)
{
    ngx_http_lunary_answer_t  *answer;

    answer = ngx_http_lunary_answers_lookup(sh, key);

    if (answer) {
        ngx_http_lunary_answers_empty(sh, answer);
        ngx_queue_remove(&answer->queue);

    } else {
        answer = ngx_http_lunary_answers_alloc(sh,
                                            sizeof(ngx_http_lunary_answer_t));
        if (answer == NULL) {
            return NULL;
        }

        answer->key = *key;
        answer->parts = NULL;

        answer->node.node.key = ngx_http_lunary_answers_hash(key);
        answer->node.str.data = (u_char *) &answer->key;
        answer->node.str.len = sizeof(ngx_http_lunary_answer_key_t);

        ngx_rbtree_insert(&sh->rbtree, &answer->node.node);
    }

    ngx_queue_insert_head(&sh->queue, &answer->queue);

    answer->used = ngx_current_msec;
    answer->expires = ngx_current_msec + NGX_HTTP_LUNARY_ANSWERS_AGE;
    answer->len = 0;

    return answer;
}


static ngx_int_t
ngx_http_lunary_answers_copy(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer, ngx_chain_t *in)
{
    size_t                           n, room;
    u_char                          *p;
    ngx_chain_t                     *cl;
    ngx_http_lunary_answer_part_t   *part, **last;

    room = ngx_pagesize - offsetof(ngx_http_lunary_answer_part_t, data);
    last = &answer->parts;
    part = NULL;

    for (cl = in; cl; cl = cl->next) {

        for (p = cl->buf->pos; p < cl->buf->last; p += n) {

            if (part == NULL || part->len == room) {
                part = ngx_http_lunary_answers_alloc(sh, ngx_pagesize);
                if (part == NULL) {
                    return NGX_ERROR;
                }

                part->next = NULL;
                part->len = 0;

                *last = part;
                last = &part->next;
            }

            n = ngx_min((size_t) (cl->buf->last - p), room - part->len);

            ngx_memcpy(part->data + part->len, p, n);

            part->len += n;
            answer->len += n;
        }
    }

    return NGX_OK;
}


/* the answer that was used least recently leaves where there is no room */

static void *
ngx_http_lunary_answers_alloc(ngx_http_lunary_answers_sh_t *sh, size_t size)
{
    void         *p;
    ngx_queue_t  *q;

    for ( ;; ) {

        p = ngx_slab_alloc_locked(sh->shpool, size);

        if (p) {
            return p;
        }

        q = ngx_queue_last(&sh->queue);

        /* the first one is being kept */

        if (ngx_queue_empty(&sh->queue) || q == ngx_queue_head(&sh->queue)) {
            return NULL;
        }

        ngx_http_lunary_answers_remove(sh, ngx_queue_data(q,
                                                    ngx_http_lunary_answer_t,
                                                    queue));
    }
}


static void
ngx_http_lunary_answers_empty(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer)
{
    ngx_http_lunary_answer_part_t  *part;

    while (answer->parts) {
        part = answer->parts;
        answer->parts = part->next;

        ngx_slab_free_locked(sh->shpool, part);
    }
}


static void
ngx_http_lunary_answers_remove(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer)
{
    ngx_http_lunary_answers_empty(sh, answer);

    ngx_queue_remove(&answer->queue);
    ngx_rbtree_delete(&sh->rbtree, &answer->node.node);
    ngx_slab_free_locked(sh->shpool, answer);
}


ngx_int_t
ngx_http_lunary_answers_take(ngx_http_lunary_ctx_t *ctx)
{
    ngx_int_t                       rc;
    ngx_http_lunary_answer_t       *answer;
    ngx_http_lunary_answer_key_t    key;
    ngx_http_lunary_answer_part_t  *part;
    ngx_http_lunary_answers_sh_t   *sh;

    sh = ngx_http_lunary_answers_get(ctx->request);

    if (sh == NULL || !ctx->has_fingerprint) {
        return NGX_DECLINED;
    }

    ngx_http_lunary_answers_key(ctx, &key);

    ngx_shmtx_lock(&sh->shpool->mutex);

    answer = ngx_http_lunary_answers_lookup(sh, &key);

    /* another location may have kept one that is to be streamed here */

    if (answer == NULL || answer->parts == NULL
        || answer->len > ctx->stream.whole
        || ngx_memcmp(answer->fingerprint, ctx->fingerprint,
                      NGX_HTTP_LUNARY_FINGERPRINT_LEN)
           != 0)
    {
        ngx_shmtx_unlock(&sh->shpool->mutex);
        return NGX_DECLINED;
    }

    ngx_queue_remove(&answer->queue);
    ngx_queue_insert_head(&sh->queue, &answer->queue);
    answer->used = ngx_current_msec;

    rc = NGX_OK;

    for (part = answer->parts; part && rc == NGX_OK; part = part->next) {
        rc = ngx_lunary_json_raw(&ctx->stream.out, part->data, part->len);
    }

    ctx->nruns = answer->nruns;

    ngx_shmtx_unlock(&sh->shpool->mutex);

    return rc;
}
