
/*
 * The answers of a request that gets no runs: their status, headers and body.
 */


#ifndef _NGX_HTTP_LUNARY_REFUSAL_H_INCLUDED_
#define _NGX_HTTP_LUNARY_REFUSAL_H_INCLUDED_


#include "ngx_http_lunary.h"


/*
 * sends the refusal that goes with an outcome, "verdict" is that on the key.
 * The return is the handler's, or one for ngx_http_finalize_request(): the
 * status alone, with nothing sent, where an error_page waits for it
 */
ngx_int_t ngx_http_lunary_refusal_send(ngx_http_request_t *r,
    ngx_http_lunary_outcome_e outcome, ngx_http_lunary_key_e verdict);

/* whether an error_page waits for the status, 1 or 0 */
ngx_uint_t ngx_http_lunary_refusal_intercepted(ngx_http_request_t *r,
    ngx_uint_t status);


#endif /* _NGX_HTTP_LUNARY_REFUSAL_H_INCLUDED_ */
