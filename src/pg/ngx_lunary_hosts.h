
/*
 * The hosts of a database: which one a new connection tries, and in what
 * order; names are resolved without blocking; hosts that failed rest.
 *
 * A connection walks: ngx_lunary_walk_start(), then ngx_lunary_walk_next()
 * for each attempt until one succeeds or none is left.
 */


#ifndef _NGX_LUNARY_HOSTS_H_INCLUDED_
#define _NGX_LUNARY_HOSTS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_conninfo.h"


#define NGX_LUNARY_WALK_ADDRS   16
#define NGX_LUNARY_WALK_PARAMS  80

#define NGX_LUNARY_WALK_REASON_LEN  128


typedef struct {
    ngx_msec_t                rest_until;
    ngx_msec_t                rest;         /* the next one, in milliseconds */
} ngx_lunary_host_state_t;


typedef struct {
    ngx_lunary_conninfo_t    *conninfo;
    ngx_lunary_host_state_t  *states;       /* one a host */
    ngx_uint_t                n;
    ngx_uint_t                last_good;

    ngx_resolver_t           *resolver;     /* NULL: names are resolved */
    ngx_msec_t                resolver_timeout;
    unsigned                  random:1;     /* balance=random */

    /* what libpq would ask the system's user database for at each attempt */
    const char               *keywords[8];
    const char               *values[8];
    ngx_uint_t                nparams;
} ngx_lunary_hosts_t;


typedef struct ngx_lunary_walk_s  ngx_lunary_walk_t;

struct ngx_lunary_walk_s {
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
    char                      addrs[NGX_LUNARY_WALK_ADDRS][NGX_SOCKADDR_STRLEN];

    /* what to give to ngx_lunary_pg_connect() */
    const char               *keywords[NGX_LUNARY_WALK_PARAMS];
    const char               *values[NGX_LUNARY_WALK_PARAMS];

    /* a name was resolved, or not: go on with ngx_lunary_walk_next() */
    void                    (*resolved)(ngx_lunary_walk_t *walk);
    void                     *data;

    /* why "host" has no address; empty where it has */
    char                      unresolved[NGX_LUNARY_WALK_REASON_LEN];
};


/*
 * in a worker: allocates from "pool"; the other members but "conninfo",
 * "resolver", "resolver_timeout" and "random" are set here.  May block:
 * it asks for the worker's user.  NGX_OK or NGX_ERROR
 */
ngx_int_t ngx_lunary_hosts_init(ngx_lunary_hosts_t *hosts, ngx_pool_t *pool);

/* milliseconds until a host may be tried, 0 where one may be now */
ngx_msec_t ngx_lunary_hosts_rest(ngx_lunary_hosts_t *hosts);

/* allocates from "pool" what a walk needs; NGX_OK or NGX_ERROR */
ngx_int_t ngx_lunary_walk_init(ngx_lunary_walk_t *walk,
    ngx_lunary_hosts_t *hosts, ngx_pool_t *pool);

void ngx_lunary_walk_start(ngx_lunary_walk_t *walk);

/*
 * NGX_OK: "keywords" and "values" are those of the next attempt; NGX_AGAIN:
 * "resolved" will be called; NGX_ERROR: there is none, as "unresolved" says,
 * which is to be given to ngx_lunary_walk_bad(); NGX_DECLINED: no host is left
 */
ngx_int_t ngx_lunary_walk_next(ngx_lunary_walk_t *walk);

/*
 * how the attempt ended; "reason" is libpq's text.  The host rests after a
 * bad end: 1; or the end tells of no fault, but of a primary where standbys
 * are preferred: 0
 */
void ngx_lunary_walk_good(ngx_lunary_walk_t *walk);
ngx_uint_t ngx_lunary_walk_bad(ngx_lunary_walk_t *walk, u_char *reason);

/* gives up a name that is being resolved */
void ngx_lunary_walk_stop(ngx_lunary_walk_t *walk);

/* of the host being tried, for the log */
ngx_str_t *ngx_lunary_walk_label(ngx_lunary_walk_t *walk);


#endif /* _NGX_LUNARY_HOSTS_H_INCLUDED_ */
