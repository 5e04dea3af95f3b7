
/*
 * A session, from the first host that is tried to its end: the login, the
 * settings, a look at the schema.
 */


#ifndef _NGX_LUNARY_SESSION_H_INCLUDED_
#define _NGX_LUNARY_SESSION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_flights.h"


/* "owner" and "pg.log" are set; NGX_OK or NGX_ERROR */
ngx_int_t ngx_lunary_session_init(ngx_lunary_conn_t *c,
    ngx_lunary_hosts_t *hosts, ngx_pool_t *pool);

/* makes a session: "connected" and "usable" follow, or "unreachable" */
void ngx_lunary_session_start(ngx_lunary_conn_t *c);

/* reads the row of its probe */
void ngx_lunary_session_probed(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res);

/*
 * what prepares a session is over.  NGX_DONE: it stands; NGX_OK: there is
 * more to come; NGX_ERROR: it was lost
 */
ngx_int_t ngx_lunary_session_landed(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);

/* ends the session, if any; "stranded" and "gone" are called */
void ngx_lunary_session_end(ngx_lunary_conn_t *c);

/*
 * the server has not kept to what was agreed: the next host is tried, or the
 * session "broke".  "" where the server gave no SQLSTATE; both may be "pg"'s
 */
void ngx_lunary_session_lost(ngx_lunary_conn_t *c, const char *sqlstate,
    const char *reason);


#endif /* _NGX_LUNARY_SESSION_H_INCLUDED_ */
