
/*
 * A query, as whoever asks it and whoever sends it see it; and the SQL.
 */


#ifndef _NGX_LUNARY_QUERY_H_INCLUDED_
#define _NGX_LUNARY_QUERY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_pg.h"


#define NGX_LUNARY_QUERY_PARAMS  3
#define NGX_LUNARY_STATEMENTS    16
#define NGX_LUNARY_IDENTITY_LEN  64

/*
 * A bit of a connection's features: the session belongs to this connection
 * alone, it is not one of a pooler's.  The other bits are the SQL's.
 */
#define NGX_LUNARY_FEATURE_OWN   (1 << 0)


typedef struct ngx_lunary_conn_s     ngx_lunary_conn_t;
typedef struct ngx_lunary_query_s    ngx_lunary_query_t;
typedef struct ngx_lunary_pool_s     ngx_lunary_pool_t;
typedef struct ngx_lunary_sql_s      ngx_lunary_sql_t;
typedef struct ngx_lunary_waiting_s  ngx_lunary_waiting_t;


typedef enum {
    NGX_LUNARY_OK = 0,              /* all rows were given */
    NGX_LUNARY_UNAVAILABLE,         /* the database can't be had */
    NGX_LUNARY_QUEUE_TIMEOUT,       /* no connection within the time */
    NGX_LUNARY_TIMEOUT,             /* the query took too long */
    NGX_LUNARY_FAILED               /* the database, or an answer of it */
} ngx_lunary_result_e;


/* the SQL, which is the business of whoever owns the pool */

struct ngx_lunary_sql_s {

    /*
     * asked once per connection, returns one row; its only parameter, $1, is
     * PQbackendPID() of the connection as int4
     */
    const char               *probe;

    /*
     * reads the probe's row: sets the features, and an identity that is kept
     * for the connection (NGX_LUNARY_IDENTITY_LEN bytes, zeroed before).
     * NGX_OK, or NGX_ERROR for a row that is no good
     */
    ngx_int_t               (*probed)(ngx_lunary_sql_t *sql, PGresult *res,
                                      ngx_uint_t *features, u_char *identity);

    /* what to warn of, once per connection, or NULL */
    const char             *(*note)(ngx_lunary_sql_t *sql,
                                    ngx_uint_t features);

    /* of the prepared statements, NGX_LUNARY_STATEMENTS at most */
    const char *const        *names;

    /* a statement's text; the callee keeps it.  NULL: no memory */
    const char             *(*text)(ngx_lunary_sql_t *sql,
                                    ngx_uint_t statement,
                                    ngx_uint_t features);
};


typedef enum {
    NGX_LUNARY_QUERY_NEW = 0,       /* the owner's, nobody else's */
    NGX_LUNARY_QUERY_WAITING,       /* for a connection */
    NGX_LUNARY_QUERY_SENT,          /* on a connection */
    NGX_LUNARY_QUERY_DONE           /* "done" was called, or it was abandoned */
} ngx_lunary_query_state_e;


struct ngx_lunary_query_s {
    ngx_queue_t               queue;       /* of those that wait */
    ngx_lunary_query_state_e  state;
    ngx_lunary_conn_t        *conn;        /* while sent */
    ngx_lunary_pool_t        *pool;        /* which was asked last */

    /* of the connection, while sent; valid within "row" */
    ngx_uint_t                features;
    const u_char             *identity;

    ngx_lunary_waiting_t     *waiting;     /* where it last did */

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
    ngx_msec_t                first_row;   /* since then, if "rows" */
    ngx_msec_t                took;        /* since then, to the last row */
    ngx_msec_t                connect;     /* the connection's making */
    ngx_uint_t                fresh;       /* the serial it needs at least */
    const char               *column;      /* with a value that "row" declined,
                                              or NULL */
    char                      sqlstate[NGX_LUNARY_SQLSTATE_LEN];

    unsigned                  committed:1; /* the caller's: no way back */
    unsigned                  front:1;     /* the caller's: waits no turn */
    unsigned                  retried:1;
    unsigned                  asked:1;     /* was sent at all */
    unsigned                  rows:1;      /* a row was there */
    unsigned                  connected:1; /* "connect" says something */
};


/* the last word on a query */

static ngx_inline void
ngx_lunary_query_done(ngx_lunary_query_t *q, ngx_lunary_result_e result)
{
    q->state = NGX_LUNARY_QUERY_DONE;

    q->done(q, result);
}


#endif /* _NGX_LUNARY_QUERY_H_INCLUDED_ */
