
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_answers.h"
#include "ngx_lunary_json.h"


/*
 * for how long an answer is served, in milliseconds, and anything is known of
 * one that was: columns may come and go without a new version of the rows
 */
#define NGX_HTTP_LUNARY_ANSWERS_AGE    10000

/*
 * where memory is short, an answer makes room only when it was not asked for
 * as long: with more of them in use than there is room for, most would else be
 * replaced before they are of use
 */
#define NGX_HTTP_LUNARY_ANSWERS_REST   5000

/* so many pages free are enough for one more */
#define NGX_HTTP_LUNARY_ANSWERS_FREE   32

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
    ngx_uint_t                        changed;  /* was kept, in vain */

    ngx_http_lunary_answer_part_t    *parts;    /* NULL: none is kept */
    size_t                            len;
    ngx_uint_t                        nruns;
    ngx_msec_t                        made;     /* when it was asked for */
    u_char              fingerprint[NGX_HTTP_LUNARY_FINGERPRINT_LEN];
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
    ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_answers_key(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_answer_key_t *key);
static uint32_t ngx_http_lunary_answers_hash(
    ngx_http_lunary_answer_key_t *key);
static ngx_http_lunary_answer_t *ngx_http_lunary_answers_lookup(
    ngx_http_lunary_answers_sh_t *sh, ngx_http_lunary_answer_key_t *key);
static ngx_uint_t ngx_http_lunary_answers_room(
    ngx_http_lunary_answers_sh_t *sh);
static void ngx_http_lunary_answers_expire(ngx_http_lunary_answers_sh_t *sh);
static ngx_http_lunary_answer_t *ngx_http_lunary_answers_place(
    ngx_http_lunary_answers_sh_t *sh, ngx_http_lunary_answer_key_t *key);
static void ngx_http_lunary_answers_fill(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer, ngx_http_lunary_ctx_t *ctx,
    ngx_chain_t *in);
static ngx_http_lunary_answer_part_t *ngx_http_lunary_answers_copy(
    ngx_http_lunary_answers_sh_t *sh, ngx_chain_t *in);
static void *ngx_http_lunary_answers_alloc(ngx_http_lunary_answers_sh_t *sh,
    size_t size);
static ngx_http_lunary_answer_t *ngx_http_lunary_answers_rested(
    ngx_http_lunary_answers_sh_t *sh, ngx_msec_t ms);
static void ngx_http_lunary_answers_free(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_part_t *part);
static void ngx_http_lunary_answers_remove(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer);
static ngx_uint_t ngx_http_lunary_answers_valid(
    ngx_http_lunary_answer_t *answer, ngx_http_lunary_ctx_t *ctx);


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


/*
 * not behind a pooler: that a session stands says nothing there, nor is it one
 * server's for sure
 */

static ngx_http_lunary_answers_sh_t *
ngx_http_lunary_answers_get(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = ngx_http_get_module_main_conf(ctx->request, ngx_http_lunary_module);

    return lmcf->answers && ctx->conf->key_cache && ctx->conf->prepare
           ? lmcf->answers->data : NULL;
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

    sh = ngx_http_lunary_answers_get(ctx);

    if (sh == NULL) {
        return NGX_HTTP_LUNARY_ANSWER_NEW;
    }

    ngx_http_lunary_answers_key(ctx, &key);

    ngx_shmtx_lock(&sh->shpool->mutex);

    ngx_http_lunary_answers_expire(sh);

    answer = ngx_http_lunary_answers_lookup(sh, &key);

    found = NGX_HTTP_LUNARY_ANSWER_NEW;

    if (answer == NULL) {
        /* void */

    } else if ((ngx_msec_int_t) (ngx_current_msec - answer->expires) >= 0) {

        /* one that was kept is asked for often enough to be kept again */

        if (answer->parts) {
            found = NGX_HTTP_LUNARY_ANSWER_SEEN;
        }

        ngx_http_lunary_answers_remove(sh, answer);

    } else if (answer->parts) {

        /* another location's may be too long to be held back here */

        if (answer->len <= ctx->conf->buffer_size) {
            found = NGX_HTTP_LUNARY_ANSWER_KEPT;
        }

    } else if (!answer->changed && ngx_http_lunary_answers_room(sh)) {
        found = NGX_HTTP_LUNARY_ANSWER_SEEN;
    }

    ngx_shmtx_unlock(&sh->shpool->mutex);

    return found;
}


/* whether one more answer may be kept */

static ngx_uint_t
ngx_http_lunary_answers_room(ngx_http_lunary_answers_sh_t *sh)
{
    return sh->shpool->pfree >= NGX_HTTP_LUNARY_ANSWERS_FREE
           || ngx_http_lunary_answers_rested(sh, NGX_HTTP_LUNARY_ANSWERS_REST);
}


/* what nobody asked for as long has expired; a few at a time */

static void
ngx_http_lunary_answers_expire(ngx_http_lunary_answers_sh_t *sh)
{
    ngx_uint_t                 i;
    ngx_http_lunary_answer_t  *answer;

    for (i = 0; i < 2; i++) {
        answer = ngx_http_lunary_answers_rested(sh,
                                                NGX_HTTP_LUNARY_ANSWERS_AGE);
        if (answer == NULL) {
            return;
        }

        ngx_http_lunary_answers_remove(sh, answer);
    }
}


void
ngx_http_lunary_answers_keep(ngx_http_lunary_ctx_t *ctx)
{
    ngx_chain_t                   *in;
    ngx_http_lunary_answer_t      *answer;
    ngx_http_lunary_answer_key_t   key;
    ngx_http_lunary_answers_sh_t  *sh;

    sh = ngx_http_lunary_answers_get(ctx);

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
        ngx_http_lunary_answers_fill(sh, answer, ctx, in);
    }

    ngx_shmtx_unlock(&sh->shpool->mutex);
}


/* the place of an answer, which may be there already; NULL: no room */

static ngx_http_lunary_answer_t *
ngx_http_lunary_answers_place(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_key_t *key)
{
    ngx_http_lunary_answer_t  *answer;

    answer = ngx_http_lunary_answers_lookup(sh, key);

    if (answer) {
        return answer;
    }

    answer = ngx_http_lunary_answers_alloc(sh,
                                           sizeof(ngx_http_lunary_answer_t));
    if (answer == NULL) {
        return NULL;
    }

    ngx_memzero(answer, sizeof(ngx_http_lunary_answer_t));

    answer->key = *key;
    answer->used = ngx_current_msec;
    answer->expires = ngx_current_msec + NGX_HTTP_LUNARY_ANSWERS_AGE;

    answer->node.node.key = ngx_http_lunary_answers_hash(key);
    answer->node.str.data = (u_char *) &answer->key;
    answer->node.str.len = sizeof(ngx_http_lunary_answer_key_t);

    ngx_queue_insert_head(&sh->queue, &answer->queue);
    ngx_rbtree_insert(&sh->rbtree, &answer->node.node);

    return answer;
}


/*
 * what is half done is never seen: the parts are hung in when they are whole,
 * for a worker may be killed at any point
 */

static void
ngx_http_lunary_answers_fill(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer, ngx_http_lunary_ctx_t *ctx,
    ngx_chain_t *in)
{
    ngx_http_lunary_answer_part_t  *parts;

    /* to be the last to make room for itself */

    ngx_queue_remove(&answer->queue);
    ngx_queue_insert_head(&sh->queue, &answer->queue);
    answer->used = ngx_current_msec;

    parts = answer->parts;
    answer->parts = NULL;

    ngx_http_lunary_answers_free(sh, parts);

    parts = ngx_http_lunary_answers_copy(sh, in);

    if (parts == NULL) {
        return;
    }

    answer->len = (size_t) ctx->stream.length;
    answer->nruns = ctx->nruns;
    answer->made = ctx->query.sent;
    answer->expires = ctx->query.sent + NGX_HTTP_LUNARY_ANSWERS_AGE;
    answer->changed = 0;
    ngx_memcpy(answer->fingerprint, ctx->fingerprint,
               NGX_HTTP_LUNARY_FINGERPRINT_LEN);

    ngx_memory_barrier();

    answer->parts = parts;
}


/* NULL: no room, or nothing to copy */

static ngx_http_lunary_answer_part_t *
ngx_http_lunary_answers_copy(ngx_http_lunary_answers_sh_t *sh, ngx_chain_t *in)
{
    size_t                           n, room;
    u_char                          *p;
    ngx_chain_t                     *cl;
    ngx_http_lunary_answer_part_t   *parts, *part, **last;

    room = ngx_pagesize - offsetof(ngx_http_lunary_answer_part_t, data);
    parts = NULL;
    part = NULL;
    last = &parts;

    for (cl = in; cl; cl = cl->next) {

        for (p = cl->buf->pos; p < cl->buf->last; p += n) {

            if (part == NULL || part->len == room) {
                part = ngx_http_lunary_answers_alloc(sh, ngx_pagesize);

                if (part == NULL) {
                    ngx_http_lunary_answers_free(sh, parts);
                    return NULL;
                }

                part->next = NULL;
                part->len = 0;

                *last = part;
                last = &part->next;
            }

            n = ngx_min((size_t) (cl->buf->last - p), room - part->len);

            ngx_memcpy(part->data + part->len, p, n);

            part->len += n;
        }
    }

    return parts;
}


/* where there is no room, those that were not asked for a while leave */

static void *
ngx_http_lunary_answers_alloc(ngx_http_lunary_answers_sh_t *sh, size_t size)
{
    void                      *p;
    ngx_http_lunary_answer_t  *answer;

    for ( ;; ) {

        p = ngx_slab_alloc_locked(sh->shpool, size);

        if (p) {
            return p;
        }

        answer = ngx_http_lunary_answers_rested(sh,
                                                NGX_HTTP_LUNARY_ANSWERS_REST);
        if (answer == NULL) {
            return NULL;
        }

        ngx_http_lunary_answers_remove(sh, answer);
    }
}


/* the one that was used least recently, if that is at least "ms" ago */

static ngx_http_lunary_answer_t *
ngx_http_lunary_answers_rested(ngx_http_lunary_answers_sh_t *sh, ngx_msec_t ms)
{
    ngx_http_lunary_answer_t  *answer;

    if (ngx_queue_empty(&sh->queue)) {
        return NULL;
    }

    answer = ngx_queue_data(ngx_queue_last(&sh->queue),
                            ngx_http_lunary_answer_t, queue);

    /* the clocks of workers are not quite the same */

    return (ngx_msec_int_t) (ngx_current_msec - answer->used)
           >= (ngx_msec_int_t) ms
           ? answer : NULL;
}


static void
ngx_http_lunary_answers_free(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_part_t *part)
{
    ngx_http_lunary_answer_part_t  *next;

    while (part) {
        next = part->next;
        ngx_slab_free_locked(sh->shpool, part);
        part = next;
    }
}


static void
ngx_http_lunary_answers_remove(ngx_http_lunary_answers_sh_t *sh,
    ngx_http_lunary_answer_t *answer)
{
    ngx_queue_remove(&answer->queue);
    ngx_rbtree_delete(&sh->rbtree, &answer->node.node);

    ngx_http_lunary_answers_free(sh, answer->parts);
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

    sh = ngx_http_lunary_answers_get(ctx);

    if (sh == NULL) {
        return NGX_DECLINED;
    }

    /* a buffer is there before the others have to wait */

    if (ngx_lunary_out_room(&ctx->stream.out) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_lunary_answers_key(ctx, &key);

    ngx_shmtx_lock(&sh->shpool->mutex);

    answer = ngx_http_lunary_answers_lookup(sh, &key);

    if (answer == NULL || answer->parts == NULL
        || !ngx_http_lunary_answers_valid(answer, ctx))
    {
        ngx_shmtx_unlock(&sh->shpool->mutex);

        ctx->answer = NGX_HTTP_LUNARY_ANSWER_SEEN;

        return NGX_DECLINED;
    }

    if (!ctx->has_fingerprint
        || ngx_memcmp(answer->fingerprint, ctx->fingerprint,
                      NGX_HTTP_LUNARY_FINGERPRINT_LEN)
           != 0)
    {
        /* what changes so soon is not worth to be checked, for a while */

        part = answer->parts;
        answer->parts = NULL;
        answer->changed = 1;
        answer->expires = ngx_current_msec + NGX_HTTP_LUNARY_ANSWERS_AGE;

        ngx_http_lunary_answers_free(sh, part);

        ngx_shmtx_unlock(&sh->shpool->mutex);

        ctx->answer = NGX_HTTP_LUNARY_ANSWER_NEW;

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


/*
 * whether its fingerprint says anything.  A session that is younger than the
 * answer may be one with a server that crashed since, lost what was not on its
 * disk, and gives the same versions to other rows
 */

static ngx_uint_t
ngx_http_lunary_answers_valid(ngx_http_lunary_answer_t *answer,
    ngx_http_lunary_ctx_t *ctx)
{
    return (ngx_msec_int_t) (ngx_current_msec - answer->expires) < 0
           && (ngx_msec_int_t) (answer->made - ctx->query.session) > 0
           && answer->len <= ctx->stream.whole;
}
