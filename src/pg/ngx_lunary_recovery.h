
/*
 * What becomes of queries and sessions that fail.  These are a pool's parts of
 * ngx_lunary_owner_t.
 */


#ifndef _NGX_LUNARY_RECOVERY_H_INCLUDED_
#define _NGX_LUNARY_RECOVERY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_dispatch.h"


void ngx_lunary_recovery_failed(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    const char *sqlstate);
void ngx_lunary_recovery_late(ngx_lunary_conn_t *c, ngx_lunary_query_t *q);
void ngx_lunary_recovery_stranded(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    ngx_uint_t head);
void ngx_lunary_recovery_broke(ngx_lunary_conn_t *c);

/* replaces all sessions, but not more often than once a second */
void ngx_lunary_recovery_renew(ngx_lunary_pool_t *pool);


#endif /* _NGX_LUNARY_RECOVERY_H_INCLUDED_ */
