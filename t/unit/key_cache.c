
/* the table of slots: src/http/ngx_http_lunary_key_cache.c */


#include "unit.h"
#include <ngx_sha1.h>
#include "ngx_http_lunary_key_cache.h"


#define TEST_PAGE    4096
#define TEST_SLOT    64
#define TEST_KEYS    2000
#define TEST_RANDOM  20000


typedef struct {
    u_char   key[32];
    u_char   project[NGX_LUNARY_UUID_LEN];
} test_key_t;


/* the parts of nginx that are needed, simplified */

volatile ngx_msec_t  ngx_current_msec;
ngx_uint_t           ngx_pagesize = TEST_PAGE;

static ngx_shm_zone_t    test_zone;
static ngx_slab_pool_t   test_slab;
static u_char           *test_memory;
static size_t            test_size;
static uint64_t          test_database[2] = { 1, 2 };
static test_key_t        test_keys[TEST_KEYS];


static void test_init(ngx_uint_t pages);
static ngx_http_lunary_cache_e test_find(test_key_t *key, ngx_uint_t *right);
static void test_keep(test_key_t *key);
static ngx_uint_t test_wrong(void);
static void test_many(void);
static void test_age(void);
static void test_apart(void);
static void test_torn(void);
static ngx_uint_t test_torn_slot(u_char *slot, u_char *before, u_char *after,
    test_key_t *old, test_key_t *new);
static ngx_uint_t test_torn_is(u_char *slot, u_char *before, u_char *after,
    test_key_t *old, test_key_t *new);
static void test_garbage(void);


void *
ngx_slab_calloc(ngx_slab_pool_t *pool, size_t size)
{
    test_memory = aligned_alloc(TEST_PAGE, size);
    test_size = size;

    return test_memory ? memset(test_memory, 0, size) : NULL;
}


/* not SHA-1, but each bit of the input changes all bits of the digest */

void
ngx_sha1_init(ngx_sha1_t *ctx)
{
    ngx_memzero(ctx, sizeof(ngx_sha1_t));
}


void
ngx_sha1_update(ngx_sha1_t *ctx, const void *data, size_t size)
{
    size_t         i, k;
    uint64_t       state[3];
    const u_char  *p;

    p = data;
    ngx_memcpy(state, ctx->buffer, sizeof(state));

    for (i = 0; i < size; i++) {
        for (k = 0; k < 3; k++) {
            state[k] = (state[k] ^ p[i] ^ (k << 8)) + 0x9e3779b97f4a7c15;
            state[k] = (state[k] ^ (state[k] >> 30)) * 0xbf58476d1ce4e5b9;
            state[k] = (state[k] ^ (state[k] >> 27)) * 0x94d049bb133111eb;
            state[k] ^= state[k] >> 31;
        }
    }

    ngx_memcpy(ctx->buffer, state, sizeof(state));
    ctx->bytes += size;
}


void
ngx_sha1_final(u_char result[20], ngx_sha1_t *ctx)
{
    ngx_sha1_update(ctx, &ctx->bytes, sizeof(ctx->bytes));
    ngx_memcpy(result, ctx->buffer, 20);
}


void
ngx_explicit_memzero(void *buf, size_t n)
{
    ngx_memzero(buf, n);
}


#if (NGX_HAVE_VARIADIC_MACROS)

void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
}

#endif


static void
test_init(ngx_uint_t pages)
{
    static ngx_log_t  log;

    free(test_memory);

    test_slab.pfree = pages;
    test_zone.shm.addr = (u_char *) &test_slab;
    test_zone.shm.log = &log;

    if (ngx_http_lunary_key_cache_init(&test_zone, NULL) != NGX_OK) {
        abort();
    }
}


static ngx_http_lunary_cache_e
test_find(test_key_t *key, ngx_uint_t *right)
{
    u_char                          project[NGX_LUNARY_UUID_LEN];
    ngx_http_lunary_cache_e         found;
    ngx_http_lunary_key_cache_id_t  id;

    id.type = 1;
    id.database = test_database;
    id.data = key->key;
    id.len = NGX_LUNARY_UUID_LEN;

    found = ngx_http_lunary_key_cache_find(&test_zone, &id, 1000, project);

    *right = found != NGX_HTTP_LUNARY_CACHE_HIT
             || ngx_memcmp(project, key->project, sizeof(project)) == 0;

    return found;
}


static void
test_keep(test_key_t *key)
{
    ngx_http_lunary_key_cache_id_t  id;

    id.type = 1;
    id.database = test_database;
    id.data = key->key;
    id.len = NGX_LUNARY_UUID_LEN;

    ngx_http_lunary_key_cache_keep(&test_zone, &id, key->project,
                                   ngx_current_msec);
}


/* the number of keys with access to another project */

static ngx_uint_t
test_wrong(void)
{
    ngx_uint_t  i, right, wrong;

    wrong = 0;

    for (i = 0; i < TEST_KEYS; i++) {
        (void) test_find(&test_keys[i], &right);
        wrong += !right;
    }

    return wrong;
}


static void
test_many(void)
{
    ngx_uint_t  i, right, last, known;

    test_init(7);

    last = 0;

    for (i = 0; i < TEST_KEYS; i++) {
        ngx_current_msec++;
        test_keep(&test_keys[i]);
        last += test_find(&test_keys[i], &right) == NGX_HTTP_LUNARY_CACHE_HIT;
    }

    unit_ok(last == TEST_KEYS, "each key is found once it is kept");
    unit_ok(test_wrong() == 0, "no key opens another project");

    known = 0;

    for (i = TEST_KEYS - 300; i < TEST_KEYS; i++) {
        known += test_find(&test_keys[i], &right) == NGX_HTTP_LUNARY_CACHE_HIT;
    }

    unit_ok(known > 240, "of the last 300 keys %lu have a slot among 440",
            (unsigned long) known);

    known = 0;

    for (i = 0; i < TEST_KEYS - 1000; i++) {
        known += test_find(&test_keys[i], &right) == NGX_HTTP_LUNARY_CACHE_HIT;
    }

    unit_ok(known < 20, "of the first 1000 keys %lu have one",
            (unsigned long) known);
}


static void
test_age(void)
{
    ngx_uint_t  right;

    test_init(1);
    test_keep(&test_keys[0]);

    ngx_current_msec += 999;
    unit_ok(test_find(&test_keys[0], &right) == NGX_HTTP_LUNARY_CACHE_HIT,
            "found after 999 ms of 1000");

    ngx_current_msec += 1;
    unit_ok(test_find(&test_keys[0], &right) == NGX_HTTP_LUNARY_CACHE_EXPIRED,
            "expired after 1000 ms");

    test_keep(&test_keys[0]);
    unit_ok(test_find(&test_keys[0], &right) == NGX_HTTP_LUNARY_CACHE_HIT,
            "found once it is kept again");

    (void) ngx_http_lunary_key_cache_init(&test_zone, test_zone.data);
    unit_ok(test_find(&test_keys[0], &right) == NGX_HTTP_LUNARY_CACHE_HIT,
            "found after a reload");
}


/* another type, another database or another byte is another entry */

static void
test_apart(void)
{
    u_char                          data[32], project[NGX_LUNARY_UUID_LEN];
    uint64_t                        database[2];
    ngx_uint_t                      i, found;
    ngx_http_lunary_key_cache_id_t  id;

    test_init(1);

    ngx_memcpy(data, test_keys[0].key, sizeof(data));
    ngx_memcpy(database, test_database, sizeof(database));

    id.type = 1;
    id.database = database;
    id.data = data;
    id.len = NGX_LUNARY_UUID_LEN;

#define test_known()                                                          \
    (ngx_http_lunary_key_cache_find(&test_zone, &id, 1000, project)           \
     != NGX_HTTP_LUNARY_CACHE_MISS)

    ngx_http_lunary_key_cache_keep(&test_zone, &id, test_keys[0].project,
                                   ngx_current_msec);

    id.type = 2;
    unit_ok(!test_known(), "a session is not the key of the same bytes");

    id.len = 32;
    unit_ok(!test_known(), "a longer one is not found");

    ngx_http_lunary_key_cache_keep(&test_zone, &id, test_keys[1].project,
                                   ngx_current_msec);

    unit_ok(test_known()
            && ngx_memcmp(project, test_keys[1].project, 16) == 0,
            "a session is found");

    id.type = 1;
    unit_ok(!test_known(), "a key is not the session of the same bytes");

    id.len = NGX_LUNARY_UUID_LEN;
    unit_ok(test_known()
            && ngx_memcmp(project, test_keys[0].project, 16) == 0,
            "the key is still found");

    found = 0;

    for (i = 0; i < 2 * 64; i++) {
        database[i / 64] ^= (uint64_t) 1 << i % 64;
        found += test_known();
        database[i / 64] ^= (uint64_t) 1 << i % 64;
    }

    unit_ok(found == 0, "a bit of the database makes another database");

    for (i = 0; i < 16 * 8; i++) {
        data[i / 8] ^= 1 << i % 8;
        found += test_known();
        data[i / 8] ^= 1 << i % 8;
    }

    unit_ok(found == 0, "a bit of the key makes another key");

#undef test_known
}


/* one verdict is written over another, and the write stops at each byte */

static void
test_torn(void)
{
    u_char      *before, *after, *slot;
    size_t       at;
    ngx_uint_t   i, k, right, slots, wrong;

    test_init(1);

    slots = 0;
    wrong = 0;
    before = unit_alloc(test_size);
    after = unit_alloc(test_size);

    for (i = 0; i < TEST_KEYS; i++) {

        ngx_memcpy(before, test_memory, test_size);
        ngx_current_msec += 1 + unit_random(3);
        test_keep(&test_keys[i]);
        ngx_memcpy(after, test_memory, test_size);

        for (at = 0; before[at] == after[at]; at++) { /* void */ }

        at -= at % TEST_SLOT;
        slot = test_memory + at;

        if (ngx_memcmp(before + at + TEST_SLOT, after + at + TEST_SLOT,
                       test_size - at - TEST_SLOT)
            != 0)
        {
            unit_ok(0, "a write stays in its slot");
            break;
        }

        /* the old owner of the slot */

        ngx_memcpy(test_memory, before, test_size);

        for (k = 0; k < i; k++) {

            if (test_find(&test_keys[k], &right) != NGX_HTTP_LUNARY_CACHE_HIT) {
                continue;
            }

            ngx_memcpy(slot, after + at, TEST_SLOT);
            right = test_find(&test_keys[k], &right);
            ngx_memcpy(slot, before + at, TEST_SLOT);

            if (right != NGX_HTTP_LUNARY_CACHE_HIT) {
                break;
            }
        }

        if (k < i) {
            slots++;
            wrong += test_torn_slot(slot, before + at, after + at,
                                    &test_keys[k], &test_keys[i]);
        }

        ngx_memcpy(test_memory, after, test_size);
    }

    unit_ok(slots > 200, "%lu slots were written over", (unsigned long) slots);
    unit_ok(wrong == 0, "in a torn slot nothing is found, %lu wrong",
            (unsigned long) wrong);
    unit_ok(test_wrong() == 0, "no key opens another project");

    free(before);
    free(after);
}


static ngx_uint_t
test_torn_slot(u_char *slot, u_char *before, u_char *after, test_key_t *old,
    test_key_t *new)
{
    size_t      i, n;
    ngx_uint_t  wrong;

    wrong = 0;

    for (n = 0; n <= TEST_SLOT; n++) {

        /* written from the first byte on */

        ngx_memcpy(slot, after, n);
        ngx_memcpy(slot + n, before + n, TEST_SLOT - n);
        wrong += test_torn_is(slot, before, after, old, new);

        /* written from the last byte on */

        ngx_memcpy(slot, before, TEST_SLOT - n);
        ngx_memcpy(slot + TEST_SLOT - n, after + TEST_SLOT - n, n);
        wrong += test_torn_is(slot, before, after, old, new);

        /* written in words, in random order */

        for (i = 0; i < TEST_SLOT; i += 4) {
            ngx_memcpy(slot + i, unit_random(2) ? before + i : after + i, 4);
        }

        wrong += test_torn_is(slot, before, after, old, new);
    }

    ngx_memcpy(slot, before, TEST_SLOT);

    return wrong;
}


/* returns 1 if an incomplete entry is found */

static ngx_uint_t
test_torn_is(u_char *slot, u_char *before, u_char *after, test_key_t *old,
    test_key_t *new)
{
    ngx_uint_t               is_old, is_new, right;
    ngx_http_lunary_cache_e  found;

    is_old = ngx_memcmp(slot, before, TEST_SLOT) == 0;
    is_new = ngx_memcmp(slot, after, TEST_SLOT) == 0;

    found = test_find(old, &right);

    if (!right || (found == NGX_HTTP_LUNARY_CACHE_HIT) != is_old) {
        return 1;
    }

    found = test_find(new, &right);

    return !right || (found == NGX_HTTP_LUNARY_CACHE_HIT) != is_new;
}


static void
test_garbage(void)
{
    size_t      at, first;
    ngx_uint_t  i, right, wrong, known;

    test_init(2);

    /* only the master writes the header, before anything else */

    test_keep(&test_keys[0]);
    first = 2 * TEST_SLOT;

    wrong = 0;
    known = 0;

    for (i = 0; i < TEST_RANDOM; i++) {
        at = first + unit_random(test_size - first);
        test_memory[at] ^= 1 << unit_random(8);

        test_keep(&test_keys[i % TEST_KEYS]);
        known += test_find(&test_keys[i % TEST_KEYS], &right)
                 == NGX_HTTP_LUNARY_CACHE_HIT;
        wrong += !right;
        (void) test_find(&test_keys[unit_random(TEST_KEYS)], &right);
        wrong += !right;
    }

    unit_ok(wrong == 0 && known == TEST_RANDOM,
            "bits that change are not found, and the slots are used again");

    for (at = first; at < test_size; at++) {
        test_memory[at] = unit_random(256);
    }

    unit_ok(test_wrong() == 0, "nothing is found in random bytes");

    test_keep(&test_keys[0]);
    unit_ok(test_find(&test_keys[0], &right) == NGX_HTTP_LUNARY_CACHE_HIT
            && right, "and there is room for a key");
}


int
main(void)
{
    size_t      i;
    ngx_uint_t  k;

    unit_seed();

    ngx_current_msec = unit_random64();

    for (k = 0; k < TEST_KEYS; k++) {

        for (i = 0; i < sizeof(test_keys[k].key); i++) {
            test_keys[k].key[i] = unit_random(256);
        }

        for (i = 0; i < NGX_LUNARY_UUID_LEN; i++) {
            test_keys[k].project[i] = unit_random(256);
        }
    }

    test_many();
    test_age();
    test_apart();
    test_torn();
    test_garbage();

    free(test_memory);

    return unit_done();
}
