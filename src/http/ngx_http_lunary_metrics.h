
/*
 * The metrics: what is counted of requests and connections, in shared memory.
 *
 * All workers count together, and go on over a reload.  Each counter is one
 * word that is added to atomically, and nobody takes a lock, neither to count
 * nor to read.  The tables of databases and hosts are filled in by the master
 * alone, before it starts the workers that use them.  A worker that is killed
 * at any point leaves at most one request uncounted, or counted in one place
 * and not yet in another.
 */


#ifndef _NGX_HTTP_LUNARY_METRICS_H_INCLUDED_
#define _NGX_HTTP_LUNARY_METRICS_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the name of the shared memory */
#define NGX_HTTP_LUNARY_METRICS_ZONE  "lunary_status"


/* ever configured, over all reloads */
#define NGX_HTTP_LUNARY_DATABASES  256
#define NGX_HTTP_LUNARY_HOSTS      64

#define NGX_HTTP_LUNARY_LABEL_LEN  128

#define NGX_HTTP_LUNARY_BUCKETS    14
#define NGX_HTTP_LUNARY_NCACHES    (NGX_HTTP_LUNARY_CACHE_HIT + 1)


/* the label is spelt as OpenMetrics wants it */

typedef struct {
    ngx_msec_t                    ms;
    char                         *le;
} ngx_http_lunary_bound_t;


/* milliseconds; the last bucket takes the rest */

typedef struct {
    ngx_atomic_t                  buckets[NGX_HTTP_LUNARY_BUCKETS + 1];
    ngx_atomic_t                  sum;
} ngx_http_lunary_histogram_t;


/* only the worker with this pid writes to it */

typedef struct {
    ngx_atomic_t                  pid;      /* 0: no worker */
    ngx_lunary_gauges_t           gauges;
} ngx_http_lunary_worker_t;


typedef struct {
    uint64_t                      database[2];
    ngx_atomic_t                  unreachable;
} ngx_http_lunary_reach_t;


/* "sessions" are the open ones of each worker, by its place in "workers" */

typedef struct {
    size_t                        len;
    u_char                        label[NGX_HTTP_LUNARY_LABEL_LEN];
    ngx_atomic_t                  connects;
    ngx_atomic_t                  failures;
    ngx_atomic_t                  sessions[NGX_MAX_PROCESSES];
} ngx_http_lunary_host_t;


typedef struct {
    ngx_atomic_t                  outcomes[NGX_HTTP_LUNARY_NOUTCOMES];
    ngx_atomic_t                  credentials[NGX_HTTP_LUNARY_NCREDENTIALS];
    ngx_atomic_t                  denied[NGX_HTTP_LUNARY_NCREDENTIALS];
    ngx_atomic_t                  runs;
    ngx_atomic_t                  bytes;
    ngx_atomic_t                  cache[NGX_HTTP_LUNARY_NCACHES];
    ngx_http_lunary_histogram_t   queue;
    ngx_http_lunary_histogram_t   first_row;
    ngx_http_lunary_histogram_t   total;
    ngx_lunary_counts_t           counts;

    /*
     * written by the master: an entry first, then that there is one more.
     * Hosts that are too many share the last entry, which is not shown
     */

    ngx_atomic_t                  ndatabases;
    ngx_http_lunary_reach_t       databases[NGX_HTTP_LUNARY_DATABASES];
    ngx_atomic_t                  nhosts;
    ngx_http_lunary_host_t        hosts[NGX_HTTP_LUNARY_HOSTS + 1];

    /*
     * by the place in the master's table of its processes, which old and new
     * workers have of their own
     */

    ngx_http_lunary_worker_t      workers[NGX_MAX_PROCESSES];
} ngx_http_lunary_metrics_t;


/* the upper bounds of the buckets, NGX_HTTP_LUNARY_BUCKETS of them */
extern ngx_http_lunary_bound_t  ngx_http_lunary_bounds[];


/* adds the shared memory, at postconfiguration; NGX_OK or NGX_ERROR */
ngx_int_t ngx_http_lunary_metrics_zone(ngx_conf_t *cf);

/*
 * In a worker, before the pools are started and after they are stopped: begins
 * and ends the gauges of this worker.
 */
void ngx_http_lunary_metrics_attach(ngx_http_lunary_main_conf_t *lmcf);
void ngx_http_lunary_metrics_detach(ngx_http_lunary_main_conf_t *lmcf);

/* the pool cleanup of a context ("data"): counts its request, once */
void ngx_http_lunary_metrics_request(void *data);

/* the gauges, summed over the workers that live */
void ngx_http_lunary_metrics_gauges(ngx_http_lunary_metrics_t *sh,
    ngx_lunary_gauges_t *sum);

/* the same for the open sessions with a host */
ngx_uint_t ngx_http_lunary_metrics_sessions(ngx_http_lunary_metrics_t *sh,
    ngx_http_lunary_host_t *host);


#endif /* _NGX_HTTP_LUNARY_METRICS_H_INCLUDED_ */
