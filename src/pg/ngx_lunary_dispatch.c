
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_dispatch.h"
#include "ngx_lunary_session.h"


/*
 * so many connections are busy before queries go behind one another: fewer
 * backends do the same work with fewer switches between them
 */
#define NGX_LUNARY_EAGER  2


static ngx_lunary_conn_t *ngx_lunary_dispatch_pick(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q, ngx_uint_t *crowded);
static ngx_uint_t ngx_lunary_dispatch_live(ngx_lunary_pool_t *pool);
static void ngx_lunary_dispatch_connect(ngx_lunary_pool_t *pool,
    ngx_uint_t need);


/* sends what waits, as far as there is room for it, in the order it came */

void
ngx_lunary_dispatch(ngx_lunary_pool_t *pool)
{
    ngx_uint_t           crowded, fresh;
    ngx_queue_t         *item, *next;
    ngx_lunary_conn_t   *c;
    ngx_lunary_query_t  *q;

    fresh = 0;
    crowded = 0;
    item = ngx_queue_head(&pool->waiting.queries);

    while (item != ngx_queue_sentinel(&pool->waiting.queries)) {

        next = ngx_queue_next(item);

        q = ngx_queue_data(item, ngx_lunary_query_t, queue);
        c = ngx_lunary_dispatch_pick(pool, q, &crowded);

        if (c == NULL) {

            /* one that needs a fresh connection holds up no others */

            if (q->fresh == 0) {
                break;
            }

            fresh = 1;
            item = next;
            continue;
        }

        ngx_lunary_waiting_remove(&pool->waiting, q);

        if (!q->asked) {
            q->asked = 1;
            q->connect = c->connect;
            q->connected = (c->started - q->queued < NGX_MAX_INT32_VALUE);
        }

        if (ngx_lunary_conn_send(c, q) != NGX_OK) {
            ngx_lunary_waiting_add(&pool->waiting, q, 1);
            ngx_lunary_waiting_time(&pool->waiting, q);
        }

        /* one that could not be sent is the first again */

        fresh = 0;
        item = ngx_queue_head(&pool->waiting.queries);
    }

    if (!crowded) {
        ngx_lunary_dispatch_connect(pool, pool->waiting.n);

    } else if (fresh || ngx_lunary_dispatch_live(pool) < NGX_LUNARY_EAGER) {
        ngx_lunary_dispatch_connect(pool, 1);
    }
}


/*
 * an idle connection while few are busy; then one whose queries are quick, or
 * none while there is one that only lacks room; then any idle one.  "crowded"
 * is set where there are quick ones to share
 */

static ngx_lunary_conn_t *
ngx_lunary_dispatch_pick(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q,
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
ngx_lunary_dispatch_live(ngx_lunary_pool_t *pool)
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
ngx_lunary_dispatch_connect(ngx_lunary_pool_t *pool, ngx_uint_t need)
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
            ngx_lunary_dispatch_reconnect_in(pool, rest);
            return;
        }

        item = ngx_queue_head(&pool->free);
        c = ngx_queue_data(item, ngx_lunary_conn_t, queue);

        ngx_lunary_session_start(c);
    }
}


/*
 * tries to connect, also where nobody waits: at the start, and while the
 * database is away, so that its return is known
 */

void
ngx_lunary_dispatch_reconnect(ngx_event_t *ev)
{
    ngx_lunary_pool_t *pool = ev->data;

    if (ngx_exiting && pool->waiting.n == 0) {
        return;
    }

    if (pool->down || ngx_lunary_dispatch_live(pool) == 0) {
        ngx_lunary_dispatch_connect(pool, ngx_max(pool->waiting.n, 1));
    }

    ngx_lunary_dispatch(pool);
}


/* sooner, if it was to be later */

void
ngx_lunary_dispatch_reconnect_in(ngx_lunary_pool_t *pool, ngx_msec_t delay)
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
