
/*
 * A connection of a pool and its flights: what was sent on it and is not over.
 * A flight belongs to the connection and outlives its query if the client
 * leaves.
 */


#ifndef _NGX_LUNARY_FLIGHTS_H_INCLUDED_
#define _NGX_LUNARY_FLIGHTS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_hosts.h"
#include "ngx_lunary_pg.h"
#include "ngx_lunary_query.h"


/* queries on one connection, and what prepares a session */
#define NGX_LUNARY_DEPTH    8
#define NGX_LUNARY_FLIGHTS  (NGX_LUNARY_DEPTH + 4)

/* after so many milliseconds the queries behind are taken elsewhere */
#define NGX_LUNARY_SLOW     40


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
    ngx_msec_t                deadline;    /* to end; to have its turn */
    unsigned                  prepares:1;
    unsigned                  failed:1;
    unsigned                  broken:1;    /* a row was no good */
    unsigned                  orphan:1;    /* its statement was refused to
                                              another, as "sqlstate" says */
    unsigned                  ended:1;     /* the last row was there */
    unsigned                  paused:1;    /* once: its client is slow */
    unsigned                  found:1;     /* a probe's row was read */
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
    ngx_uint_t                serial;      /* of the last session begun */
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
    ngx_uint_t                features;    /* what the probe found */
    u_char                    identity[NGX_LUNARY_IDENTITY_LEN];
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


#define ngx_lunary_passed(t)                                                  \
    ((ngx_msec_int_t) (ngx_current_msec - (t)) >= 0)


/* a new one, the last; its deadline is to be set */
ngx_lunary_flight_t *ngx_lunary_flights_push(ngx_lunary_conn_t *c,
    ngx_lunary_flight_e kind);

/* the first one is number 0 */
ngx_lunary_flight_t *ngx_lunary_flights_at(ngx_lunary_conn_t *c, ngx_uint_t i);

/* sets how long from now on it may take: at the head, or to get there */
void ngx_lunary_flights_deadline(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    ngx_uint_t head);

/* sets the connection's timer to the next moment at which something is due */
void ngx_lunary_flights_schedule(ngx_lunary_conn_t *c);

/* or to so many milliseconds from now */
void ngx_lunary_flights_wake(ngx_lunary_conn_t *c, ngx_msec_t delay,
    ngx_uint_t cancelable);


#endif /* _NGX_LUNARY_FLIGHTS_H_INCLUDED_ */
