
/*
 * One PGconn on one nginx connection, in pipeline mode and single-row mode.
 *
 * The owner starts it with ngx_lunary_pg_connect(), and hears of it through
 * three handlers: "opened" once the session stands, "result" for each result,
 * "failed" when the connection is lost or was never made.  After "failed",
 * and after ngx_lunary_pg_close(), which may be called from within a handler,
 * nothing more is heard.  Only this file calls libpq on a connection.
 */


#ifndef _NGX_LUNARY_PG_H_INCLUDED_
#define _NGX_LUNARY_PG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "ngx_lunary_sqlstate.h"


#define NGX_LUNARY_PG_REASON_LEN  256


typedef struct ngx_lunary_pg_s  ngx_lunary_pg_t;


typedef enum {
    NGX_LUNARY_PG_CLOSED = 0,   /* no session, no socket */
    NGX_LUNARY_PG_CONNECTING,   /* libpq connects, a poll at a time */
    NGX_LUNARY_PG_OPEN          /* queries may be sent */
} ngx_lunary_pg_state_e;


struct ngx_lunary_pg_s {
    ngx_lunary_pg_state_e   state;

    PGconn                 *conn;
    ngx_connection_t       *connection;   /* its socket belongs to libpq */
    ngx_uint_t              syncs;        /* sent and not answered yet */
    ngx_uint_t              ends;         /* of sessions so far */

    void                  (*opened)(ngx_lunary_pg_t *pg);
    void                  (*result)(ngx_lunary_pg_t *pg, PGresult *res);
    void                  (*drained)(ngx_lunary_pg_t *pg);
    void                  (*failed)(ngx_lunary_pg_t *pg);
    void                   *data;         /* the owner's */

    ngx_log_t              *log;

    /* of the last failure; the text is the first line of its */
    char                    sqlstate[NGX_LUNARY_SQLSTATE_LEN];
    u_char                  reason[NGX_LUNARY_PG_REASON_LEN];

    unsigned                paused:1;     /* the socket is not read */
    unsigned                gather:1;     /* the owner's: what comes may wait
                                             for more, a millisecond */
    unsigned                broken:1;     /* "failed" is on its way */
};


/*
 * starts to connect to the one host that the parameters name; blocks on
 * nothing if they name it by address.  NGX_OK: "opened" or "failed" will be
 * called, not before the return.  NGX_ERROR: not started, "reason" says why
 */
ngx_int_t ngx_lunary_pg_connect(ngx_lunary_pg_t *pg,
    const char *const *keywords, const char *const *values);

/*
 * both append to what goes out with the next ngx_lunary_pg_sync().
 * A query's parameters are UUIDs, 16 bytes each; its results are binary.
 * NGX_ERROR: libpq could not, nothing more is to be sent; "failed" will be
 * called, not before the return
 */
ngx_int_t ngx_lunary_pg_prepare(ngx_lunary_pg_t *pg, const char *name,
    const char *sql, ngx_uint_t nparams);
ngx_int_t ngx_lunary_pg_query(ngx_lunary_pg_t *pg, const char *name,
    const char *sql, ngx_uint_t nparams, u_char *const *params);

/* the same for a text whose only parameter is PQbackendPID(), as int4 */
ngx_int_t ngx_lunary_pg_query_pid(ngx_lunary_pg_t *pg, const char *sql);

/*
 * ends what was sent since the last one, and sends it.  An error stays within
 * what stands between two of them; the answer to it is PGRES_PIPELINE_SYNC.
 * NGX_ERROR as above
 */
ngx_int_t ngx_lunary_pg_sync(ngx_lunary_pg_t *pg);

/* results are left in the socket (the server has to wait), and read again */
void ngx_lunary_pg_pause(ngx_lunary_pg_t *pg);
void ngx_lunary_pg_resume(ngx_lunary_pg_t *pg);

/* ends the session; does nothing on a closed one */
void ngx_lunary_pg_close(ngx_lunary_pg_t *pg);

/*
 * keeps the first line of a text, fit for a log, as the reason of what follows;
 * it may be the reason itself
 */
void ngx_lunary_pg_reason(ngx_lunary_pg_t *pg, const char *text);

/* the server's version as libpq gives it: 150004 */
ngx_int_t ngx_lunary_pg_version(ngx_lunary_pg_t *pg);

/*
 * a value of a result: its bytes, in libpq's memory until the result is
 * cleared, or NULL where it is SQL's null
 */
static ngx_inline u_char *
ngx_lunary_pg_value(PGresult *res, int row, int column, size_t *len)
{
    if (PQgetisnull(res, row, column)) {
        *len = 0;
        return NULL;
    }

    *len = PQgetlength(res, row, column);

    return (u_char *) PQgetvalue(res, row, column);
}


#endif /* _NGX_LUNARY_PG_H_INCLUDED_ */
