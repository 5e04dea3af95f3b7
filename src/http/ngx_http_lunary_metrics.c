
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_metrics.h"
#include "ngx_http_lunary_variables.h"


static ngx_int_t ngx_http_lunary_metrics_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_int_t ngx_http_lunary_metrics_pool(
    ngx_http_lunary_main_conf_t *lmcf, ngx_lunary_pool_t *pool);
static ngx_int_t ngx_http_lunary_metrics_hosts(
    ngx_http_lunary_main_conf_t *lmcf, ngx_lunary_pool_t *pool);
static ngx_atomic_t *ngx_http_lunary_metrics_database(
    ngx_http_lunary_metrics_t *sh, uint64_t *database);
static ngx_http_lunary_host_t *ngx_http_lunary_metrics_host(
    ngx_http_lunary_main_conf_t *lmcf, ngx_str_t *label);
static void ngx_http_lunary_metrics_add(ngx_http_lunary_histogram_t *h,
    ngx_msec_t ms);
static ngx_uint_t ngx_http_lunary_metrics_alive(ngx_http_lunary_worker_t *w);


ngx_http_lunary_bound_t  ngx_http_lunary_bounds[] = {
    { 1, "0.001" }, { 2, "0.002" }, { 5, "0.005" }, { 10, "0.01" },
    { 25, "0.025" }, { 50, "0.05" }, { 100, "0.1" }, { 250, "0.25" },
    { 500, "0.5" }, { 1000, "1.0" }, { 2500, "2.5" }, { 5000, "5.0" },
    { 10000, "10.0" }, { 30000, "30.0" }
};


ngx_int_t
ngx_http_lunary_metrics_zone(ngx_conf_t *cf)
{
    size_t                        size;
    ngx_http_lunary_main_conf_t  *lmcf;

    static ngx_str_t  name = ngx_string(NGX_HTTP_LUNARY_METRICS_ZONE);

    lmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_lunary_module);

    size = ngx_align(sizeof(ngx_http_lunary_metrics_t), ngx_pagesize)
           + 8 * ngx_pagesize;

    lmcf->status = ngx_shared_memory_add(cf, &name, size,
                                         &ngx_http_lunary_module);
    if (lmcf->status == NULL) {
        return NGX_ERROR;
    }

    lmcf->status->init = ngx_http_lunary_metrics_init_zone;
    lmcf->status->data = lmcf;

    return NGX_OK;
}


/* in the master; what was counted stays over a reload */

static ngx_int_t
ngx_http_lunary_metrics_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t                    i;
    ngx_slab_pool_t              *shpool;
    ngx_lunary_pool_t           **pools;
    ngx_http_lunary_metrics_t    *sh;
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = zone->data;
    sh = data;

    if (sh == NULL) {
        shpool = (ngx_slab_pool_t *) zone->shm.addr;

        sh = ngx_slab_calloc(shpool, sizeof(ngx_http_lunary_metrics_t));
        if (sh == NULL) {
            return NGX_ERROR;
        }
    }

    zone->data = sh;
    pools = lmcf->pools.elts;

    for (i = 0; i < lmcf->pools.nelts; i++) {
        if (ngx_http_lunary_metrics_pool(lmcf, pools[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_metrics_pool(ngx_http_lunary_main_conf_t *lmcf,
    ngx_lunary_pool_t *pool)
{
    ngx_http_lunary_metrics_t  *sh;

    sh = lmcf->status->data;

    pool->counts = &sh->counts;
    pool->unreachable = ngx_http_lunary_metrics_database(sh,
                                                         pool->conf.database);

    if (pool->unreachable == NULL) {
        ngx_log_error(NGX_LOG_WARN, lmcf->status->shm.log, 0,
                      "too many databases, \"lunary_status ready\" reports "
                      "what one worker knows");

        pool->unreachable = ngx_pcalloc(lmcf->pools.pool,
                                        sizeof(ngx_atomic_t));
        if (pool->unreachable == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_lunary_metrics_hosts(lmcf, pool);
}


static ngx_int_t
ngx_http_lunary_metrics_hosts(ngx_http_lunary_main_conf_t *lmcf,
    ngx_lunary_pool_t *pool)
{
    ngx_uint_t                i;
    ngx_array_t              *hosts;
    ngx_lunary_host_t        *host;
    ngx_http_lunary_host_t   *h;

    hosts = &pool->conf.conninfo->hosts;
    host = hosts->elts;

    pool->host_counts = ngx_pcalloc(lmcf->pools.pool, hosts->nelts
                                    * sizeof(ngx_lunary_host_counts_t));
    if (pool->host_counts == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < hosts->nelts; i++) {
        h = ngx_http_lunary_metrics_host(lmcf, &host[i].label);

        pool->host_counts[i].connects = &h->connects;
        pool->host_counts[i].failures = &h->failures;

        /* a worker adds its place */

        pool->host_counts[i].sessions = h->sessions;
    }

    return NGX_OK;
}


static ngx_atomic_t *
ngx_http_lunary_metrics_database(ngx_http_lunary_metrics_t *sh,
    uint64_t *database)
{
    ngx_uint_t                i;
    ngx_http_lunary_reach_t  *d;

    for (i = 0; i < sh->ndatabases; i++) {
        d = &sh->databases[i];

        if (d->database[0] == database[0] && d->database[1] == database[1]) {
            return &d->unreachable;
        }
    }

    if (i == NGX_HTTP_LUNARY_DATABASES) {
        return NULL;
    }

    d = &sh->databases[i];
    d->database[0] = database[0];
    d->database[1] = database[1];

    ngx_memory_barrier();
    sh->ndatabases = i + 1;

    return &d->unreachable;
}


/* the entry of a host, which is added if there is none */

static ngx_http_lunary_host_t *
ngx_http_lunary_metrics_host(ngx_http_lunary_main_conf_t *lmcf,
    ngx_str_t *label)
{
    size_t                      len;
    ngx_http_lunary_host_t     *h;
    ngx_http_lunary_metrics_t  *sh;

    sh = lmcf->status->data;
    len = ngx_min(label->len, NGX_HTTP_LUNARY_LABEL_LEN);

    for (h = sh->hosts; h < &sh->hosts[sh->nhosts]; h++) {
        if (h->len == len && ngx_memcmp(h->label, label->data, len) == 0) {
            return h;
        }
    }

    if (sh->nhosts == NGX_HTTP_LUNARY_HOSTS) {
        ngx_log_error(NGX_LOG_WARN, lmcf->status->shm.log, 0,
                      "too many hosts, the metrics leave out \"%V\"", label);
        return h;
    }

    h->len = len;
    ngx_memcpy(h->label, label->data, len);

    ngx_memory_barrier();
    sh->nhosts++;

    return h;
}


void
ngx_http_lunary_metrics_attach(ngx_http_lunary_main_conf_t *lmcf)
{
    ngx_uint_t                   i, k;
    ngx_lunary_pool_t          **pools;
    ngx_http_lunary_worker_t    *w;
    ngx_http_lunary_metrics_t   *sh;

    sh = lmcf->status->data;
    w = &sh->workers[ngx_process_slot];

    /* a worker that was killed had the place before */

    ngx_memzero(w, sizeof(ngx_http_lunary_worker_t));

    for (i = 0; i <= NGX_HTTP_LUNARY_HOSTS; i++) {
        sh->hosts[i].sessions[ngx_process_slot] = 0;
    }

    ngx_memory_barrier();
    w->pid = ngx_pid;

    pools = lmcf->pools.elts;

    for (i = 0; i < lmcf->pools.nelts; i++) {
        pools[i]->gauges = &w->gauges;

        for (k = 0; k < pools[i]->conf.conninfo->hosts.nelts; k++) {
            pools[i]->host_counts[k].sessions += ngx_process_slot;
        }
    }
}


void
ngx_http_lunary_metrics_detach(ngx_http_lunary_main_conf_t *lmcf)
{
    ngx_http_lunary_metrics_t  *sh;

    sh = lmcf->status->data;
    sh->workers[ngx_process_slot].pid = 0;
}


void
ngx_http_lunary_metrics_request(void *data)
{
    ngx_http_lunary_ctx_t *ctx = data;

    ngx_time_t                   *tp;
    ngx_msec_int_t                ms;
    ngx_http_request_t           *r;
    ngx_http_lunary_metrics_t    *sh;
    ngx_http_lunary_main_conf_t  *lmcf;

    r = ctx->request;
    lmcf = ngx_http_get_module_main_conf(r, ngx_http_lunary_module);
    sh = lmcf->status->data;

    (void) ngx_atomic_fetch_add(&sh->outcomes[ctx->outcome], 1);
    (void) ngx_atomic_fetch_add(&sh->credentials[ctx->credential], 1);
    (void) ngx_atomic_fetch_add(&sh->cache[ctx->cache], 1);

    if (ctx->outcome == NGX_HTTP_LUNARY_DENIED) {
        (void) ngx_atomic_fetch_add(&sh->denied[ctx->credential], 1);
    }

    if (ngx_http_lunary_served(ctx)) {
        (void) ngx_atomic_fetch_add(&sh->runs, ctx->nruns);
        (void) ngx_atomic_fetch_add(&sh->bytes, ctx->stream.length);
    }

    if (ctx->queue_time != NGX_CONF_UNSET_MSEC) {
        ngx_http_lunary_metrics_add(&sh->queue, ctx->queue_time);
    }

    if (ctx->first_row_time != NGX_CONF_UNSET_MSEC) {
        ngx_http_lunary_metrics_add(&sh->first_row, ctx->first_row_time);
    }

    tp = ngx_timeofday();
    ms = (ngx_msec_int_t) ((tp->sec - r->start_sec) * 1000
                           + (tp->msec - r->start_msec));

    ngx_http_lunary_metrics_add(&sh->total, ngx_max(ms, 0));
}


static void
ngx_http_lunary_metrics_add(ngx_http_lunary_histogram_t *h, ngx_msec_t ms)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_LUNARY_BUCKETS; i++) {
        if (ms <= ngx_http_lunary_bounds[i].ms) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&h->buckets[i], 1);
    (void) ngx_atomic_fetch_add(&h->sum, ms);
}


/* a worker that was killed leaves its pid behind */

static ngx_uint_t
ngx_http_lunary_metrics_alive(ngx_http_lunary_worker_t *w)
{
    return w->pid
           && (kill((ngx_pid_t) w->pid, 0) == 0 || ngx_errno != NGX_ESRCH);
}


void
ngx_http_lunary_metrics_gauges(ngx_http_lunary_metrics_t *sh,
    ngx_lunary_gauges_t *sum)
{
    ngx_uint_t                 i;
    ngx_http_lunary_worker_t  *w;

    ngx_memzero(sum, sizeof(ngx_lunary_gauges_t));

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        w = &sh->workers[i];

        if (ngx_http_lunary_metrics_alive(w)) {
            sum->connecting += w->gauges.connecting;
            sum->idle += w->gauges.idle;
            sum->busy += w->gauges.busy;
            sum->waiting += w->gauges.waiting;
        }
    }
}


ngx_uint_t
ngx_http_lunary_metrics_sessions(ngx_http_lunary_metrics_t *sh,
    ngx_http_lunary_host_t *host)
{
    ngx_uint_t  i, n;

    n = 0;

    for (i = 0; i < NGX_MAX_PROCESSES; i++) {
        if (host->sessions[i]
            && ngx_http_lunary_metrics_alive(&sh->workers[i]))
        {
            n += host->sessions[i];
        }
    }

    return n;
}
