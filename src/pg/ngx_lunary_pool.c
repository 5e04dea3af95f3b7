
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_pool.h"
#include "ngx_lunary_recovery.h"


/* while nobody waits, a database that is away is tried at this pace */
#define NGX_LUNARY_LOGIN_PACE  2000


static void ngx_lunary_pool_owner(ngx_lunary_pool_t *pool);
static void ngx_lunary_pool_move(ngx_lunary_conn_t *c,
    ngx_lunary_conn_state_e state);
static void ngx_lunary_pool_refused(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_unreachable(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_connected(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_usable(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_finished(ngx_lunary_conn_t *c,
    ngx_lunary_query_t *q);
static void ngx_lunary_pool_slow(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_gone(ngx_lunary_conn_t *c);


ngx_int_t
ngx_lunary_pool_start(ngx_lunary_pool_t *pool, ngx_cycle_t *cycle)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *c;

    /* ours, for its handler and data must not be another's */

    pool->log = ngx_palloc(cycle->pool, sizeof(ngx_log_t));
    if (pool->log == NULL) {
        return NGX_ERROR;
    }

    *pool->log = cycle->new_log;
    pool->log->handler = NULL;
    pool->log->data = NULL;
    pool->log->action = NULL;

    ngx_queue_init(&pool->free);
    ngx_queue_init(&pool->connecting);
    ngx_queue_init(&pool->idle);
    ngx_queue_init(&pool->busy);
    ngx_queue_init(&pool->checking);
    ngx_queue_init(&pool->waiting.queries);

    pool->waiting.timeout = pool->conf.queue_timeout;
    pool->waiting.gauge = &pool->gauges->waiting;
    pool->waiting.log = pool->log;
    pool->faults.log = pool->log;

    pool->hosts.conninfo = pool->conf.conninfo;
    pool->hosts.resolver = pool->conf.resolver;
    pool->hosts.random = pool->conf.random;

    /*
     * a name that is not answered for keeps the next host waiting, too; by 0
     * nginx means that it may for ever
     */

    pool->hosts.resolver_timeout = pool->conf.connect_timeout;

    if (pool->conf.resolver_timeout) {
        pool->hosts.resolver_timeout = ngx_min(pool->conf.resolver_timeout,
                                               pool->conf.connect_timeout);
    }

    if (ngx_lunary_hosts_init(&pool->hosts, cycle->pool) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_lunary_pool_owner(pool);

    pool->conns = ngx_pcalloc(cycle->pool,
                              pool->conf.max * sizeof(ngx_lunary_conn_t));
    if (pool->conns == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < pool->conf.max; i++) {
        c = &pool->conns[i];

        c->owner = &pool->owner;
        c->pg.log = pool->log;

        if (ngx_lunary_conn_init(c, &pool->hosts, cycle->pool) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_queue_insert_tail(&pool->free, &c->queue);
    }

    pool->reconnect.handler = ngx_lunary_dispatch_reconnect;
    pool->reconnect.data = pool;
    pool->reconnect.log = pool->log;
    pool->reconnect.cancelable = 1;

    /* the first connection is made before the first request */

    ngx_add_timer(&pool->reconnect, 1);

    return NGX_OK;
}


static void
ngx_lunary_pool_owner(ngx_lunary_pool_t *pool)
{
    ngx_lunary_owner_t  *owner;

    owner = &pool->owner;

    owner->sql = pool->conf.sql;
    owner->connect_timeout = pool->conf.connect_timeout;
    owner->queue_timeout = pool->conf.queue_timeout;
    owner->query_timeout = pool->conf.query_timeout;
    owner->idle = pool->conf.idle;
    owner->lifetime = pool->conf.lifetime;
    owner->prepare = pool->conf.prepare;

    owner->move = ngx_lunary_pool_move;
    owner->refused = ngx_lunary_pool_refused;
    owner->unreachable = ngx_lunary_pool_unreachable;
    owner->connected = ngx_lunary_pool_connected;
    owner->usable = ngx_lunary_pool_usable;
    owner->finished = ngx_lunary_pool_finished;
    owner->failed = ngx_lunary_recovery_failed;
    owner->late = ngx_lunary_recovery_late;
    owner->slow = ngx_lunary_pool_slow;
    owner->broke = ngx_lunary_recovery_broke;
    owner->stranded = ngx_lunary_recovery_stranded;
    owner->gone = ngx_lunary_pool_gone;
    owner->data = pool;
}


void
ngx_lunary_pool_stop(ngx_lunary_pool_t *pool)
{
    ngx_uint_t  i;

    if (pool->conns == NULL) {
        return;
    }

    for (i = 0; i < pool->conf.max; i++) {
        ngx_lunary_walk_stop(&pool->conns[i].walk);
        ngx_lunary_pg_close(&pool->conns[i].pg);
    }
}


ngx_int_t
ngx_lunary_pool_query(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    /*
     * whoever finds others waiting waits behind them, but not behind those
     * that can't take what there is
     */

    if (pool->waiting.n - pool->waiting.nfresh >= pool->conf.queue
        && !q->front)
    {
        return NGX_BUSY;
    }

    q->pool = pool;

    ngx_lunary_waiting_add(&pool->waiting, q, q->front);
    ngx_lunary_dispatch(pool);

    if (q->state == NGX_LUNARY_QUERY_WAITING) {
        ngx_lunary_waiting_time(&pool->waiting, q);
    }

    return NGX_OK;
}


void
ngx_lunary_pool_outdated(ngx_lunary_query_t *q)
{
    ngx_lunary_recovery_renew(q->pool);
}


void
ngx_lunary_pool_abandon(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    switch (q->state) {

    case NGX_LUNARY_QUERY_WAITING:
        ngx_lunary_waiting_remove(&pool->waiting, q);
        break;

    case NGX_LUNARY_QUERY_SENT:
        (void) ngx_atomic_fetch_add(&pool->counts->cancels, 1);
        ngx_lunary_conn_abandon(q->conn, q);
        break;

    default:
        return;
    }

    q->state = NGX_LUNARY_QUERY_DONE;
}


void
ngx_lunary_pool_pause(ngx_lunary_query_t *q)
{
    if (q->state == NGX_LUNARY_QUERY_SENT) {
        ngx_lunary_conn_pause(q->conn);
    }
}


void
ngx_lunary_pool_resume(ngx_lunary_query_t *q)
{
    if (q->state == NGX_LUNARY_QUERY_SENT) {
        ngx_lunary_conn_resume(q->conn);
    }
}


static void
ngx_lunary_pool_move(ngx_lunary_conn_t *c, ngx_lunary_conn_state_e state)
{
    ngx_queue_t          *queue;
    ngx_atomic_t         *was, *is;
    ngx_lunary_pool_t    *pool;
    ngx_lunary_gauges_t  *gauges;

    pool = c->owner->data;
    gauges = pool->gauges;

    ngx_queue_t   *queues[] = { &pool->free, &pool->connecting, &pool->idle,
                                &pool->busy, &pool->checking };
    ngx_atomic_t  *gauge[] = { NULL, &gauges->connecting, &gauges->idle,
                               &gauges->busy, &gauges->checking };

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, pool->log, 0,
                   "lunary connection %p: %d -> %d",
                   c, (int) c->state, (int) state);

    was = gauge[c->state];
    is = gauge[state];
    queue = queues[state];

    if (was) {
        (void) ngx_atomic_fetch_add(was, -1);
    }

    if (is) {
        (void) ngx_atomic_fetch_add(is, 1);
    }

    pool->nconnecting += (state == NGX_LUNARY_CONN_CONNECTING);
    pool->nconnecting -= (c->state == NGX_LUNARY_CONN_CONNECTING);
    pool->nbusy += (state == NGX_LUNARY_CONN_BUSY);
    pool->nbusy -= (c->state == NGX_LUNARY_CONN_BUSY);

    c->state = state;

    ngx_queue_remove(&c->queue);
    ngx_queue_insert_head(queue, &c->queue);

    /* nginx closes idle connections when a worker leaves */

    if (c->pg.connection) {
        c->pg.connection->idle = (state == NGX_LUNARY_CONN_IDLE
                                  || state == NGX_LUNARY_CONN_CHECKING);
    }
}


static void
ngx_lunary_pool_refused(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    pool->failures++;

    (void) ngx_atomic_fetch_add(&pool->counts->connect_failures, 1);
    ngx_lunary_faults_count(pool->counts, c->pg.sqlstate);

    ngx_lunary_faults_log(&pool->faults, c, c->pg.sqlstate,
                          "cannot be connected to, requests wait");
}


static void
ngx_lunary_pool_unreachable(ngx_lunary_conn_t *c)
{
    ngx_msec_t          rest;
    ngx_lunary_pool_t  *pool;

    pool = c->owner->data;

    if (!pool->down) {
        pool->down = 1;
        pool->down_since = ngx_current_msec;
    }

    *pool->unreachable = 1;

    rest = ngx_lunary_hosts_rest(&pool->hosts);

    if (pool->waiting.n == 0) {
        rest = ngx_max(rest, NGX_LUNARY_LOGIN_PACE);
    }

    ngx_lunary_dispatch_reconnect_in(pool, ngx_max(rest, 1));
}


static void
ngx_lunary_pool_connected(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    (void) ngx_atomic_fetch_add(&pool->counts->connects, 1);

    *pool->unreachable = 0;

    if (pool->down) {
        pool->down = 0;
        pool->faults.time = 0;

        ngx_log_error(NGX_LOG_NOTICE, pool->log, 0,
                      "database \"%V\" is back after %M ms "
                      "and %ui attempts to connect",
                      ngx_lunary_walk_label(&c->walk),
                      ngx_current_msec - pool->down_since, pool->failures);
    }

    pool->failures = 0;
}


static void
ngx_lunary_pool_usable(ngx_lunary_conn_t *c)
{
    ngx_lunary_dispatch(c->owner->data);
}


static void
ngx_lunary_pool_finished(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_lunary_query_done(q, NGX_LUNARY_OK);
}


/* those behind a slow query go elsewhere, if there is anywhere to go */

static void
ngx_lunary_pool_slow(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    if (!ngx_queue_empty(&pool->idle)
        || (!ngx_queue_empty(&pool->free) && !pool->down))
    {
        ngx_lunary_conn_recall(c);
    }

    ngx_lunary_dispatch(pool);
}


static void
ngx_lunary_pool_gone(ngx_lunary_conn_t *c)
{
    ngx_lunary_dispatch(c->owner->data);
}
