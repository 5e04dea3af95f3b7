
/*
 * What is counted of the requests and of the pools, in shared memory: all
 * workers count together, and go on over reloads.
 */


#ifndef _NGX_HTTP_LUNARY_COUNTERS_H_INCLUDED_
#define _NGX_HTTP_LUNARY_COUNTERS_H_INCLUDED_


#include "ngx_http_lunary.h"
#include "ngx_lunary_pool.h"


/* the name of the shared memory */
#define NGX_HTTP_LUNARY_COUNTERS_ZONE  "lunary_status"

/* of all generations that live at once, and ever configured */
#define NGX_HTTP_LUNARY_WORKERS    512
#define NGX_HTTP_LUNARY_DATABASES  256

#define NGX_HTTP_LUNARY_BUCKETS    14
#define NGX_HTTP_LUNARY_NCACHES    (NGX_HTTP_LUNARY_CACHE_HIT + 1)


/* milliseconds; the last bucket takes the rest */

typedef struct {
    ngx_atomic_t                  buckets[NGX_HTTP_LUNARY_BUCKETS + 1];
    ngx_atomic_t                  sum;
} ngx_http_lunary_histogram_t;


/* the gauges of a worker; a worker that was killed leaves its pid behind */

typedef struct {
    ngx_atomic_t                  pid;
    ngx_lunary_gauges_t           gauges;
} ngx_http_lunary_worker_t;


typedef struct {
    ngx_atomic_t                  used;
    uint64_t                      hash[2];
    ngx_atomic_t                  unreachable;
} ngx_http_lunary_reach_t;


typedef struct {
    ngx_atomic_t                  outcomes[NGX_HTTP_LUNARY_NOUTCOMES];
    ngx_atomic_t                  runs;
    ngx_atomic_t                  bytes;
    ngx_atomic_t                  cache[NGX_HTTP_LUNARY_NCACHES];
    ngx_http_lunary_histogram_t   queue;
    ngx_http_lunary_histogram_t   first_row;
    ngx_http_lunary_histogram_t   total;
    ngx_lunary_counts_t           counts;
    ngx_http_lunary_worker_t      workers[NGX_HTTP_LUNARY_WORKERS];
    ngx_http_lunary_reach_t       databases[NGX_HTTP_LUNARY_DATABASES];
} ngx_http_lunary_counters_t;


/* the label is spelt as OpenMetrics wants it */

typedef struct {
    ngx_msec_t                    ms;
    char                         *le;
} ngx_http_lunary_bound_t;


/* the upper bounds of the buckets, NGX_HTTP_LUNARY_BUCKETS of them */
extern ngx_http_lunary_bound_t  ngx_http_lunary_bounds[];


/* adds the shared memory, at postconfiguration; NGX_OK or NGX_ERROR */
ngx_int_t ngx_http_lunary_counters_zone(ngx_conf_t *cf);

/*
 * in a worker: takes a place for its gauges, and gives it back.  Between the
 * two ngx_http_lunary_counters_pool() sets a pool's counters
 */
void ngx_http_lunary_counters_attach(ngx_cycle_t *cycle,
    ngx_http_lunary_main_conf_t *lmcf);
void ngx_http_lunary_counters_pool(ngx_http_lunary_main_conf_t *lmcf,
    ngx_lunary_pool_t *pool);
void ngx_http_lunary_counters_detach(ngx_cycle_t *cycle);

/* the pool cleanup of a context ("data"): counts its request, once */
void ngx_http_lunary_counters_request(void *data);

/* the gauges, summed over the workers that live */
void ngx_http_lunary_counters_gauges(ngx_http_lunary_counters_t *sh,
    ngx_lunary_gauges_t *sum);


#endif /* _NGX_HTTP_LUNARY_COUNTERS_H_INCLUDED_ */
