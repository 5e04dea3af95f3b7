
/*
 * What a failure does to the query, the connection and the pool, and the one
 * line about it in the error log.
 */


#ifndef _NGX_LUNARY_RECOVERY_H_INCLUDED_
#define _NGX_LUNARY_RECOVERY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_pool.h"


/* a query failed; "q" is NULL where it was abandoned */
void ngx_lunary_recovery_failed(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    const char *sqlstate);

/* a query ran out of time */
void ngx_lunary_recovery_timeout(ngx_lunary_conn_t *c, ngx_lunary_query_t *q);

/* the session ended, and the query was the first in its pipeline */
void ngx_lunary_recovery_interrupted(ngx_lunary_conn_t *c,
    ngx_lunary_query_t *q);

/* a session was lost */
void ngx_lunary_recovery_lost(ngx_lunary_conn_t *c);

/* a host could not be connected to; no host could; a session was made */
void ngx_lunary_recovery_refused(ngx_lunary_conn_t *c);
void ngx_lunary_recovery_unreachable(ngx_lunary_conn_t *c);
void ngx_lunary_recovery_connected(ngx_lunary_conn_t *c);

/* retires all sessions, a second after the last time at the earliest */
void ngx_lunary_recovery_renew(ngx_lunary_pool_t *pool);


#endif /* _NGX_LUNARY_RECOVERY_H_INCLUDED_ */
