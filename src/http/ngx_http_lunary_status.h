
/*
 * The page of lunary_status: the metrics as Prometheus' text or as JSON; and
 * the readiness response for load balancers.
 */


#ifndef _NGX_HTTP_LUNARY_STATUS_H_INCLUDED_
#define _NGX_HTTP_LUNARY_STATUS_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the content handler of lunary_status */
ngx_int_t ngx_http_lunary_status_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LUNARY_STATUS_H_INCLUDED_ */
