
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_sha1.h>
#include <openssl/rand.h>
#include "ngx_http_lunary_key_cache.h"


#define NGX_HTTP_LUNARY_SECRET_LEN  64
#define NGX_HTTP_LUNARY_DIGEST_LEN  20

/* slots in a set */
#define NGX_HTTP_LUNARY_WAYS        8


/* 64 bytes; the credential itself is nowhere in it */

typedef struct {
    u_char                        digest[NGX_HTTP_LUNARY_DIGEST_LEN];
    u_char                        check[NGX_HTTP_LUNARY_DIGEST_LEN];
    u_char                        project[NGX_LUNARY_UUID_LEN];
    uint64_t                      asked;
} ngx_http_lunary_slot_t;


/* the master fills it in before there is a worker, and nobody changes it */

typedef struct {
    ngx_sha1_t                    keyed;    /* has taken the secret in */
    ngx_uint_t                    nsets;
    ngx_http_lunary_slot_t       *slots;    /* nsets * NGX_HTTP_LUNARY_WAYS */
} ngx_http_lunary_key_cache_t;


static void ngx_http_lunary_key_cache_digest(
    ngx_http_lunary_key_cache_t *cache, ngx_http_lunary_key_cache_id_t *id,
    u_char *digest);
static ngx_http_lunary_slot_t *ngx_http_lunary_key_cache_set(
    ngx_http_lunary_key_cache_t *cache, u_char *digest);
static void ngx_http_lunary_key_cache_check(ngx_http_lunary_key_cache_t *cache,
    ngx_http_lunary_slot_t *slot, u_char *check);
static ngx_int_t ngx_http_lunary_key_cache_read(
    ngx_http_lunary_key_cache_t *cache, ngx_http_lunary_slot_t *shared,
    ngx_http_lunary_slot_t *slot);
static ngx_http_lunary_slot_t *ngx_http_lunary_key_cache_room(
    ngx_http_lunary_key_cache_t *cache, u_char *digest);


ngx_int_t
ngx_http_lunary_key_cache_init(ngx_shm_zone_t *zone, void *data)
{
    u_char                        secret[NGX_HTTP_LUNARY_SECRET_LEN];
    size_t                        size, header;
    ngx_slab_pool_t              *shpool;
    ngx_http_lunary_key_cache_t  *cache;

    if (data) {
        zone->data = data;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    size = shpool->pfree * ngx_pagesize;
    header = ngx_align(sizeof(ngx_http_lunary_key_cache_t),
                       sizeof(ngx_http_lunary_slot_t));

    cache = ngx_slab_calloc(shpool, size);
    if (cache == NULL) {
        return NGX_ERROR;
    }

    cache->slots = (ngx_http_lunary_slot_t *) ((u_char *) cache + header);
    cache->nsets = (size - header)
                   / (NGX_HTTP_LUNARY_WAYS * sizeof(ngx_http_lunary_slot_t));

    if (RAND_bytes(secret, NGX_HTTP_LUNARY_SECRET_LEN) != 1) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    ngx_sha1_init(&cache->keyed);
    ngx_sha1_update(&cache->keyed, secret, NGX_HTTP_LUNARY_SECRET_LEN);
    ngx_explicit_memzero(secret, NGX_HTTP_LUNARY_SECRET_LEN);

    zone->data = cache;

    return NGX_OK;
}


/*
 * The type fixes the length, so that no credential is the beginning of
 * another.  No input is as long as that of a checksum.
 */

static void
ngx_http_lunary_key_cache_digest(ngx_http_lunary_key_cache_t *cache,
    ngx_http_lunary_key_cache_id_t *id, u_char *digest)
{
    u_char      type;
    ngx_sha1_t  sha1;

    type = (u_char) id->type;
    sha1 = cache->keyed;

    ngx_sha1_update(&sha1, &type, 1);
    ngx_sha1_update(&sha1, id->database, 2 * sizeof(uint64_t));
    ngx_sha1_update(&sha1, id->data, id->len);
    ngx_sha1_final(digest, &sha1);
}


static ngx_http_lunary_slot_t *
ngx_http_lunary_key_cache_set(ngx_http_lunary_key_cache_t *cache,
    u_char *digest)
{
    uint32_t  hash;

    ngx_memcpy(&hash, digest, sizeof(uint32_t));

    return cache->slots + hash % cache->nsets * NGX_HTTP_LUNARY_WAYS;
}


static void
ngx_http_lunary_key_cache_check(ngx_http_lunary_key_cache_t *cache,
    ngx_http_lunary_slot_t *slot, u_char *check)
{
    ngx_sha1_t  sha1;

    sha1 = cache->keyed;

    ngx_sha1_update(&sha1, slot->digest, NGX_HTTP_LUNARY_DIGEST_LEN);
    ngx_sha1_update(&sha1, slot->project, NGX_LUNARY_UUID_LEN);
    ngx_sha1_update(&sha1, &slot->asked, sizeof(uint64_t));
    ngx_sha1_final(check, &sha1);
}


/* NGX_OK; NGX_DECLINED: the slot is empty.  The copy is what is checked */

static ngx_int_t
ngx_http_lunary_key_cache_read(ngx_http_lunary_key_cache_t *cache,
    ngx_http_lunary_slot_t *shared, ngx_http_lunary_slot_t *slot)
{
    u_char  check[NGX_HTTP_LUNARY_DIGEST_LEN];

    *slot = *shared;
    ngx_memory_barrier();

    ngx_http_lunary_key_cache_check(cache, slot, check);

    return ngx_memcmp(check, slot->check, NGX_HTTP_LUNARY_DIGEST_LEN) == 0
           ? NGX_OK : NGX_DECLINED;
}


ngx_http_lunary_cache_e
ngx_http_lunary_key_cache_find(ngx_shm_zone_t *zone,
    ngx_http_lunary_key_cache_id_t *id, ngx_msec_t valid, u_char *project)
{
    u_char                        digest[NGX_HTTP_LUNARY_DIGEST_LEN];
    ngx_uint_t                    i;
    ngx_http_lunary_slot_t       *set, slot;
    ngx_http_lunary_key_cache_t  *cache;

    cache = zone->data;

    ngx_http_lunary_key_cache_digest(cache, id, digest);
    set = ngx_http_lunary_key_cache_set(cache, digest);

    for (i = 0; i < NGX_HTTP_LUNARY_WAYS; i++) {

        if (ngx_memcmp(set[i].digest, digest, NGX_HTTP_LUNARY_DIGEST_LEN) != 0
            || ngx_http_lunary_key_cache_read(cache, &set[i], &slot) != NGX_OK
            || ngx_memcmp(slot.digest, digest, NGX_HTTP_LUNARY_DIGEST_LEN)
               != 0)
        {
            continue;
        }

        if (ngx_current_msec - (ngx_msec_t) slot.asked >= valid) {
            return NGX_HTTP_LUNARY_CACHE_EXPIRED;
        }

        ngx_memcpy(project, slot.project, NGX_LUNARY_UUID_LEN);

        return NGX_HTTP_LUNARY_CACHE_HIT;
    }

    return NGX_HTTP_LUNARY_CACHE_MISS;
}


void
ngx_http_lunary_key_cache_keep(ngx_shm_zone_t *zone,
    ngx_http_lunary_key_cache_id_t *id, u_char *project, ngx_msec_t asked)
{
    ngx_http_lunary_slot_t        slot;
    ngx_http_lunary_key_cache_t  *cache;

    cache = zone->data;

    ngx_http_lunary_key_cache_digest(cache, id, slot.digest);
    ngx_memcpy(slot.project, project, NGX_LUNARY_UUID_LEN);
    slot.asked = asked;
    ngx_http_lunary_key_cache_check(cache, &slot, slot.check);

    *ngx_http_lunary_key_cache_room(cache, slot.digest) = slot;
}


/* the slot of the same credential, else an empty one, else the oldest */

static ngx_http_lunary_slot_t *
ngx_http_lunary_key_cache_room(ngx_http_lunary_key_cache_t *cache,
    u_char *digest)
{
    ngx_uint_t               i;
    ngx_msec_int_t           age, oldest;
    ngx_http_lunary_slot_t  *set, *room, slot;

    oldest = 0;
    set = ngx_http_lunary_key_cache_set(cache, digest);
    room = &set[0];

    for (i = 0; i < NGX_HTTP_LUNARY_WAYS; i++) {

        if (ngx_memcmp(set[i].digest, digest, NGX_HTTP_LUNARY_DIGEST_LEN)
            == 0)
        {
            return &set[i];
        }

        if (ngx_http_lunary_key_cache_read(cache, &set[i], &slot) != NGX_OK) {
            age = NGX_MAX_INT_T_VALUE;

        } else {
            age = (ngx_msec_int_t) (ngx_current_msec
                                    - (ngx_msec_t) slot.asked);
        }

        if (age > oldest) {
            oldest = age;
            room = &set[i];
        }
    }

    return room;
}
