
/*
 * A connection of a pool: a session with the server from the first host that
 * is tried to its end.  All of its timeouts are here.
 */


#ifndef _NGX_LUNARY_CONN_H_INCLUDED_
#define _NGX_LUNARY_CONN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_hosts.h"
#include "ngx_lunary_pg.h"
#include "ngx_lunary_pipeline.h"


#define NGX_LUNARY_IDENTITY_LEN  64

/*
 * a bit of a connection's features: the session belongs to this connection
 * alone, it is not one of a pooler's.  The other bits are the SQL's
 */
#define NGX_LUNARY_FEATURE_OWN   (1 << 0)


typedef struct ngx_lunary_pool_s  ngx_lunary_pool_t;


typedef enum {
    NGX_LUNARY_CONN_FREE = 0,       /* no session */
    NGX_LUNARY_CONN_CONNECTING,     /* login, probe and settings */
    NGX_LUNARY_CONN_IDLE,           /* waits for a query */
    NGX_LUNARY_CONN_BUSY,           /* has queries in its pipeline */
    NGX_LUNARY_CONN_NSTATES
} ngx_lunary_conn_state_e;


struct ngx_lunary_conn_s {
    ngx_queue_t               queue;       /* of the connections in a state */
    ngx_lunary_conn_state_e   state;
    ngx_lunary_pool_t        *pool;
    ngx_uint_t                number;      /* in the pool, for the debug log */

    ngx_lunary_pg_t           pg;
    ngx_lunary_attempt_t      attempt;

    ngx_uint_t                serial;      /* of this session in the pool */
    ngx_uint_t                features;    /* what the probe found */
    u_char                    identity[NGX_LUNARY_IDENTITY_LEN];
    ngx_uint_t                prepared;    /* statements, a bit each */
    ngx_uint_t                preparing;   /* the bit of the one under way */

    /* the pipeline */
    ngx_lunary_entry_t        entries[NGX_LUNARY_DEPTH];
    ngx_uint_t                first;
    ngx_uint_t                nentries;
    ngx_msec_t                begun;       /* since when the first entry is
                                              the first */
    ngx_msec_t                paused;      /* since */

    ngx_msec_t                started;     /* when it began to connect */
    ngx_msec_t                connect;     /* what that took */
    ngx_msec_t                expires;     /* the end of its lifetime */
    ngx_msec_t                deadline;    /* of attempt or first entry */
    ngx_event_t               timer;

    unsigned                  standby:1;   /* the server is, or may be, one */
    unsigned                  retire:1;    /* takes no query, is closed once
                                              its pipeline is empty */
};


#define ngx_lunary_passed(t)                                                  \
    ((ngx_msec_int_t) (ngx_current_msec - (t)) >= 0)


/* "pool" and "number" are set; NGX_OK or NGX_ERROR */
ngx_int_t ngx_lunary_conn_init(ngx_lunary_conn_t *c, ngx_pool_t *pool);

/* the only way to change it: moves queue and gauge along */
void ngx_lunary_conn_set_state(ngx_lunary_conn_t *c,
    ngx_lunary_conn_state_e state);

/* sets the timer to what is due next */
void ngx_lunary_conn_schedule(ngx_lunary_conn_t *c);

/* makes a session; the pool is woken when it is there or cannot be had */
void ngx_lunary_conn_connect(ngx_lunary_conn_t *c);

/* lets it take no more queries; closed soon if idle, else when complete */
void ngx_lunary_conn_retire(ngx_lunary_conn_t *c);

/* ends a session that is not needed */
void ngx_lunary_conn_close(ngx_lunary_conn_t *c);

/*
 * Ends a session that has failed; "pg.sqlstate" and "pg.reason" say why.  If it
 * was still being connected, the next host is tried
 */
void ngx_lunary_conn_lost(ngx_lunary_conn_t *c);

/* the login is done */
void ngx_lunary_conn_opened(ngx_lunary_conn_t *c);

/*
 * a probe or a setting is complete.  NGX_OK: the session can be used;
 * NGX_AGAIN: more was sent; NGX_ERROR: the session is beyond use
 */
ngx_int_t ngx_lunary_conn_prepared(ngx_lunary_conn_t *c, ngx_lunary_entry_t *e);

/*
 * 1: settings and prepared statements may stay in the session, and queries may
 * go behind one another on it
 */
ngx_uint_t ngx_lunary_conn_is_own(ngx_lunary_conn_t *c);

/* the host and port, for logs and $lunary_addr */
ngx_str_t *ngx_lunary_conn_label(ngx_lunary_conn_t *c);


#endif /* _NGX_LUNARY_CONN_H_INCLUDED_ */
