
/*
 * The connections of one worker to one database, and the queries that wait for
 * them.
 *
 * A query goes to an idle connection, or behind the quick queries of a busy
 * one, or waits; connections are made while queries wait, up to a maximum.
 * "done" is called once for each query that is taken, unless it is abandoned.
 */


#ifndef _NGX_LUNARY_POOL_H_INCLUDED_
#define _NGX_LUNARY_POOL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_conn.h"


#define NGX_LUNARY_STATEMENTS    16
#define NGX_LUNARY_QUERY_HOSTS   8


typedef struct ngx_lunary_sql_s  ngx_lunary_sql_t;


/* the SQL, which the owner of the pool provides */

struct ngx_lunary_sql_s {

    /*
     * asked once per connection, returns one row; its only parameter, $1, is
     * PQbackendPID() of the connection as int4, or 0 if nothing may be left in
     * the session
     */
    const char               *probe;

    /*
     * Reads the probe's row and sets the features and the identity of the
     * connection; "identity" has NGX_LUNARY_IDENTITY_LEN bytes, all zero.
     * Returns NGX_OK, or NGX_ERROR if the row has wrong columns or values
     */
    ngx_int_t               (*probed)(ngx_lunary_sql_t *sql, PGresult *res,
                                      ngx_uint_t *features, u_char *identity);

    /* what to warn of, once per connection, or NULL */
    const char             *(*note)(ngx_lunary_sql_t *sql,
                                    ngx_uint_t features);

    /* of the prepared statements, NGX_LUNARY_STATEMENTS at most */
    const char *const        *names;

    /* a statement's text, which stays where it is.  NULL: no memory */
    const char             *(*text)(ngx_lunary_sql_t *sql,
                                    ngx_uint_t statement,
                                    ngx_uint_t features);
};


typedef enum {
    NGX_LUNARY_OK = 0,              /* all rows were given */
    NGX_LUNARY_UNAVAILABLE,         /* the database cannot be reached */
    NGX_LUNARY_QUEUE_TIMEOUT,       /* no connection within the time */
    NGX_LUNARY_TIMEOUT,             /* the query took too long */
    NGX_LUNARY_FAILED               /* an error, or an invalid row */
} ngx_lunary_result_e;


typedef enum {
    NGX_LUNARY_QUERY_NEW = 0,       /* the owner's */
    NGX_LUNARY_QUERY_WAITING,       /* in the queue, for a connection */
    NGX_LUNARY_QUERY_SENT,          /* in the pipeline of a connection */
    NGX_LUNARY_QUERY_COMPLETE,      /* "done" is called soon */
    NGX_LUNARY_QUERY_DONE           /* the owner's again */
} ngx_lunary_query_state_e;


struct ngx_lunary_query_s {

    /* the owner sets these */

    ngx_uint_t                statement;
    ngx_uint_t                nparams;
    u_char                   *params[NGX_LUNARY_PG_PARAMS];   /* UUIDs */
    ngx_log_t                *log;

    /* takes row "i": NGX_OK, or NGX_ERROR for an invalid one */
    ngx_int_t               (*row)(ngx_lunary_query_t *q, PGresult *res,
                                   int i);

    /* there are no more rows at hand for now; may abandon the query */
    void                    (*flush)(ngx_lunary_query_t *q);

    /* the rows so far are void, the query is sent again */
    void                    (*reset)(ngx_lunary_query_t *q);

    /* the query is the owner's again */
    void                    (*done)(ngx_lunary_query_t *q,
                                    ngx_lunary_result_e result);
    void                     *data;

    const char               *column;      /* that "row" found invalid, or
                                              NULL */
    unsigned                  committed:1; /* rows cannot be taken back: never
                                              sent again */

    /* the pool sets these; times in milliseconds */

    ngx_queue_t               queue;       /* of those waiting or complete */
    ngx_lunary_query_state_e  state;
    ngx_lunary_result_e       result;
    ngx_lunary_pool_t        *pool;        /* that was asked last */
    ngx_lunary_conn_t        *conn;        /* while it is sent */
    ngx_uint_t                features;    /* of the connection, within "row" */
    const u_char             *identity;    /* the same */
    ngx_str_t                *hosts[NGX_LUNARY_QUERY_HOSTS];
    ngx_uint_t                nhosts;      /* labels of those it was sent to,
                                              in order */
    ngx_uint_t                retries;     /* how often it failed and was sent
                                              again */

    ngx_event_t               timer;       /* of the queue */
    ngx_msec_t                queued;      /* when it last was queued */
    ngx_msec_t                waited;      /* in the queue, in all */
    ngx_msec_t                sent;        /* when it last was sent */
    ngx_msec_t                first_row;   /* from then on, if "rows" */
    ngx_msec_t                took;        /* from then on, to the last row */
    ngx_msec_t                connect;     /* what the session took to make */
    ngx_uint_t                fresh;       /* lowest serial of its session */
    char                      sqlstate[NGX_LUNARY_SQLSTATE_LEN];

    unsigned                  standby:1;   /* was last sent to a standby, as
                                              far as is known */
    unsigned                  asked:1;     /* was sent at least once */
    unsigned                  retried:1;
    unsigned                  rows:1;      /* a row was there */
    unsigned                  connected:1; /* "connect" was for this query */
};


/* counters, which only grow; of all workers */

typedef struct {
    ngx_atomic_t              connects;          /* sessions made */
    ngx_atomic_t              connect_failures;  /* hosts tried in vain */
    ngx_atomic_t              lost;              /* sessions lost */
    ngx_atomic_t              retries;           /* queries sent again */
    ngx_atomic_t              cancels;           /* abandoned or timed out */
    ngx_atomic_t              unconfirmed;       /* no primary for
                                                    ngx_lunary_pool_confirm() */
    ngx_atomic_t              sqlstate[NGX_LUNARY_SQLSTATE_CLASSES];
} ngx_lunary_counts_t;


/*
 * of a host: sessions made and attempts that failed, of all workers; and the
 * sessions there are, of one worker
 */

typedef struct {
    ngx_atomic_t             *connects;
    ngx_atomic_t             *failures;
    ngx_atomic_t             *sessions;
} ngx_lunary_host_counts_t;


/* as things stand; of one worker, over all of its pools */

typedef struct {
    ngx_atomic_t              connecting;
    ngx_atomic_t              idle;
    ngx_atomic_t              busy;
    ngx_atomic_t              waiting;           /* queries in the queues */
} ngx_lunary_gauges_t;


typedef enum {
    NGX_LUNARY_PREPARE_OFF = 0,     /* leaves nothing in any session */
    NGX_LUNARY_PREPARE_ON,          /* prepares behind a pooler, too */
    NGX_LUNARY_PREPARE_AUTO         /* prepares in sessions of its own */
} ngx_lunary_prepare_e;


/* times in milliseconds */

typedef struct {
    ngx_lunary_conninfo_t    *conninfo;
    const char               *session;           /* target_session_attrs, or
                                                    NULL */

    /* from here on equal, byte by byte, for those who share a pool */

    uint64_t                  database[2];       /* tells databases apart */
    ngx_lunary_sql_t         *sql;
    ngx_uint_t                max;               /* connections */
    ngx_uint_t                connecting;        /* of these, being made */
    ngx_uint_t                queue;             /* queries that may wait */
    ngx_msec_t                queue_timeout;
    ngx_msec_t                idle;
    ngx_msec_t                lifetime;
    ngx_msec_t                connect_timeout;
    ngx_msec_t                query_timeout;
    ngx_uint_t                prepare;           /* ngx_lunary_prepare_e */
    ngx_uint_t                random;            /* balance=random */
    ngx_resolver_t           *resolver;          /* or NULL */
    ngx_msec_t                resolver_timeout;
} ngx_lunary_pool_conf_t;


/* the last line in the error log, and how often the same happened since */

typedef struct {
    char                      sqlstate[NGX_LUNARY_SQLSTATE_LEN];
    const char               *what;
    ngx_msec_t                time;              /* 0: none */
    ngx_uint_t                repeated;
} ngx_lunary_last_error_t;


struct ngx_lunary_pool_s {

    /* set before ngx_lunary_pool_start(), owned by the caller */

    ngx_lunary_pool_conf_t    conf;
    ngx_lunary_counts_t      *counts;
    ngx_lunary_gauges_t      *gauges;
    ngx_atomic_t             *unreachable;       /* 1 or 0, of all workers */
    ngx_lunary_host_counts_t *host_counts;       /* one a host of the conninfo,
                                                    or NULL */

    ngx_lunary_pool_t        *primary;           /* or NULL, see
                                                    ngx_lunary_pool_confirm() */
    ngx_uint_t                number;            /* for the debug log */
    ngx_log_t                *log;
    ngx_lunary_hosts_t        hosts;

    ngx_lunary_conn_t        *conns;             /* conf.max of them */
    ngx_queue_t               states[NGX_LUNARY_CONN_NSTATES];
    ngx_uint_t                nstates[NGX_LUNARY_CONN_NSTATES];
    ngx_uint_t                serial;            /* of the last session */
    ngx_uint_t                pace;              /* mean time of a query, in
                                                    1/16 ms */

    ngx_queue_t               waiting;           /* queries */
    ngx_uint_t                nwaiting;
    ngx_uint_t                nnew;              /* of these, never sent */
    ngx_queue_t               complete;          /* queries */
    ngx_event_t               posted;            /* calls "done" for them,
                                                    dispatches */

    /* while the database is down, as this worker sees it */

    ngx_event_t               reconnect;
    ngx_uint_t                failures;          /* to connect */
    ngx_msec_t                down_since;

    ngx_uint_t                degraded;          /* what was warned of, a bit
                                                    each */
    ngx_uint_t                renewed;           /* serial from which on the
                                                    sessions know of the last
                                                    schema change */
    ngx_msec_t                renewed_time;
    ngx_lunary_last_error_t   last_error;

    ngx_atomic_t              no_primary;        /* "unreachable", where the
                                                    pool confirms */
    unsigned                  confirms:1;        /* is the "primary" of one */
    unsigned                  down:1;
    unsigned                  outdated:1;        /* the sessions are renewed
                                                    soon */
    unsigned                  unprepared:1;      /* a pooler does not carry
                                                    prepared statements */
};


/*
 * in a worker: begins to connect, allocates from the cycle's pool.  NGX_OK or
 * NGX_ERROR
 */
ngx_int_t ngx_lunary_pool_start(ngx_lunary_pool_t *pool, ngx_cycle_t *cycle);

/* closes all connections, in a worker that exits; tells no query */
void ngx_lunary_pool_stop(ngx_lunary_pool_t *pool);

/*
 * takes a query.  NGX_OK: "done" will be called, after the return.
 * NGX_BUSY: the queue is full, the query was not taken; retries and the second
 * query of a request do not count against the limit
 */
ngx_int_t ngx_lunary_pool_query(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q);

/* takes a query back, wherever it is: "done" is not called */
void ngx_lunary_pool_abandon(ngx_lunary_query_t *q);

/* stop and continue reading the rows of a query that is under way */
void ngx_lunary_pool_pause(ngx_lunary_query_t *q);
void ngx_lunary_pool_resume(ngx_lunary_query_t *q);

/*
 * Returns the pool with these settings from "pools", an array of pointers; if
 * there is none, allocates it from "pool" and adds it.  Returns NULL if there
 * is no memory.  Called only while the configuration is read
 */
ngx_lunary_pool_t *ngx_lunary_pool_get(ngx_array_t *pools,
    ngx_lunary_pool_conf_t *conf, ngx_pool_t *pool);

/*
 * asks a query that is done once more, over the one connection to a server that
 * is read-write: an absence that a standby reports may be its delay.  NGX_OK:
 * "done" will be called; if it tells of a failure the standby's word stands.
 * NGX_DECLINED: the server asked is no standby, there is no other, or it is
 * busy or away, which is counted
 */
ngx_int_t ngx_lunary_pool_confirm(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q);

/*
 * the schema changed under the session that answers the query: no session that
 * was begun before takes another query
 */
void ngx_lunary_pool_outdated(ngx_lunary_query_t *q);


/* for connections and recovery */

/* the only way to change it: moves queue, timer and gauge along */
void ngx_lunary_query_set_state(ngx_lunary_query_t *q,
    ngx_lunary_query_state_e state);

/* the result of a query is known: "done" is called from the event loop */
void ngx_lunary_query_complete(ngx_lunary_query_t *q,
    ngx_lunary_result_e result);

/* puts a sent query back into the queue; does not count as a retry */
void ngx_lunary_query_requeue(ngx_lunary_query_t *q);

/* posts an event that calls "done" for complete queries, and dispatches */
void ngx_lunary_pool_wake(ngx_lunary_pool_t *pool);

/* connects in so many milliseconds, or sooner if the timer is set to that */
void ngx_lunary_pool_reconnect_in(ngx_lunary_pool_t *pool, ngx_msec_t delay);


#endif /* _NGX_LUNARY_POOL_H_INCLUDED_ */
