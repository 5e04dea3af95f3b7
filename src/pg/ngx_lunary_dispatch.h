
/*
 * A pool, and which of its queries goes to which of its connections.
 *
 * A query goes to an idle connection, or behind the quick queries of a busy
 * one, or waits; connections are made while queries wait, up to a hard
 * maximum.
 */


#ifndef _NGX_LUNARY_DISPATCH_H_INCLUDED_
#define _NGX_LUNARY_DISPATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_counts.h"
#include "ngx_lunary_faults.h"
#include "ngx_lunary_flights.h"
#include "ngx_lunary_waiting.h"


/* times in milliseconds */

typedef struct {
    ngx_lunary_conninfo_t    *conninfo;
    uint64_t                  database[2];      /* tells databases apart */
    ngx_lunary_sql_t         *sql;
    ngx_uint_t                max;              /* connections */
    ngx_uint_t                connecting;       /* of these, being made */
    ngx_uint_t                queue;            /* queries that may wait */
    ngx_msec_t                queue_timeout;
    ngx_msec_t                idle;
    ngx_msec_t                lifetime;
    ngx_msec_t                connect_timeout;
    ngx_msec_t                query_timeout;
    ngx_flag_t                prepare;
    ngx_uint_t                random;           /* balance=random */
    ngx_resolver_t           *resolver;         /* or NULL */
    ngx_msec_t                resolver_timeout;
} ngx_lunary_pool_conf_t;


struct ngx_lunary_pool_s {
    ngx_lunary_pool_conf_t    conf;
    ngx_lunary_owner_t        owner;
    ngx_lunary_hosts_t        hosts;
    ngx_log_t                *log;

    ngx_lunary_conn_t        *conns;            /* conf.max of them */
    ngx_queue_t               free;
    ngx_queue_t               connecting;
    ngx_queue_t               idle;             /* the last used first */
    ngx_queue_t               busy;
    ngx_queue_t               checking;
    ngx_uint_t                nconnecting;
    ngx_uint_t                nbusy;

    ngx_lunary_waiting_t      waiting;

    ngx_event_t               reconnect;        /* when to, if down */
    ngx_uint_t                renewed;          /* serial from which on they
                                                   know of the last 500 */
    ngx_msec_t                renewed_time;

    ngx_lunary_faults_t       faults;
    ngx_uint_t                failures;         /* to connect, since down */
    ngx_msec_t                down_since;

    ngx_lunary_counts_t      *counts;
    ngx_lunary_gauges_t      *gauges;
    ngx_atomic_t             *unreachable;      /* shared by all workers */

    unsigned                  down:1;           /* as this worker sees it */
};


/* sends what waits, and connects for the rest; no query hears of it */
void ngx_lunary_dispatch(ngx_lunary_pool_t *pool);

/* sets the timer of that name to so many milliseconds, or leaves it sooner */
void ngx_lunary_dispatch_reconnect_in(ngx_lunary_pool_t *pool,
    ngx_msec_t delay);

/* its handler */
void ngx_lunary_dispatch_reconnect(ngx_event_t *ev);


#endif /* _NGX_LUNARY_DISPATCH_H_INCLUDED_ */
