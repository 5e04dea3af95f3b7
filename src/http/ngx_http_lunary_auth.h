
/*
 * Who may read: from the headers to a credential, from what the database
 * says of a key to a verdict, and the cache of verdicts that the workers
 * share.
 */


#ifndef _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_
#define _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the credential of a request, in "key" if it is KEY_PRIVATE (or might be) */
ngx_http_lunary_key_e ngx_http_lunary_credential(ngx_http_request_t *r,
    u_char *key);

/* what to tell whoever holds such a key: the message of a 401 */
ngx_str_t *ngx_http_lunary_key_message(ngx_http_lunary_key_e verdict);

/* and the value of the WWW-Authenticate that goes with it */
char *ngx_http_lunary_challenge(ngx_http_lunary_key_e verdict);

/* the handler of a cache's zone; "data" is set by this as well */
ngx_int_t ngx_http_lunary_cache_init(ngx_shm_zone_t *zone, void *data);

/*
 * looks a key of a database up: HIT sets "project"; MISS or EXPIRED
 */
ngx_http_lunary_cache_e ngx_http_lunary_cache_find(ngx_shm_zone_t *zone,
    uint64_t *database, u_char *key, u_char *project);

/* keeps that a private key opens "project", until "expires" */
void ngx_http_lunary_cache_keep(ngx_shm_zone_t *zone, uint64_t *database,
    u_char *key, u_char *project, ngx_msec_t expires);


#endif /* _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_ */
