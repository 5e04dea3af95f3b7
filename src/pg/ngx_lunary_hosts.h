
/*
 * The hosts of a database: which one a connection tries, and in what order;
 * names are resolved without blocking; a host that failed is not tried again
 * for a while (its back-off).
 *
 * A connect attempt: ngx_lunary_attempt_start(), then for each host and address
 * ngx_lunary_attempt_next(), until one succeeds or none is left.
 */


#ifndef _NGX_LUNARY_HOSTS_H_INCLUDED_
#define _NGX_LUNARY_HOSTS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_conninfo.h"


#define NGX_LUNARY_ATTEMPT_ADDRS   16
#define NGX_LUNARY_ATTEMPT_PARAMS  128    /* libpq knows some 50 */

#define NGX_LUNARY_ATTEMPT_REASON_LEN  128


typedef struct {
    ngx_msec_t                backoff;      /* in milliseconds, or 0 */
    ngx_msec_t                until;        /* its end */
} ngx_lunary_host_state_t;


typedef struct {
    ngx_lunary_conninfo_t    *conninfo;
    ngx_lunary_host_state_t  *states;       /* one a host */
    ngx_uint_t                n;
    ngx_uint_t                last_good;
    const char               *session;      /* target_session_attrs, or NULL */

    ngx_resolver_t           *resolver;     /* NULL: names are resolved */
    ngx_msec_t                resolver_timeout;
    unsigned                  random:1;     /* balance=random */
    unsigned                  warned:1;     /* of the password file */

    /* what libpq would ask the system's user database for at each attempt */
    const char               *keywords[8];
    const char               *values[8];
    ngx_uint_t                nparams;
} ngx_lunary_hosts_t;


typedef struct ngx_lunary_attempt_s  ngx_lunary_attempt_t;

struct ngx_lunary_attempt_s {
    ngx_lunary_hosts_t       *hosts;
    ngx_uint_t               *order;        /* hosts to try, "n" of them */
    ngx_uint_t                n;
    ngx_uint_t                next;         /* in "order" */
    ngx_uint_t                host;         /* the one being tried */
    ngx_uint_t                pass;         /* prefer-standby takes two */
    ngx_uint_t                primaries;    /* these are the first in "order"
                                               for the second */

    ngx_resolver_ctx_t       *resolving;
    ngx_uint_t                naddrs;
    ngx_uint_t                addr;         /* the next one */
    char                      addrs[NGX_LUNARY_ATTEMPT_ADDRS]
                                   [NGX_SOCKADDR_STRLEN];

    /* what to give to ngx_lunary_pg_connect() */
    const char               *keywords[NGX_LUNARY_ATTEMPT_PARAMS];
    const char               *values[NGX_LUNARY_ATTEMPT_PARAMS];

    /* a name was resolved, or not: go on with ngx_lunary_attempt_next() */
    void                    (*resolved)(ngx_lunary_attempt_t *attempt);
    void                     *data;

    /* why "host" has no address; empty where it has */
    char                      unresolved[NGX_LUNARY_ATTEMPT_REASON_LEN];
};


/*
 * Sets up "hosts" in a worker.  The caller has set "conninfo", "session",
 * "resolver", "resolver_timeout" and "random".  Allocates from "pool".  Calls
 * getpwuid(), which may block.  Returns NGX_OK or NGX_ERROR
 */
ngx_int_t ngx_lunary_hosts_init(ngx_lunary_hosts_t *hosts, ngx_pool_t *pool);

/* milliseconds until a host may be tried, or 0 */
ngx_msec_t ngx_lunary_hosts_backoff(ngx_lunary_hosts_t *hosts);

/* allocates from "pool"; NGX_OK or NGX_ERROR */
ngx_int_t ngx_lunary_attempt_init(ngx_lunary_attempt_t *attempt,
    ngx_lunary_hosts_t *hosts, ngx_pool_t *pool);

void ngx_lunary_attempt_start(ngx_lunary_attempt_t *attempt);

/*
 * the next host or address.  NGX_OK: "keywords" and "values" are set;
 * NGX_AGAIN: "resolved" will be called; NGX_ERROR: the host has no address, as
 * "unresolved" says: call ngx_lunary_attempt_failed(); NGX_DECLINED: none is
 * left
 */
ngx_int_t ngx_lunary_attempt_next(ngx_lunary_attempt_t *attempt);

/*
 * the end of a host's turn; "reason" is libpq's text.  Failed: 1, or 0 where
 * this was no failure but a primary where standbys are preferred
 */
void ngx_lunary_attempt_succeeded(ngx_lunary_attempt_t *attempt);
ngx_uint_t ngx_lunary_attempt_failed(ngx_lunary_attempt_t *attempt,
    u_char *reason);

/* gives up a name that is being resolved */
void ngx_lunary_attempt_stop(ngx_lunary_attempt_t *attempt);

/* of the host being tried, for the log */
ngx_str_t *ngx_lunary_attempt_label(ngx_lunary_attempt_t *attempt);


#endif /* _NGX_LUNARY_HOSTS_H_INCLUDED_ */
