
/*
 * The client of a request: whether it is still there, and that it sees when
 * its answer is not whole.
 */


#ifndef _NGX_HTTP_LUNARY_CLIENT_H_INCLUDED_
#define _NGX_HTTP_LUNARY_CLIENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * has the request's read handler called when its client leaves, also where it
 * has left already.  NGX_OK or NGX_ERROR
 */
ngx_int_t ngx_http_lunary_client_watch(ngx_http_request_t *r);

/* in a read handler: whether the client has left, 1 or 0 */
ngx_uint_t ngx_http_lunary_client_has_left(ngx_http_request_t *r);

/*
 * after the output failed: 1 if it was the connection with the client, 0 if
 * it was a filter or a file of ours.  nginx marks the connection in both cases
 */
ngx_uint_t ngx_http_lunary_client_failed(ngx_http_request_t *r);

/*
 * before the connection is closed under an answer that is not whole: resets
 * it where nothing but its end would tell the end of the answer.  HTTP/2,
 * HTTP/3, a missing last chunk and a Content-Length tell by themselves
 */
void ngx_http_lunary_client_reset(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LUNARY_CLIENT_H_INCLUDED_ */
