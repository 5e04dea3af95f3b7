
/*
 * One connection of a pool, and the queries on it.
 *
 * A connection carries several queries at a time, one behind the other, each
 * with a Sync of its own.
 *
 * The owner (the pool) hears of everything through ngx_lunary_owner_t.  It
 * may send, abandon and close from within these, but for where they say so.
 */


#ifndef _NGX_LUNARY_CONN_H_INCLUDED_
#define _NGX_LUNARY_CONN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_flights.h"


/* "owner" and "pg.log" are set; NGX_OK or NGX_ERROR */
ngx_int_t ngx_lunary_conn_init(ngx_lunary_conn_t *c, ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool);

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


#endif /* _NGX_LUNARY_CONN_H_INCLUDED_ */
