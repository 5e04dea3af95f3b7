
/*
 * The connections of one worker to one database, and the queries that wait
 * for them.  Whatever happens, a query that was taken hears "done" exactly
 * once, unless it is abandoned.
 */


#ifndef _NGX_LUNARY_POOL_H_INCLUDED_
#define _NGX_LUNARY_POOL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_dispatch.h"


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

/*
 * the schema changed under the session that answers the query: no session
 * that was made before takes another query
 */
void ngx_lunary_pool_outdated(ngx_lunary_query_t *q);

/* these call nobody */

/* forgets a query, wherever it is; nothing more is heard of it */
void ngx_lunary_pool_abandon(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q);

/* the rows of a query under way wait, and come again */
void ngx_lunary_pool_pause(ngx_lunary_query_t *q);
void ngx_lunary_pool_resume(ngx_lunary_query_t *q);


#endif /* _NGX_LUNARY_POOL_H_INCLUDED_ */
