
/*
 * One connection of a pool, and the queries on it.
 *
 * A connection carries several queries at a time, one behind the other, each
 * with a Sync of its own.  Every query that is sent is a flight; the flight
 * belongs to the connection and outlives the query if its client leaves.
 *
 * The owner (the pool) hears of everything through ngx_lunary_owner_t.  It
 * may send, abandon and close from within these, but for where they say so.
 */


#ifndef _NGX_LUNARY_CONN_H_INCLUDED_
#define _NGX_LUNARY_CONN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_pg.h"
#include "ngx_lunary_hosts.h"


#define NGX_LUNARY_QUERY_PARAMS  2
#define NGX_LUNARY_STATEMENTS    8

/* of the schema; and the sets of them */
#define NGX_LUNARY_NFEATURES     3
#define NGX_LUNARY_FEATURES      (1 << NGX_LUNARY_NFEATURES)

/* queries on one connection, and what prepares a session */
#define NGX_LUNARY_DEPTH         8
#define NGX_LUNARY_FLIGHTS       (NGX_LUNARY_DEPTH + 4)

/* a query under way for longer, in milliseconds, is not to be waited behind */
#define NGX_LUNARY_QUICK         20


typedef struct ngx_lunary_conn_s   ngx_lunary_conn_t;
typedef struct ngx_lunary_query_s  ngx_lunary_query_t;


typedef enum {
    NGX_LUNARY_OK = 0,              /* all rows were given */
    NGX_LUNARY_UNAVAILABLE,         /* the database can't be had */
    NGX_LUNARY_QUEUE_TIMEOUT,       /* no connection within the time */
    NGX_LUNARY_TIMEOUT,             /* the query took too long */
    NGX_LUNARY_FAILED               /* the database, or an answer of it */
} ngx_lunary_result_e;


/* where the SQL comes from: the floor above knows it, this one sends it */

typedef struct {
    const char               *probe;       /* a row of NGX_LUNARY_NFEATURES
                                              booleans */
    const char               *names[NGX_LUNARY_STATEMENTS];

    /* for each set of features, a bit a boolean of the probe */
    const char               *texts[NGX_LUNARY_STATEMENTS]
                                   [NGX_LUNARY_FEATURES];
} ngx_lunary_sql_t;


typedef enum {
    NGX_LUNARY_QUERY_NEW = 0,       /* the owner's, nobody else's */
    NGX_LUNARY_QUERY_WAITING,       /* in the pool's queue */
    NGX_LUNARY_QUERY_SENT,          /* on a connection */
    NGX_LUNARY_QUERY_DONE           /* "done" was called, or it was abandoned */
} ngx_lunary_query_state_e;


struct ngx_lunary_query_s {
    ngx_queue_t               queue;       /* in the pool's */
    ngx_lunary_query_state_e  state;
    ngx_lunary_conn_t        *conn;        /* while sent */
    void                     *pool;        /* that took it */

    ngx_uint_t                statement;
    ngx_uint_t                nparams;
    u_char                   *params[NGX_LUNARY_QUERY_PARAMS];

    /*
     * "row" takes row "i" of "res": NGX_OK, or NGX_ERROR for one that no
     * sane database gives.  "drained": no more rows at hand for now.
     * "again": all rows so far are void, they come anew.  "done": the last
     * word, the query is the caller's again.  "row", "drained" and "done"
     * may abandon the query
     */
    ngx_int_t               (*row)(ngx_lunary_query_t *q, PGresult *res,
                                   int i);
    void                    (*drained)(ngx_lunary_query_t *q);
    void                    (*again)(ngx_lunary_query_t *q);
    void                    (*done)(ngx_lunary_query_t *q,
                                    ngx_lunary_result_e result);
    void                     *data;

    ngx_event_t               timer;       /* of the queue */
    ngx_msec_t                waited;      /* its turn, in all */
    ngx_msec_t                queued;      /* when it last was put there */
    ngx_msec_t                sent;        /* when it last was sent */
    ngx_msec_t                session;     /* since when that session stands */
    ngx_msec_t                first_row;   /* since then, if "rows" */
    ngx_msec_t                took;        /* since then, to the last row */
    ngx_msec_t                connect;     /* the connection's making */
    ngx_uint_t                fresh;       /* the serial it needs at least */
    char                      sqlstate[NGX_LUNARY_SQLSTATE_LEN];

    unsigned                  committed:1; /* the caller's: no way back */
    unsigned                  front:1;     /* the caller's: waits no turn */
    unsigned                  retried:1;
    unsigned                  asked:1;     /* was sent at all */
    unsigned                  rows:1;      /* a row was there */
    unsigned                  connected:1; /* "connect" says something */
};


typedef enum {
    NGX_LUNARY_FLIGHT_QUERY = 0,
    NGX_LUNARY_FLIGHT_SESSION,      /* settings */
    NGX_LUNARY_FLIGHT_INTERVAL,     /* a setting that not every system has */
    NGX_LUNARY_FLIGHT_PROBE,        /* what the schema has */
    NGX_LUNARY_FLIGHT_CHECK         /* whether it lives */
} ngx_lunary_flight_e;


typedef struct {
    ngx_lunary_flight_e       kind;
    ngx_lunary_query_t       *query;       /* NULL: nobody waits for it */
    ngx_uint_t                statement;
    ngx_uint_t                features;    /* what a probe found */
    ngx_msec_t                deadline;    /* to end; to have its turn */
    unsigned                  prepares:1;
    unsigned                  failed:1;
    unsigned                  broken:1;    /* a row was no good */
    unsigned                  orphan:1;    /* its statement was refused to
                                              another, as "sqlstate" says */
    unsigned                  ended:1;     /* the last row was there */
    unsigned                  paused:1;    /* once: its client is slow */
    unsigned                  found:1;     /* "features" says something */
    unsigned                  recalled:1;  /* its query went elsewhere */
    char                      sqlstate[NGX_LUNARY_SQLSTATE_LEN];
} ngx_lunary_flight_t;


typedef enum {
    NGX_LUNARY_CONN_FREE = 0,       /* no session */
    NGX_LUNARY_CONN_CONNECTING,     /* being made */
    NGX_LUNARY_CONN_IDLE,           /* waits for a query */
    NGX_LUNARY_CONN_BUSY,           /* has flights */
    NGX_LUNARY_CONN_CHECKING        /* is asked whether it still lives */
} ngx_lunary_conn_state_e;


typedef struct {
    ngx_lunary_sql_t         *sql;
    ngx_msec_t                connect_timeout;
    ngx_msec_t                queue_timeout;
    ngx_msec_t                query_timeout;
    ngx_msec_t                idle;
    ngx_msec_t                lifetime;
    ngx_flag_t                prepare;
    ngx_uint_t                pace;        /* what queries take of late, in
                                              sixteenths of a millisecond */

    /* moves the connection among the owner's queues and sets its state */
    void                    (*move)(ngx_lunary_conn_t *c,
                                    ngx_lunary_conn_state_e state);

    /* a host was tried in vain; the next one follows */
    void                    (*refused)(ngx_lunary_conn_t *c);

    /* no host is left; the connection is free */
    void                    (*unreachable)(ngx_lunary_conn_t *c);

    /* the session stands */
    void                    (*connected)(ngx_lunary_conn_t *c);

    /* there is room for a query */
    void                    (*usable)(ngx_lunary_conn_t *c);

    /*
     * a query has all its rows, or failed as "sqlstate" says; with NULL it
     * was one that nobody waited for
     */
    void                    (*finished)(ngx_lunary_conn_t *c,
                                        ngx_lunary_query_t *q);
    void                    (*failed)(ngx_lunary_conn_t *c,
                                      ngx_lunary_query_t *q,
                                      const char *sqlstate);

    /* a query ran out of time */
    void                    (*late)(ngx_lunary_conn_t *c,
                                    ngx_lunary_query_t *q);

    /* the query under way keeps others waiting behind it */
    void                    (*slow)(ngx_lunary_conn_t *c);

    /* the schema is not what this session's statements were made for */
    void                    (*outdated)(ngx_lunary_conn_t *c);

    /*
     * the session is gone; if it "broke", "pg.sqlstate" and "pg.reason" say
     * why.  Its queries are given back next, the last one first, with "head"
     * for the one under way
     */
    void                    (*broke)(ngx_lunary_conn_t *c);
    void                    (*stranded)(ngx_lunary_conn_t *c,
                                        ngx_lunary_query_t *q,
                                        ngx_uint_t head);
    void                    (*gone)(ngx_lunary_conn_t *c);

    void                     *data;
} ngx_lunary_owner_t;


struct ngx_lunary_conn_s {
    ngx_queue_t               queue;
    ngx_lunary_conn_state_e   state;       /* set by owner->move() alone */
    ngx_lunary_owner_t       *owner;

    ngx_lunary_pg_t           pg;
    ngx_lunary_walk_t         walk;

    ngx_uint_t                serial;      /* of this session */
    ngx_uint_t                features;    /* what the schema had */
    ngx_msec_t                probe_time;  /* when that was asked */
    ngx_uint_t                prepared;    /* a bit a statement */
    ngx_msec_t                started;     /* when it began to connect */
    ngx_msec_t                connect;     /* what that took */
    ngx_msec_t                expires;     /* the end of its lifetime */
    ngx_msec_t                head_since;  /* the first flight has its turn */
    ngx_msec_t                paused;      /* since */
    size_t                    largest;     /* row, in bytes */

    ngx_lunary_flight_t       flights[NGX_LUNARY_FLIGHTS];
    ngx_uint_t                first;
    ngx_uint_t                nflights;

    ngx_event_t               timer;       /* what for depends on the state */

    unsigned                  retire:1;    /* takes no query, and is closed
                                              when the last one is over */
};


/* "owner", "walk.hosts" and "pg.log" are set; NGX_OK or NGX_ERROR */
ngx_int_t ngx_lunary_conn_init(ngx_lunary_conn_t *c, ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool);

/* makes a session: "connected" and "usable" follow, or "unreachable" */
void ngx_lunary_conn_connect(ngx_lunary_conn_t *c);

/*
 * sends a query.  NGX_OK: it is on its way; NGX_ERROR: it was not sent, the
 * connection is beyond use, and "gone" follows.  Calls nobody
 */
ngx_int_t ngx_lunary_conn_send(ngx_lunary_conn_t *c, ngx_lunary_query_t *q);

/* asks an idle connection whether it lives; calls nobody */
void ngx_lunary_conn_check(ngx_lunary_conn_t *c);

/*
 * takes a sent query off: what comes for it is thrown away.  A query under
 * way has a moment to end by itself; then the connection is closed, by which
 * PostgreSQL stops it
 */
void ngx_lunary_conn_abandon(ngx_lunary_conn_t *c, ngx_lunary_query_t *q);

/* whether what is under way began a moment ago only */
ngx_uint_t ngx_lunary_conn_is_quick(ngx_lunary_conn_t *c);

/* gives back, as "stranded", the queries that wait behind the one under way */
void ngx_lunary_conn_recall(ngx_lunary_conn_t *c);

/* stops and goes on reading rows; the query's time stands still meanwhile */
void ngx_lunary_conn_pause(ngx_lunary_conn_t *c);
void ngx_lunary_conn_resume(ngx_lunary_conn_t *c);

/* ends the session, if any; "stranded" and "gone" are called */
void ngx_lunary_conn_close(ngx_lunary_conn_t *c);


#endif /* _NGX_LUNARY_CONN_H_INCLUDED_ */
