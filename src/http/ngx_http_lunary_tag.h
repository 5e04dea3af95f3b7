
/*
 * The entity tag of a response: what it is made of, and whether a condition
 * of the request names it.
 */


#ifndef _NGX_HTTP_LUNARY_TAG_H_INCLUDED_
#define _NGX_HTTP_LUNARY_TAG_H_INCLUDED_


#include "ngx_http_lunary.h"


/*
 * sets "etag" of the context from the versions of the rows, as the head of a
 * result tells them, and from all else that makes two responses differ
 */
void ngx_http_lunary_tag_set(ngx_http_lunary_ctx_t *ctx, u_char *versions,
    size_t len);

/*
 * Returns 1 if the schema has not changed since the session was probed, or 0.
 * "parsed" is the time at which PostgreSQL parsed the statement; "catalog" is
 * the list of catalog rows, or NULL if the session has told it for that time
 */
ngx_uint_t ngx_http_lunary_tag_current(ngx_lunary_query_t *q, u_char *parsed,
    u_char *catalog, size_t len);

/* whether If-None-Match names "etag" of the context, 1 or 0 */
ngx_uint_t ngx_http_lunary_tag_matches(ngx_http_lunary_ctx_t *ctx);


#endif /* _NGX_HTTP_LUNARY_TAG_H_INCLUDED_ */
