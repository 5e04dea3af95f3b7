
/*
 * What is told of the requests: variables for logs, counters and histograms
 * in shared memory, the metrics page and the readiness answer.
 */


#ifndef _NGX_HTTP_LUNARY_STATUS_H_INCLUDED_
#define _NGX_HTTP_LUNARY_STATUS_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the name of its shared memory */
#define NGX_HTTP_LUNARY_STATUS_ZONE  "lunary_status"

/* the shared memory for the counters, at postconfiguration */
ngx_int_t ngx_http_lunary_status_zone(ngx_conf_t *cf);

/*
 * in a worker: takes a place for its gauges, and gives it back.  "pool" has
 * its counters set by ngx_http_lunary_status_pool()
 */
void ngx_http_lunary_status_attach(ngx_cycle_t *cycle,
    ngx_http_lunary_main_conf_t *lmcf);
void ngx_http_lunary_status_pool(ngx_http_lunary_main_conf_t *lmcf,
    ngx_lunary_pool_t *pool);
void ngx_http_lunary_status_detach(ngx_cycle_t *cycle);

/* counts a request that has ended, once */
void ngx_http_lunary_status_count(ngx_http_lunary_ctx_t *ctx);

/* the content handler of lunary_status */
ngx_int_t ngx_http_lunary_status_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LUNARY_STATUS_H_INCLUDED_ */
