
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_pool.h"
#include "ngx_lunary_recovery.h"


/*
 * so many connections are busy before queries go behind one another: fewer
 * backends do the same work with fewer switches between them
 */
#define NGX_LUNARY_EAGER  2


static ngx_int_t ngx_lunary_pool_init(ngx_lunary_pool_t *pool,
    ngx_cycle_t *cycle);
static void ngx_lunary_pool_posted(ngx_event_t *ev);
static void ngx_lunary_pool_dispatch(ngx_lunary_pool_t *pool);
static void ngx_lunary_pool_unblock(ngx_lunary_pool_t *pool);
static ngx_lunary_conn_t *ngx_lunary_pool_pick(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q);
static ngx_lunary_conn_t *ngx_lunary_pool_idle(ngx_lunary_pool_t *pool,
    ngx_uint_t serial);
static ngx_uint_t ngx_lunary_pool_need(ngx_lunary_pool_t *pool);
static ngx_uint_t ngx_lunary_pool_live(ngx_lunary_pool_t *pool);
static void ngx_lunary_pool_connect(ngx_lunary_pool_t *pool, ngx_uint_t need);
static void ngx_lunary_pool_reconnect(ngx_event_t *ev);
static void ngx_lunary_query_enqueue(ngx_lunary_query_t *q);
static void ngx_lunary_query_timer(ngx_event_t *ev);


ngx_lunary_pool_t *
ngx_lunary_pool_get(ngx_array_t *pools, ngx_lunary_pool_conf_t *conf,
    ngx_pool_t *pool)
{
    size_t               same;
    ngx_uint_t           i;
    ngx_lunary_pool_t  **p;

    p = pools->elts;
    same = offsetof(ngx_lunary_pool_conf_t, database);

    for (i = 0; i < pools->nelts; i++) {
        if (ngx_memcmp((u_char *) &p[i]->conf + same, (u_char *) conf + same,
                       sizeof(ngx_lunary_pool_conf_t) - same)
            == 0)
        {
            return p[i];
        }
    }

    p = ngx_array_push(pools);
    if (p == NULL) {
        return NULL;
    }

    *p = ngx_pcalloc(pool, sizeof(ngx_lunary_pool_t));

    if (*p) {
        (*p)->conf = *conf;
    }

    return *p;
}


/*
 * The pool that asks the primary about what a standby does not have is started
 * here, too.  It makes its only connection when it is first needed
 */

ngx_int_t
ngx_lunary_pool_start(ngx_lunary_pool_t *pool, ngx_cycle_t *cycle)
{
    const char         *session;
    ngx_lunary_pool_t  *primary;

    session = pool->conf.session;

    if (ngx_lunary_pool_init(pool, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!ngx_lunary_conninfo_is_multiple(pool->conf.conninfo)
        || (session && ngx_strcmp(session, "any") != 0
            && ngx_strcmp(session, "prefer-standby") != 0))
    {
        return NGX_OK;
    }

    primary = ngx_pcalloc(cycle->pool, sizeof(ngx_lunary_pool_t));
    if (primary == NULL) {
        return NGX_ERROR;
    }

    primary->conf = pool->conf;
    primary->conf.session = "read-write";
    primary->conf.max = 1;
    primary->conf.connecting = 1;
    primary->counts = pool->counts;
    primary->gauges = pool->gauges;
    primary->unreachable = &primary->no_primary;
    primary->host_counts = pool->host_counts;
    primary->confirms = 1;

    pool->primary = primary;

    return ngx_lunary_pool_init(primary, cycle);
}


static ngx_int_t
ngx_lunary_pool_init(ngx_lunary_pool_t *pool, ngx_cycle_t *cycle)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *c;

    static ngx_uint_t   number;

    pool->number = ++number;

    /* a log of our own: its handler and data must not be another's */

    pool->log = ngx_palloc(cycle->pool, sizeof(ngx_log_t));
    if (pool->log == NULL) {
        return NGX_ERROR;
    }

    *pool->log = cycle->new_log;
    pool->log->handler = NULL;
    pool->log->data = NULL;
    pool->log->action = NULL;

    for (i = 0; i < NGX_LUNARY_CONN_NSTATES; i++) {
        ngx_queue_init(&pool->states[i]);
    }

    ngx_queue_init(&pool->waiting);
    ngx_queue_init(&pool->complete);

    pool->posted.handler = ngx_lunary_pool_posted;
    pool->posted.data = pool;
    pool->posted.log = pool->log;

    pool->hosts.conninfo = pool->conf.conninfo;
    pool->hosts.session = pool->conf.session;
    pool->hosts.resolver = pool->conf.resolver;
    pool->hosts.random = pool->conf.random;

    /* a name without an answer delays the next host; 0 is no limit */

    pool->hosts.resolver_timeout = pool->conf.connect_timeout;

    if (pool->conf.resolver_timeout) {
        pool->hosts.resolver_timeout = ngx_min(pool->conf.resolver_timeout,
                                               pool->conf.connect_timeout);
    }

    if (ngx_lunary_hosts_init(&pool->hosts, cycle->pool) != NGX_OK) {
        return NGX_ERROR;
    }

    pool->conns = ngx_pcalloc(cycle->pool,
                              pool->conf.max * sizeof(ngx_lunary_conn_t));
    if (pool->conns == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < pool->conf.max; i++) {
        c = &pool->conns[i];

        c->pool = pool;
        c->number = i + 1;

        if (ngx_lunary_conn_init(c, cycle->pool) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    pool->reconnect.handler = ngx_lunary_pool_reconnect;
    pool->reconnect.data = pool;
    pool->reconnect.log = pool->log;
    pool->reconnect.cancelable = 1;

    /* the first connection is made before the first request */

    if (!pool->confirms) {
        ngx_add_timer(&pool->reconnect, 1);
    }

    return NGX_OK;
}


void
ngx_lunary_pool_stop(ngx_lunary_pool_t *pool)
{
    ngx_uint_t  i;

    for ( /* void */ ; pool && pool->conns; pool = pool->primary) {

        for (i = 0; i < pool->conf.max; i++) {
            ngx_lunary_attempt_stop(&pool->conns[i].attempt);
            ngx_lunary_pg_close(&pool->conns[i].pg);
        }
    }
}


ngx_int_t
ngx_lunary_pool_query(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    if (pool->nnew >= pool->conf.queue && !q->asked) {
        return NGX_BUSY;
    }

    q->pool = pool;

    q->timer.handler = ngx_lunary_query_timer;
    q->timer.data = q;
    q->timer.log = pool->log;

    ngx_lunary_query_set_state(q, NGX_LUNARY_QUERY_WAITING);

    ngx_lunary_pool_dispatch(pool);

    return NGX_OK;
}


ngx_int_t
ngx_lunary_pool_confirm(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    ngx_lunary_pool_t  *primary;

    primary = pool->primary;

    if (primary == NULL || q->pool == primary || !q->standby) {
        return NGX_DECLINED;
    }

    /* busy, or away */

    if (primary->nwaiting
        || primary->nstates[NGX_LUNARY_CONN_BUSY]
        || (primary->down && ngx_lunary_hosts_backoff(&primary->hosts)))
    {
        (void) ngx_atomic_fetch_add(&pool->counts->unconfirmed, 1);
        return NGX_DECLINED;
    }

    q->fresh = 0;
    q->retried = 0;

    return ngx_lunary_pool_query(primary, q);
}


void
ngx_lunary_pool_abandon(ngx_lunary_query_t *q)
{
    if (q->state == NGX_LUNARY_QUERY_SENT) {
        (void) ngx_atomic_fetch_add(&q->pool->counts->cancels, 1);
        ngx_lunary_pipeline_forget(q->conn, q);
    }

    ngx_lunary_query_set_state(q, NGX_LUNARY_QUERY_DONE);
}


void
ngx_lunary_pool_pause(ngx_lunary_query_t *q)
{
    if (q->state == NGX_LUNARY_QUERY_SENT) {
        ngx_lunary_pipeline_pause(q->conn);
    }
}


void
ngx_lunary_pool_resume(ngx_lunary_query_t *q)
{
    if (q->state == NGX_LUNARY_QUERY_SENT) {
        ngx_lunary_pipeline_resume(q->conn);
    }
}


void
ngx_lunary_pool_outdated(ngx_lunary_query_t *q)
{
    ngx_lunary_recovery_renew(q->pool);
}


void
ngx_lunary_pool_wake(ngx_lunary_pool_t *pool)
{
    ngx_post_event(&pool->posted, &ngx_posted_events);
}


static void
ngx_lunary_pool_posted(ngx_event_t *ev)
{
    ngx_lunary_pool_t *pool = ev->data;

    ngx_queue_t         *item;
    ngx_lunary_query_t  *q;

    while (!ngx_queue_empty(&pool->complete)) {
        item = ngx_queue_head(&pool->complete);
        q = ngx_queue_data(item, ngx_lunary_query_t, queue);

        ngx_lunary_query_set_state(q, NGX_LUNARY_QUERY_DONE);
        q->done(q, q->result);
    }

    ngx_lunary_pool_dispatch(pool);
}


/* sends the queries that wait, in order, as long as connections have room */

static void
ngx_lunary_pool_dispatch(ngx_lunary_pool_t *pool)
{
    ngx_queue_t         *item;
    ngx_lunary_conn_t   *c;
    ngx_lunary_query_t  *q;

    if (pool->outdated) {
        ngx_lunary_recovery_renew(pool);
    }

    ngx_lunary_pool_unblock(pool);

    item = ngx_queue_head(&pool->waiting);

    while (item != ngx_queue_sentinel(&pool->waiting)) {

        q = ngx_queue_data(item, ngx_lunary_query_t, queue);
        c = ngx_lunary_pool_pick(pool, q);

        if (c) {
            (void) ngx_lunary_pipeline_send(c, q);

            /* a query that could not be sent is still the first */

            item = ngx_queue_head(&pool->waiting);
            continue;
        }

        /* a retry that waits for a new session holds up no others */

        if (q->fresh == 0) {
            break;
        }

        item = ngx_queue_next(item);
    }

    ngx_lunary_pool_connect(pool, ngx_lunary_pool_need(pool));
}


/* moves queries from behind slow ones, if another connection can be had */

static void
ngx_lunary_pool_unblock(ngx_lunary_pool_t *pool)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *c;

    if (pool->nstates[NGX_LUNARY_CONN_IDLE] == 0
        && (pool->nstates[NGX_LUNARY_CONN_FREE] == 0 || pool->down))
    {
        return;
    }

    for (i = 0; i < pool->conf.max; i++) {
        c = &pool->conns[i];

        if (c->state == NGX_LUNARY_CONN_BUSY
            && ngx_lunary_passed(ngx_lunary_pipeline_slow_time(c)))
        {
            ngx_lunary_pipeline_move(c);
        }
    }
}


/*
 * an idle connection while few are busy; then the least busy one of those with
 * quick queries, or none if these are full; then any idle one
 */

static ngx_lunary_conn_t *
ngx_lunary_pool_pick(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *c, *idle, *best;

    idle = ngx_lunary_pool_idle(pool, q->fresh);

    if (idle && pool->nstates[NGX_LUNARY_CONN_BUSY] < NGX_LUNARY_EAGER) {
        return idle;
    }

    best = NULL;

    for (i = 0; i < pool->conf.max; i++) {
        c = &pool->conns[i];

        if (c->serial < q->fresh || !ngx_lunary_pipeline_is_quick(c)) {
            continue;
        }

        if (best == NULL
            || ngx_lunary_pipeline_is_full(best)
            || (c->nentries < best->nentries
                && !ngx_lunary_pipeline_is_full(c)))
        {
            best = c;
        }
    }

    if (best == NULL) {
        return idle;
    }

    return ngx_lunary_pipeline_is_full(best) ? NULL : best;
}


static ngx_lunary_conn_t *
ngx_lunary_pool_idle(ngx_lunary_pool_t *pool, ngx_uint_t serial)
{
    ngx_queue_t        *item, *idle;
    ngx_lunary_conn_t  *c;

    idle = &pool->states[NGX_LUNARY_CONN_IDLE];

    for (item = ngx_queue_head(idle);
         item != ngx_queue_sentinel(idle);
         item = ngx_queue_next(item))
    {
        c = ngx_queue_data(item, ngx_lunary_conn_t, queue);

        if (c->serial >= serial && !c->retire) {
            return c;
        }
    }

    return NULL;
}


/* how many connections to make for the queries that wait */

static ngx_uint_t
ngx_lunary_pool_need(ngx_lunary_pool_t *pool)
{
    ngx_uint_t          i, quick, shared;
    ngx_lunary_conn_t  *c;

    quick = 0;
    shared = (pool->nwaiting != 0);

    for (i = 0; i < pool->conf.max; i++) {
        c = &pool->conns[i];

        if (ngx_lunary_pipeline_is_quick(c)) {
            quick = 1;
            shared |= (c->nentries > 1);
        }
    }

    if (!quick) {
        return pool->nwaiting;
    }

    /* quick connections soon have room, but a retry needs a new session */

    return pool->nwaiting > pool->nnew
           || (shared && ngx_lunary_pool_live(pool) < NGX_LUNARY_EAGER);
}


/* the connections there are, or will soon be */

static ngx_uint_t
ngx_lunary_pool_live(ngx_lunary_pool_t *pool)
{
    return pool->nstates[NGX_LUNARY_CONN_CONNECTING]
           + pool->nstates[NGX_LUNARY_CONN_IDLE]
           + pool->nstates[NGX_LUNARY_CONN_BUSY];
}


static void
ngx_lunary_pool_connect(ngx_lunary_pool_t *pool, ngx_uint_t need)
{
    ngx_uint_t          most;
    ngx_msec_t          backoff;
    ngx_queue_t        *item;
    ngx_lunary_conn_t  *c;

    /*
     * one at a time while the database is down: of two logins that find one
     * place left PostgreSQL may refuse both
     */

    most = pool->down ? 1 : pool->conf.connecting;
    need = ngx_min(need, most);

    while (pool->nstates[NGX_LUNARY_CONN_CONNECTING] < need
           && pool->nstates[NGX_LUNARY_CONN_FREE])
    {
        backoff = ngx_lunary_hosts_backoff(&pool->hosts);

        if (backoff) {
            ngx_lunary_pool_reconnect_in(pool, backoff);
            return;
        }

        item = ngx_queue_head(&pool->states[NGX_LUNARY_CONN_FREE]);
        c = ngx_queue_data(item, ngx_lunary_conn_t, queue);

        ngx_lunary_conn_connect(c);
    }
}


void
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


/*
 * Makes a connection when no query waits for one: at start, and while the
 * database is down, to find out when it is back
 */

static void
ngx_lunary_pool_reconnect(ngx_event_t *ev)
{
    ngx_lunary_pool_t *pool = ev->data;

    if ((ngx_exiting || pool->confirms) && pool->nwaiting == 0) {
        return;
    }

    if (pool->down || ngx_lunary_pool_live(pool) == 0) {
        ngx_lunary_pool_connect(pool, ngx_max(pool->nwaiting, 1));
    }

    ngx_lunary_pool_dispatch(pool);
}


void
ngx_lunary_query_set_state(ngx_lunary_query_t *q,
    ngx_lunary_query_state_e state)
{
    ngx_lunary_pool_t *pool = q->pool;

    switch (q->state) {

    case NGX_LUNARY_QUERY_WAITING:
        ngx_queue_remove(&q->queue);

        q->waited += ngx_current_msec - q->queued;

        pool->nwaiting--;
        pool->nnew -= !q->asked;
        (void) ngx_atomic_fetch_add(&pool->gauges->waiting, -1);
        break;

    case NGX_LUNARY_QUERY_COMPLETE:
        ngx_queue_remove(&q->queue);
        break;

    default:
        break;
    }

    q->state = state;
    q->conn = NULL;

    switch (state) {

    case NGX_LUNARY_QUERY_WAITING:
        ngx_lunary_query_enqueue(q);
        return;

    case NGX_LUNARY_QUERY_SENT:

        /* the queue timeout runs until it is the first in its pipeline */

        return;

    case NGX_LUNARY_QUERY_COMPLETE:
        ngx_queue_insert_tail(&pool->complete, &q->queue);
        ngx_lunary_pool_wake(pool);
        break;

    default:
        break;
    }

    if (q->timer.timer_set) {
        ngx_del_timer(&q->timer);
    }
}


static void
ngx_lunary_query_enqueue(ngx_lunary_query_t *q)
{
    ngx_lunary_pool_t  *pool;

    pool = q->pool;
    q->queued = ngx_current_msec;

    /* one that was sent before has waited already */

    if (q->asked) {
        ngx_queue_insert_head(&pool->waiting, &q->queue);

    } else {
        ngx_queue_insert_tail(&pool->waiting, &q->queue);
    }

    pool->nwaiting++;
    pool->nnew += !q->asked;
    (void) ngx_atomic_fetch_add(&pool->gauges->waiting, 1);

    if (!q->timer.timer_set) {
        ngx_add_timer(&q->timer, q->waited < pool->conf.queue_timeout
                                 ? pool->conf.queue_timeout - q->waited : 1);
    }

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, q->log, 0,
                   "lunary query queued, pool %ui, waiting %ui, again %d",
                   pool->number, pool->nwaiting, (int) q->asked);
}


void
ngx_lunary_query_complete(ngx_lunary_query_t *q, ngx_lunary_result_e result)
{
    q->result = result;

    ngx_lunary_query_set_state(q, NGX_LUNARY_QUERY_COMPLETE);
}


void
ngx_lunary_query_requeue(ngx_lunary_query_t *q)
{
    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, q->log, 0,
                   "lunary query requeued, connection %ui", q->conn->number);

    q->waited += ngx_current_msec - q->sent;

    /* the host has not answered it */

    if (q->nhosts) {
        q->nhosts--;
    }

    ngx_lunary_query_set_state(q, NGX_LUNARY_QUERY_WAITING);
}


/* it waited too long, in the queue or behind others in a pipeline */

static void
ngx_lunary_query_timer(ngx_event_t *ev)
{
    ngx_lunary_query_t *q = ev->data;

    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, q->log, 0, "lunary queue timed out");

    if (q->state == NGX_LUNARY_QUERY_SENT) {
        q->waited += ngx_current_msec - q->sent;
        ngx_lunary_pipeline_forget(q->conn, q);
    }

    ngx_lunary_query_complete(q, NGX_LUNARY_QUEUE_TIMEOUT);
}
