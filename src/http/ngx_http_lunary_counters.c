
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_counters.h"
#include "ngx_http_lunary_variables.h"


static ngx_int_t ngx_http_lunary_counters_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_http_lunary_worker_t *ngx_http_lunary_counters_place(
    ngx_http_lunary_counters_t *sh);
static ngx_uint_t ngx_http_lunary_counters_alive(ngx_atomic_uint_t pid);
static ngx_atomic_t *ngx_http_lunary_counters_reach(
    ngx_http_lunary_counters_t *sh, uint64_t *hash);
static void ngx_http_lunary_counters_add(ngx_http_lunary_histogram_t *h,
    ngx_msec_t ms);


ngx_http_lunary_bound_t  ngx_http_lunary_bounds[] = {
    { 1, "0.001" }, { 2, "0.002" }, { 5, "0.005" }, { 10, "0.01" },
    { 25, "0.025" }, { 50, "0.05" }, { 100, "0.1" }, { 250, "0.25" },
    { 500, "0.5" }, { 1000, "1.0" }, { 2500, "2.5" }, { 5000, "5.0" },
    { 10000, "10.0" }, { 30000, "30.0" }
};


/* this worker's place, or where it counts if there was none */

static ngx_http_lunary_worker_t  *ngx_http_lunary_place;
static ngx_http_lunary_worker_t   ngx_http_lunary_no_place;
static ngx_atomic_t               ngx_http_lunary_no_reach;


ngx_int_t
ngx_http_lunary_counters_zone(ngx_conf_t *cf)
{
    size_t                        size;
    ngx_http_lunary_main_conf_t  *lmcf;

    static ngx_str_t  name = ngx_string(NGX_HTTP_LUNARY_COUNTERS_ZONE);

    lmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_lunary_module);

    size = ngx_align(sizeof(ngx_http_lunary_counters_t), ngx_pagesize)
           + 8 * ngx_pagesize;

    lmcf->status = ngx_shared_memory_add(cf, &name, size,
                                         &ngx_http_lunary_module);
    if (lmcf->status == NULL) {
        return NGX_ERROR;
    }

    lmcf->status->init = ngx_http_lunary_counters_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_counters_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t  *shpool;

    /* what was counted stays over a reload */

    if (data) {
        zone->data = data;
        return NGX_OK;
    }

    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    zone->data = ngx_slab_calloc(shpool, sizeof(ngx_http_lunary_counters_t));

    return zone->data ? NGX_OK : NGX_ERROR;
}


void
ngx_http_lunary_counters_attach(ngx_cycle_t *cycle,
    ngx_http_lunary_main_conf_t *lmcf)
{
    ngx_http_lunary_place = ngx_http_lunary_counters_place(lmcf->status->data);

    if (ngx_http_lunary_place == NULL) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "too many workers for the gauges of lunary_status");

        ngx_http_lunary_place = &ngx_http_lunary_no_place;
    }
}


/*
 * the first free place.  Those of workers that were killed become free here,
 * all of them, before somebody else gets one of their pids
 */

static ngx_http_lunary_worker_t *
ngx_http_lunary_counters_place(ngx_http_lunary_counters_t *sh)
{
    ngx_uint_t                 i;
    ngx_atomic_uint_t          pid;
    ngx_http_lunary_worker_t  *w, *place;

    place = NULL;

    for (i = 0; i < NGX_HTTP_LUNARY_WORKERS; i++) {
        w = &sh->workers[i];
        pid = w->pid;

        if (pid && !ngx_http_lunary_counters_alive(pid)) {
            (void) ngx_atomic_cmp_set(&w->pid, pid, 0);
        }

        if (place == NULL
            && ngx_atomic_cmp_set(&w->pid, 0, (ngx_atomic_uint_t) ngx_pid))
        {
            ngx_memzero(&w->gauges, sizeof(ngx_lunary_gauges_t));
            place = w;
        }
    }

    return place;
}


static ngx_uint_t
ngx_http_lunary_counters_alive(ngx_atomic_uint_t pid)
{
    return kill((ngx_pid_t) pid, 0) == 0 || ngx_errno != NGX_ESRCH;
}


void
ngx_http_lunary_counters_pool(ngx_http_lunary_main_conf_t *lmcf,
    ngx_lunary_pool_t *pool)
{
    ngx_slab_pool_t              *shpool;
    ngx_http_lunary_counters_t  *sh;

    sh = lmcf->status->data;
    shpool = (ngx_slab_pool_t *) lmcf->status->shm.addr;

    pool->counts = &sh->counts;
    pool->gauges = &ngx_http_lunary_place->gauges;

    ngx_shmtx_lock(&shpool->mutex);
    pool->unreachable = ngx_http_lunary_counters_reach(sh,
                                                  pool->conf.database);
    ngx_shmtx_unlock(&shpool->mutex);

    if (pool->unreachable) {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "too many databases, \"lunary_status ready\" tells "
                  "what one worker knows");

    pool->unreachable = ngx_pcalloc(ngx_cycle->pool, sizeof(ngx_atomic_t));

    if (pool->unreachable == NULL) {
        pool->unreachable = &ngx_http_lunary_no_reach;
    }
}


static ngx_atomic_t *
ngx_http_lunary_counters_reach(ngx_http_lunary_counters_t *sh, uint64_t *hash)
{
    ngx_uint_t                i;
    ngx_http_lunary_reach_t  *d;

    for (i = 0; i < NGX_HTTP_LUNARY_DATABASES; i++) {
        d = &sh->databases[i];

        if (!d->used) {
            d->used = 1;
            d->hash[0] = hash[0];
            d->hash[1] = hash[1];
        }

        if (d->hash[0] == hash[0] && d->hash[1] == hash[1]) {
            return &d->unreachable;
        }
    }

    return NULL;
}


void
ngx_http_lunary_counters_detach(ngx_cycle_t *cycle)
{
    if (ngx_http_lunary_place) {
        ngx_memzero(&ngx_http_lunary_place->gauges,
                    sizeof(ngx_lunary_gauges_t));
        ngx_http_lunary_place->pid = 0;
        ngx_http_lunary_place = NULL;
    }
}


void
ngx_http_lunary_counters_request(void *data)
{
    ngx_http_lunary_ctx_t *ctx = data;

    ngx_time_t                   *tp;
    ngx_msec_int_t                ms;
    ngx_http_request_t           *r;
    ngx_http_lunary_main_conf_t  *lmcf;
    ngx_http_lunary_counters_t  *sh;

    r = ctx->request;
    lmcf = ngx_http_get_module_main_conf(r, ngx_http_lunary_module);
    sh = lmcf->status->data;

    (void) ngx_atomic_fetch_add(&sh->outcomes[ctx->outcome], 1);
    (void) ngx_atomic_fetch_add(&sh->cache[ctx->cache], 1);

    if (ngx_http_lunary_served(ctx)) {
        (void) ngx_atomic_fetch_add(&sh->runs, ctx->nruns);
        (void) ngx_atomic_fetch_add(&sh->bytes, ctx->stream.length);
    }

    if (ctx->queue_time != NGX_CONF_UNSET_MSEC) {
        ngx_http_lunary_counters_add(&sh->queue, ctx->queue_time);
    }

    if (ctx->first_row_time != NGX_CONF_UNSET_MSEC) {
        ngx_http_lunary_counters_add(&sh->first_row, ctx->first_row_time);
    }

    tp = ngx_timeofday();
    ms = (ngx_msec_int_t) ((tp->sec - r->start_sec) * 1000
                           + (tp->msec - r->start_msec));

    ngx_http_lunary_counters_add(&sh->total, ngx_max(ms, 0));
}


static void
ngx_http_lunary_counters_add(ngx_http_lunary_histogram_t *h, ngx_msec_t ms)
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


void
ngx_http_lunary_counters_gauges(ngx_http_lunary_counters_t *sh,
    ngx_lunary_gauges_t *sum)
{
    ngx_uint_t                 i;
    ngx_http_lunary_worker_t  *w;

    ngx_memzero(sum, sizeof(ngx_lunary_gauges_t));

    for (i = 0; i < NGX_HTTP_LUNARY_WORKERS; i++) {
        w = &sh->workers[i];

        if (w->pid == 0 || !ngx_http_lunary_counters_alive(w->pid)) {
            continue;
        }

        sum->connecting += w->gauges.connecting;
        sum->idle += w->gauges.idle;
        sum->busy += w->gauges.busy;
        sum->checking += w->gauges.checking;
        sum->waiting += w->gauges.waiting;
    }
}
