
/*
 * The pipeline of a connection: an entry for everything that was sent and is
 * not complete, the oldest first.  Each entry ends with a Sync of its own.  An
 * entry stays when its query is gone, and the rest of its results is discarded.
 *
 * A quick query is not held up behind a slow one: queries are sent behind
 * others only while queries are quick, and those behind a slow one are moved to
 * another connection.
 */


#ifndef _NGX_LUNARY_PIPELINE_H_INCLUDED_
#define _NGX_LUNARY_PIPELINE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_pg.h"


/* entries in a pipeline at most */
#define NGX_LUNARY_DEPTH  8


typedef struct ngx_lunary_conn_s   ngx_lunary_conn_t;
typedef struct ngx_lunary_query_s  ngx_lunary_query_t;


typedef enum {
    NGX_LUNARY_ENTRY_QUERY = 0,
    NGX_LUNARY_ENTRY_PROBE,         /* what the server and its schema have */
    NGX_LUNARY_ENTRY_SETTING        /* parameters of the session */
} ngx_lunary_entry_e;


typedef struct {
    ngx_lunary_entry_e        kind;
    ngx_lunary_query_t       *query;       /* NULL: results are discarded */
    ngx_uint_t                number;      /* of the setting */
    unsigned                  ended:1;     /* the last row was there */
    unsigned                  failed:1;    /* as "sqlstate" says */
    unsigned                  invalid:1;   /* a row was refused */
    unsigned                  probed:1;    /* the probe's row was read */
    unsigned                  moved:1;     /* its query was requeued */
    char                      sqlstate[NGX_LUNARY_SQLSTATE_LEN];
} ngx_lunary_entry_t;


/*
 * sends a query.  NGX_ERROR: it was not sent, its state is as before, and the
 * connection takes no more
 */
ngx_int_t ngx_lunary_pipeline_send(ngx_lunary_conn_t *c, ngx_lunary_query_t *q);

/* sends a probe or the setting of that number; a failure is a lost session */
void ngx_lunary_pipeline_ask(ngx_lunary_conn_t *c, ngx_lunary_entry_e kind,
    ngx_uint_t number, const char *sql);

/*
 * takes a result.  NGX_OK; NGX_DONE: the connection is to be closed, for it is
 * retired and nothing is left on it; NGX_ERROR: the session is beyond use, as
 * "pg.sqlstate" and "pg.reason" say
 */
ngx_int_t ngx_lunary_pipeline_result(ngx_lunary_conn_t *c, PGresult *res);

/* no more rows are at hand: calls "flush" of the first query */
void ngx_lunary_pipeline_flush(ngx_lunary_conn_t *c);

/* takes a query out of its entry; the first has 100 ms left to complete */
void ngx_lunary_pipeline_forget(ngx_lunary_conn_t *c, ngx_lunary_query_t *q);

/* requeues all queries but the first */
void ngx_lunary_pipeline_move(ngx_lunary_conn_t *c);

/* 1: another query may be sent behind, if there is room */
ngx_uint_t ngx_lunary_pipeline_is_quick(ngx_lunary_conn_t *c);

/* 1: no room for another query for now */
ngx_uint_t ngx_lunary_pipeline_is_full(ngx_lunary_conn_t *c);

/* stop and continue reading rows; the query's time stands still meanwhile */
void ngx_lunary_pipeline_pause(ngx_lunary_conn_t *c);
void ngx_lunary_pipeline_resume(ngx_lunary_conn_t *c);

/* the time from which on the first query is slow */
ngx_msec_t ngx_lunary_pipeline_slow_time(ngx_lunary_conn_t *c);

/* the timer: the first query is slow, or its deadline has passed */
void ngx_lunary_pipeline_timeout(ngx_lunary_conn_t *c);

/* the session is gone: requeues or retries what was sent on it */
void ngx_lunary_pipeline_clear(ngx_lunary_conn_t *c);


#endif /* _NGX_LUNARY_PIPELINE_H_INCLUDED_ */
