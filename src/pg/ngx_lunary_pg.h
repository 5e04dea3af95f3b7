
/*
 * One PGconn on one nginx connection, in pipeline mode and single-row mode.
 * Only this file calls libpq on a connection.
 *
 * From the event loop it calls ngx_lunary_conn_opened() when the login is done,
 * ngx_lunary_pipeline_result() for each result, ngx_lunary_pipeline_flush()
 * when there is no other for now, and ngx_lunary_conn_lost() when the
 * connection failed.  While it does, nobody else closes the connection.
 */


#ifndef _NGX_LUNARY_PG_H_INCLUDED_
#define _NGX_LUNARY_PG_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <libpq-fe.h>
#include "ngx_lunary_sqlstate.h"


#define NGX_LUNARY_PG_REASON_LEN  256
#define NGX_LUNARY_PG_PARAMS      3      /* of a query, at most */


typedef struct ngx_lunary_pg_s  ngx_lunary_pg_t;


struct ngx_lunary_pg_s {
    PGconn                 *conn;         /* NULL: no session, no socket */
    ngx_connection_t       *connection;   /* the socket belongs to libpq */
    ngx_uint_t              syncs;        /* sent and not answered yet */

    struct ngx_lunary_conn_s  *owner;
    ngx_log_t              *log;

    /* of the last error; the reason is the first line of its text */
    char                    sqlstate[NGX_LUNARY_SQLSTATE_LEN];
    u_char                  reason[NGX_LUNARY_PG_REASON_LEN];

    unsigned                paused:1;     /* the socket is not read */
    unsigned                broken:1;     /* the owner is told soon */
    unsigned                tls:1;        /* libpq uses it, or may yet */
};


/*
 * starts to connect to the one host that the parameters name, by its address,
 * or it blocks.  NGX_OK: the owner is told the result, not before the return.
 * NGX_ERROR: not started, "reason" says why
 */
ngx_int_t ngx_lunary_pg_connect(ngx_lunary_pg_t *pg,
    const char *const *keywords, const char *const *values);

/*
 * these append to what goes out with the next ngx_lunary_pg_sync().
 * A query's parameters are UUIDs, 16 bytes each; its results are binary.
 * NGX_ERROR: send nothing more, the owner is told of the loss after the return
 */
ngx_int_t ngx_lunary_pg_prepare(ngx_lunary_pg_t *pg, const char *name,
    const char *sql, ngx_uint_t nparams);
ngx_int_t ngx_lunary_pg_query(ngx_lunary_pg_t *pg, const char *name,
    const char *sql, ngx_uint_t nparams, u_char *const *params);

/*
 * the same for a text whose only parameter, an int4, is PQbackendPID(), or 0
 * with "own" 0
 */
ngx_int_t ngx_lunary_pg_query_pid(ngx_lunary_pg_t *pg, const char *sql,
    ngx_uint_t own);

/*
 * adds a Sync and sends all.  An error does not reach over a Sync, and the
 * response to it is PGRES_PIPELINE_SYNC.  NGX_ERROR as above
 */
ngx_int_t ngx_lunary_pg_sync(ngx_lunary_pg_t *pg);

/* stop reading results from the socket, and continue */
void ngx_lunary_pg_pause(ngx_lunary_pg_t *pg);
void ngx_lunary_pg_resume(ngx_lunary_pg_t *pg);

/* ends the session; does nothing on a closed one */
void ngx_lunary_pg_close(ngx_lunary_pg_t *pg);

/*
 * keeps a SQLSTATE, "" for none, and the first line of a text, with control
 * characters replaced; both may be the ones that are kept already
 */
void ngx_lunary_pg_error(ngx_lunary_pg_t *pg, const char *sqlstate,
    const char *text);

/* the server's version as libpq gives it: 150004 */
ngx_int_t ngx_lunary_pg_version(ngx_lunary_pg_t *pg);

/* 1: the server is a standby, or does not say; 0: it is none */
ngx_uint_t ngx_lunary_pg_is_standby(ngx_lunary_pg_t *pg);

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
