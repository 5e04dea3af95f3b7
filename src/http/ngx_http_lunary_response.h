
/*
 * Status, headers and error responses.
 */


#ifndef _NGX_HTTP_LUNARY_RESPONSE_H_INCLUDED_
#define _NGX_HTTP_LUNARY_RESPONSE_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the Content-Type of all JSON */
extern ngx_str_t  ngx_http_lunary_json_type;


/*
 * Sends the header of a 200: "length" is the size of the body, or -1 where it
 * is not known; "etag" is the value of the ETag header, quotes included, and
 * must outlive the request; without one it is empty.  Discards the request
 * body.  Returns what ngx_http_send_header() returns.
 */
ngx_int_t ngx_http_lunary_response_ok(ngx_http_request_t *r,
    ngx_str_t *etag, off_t length);

/*
 * Sends a 304, which has no body.  "etag" as above, not NULL.  The return
 * value is for ngx_http_finalize_request().
 */
ngx_int_t ngx_http_lunary_response_not_modified(ngx_http_request_t *r,
    ngx_str_t *etag);

/*
 * Sends the error response of an outcome; "verdict" is why a 401 is one.  The
 * return value is a content handler's, or one for
 * ngx_http_finalize_request(): the status alone, with nothing sent, where an
 * error_page is configured for it.
 */
ngx_int_t ngx_http_lunary_response_error(ngx_http_request_t *r,
    ngx_http_lunary_outcome_e outcome, ngx_http_lunary_key_e verdict);

/*
 * Sends a response whose body is one buffer, with "cache_control" as the only
 * Cache-Control.  The strings must outlive the request.  The return value is a
 * content handler's.
 */
ngx_int_t ngx_http_lunary_response_buffer(ngx_http_request_t *r,
    ngx_uint_t status, char *cache_control, ngx_str_t *type, ngx_buf_t *b);

/* Returns 1 if an error_page is configured for the status, otherwise 0. */
ngx_uint_t ngx_http_lunary_response_intercepted(ngx_http_request_t *r,
    ngx_uint_t status);

/*
 * Adds a header; both strings must outlive the request.  Returns NULL if
 * there is no memory.
 */
ngx_table_elt_t *ngx_http_lunary_response_header(ngx_http_request_t *r,
    char *key, char *value);


#endif /* _NGX_HTTP_LUNARY_RESPONSE_H_INCLUDED_ */
