
/*
 * The connections of one worker to one database, and the queries that wait
 * for them.
 *
 * A query goes to an idle connection, or behind the quick queries of a busy
 * one, or waits; connections are made while queries wait, up to a hard
 * maximum.  Whatever happens, a query that was taken hears "done" exactly
 * once, unless it is abandoned.
 */


#ifndef _NGX_LUNARY_POOL_H_INCLUDED_
#define _NGX_LUNARY_POOL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_counts.h"


/* times in milliseconds */

typedef struct {
    ngx_lunary_conninfo_t    *conninfo;
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


typedef struct {
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

    ngx_queue_t               waiting;          /* queries */
    ngx_uint_t                nwaiting;
    ngx_uint_t                nfresh;           /* of these, for new sessions */

    ngx_event_t               reconnect;
    ngx_uint_t                serial;           /* of the latest session */
    ngx_uint_t                renewed;          /* serial from which on they
                                                   know of the last 500 */
    ngx_msec_t                renewed_time;

    /* what was logged last, and how often it came again since */
    char                      fault[NGX_LUNARY_SQLSTATE_LEN];
    const char               *fault_what;
    ngx_msec_t                fault_time;
    ngx_uint_t                faults;
    ngx_uint_t                failures;         /* to connect, since down */
    ngx_msec_t                down_since;

    ngx_lunary_counts_t      *counts;
    ngx_lunary_gauges_t      *gauges;
    ngx_atomic_t             *unreachable;      /* shared by all workers */

    unsigned                  down:1;           /* as this worker sees it */
} ngx_lunary_pool_t;


/*
 * in a worker: "conf", "counts", "gauges" and "unreachable" are set; begins
 * to connect.  Allocates from the cycle's pool.  NGX_OK or NGX_ERROR
 */
ngx_int_t ngx_lunary_pool_start(ngx_lunary_pool_t *pool, ngx_cycle_t *cycle);

/* closes all connections, in a worker that exits; calls nobody */
void ngx_lunary_pool_stop(ngx_lunary_pool_t *pool);

/*
 * takes a query.  NGX_OK: "done" will be called, not before the return.
 * NGX_BUSY: the queue is full, the query was not taken
 */
ngx_int_t ngx_lunary_pool_query(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q);

/* these call nobody */

/* forgets a query, wherever it is; nothing more is heard of it */
void ngx_lunary_pool_abandon(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q);

/* the rows of a query under way wait, and come again */
void ngx_lunary_pool_pause(ngx_lunary_query_t *q);
void ngx_lunary_pool_resume(ngx_lunary_query_t *q);


#endif /* _NGX_LUNARY_POOL_H_INCLUDED_ */
