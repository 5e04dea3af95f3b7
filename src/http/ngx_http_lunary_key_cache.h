
/*
 * The key cache: what the database said of keys and of sessions, in shared
 * memory.
 *
 * The zone is a table of slots of a fixed size.  A keyed digest of the
 * credential names a set of slots; where the set is full, the verdict that
 * was asked for first makes room.  There are no pointers and no lists, and
 * each slot has a checksum over all that it says.  A slot whose checksum is
 * wrong is empty.  So there is no lock: a worker that is killed while it
 * writes leaves a slot that is empty, and a slot that is read while another
 * worker writes to it is a miss.
 *
 * Ages are measured by ngx_current_msec, the monotonic clock of the system:
 * it is the same in all workers and goes on over a reload.
 */


#ifndef _NGX_HTTP_LUNARY_KEY_CACHE_H_INCLUDED_
#define _NGX_HTTP_LUNARY_KEY_CACHE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_value.h"


typedef enum {
    NGX_HTTP_LUNARY_CACHE_NONE = 0,     /* the request did not come so far */
    NGX_HTTP_LUNARY_CACHE_BYPASS,       /* no cache configured */
    NGX_HTTP_LUNARY_CACHE_MISS,
    NGX_HTTP_LUNARY_CACHE_EXPIRED,
    NGX_HTTP_LUNARY_CACHE_HIT
} ngx_http_lunary_cache_e;


/* what a verdict is about; all of it goes into the digest */

typedef struct {
    ngx_uint_t   type;          /* one byte: a ngx_http_lunary_credential_e */
    uint64_t    *database;      /* two words: "database" of the pool */
    u_char      *data;          /* the credential, of a fixed length a type */
    size_t       len;
} ngx_http_lunary_key_cache_id_t;


/*
 * Initializes the shared memory zone, in the master process.  After a reload
 * the zone is used as it was.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_lunary_key_cache_init(ngx_shm_zone_t *zone, void *data);

/*
 * Looks a credential up.  HIT: "project", NGX_LUNARY_UUID_LEN bytes, is set,
 * and the database was asked less than "valid" milliseconds ago.  EXPIRED: it
 * was asked before that.  MISS: nothing is known.
 */
ngx_http_lunary_cache_e ngx_http_lunary_key_cache_find(ngx_shm_zone_t *zone,
    ngx_http_lunary_key_cache_id_t *id, ngx_msec_t valid, u_char *project);

/*
 * Stores that a credential opens "project".  "asked" is the ngx_current_msec
 * at which the query was sent; the entry expires by it.
 */
void ngx_http_lunary_key_cache_keep(ngx_shm_zone_t *zone,
    ngx_http_lunary_key_cache_id_t *id, u_char *project, ngx_msec_t asked);


#endif /* _NGX_HTTP_LUNARY_KEY_CACHE_H_INCLUDED_ */
