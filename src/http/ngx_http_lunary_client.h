
/*
 * Notices that the client of a request has left, and closes a connection so
 * that the client notices that its response is cut off.
 */


#ifndef _NGX_HTTP_LUNARY_CLIENT_H_INCLUDED_
#define _NGX_HTTP_LUNARY_CLIENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * Calls the request's read handler when the client leaves, or if it has left
 * already.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_lunary_client_watch(ngx_http_request_t *r);

/*
 * In a read handler: returns 1 if the client has left, which is logged and
 * marked in the connection, otherwise 0.
 */
ngx_uint_t ngx_http_lunary_client_has_left(ngx_http_request_t *r);

/*
 * Returns 1 if nginx has output that the client must read first, otherwise 0:
 * ngx_http_finalize_request() would wait for it.
 */
ngx_uint_t ngx_http_lunary_client_pending(ngx_http_request_t *r);

/*
 * Adds the write event of the client's connection.  With "busy" set some of
 * the response is not sent yet, and the send_timeout timer is started.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_http_lunary_client_await(ngx_http_request_t *r, ngx_uint_t busy);

/*
 * After output failed: returns 1 if the client or its connection is the
 * reason, 0 if a filter or a file of ours is.  nginx sets c->error for both.
 */
ngx_uint_t ngx_http_lunary_client_failed(ngx_http_request_t *r);

/*
 * Before nginx closes the connection: makes sure that the end of the
 * connection or stream is not taken for the end of the response.  "framed":
 * a missing last chunk or a Content-Length tells that much.
 */
void ngx_http_lunary_client_cut(ngx_http_request_t *r, ngx_uint_t framed);


#endif /* _NGX_HTTP_LUNARY_CLIENT_H_INCLUDED_ */
