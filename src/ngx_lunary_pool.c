
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_pool.h"
#include "ngx_lunary_sqlstate.h"


/*
 * so many connections are busy before queries go behind one another: fewer
 * backends do the same work with fewer switches between them
 */
#define NGX_LUNARY_EAGER        2

/* while nobody waits, a database that is away is tried at this pace */
#define NGX_LUNARY_LOGIN_PACE   2000

/* the schema is looked at anew, and a line repeated, no more often */
#define NGX_LUNARY_SCHEMA_PACE  1000
#define NGX_LUNARY_FAULT_PACE   10000


static void ngx_lunary_pool_owner(ngx_lunary_pool_t *pool);
static void ngx_lunary_pool_dispatch(ngx_lunary_pool_t *pool);
static ngx_lunary_conn_t *ngx_lunary_pool_pick(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q, ngx_uint_t *crowded);
static ngx_uint_t ngx_lunary_pool_live(ngx_lunary_pool_t *pool);
static void ngx_lunary_pool_connect(ngx_lunary_pool_t *pool, ngx_uint_t need);
static void ngx_lunary_pool_reconnect_in(ngx_lunary_pool_t *pool,
    ngx_msec_t delay);
static void ngx_lunary_pool_reconnect_handler(ngx_event_t *ev);
static void ngx_lunary_pool_enqueue(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q, ngx_uint_t front);
static void ngx_lunary_pool_dequeue(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q);
static void ngx_lunary_pool_wait(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q);
static void ngx_lunary_pool_queue_handler(ngx_event_t *ev);
static void ngx_lunary_pool_done(ngx_lunary_query_t *q,
    ngx_lunary_result_e result);
static void ngx_lunary_pool_retry(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q, ngx_lunary_result_e otherwise);
static void ngx_lunary_pool_retire(ngx_lunary_pool_t *pool,
    ngx_lunary_conn_t *c);
static void ngx_lunary_pool_renew(ngx_lunary_pool_t *pool);

static void ngx_lunary_pool_move(ngx_lunary_conn_t *c,
    ngx_lunary_conn_state_e state);
static void ngx_lunary_pool_refused(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_unreachable(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_connected(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_usable(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_finished(ngx_lunary_conn_t *c,
    ngx_lunary_query_t *q);
static void ngx_lunary_pool_failed(ngx_lunary_conn_t *c,
    ngx_lunary_query_t *q, const char *sqlstate);
static const char *ngx_lunary_pool_consequence(ngx_lunary_query_t *q,
    const char *sqlstate);
static void ngx_lunary_pool_judge(ngx_lunary_pool_t *pool,
    ngx_lunary_conn_t *c, ngx_lunary_verdict_e verdict);
static void ngx_lunary_pool_late(ngx_lunary_conn_t *c, ngx_lunary_query_t *q);
static void ngx_lunary_pool_slow(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_outdated(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_broke(ngx_lunary_conn_t *c);
static void ngx_lunary_pool_stranded(ngx_lunary_conn_t *c,
    ngx_lunary_query_t *q, ngx_uint_t head);
static void ngx_lunary_pool_gone(ngx_lunary_conn_t *c);

static void ngx_lunary_pool_fault(ngx_lunary_pool_t *pool,
    ngx_lunary_conn_t *c, const char *sqlstate, const char *what);
static void ngx_lunary_pool_count_state(ngx_lunary_pool_t *pool,
    const char *sqlstate);


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
    ngx_queue_init(&pool->waiting);

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

    pool->reconnect.handler = ngx_lunary_pool_reconnect_handler;
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
    owner->failed = ngx_lunary_pool_failed;
    owner->late = ngx_lunary_pool_late;
    owner->slow = ngx_lunary_pool_slow;
    owner->outdated = ngx_lunary_pool_outdated;
    owner->broke = ngx_lunary_pool_broke;
    owner->stranded = ngx_lunary_pool_stranded;
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

    if (pool->nwaiting - pool->nfresh >= pool->conf.queue && !q->front) {
        return NGX_BUSY;
    }

    ngx_lunary_pool_enqueue(pool, q, q->front);
    ngx_lunary_pool_dispatch(pool);

    if (q->state == NGX_LUNARY_QUERY_WAITING) {
        ngx_lunary_pool_wait(pool, q);
    }

    return NGX_OK;
}


void
ngx_lunary_pool_abandon(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    switch (q->state) {

    case NGX_LUNARY_QUERY_WAITING:
        ngx_lunary_pool_dequeue(pool, q);
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


/* sends what waits, as far as there is room for it, in the order it came */

static void
ngx_lunary_pool_dispatch(ngx_lunary_pool_t *pool)
{
    ngx_uint_t           crowded, fresh;
    ngx_queue_t         *item, *next;
    ngx_lunary_conn_t   *c;
    ngx_lunary_query_t  *q;

    fresh = 0;
    crowded = 0;
    item = ngx_queue_head(&pool->waiting);

    while (item != ngx_queue_sentinel(&pool->waiting)) {

        next = ngx_queue_next(item);

        q = ngx_queue_data(item, ngx_lunary_query_t, queue);
        c = ngx_lunary_pool_pick(pool, q, &crowded);

        if (c == NULL) {

            /* one that needs a fresh connection holds up no others */

            if (q->fresh == 0) {
                break;
            }

            fresh = 1;
            item = next;
            continue;
        }

        ngx_lunary_pool_dequeue(pool, q);

        if (!q->asked) {
            q->asked = 1;
            q->connect = c->connect;
            q->connected = (c->started - q->queued < NGX_MAX_INT32_VALUE);
        }

        if (ngx_lunary_conn_send(c, q) != NGX_OK) {
            ngx_lunary_pool_enqueue(pool, q, 1);
            ngx_lunary_pool_wait(pool, q);
        }

        /* one that could not be sent is the first again */

        fresh = 0;
        item = ngx_queue_head(&pool->waiting);
    }

    if (!crowded) {
        ngx_lunary_pool_connect(pool, pool->nwaiting);

    } else if (fresh || ngx_lunary_pool_live(pool) < NGX_LUNARY_EAGER) {
        ngx_lunary_pool_connect(pool, 1);
    }
}


/*
 * an idle connection while few are busy; then one whose queries are quick, or
 * none while there is one that only lacks room; then any idle one.  "crowded"
 * is set where there are quick ones to share
 */

static ngx_lunary_conn_t *
ngx_lunary_pool_pick(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q,
    ngx_uint_t *crowded)
{
    ngx_uint_t          quick;
    ngx_queue_t        *item;
    ngx_lunary_conn_t  *c, *idle, *best;

    quick = 0;
    idle = NULL;
    best = NULL;

    for (item = ngx_queue_head(&pool->idle);
         item != ngx_queue_sentinel(&pool->idle);
         item = ngx_queue_next(item))
    {
        c = ngx_queue_data(item, ngx_lunary_conn_t, queue);

        if (c->serial >= q->fresh && !c->retire) {
            idle = c;
            break;
        }
    }

    /*
     * a pooler may give its connection to another client after the first
     * answer, with those to the queries behind still to come
     */

    if (!pool->conf.prepare) {
        return idle;
    }

    if (pool->nbusy < NGX_LUNARY_EAGER && (idle || pool->nbusy == 0)) {
        return idle;
    }

    for (item = ngx_queue_head(&pool->busy);
         item != ngx_queue_sentinel(&pool->busy);
         item = ngx_queue_next(item))
    {
        c = ngx_queue_data(item, ngx_lunary_conn_t, queue);

        if (c->serial < q->fresh || !ngx_lunary_conn_is_quick(c)) {
            continue;
        }

        quick = 1;

        if (c->nflights >= NGX_LUNARY_DEPTH) {
            continue;
        }

        if (best == NULL || c->nflights < best->nflights) {
            best = c;
        }
    }

    if (quick) {
        *crowded = 1;
        return best;
    }

    return idle;
}


/* the connections there are, or will soon be */

static ngx_uint_t
ngx_lunary_pool_live(ngx_lunary_pool_t *pool)
{
    ngx_uint_t    n;
    ngx_queue_t  *item;

    n = pool->nconnecting + pool->nbusy;

    for (item = ngx_queue_head(&pool->idle);
         item != ngx_queue_sentinel(&pool->idle);
         item = ngx_queue_next(item))
    {
        n++;
    }

    return n;
}


static void
ngx_lunary_pool_connect(ngx_lunary_pool_t *pool, ngx_uint_t need)
{
    ngx_uint_t          most;
    ngx_msec_t          rest;
    ngx_queue_t        *item;
    ngx_lunary_conn_t  *c;

    /*
     * while it is away, one tries for all: of two logins at a time that find
     * one place PostgreSQL may refuse both
     */

    most = pool->down ? 1 : pool->conf.connecting;

    while (pool->nconnecting < most
           && pool->nconnecting < need
           && !ngx_queue_empty(&pool->free))
    {
        rest = ngx_lunary_hosts_rest(&pool->hosts);

        if (rest) {
            ngx_lunary_pool_reconnect_in(pool, rest);
            return;
        }

        item = ngx_queue_head(&pool->free);
        c = ngx_queue_data(item, ngx_lunary_conn_t, queue);

        ngx_lunary_conn_connect(c);
    }
}


/*
 * tries to connect, also where nobody waits: at the start, and while the
 * database is away, so that its return is known
 */

static void
ngx_lunary_pool_reconnect_handler(ngx_event_t *ev)
{
    ngx_lunary_pool_t *pool = ev->data;

    if (ngx_exiting && pool->nwaiting == 0) {
        return;
    }

    if (pool->down || ngx_lunary_pool_live(pool) == 0) {
        ngx_lunary_pool_connect(pool, ngx_max(pool->nwaiting, 1));
    }

    ngx_lunary_pool_dispatch(pool);
}


/* sooner, if it was to be later */

static void
ngx_lunary_pool_reconnect_in(ngx_lunary_pool_t *pool, ngx_msec_t delay)
{
    ngx_msec_t  key;

    key = ngx_current_msec + delay;

    if (pool->reconnect.timer_set) {

        if ((ngx_msec_int_t) (pool->reconnect.timer.key - key) <= 0) {
            return;
        }

        ngx_del_timer(&pool->reconnect);
    }

    ngx_add_timer(&pool->reconnect, delay);
}


static void
ngx_lunary_pool_enqueue(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q,
    ngx_uint_t front)
{
    q->state = NGX_LUNARY_QUERY_WAITING;
    q->queued = ngx_current_msec;

    q->timer.handler = ngx_lunary_pool_queue_handler;
    q->timer.data = q;
    q->timer.log = pool->log;

    if (front) {
        ngx_queue_insert_head(&pool->waiting, &q->queue);

    } else {
        ngx_queue_insert_tail(&pool->waiting, &q->queue);
    }

    q->pool = pool;

    pool->nwaiting++;
    pool->nfresh += (q->fresh != 0);
    (void) ngx_atomic_fetch_add(&pool->gauges->waiting, 1);
}


static void
ngx_lunary_pool_dequeue(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    if (q->timer.timer_set) {
        ngx_del_timer(&q->timer);
    }

    ngx_queue_remove(&q->queue);

    q->waited += ngx_current_msec - q->queued;

    pool->nwaiting--;
    pool->nfresh -= (q->fresh != 0);
    (void) ngx_atomic_fetch_add(&pool->gauges->waiting, -1);
}


/* the time in the queue is one for all that a request waits */

static void
ngx_lunary_pool_wait(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    if (!q->timer.timer_set) {
        ngx_add_timer(&q->timer, q->waited < pool->conf.queue_timeout
                                 ? pool->conf.queue_timeout - q->waited : 1);
    }
}


static void
ngx_lunary_pool_queue_handler(ngx_event_t *ev)
{
    ngx_lunary_query_t *q = ev->data;

    ngx_lunary_pool_dequeue(q->pool, q);
    ngx_lunary_pool_done(q, NGX_LUNARY_QUEUE_TIMEOUT);
}


static void
ngx_lunary_pool_done(ngx_lunary_query_t *q, ngx_lunary_result_e result)
{
    q->state = NGX_LUNARY_QUERY_DONE;

    q->done(q, result);
}


/* once, on a session made from now on */

static void
ngx_lunary_pool_retry(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q,
    ngx_lunary_result_e otherwise)
{
    if (q->retried || q->committed) {
        ngx_lunary_pool_done(q, otherwise);
        return;
    }

    (void) ngx_atomic_fetch_add(&pool->counts->retries, 1);

    q->retried = 1;
    q->fresh = pool->serial + 1;

    if (q->rows) {
        q->again(q);
    }

    ngx_lunary_pool_enqueue(pool, q, 1);
    ngx_lunary_pool_wait(pool, q);
}


/*
 * nobody knows what else is wrong with a session that gave a 500.  Where one
 * made since did no better it may finish its moment, lest each request makes
 * its own
 */

static void
ngx_lunary_pool_retire(ngx_lunary_pool_t *pool, ngx_lunary_conn_t *c)
{
    if (pool->renewed && c->serial >= pool->renewed
        && ngx_current_msec - c->started < NGX_LUNARY_SCHEMA_PACE)
    {
        c->expires = c->started + NGX_LUNARY_SCHEMA_PACE;
        return;
    }

    c->retire = 1;

    if (c->serial >= pool->renewed) {
        pool->renewed = pool->serial + 1;
    }
}


/* all sessions are to be made anew, but not again and again */

static void
ngx_lunary_pool_renew(ngx_lunary_pool_t *pool)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *c;

    if (pool->renewed
        && ngx_current_msec - pool->renewed_time < NGX_LUNARY_SCHEMA_PACE)
    {
        return;
    }

    pool->renewed = pool->serial + 1;
    pool->renewed_time = ngx_current_msec;

    for (i = 0; i < pool->conf.max; i++) {
        pool->conns[i].retire = 1;
    }

    /* none of them takes what the end of another lets go */

    for (i = 0; i < pool->conf.max; i++) {
        c = &pool->conns[i];

        if (c->state == NGX_LUNARY_CONN_IDLE && c->nflights == 0) {
            ngx_lunary_conn_close(c);
        }
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
    ngx_lunary_pool_count_state(pool, c->pg.sqlstate);

    ngx_lunary_pool_fault(pool, c, c->pg.sqlstate,
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

    if (pool->nwaiting == 0) {
        rest = ngx_max(rest, NGX_LUNARY_LOGIN_PACE);
    }

    ngx_lunary_pool_reconnect_in(pool, ngx_max(rest, 1));
}


static void
ngx_lunary_pool_connected(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    c->serial = ++pool->serial;

    (void) ngx_atomic_fetch_add(&pool->counts->connects, 1);

    *pool->unreachable = 0;

    if (pool->down) {
        pool->down = 0;
        pool->fault_time = 0;

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
    ngx_lunary_pool_dispatch(c->owner->data);
}


static void
ngx_lunary_pool_finished(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_lunary_pool_done(q, NGX_LUNARY_OK);
}


static void
ngx_lunary_pool_failed(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    const char *sqlstate)
{
    ngx_lunary_pool_t     *pool;
    ngx_lunary_verdict_e   verdict;

    pool = c->owner->data;
    verdict = ngx_lunary_sqlstate_verdict(sqlstate);

    ngx_lunary_pool_count_state(pool, sqlstate);
    ngx_lunary_pool_fault(pool, c, sqlstate,
                          ngx_lunary_pool_consequence(q, sqlstate));

    ngx_lunary_pool_judge(pool, c, verdict);

    if (q == NULL) {
        return;
    }

    ngx_cpystrn((u_char *) q->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    switch (verdict) {

    case NGX_LUNARY_VERDICT_UNAVAILABLE:
        ngx_lunary_pool_retry(pool, q, NGX_LUNARY_UNAVAILABLE);
        return;

    case NGX_LUNARY_VERDICT_PREPARE:
        ngx_lunary_pool_retry(pool, q, NGX_LUNARY_FAILED);
        return;

    case NGX_LUNARY_VERDICT_TIMEOUT:
        ngx_lunary_pool_done(q, NGX_LUNARY_TIMEOUT);
        return;

    case NGX_LUNARY_VERDICT_SCHEMA:
    case NGX_LUNARY_VERDICT_FAILED:
        ngx_lunary_pool_done(q, NGX_LUNARY_FAILED);
    }
}


/* what becomes of a query that failed, for the log */

static const char *
ngx_lunary_pool_consequence(ngx_lunary_query_t *q, const char *sqlstate)
{
    if (q == NULL) {
        return "failed a query that nobody waited for";
    }

    switch (ngx_lunary_sqlstate_verdict(sqlstate)) {

    case NGX_LUNARY_VERDICT_UNAVAILABLE:
    case NGX_LUNARY_VERDICT_PREPARE:
        return q->retried || q->committed ? "failed a query, given up"
                                          : "failed a query, sent again";

    case NGX_LUNARY_VERDICT_TIMEOUT:
        return "cancelled a query, answered with 504";

    default:
        return *sqlstate ? "failed a query, answered with 500"
                         : "gave a row that cannot be, answered with 500";
    }
}


/* what becomes of the connection, and of the others */

static void
ngx_lunary_pool_judge(ngx_lunary_pool_t *pool, ngx_lunary_conn_t *c,
    ngx_lunary_verdict_e verdict)
{
    switch (verdict) {

    case NGX_LUNARY_VERDICT_UNAVAILABLE:
        c->retire = 1;
        return;

    case NGX_LUNARY_VERDICT_PREPARE:
        c->retire = 1;
        ngx_lunary_pool_renew(pool);
        return;

    case NGX_LUNARY_VERDICT_TIMEOUT:
        return;

    case NGX_LUNARY_VERDICT_SCHEMA:
        ngx_lunary_pool_renew(pool);
        /* fall through */

    case NGX_LUNARY_VERDICT_FAILED:
        ngx_lunary_pool_retire(pool, c);
    }
}


static void
ngx_lunary_pool_late(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    (void) ngx_atomic_fetch_add(&pool->counts->cancels, 1);

    ngx_cpystrn(c->pg.reason, (u_char *) "lunary_query_timeout",
                NGX_LUNARY_PG_REASON_LEN);

    ngx_lunary_pool_fault(pool, c, "", "did not finish a query in time, "
                          "stopped and answered with 504");

    ngx_lunary_pool_done(q, NGX_LUNARY_TIMEOUT);
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

    ngx_lunary_pool_dispatch(pool);
}


static void
ngx_lunary_pool_outdated(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_renew(c->owner->data);
}


static void
ngx_lunary_pool_broke(ngx_lunary_conn_t *c)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *other;
    ngx_lunary_pool_t  *pool;

    pool = c->owner->data;

    (void) ngx_atomic_fetch_add(&pool->counts->lost, 1);

    ngx_lunary_pool_count_state(pool, c->pg.sqlstate);
    ngx_lunary_pool_fault(pool, c, c->pg.sqlstate,
                          "broke a connection, the others are checked");

    /* where one is lost, the others may be without a word of it yet */

    for (i = 0; i < pool->conf.max; i++) {
        other = &pool->conns[i];

        if (other->state == NGX_LUNARY_CONN_IDLE && !other->retire) {
            ngx_lunary_conn_check(other);
        }
    }

    /* without any left, it is soon known whether new ones can be had */

    ngx_lunary_pool_reconnect_in(pool, 1);
}


static void
ngx_lunary_pool_stranded(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    ngx_uint_t head)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    /* nobody had begun with it: that was no try, it waited all the time */

    if (!head) {
        q->waited += ngx_current_msec - q->sent;

        ngx_lunary_pool_enqueue(pool, q, 1);
        ngx_lunary_pool_wait(pool, q);
        return;
    }

    ngx_cpystrn((u_char *) q->sqlstate, (u_char *) c->pg.sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    ngx_lunary_pool_retry(pool, q, NGX_LUNARY_UNAVAILABLE);
}


static void
ngx_lunary_pool_gone(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_dispatch(c->owner->data);
}


/*
 * one line a fault; the same again within a while is counted, not told.  The
 * server's words are passed on only where they can't quote a value
 */

static void
ngx_lunary_pool_fault(ngx_lunary_pool_t *pool, ngx_lunary_conn_t *c,
    const char *sqlstate, const char *what)
{
    u_char       counted[64], *p;
    ngx_uint_t   told;

    if (pool->fault_time && ngx_strcmp(pool->fault, sqlstate) == 0
        && pool->fault_what == what
        && ngx_current_msec - pool->fault_time < NGX_LUNARY_FAULT_PACE)
    {
        pool->faults++;
        return;
    }

    p = counted;

    if (pool->faults) {
        p = ngx_snprintf(p, sizeof(counted) - 1, ", %ui more before",
                         pool->faults);
    }

    *p = '\0';

    told = ngx_lunary_sqlstate_is_told(sqlstate) && c->pg.reason[0];

    ngx_log_error(NGX_LOG_ERR, pool->log, 0,
                  "database \"%V\" %s (SQLSTATE %s%s%s)%s",
                  ngx_lunary_walk_label(&c->walk), what,
                  *sqlstate ? sqlstate : "-",
                  told ? ": " : "", told ? c->pg.reason : (u_char *) "",
                  counted);

    ngx_cpystrn((u_char *) pool->fault, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    pool->fault_what = what;
    pool->fault_time = ngx_current_msec;
    pool->faults = 0;
}


static void
ngx_lunary_pool_count_state(ngx_lunary_pool_t *pool, const char *sqlstate)
{
    if (*sqlstate) {
        (void) ngx_atomic_fetch_add(
                   &pool->counts->sqlstate[ngx_lunary_sqlstate_class(sqlstate)],
                   1);
    }
}
