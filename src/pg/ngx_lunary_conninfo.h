
/*
 * A libpq connection string, taken apart when the configuration is read: the
 * hosts one by one, and the parameters that hold for all of them.
 */


#ifndef _NGX_LUNARY_CONNINFO_H_INCLUDED_
#define _NGX_LUNARY_CONNINFO_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <libpq-fe.h>


/*
 * servers are configured for "resolver".  Angie 1.12 and newer keep them in a
 * list; without the directive they take the servers of /etc/resolv.conf
 */

#if (angie_version >= 1012000)
#define ngx_lunary_resolver_is_configured(resolver)                           \
    ((resolver)->connections && (resolver)->resolv_conf.len == 0)
#else
#define ngx_lunary_resolver_is_configured(resolver)                           \
    ((resolver)->connections.nelts != 0)
#endif


typedef struct {
    ngx_str_t             label;        /* for the log: "db1:5432" */
    char                 *host;         /* NULL: libpq's default */
    char                 *hostaddr;     /* NULL: not given */
    char                 *port;         /* NULL: libpq's default */
    ngx_str_t             name;         /* to be resolved, or empty: "host",
                                           but for the case of its letters */
    ngx_array_t          *addrs;        /* of char *, "name" when it was read */
} ngx_lunary_host_t;


typedef struct {
    ngx_array_t           hosts;        /* of ngx_lunary_host_t */
    ngx_str_t             text;         /* the string itself */
    PQconninfoOption     *options;      /* as libpq takes it apart */
    ngx_str_t             database;     /* its name, for the log */
} ngx_lunary_conninfo_t;


/*
 * takes "text", which a zero byte follows, apart into "ci", allocating from
 * "pool".  Returns NULL, or a reason why it is no good, in words that quote
 * nothing of it: it may hold a password
 */
char *ngx_lunary_conninfo_parse(ngx_pool_t *pool, ngx_str_t *text,
    ngx_lunary_conninfo_t *ci);

/*
 * looks up the addresses of hosts given by name; blocks.  Returns NULL or a
 * reason, "failed" is then the host's label
 */
char *ngx_lunary_conninfo_resolve(ngx_conf_t *cf, ngx_lunary_conninfo_t *ci,
    ngx_str_t *failed);

/*
 * what tells this database apart from others, two words in "database": all
 * that the connection string says and, where it has names, the addresses of
 * the servers of "resolver" (NULL: names are resolved by the system).  The
 * same after a reload
 */
void ngx_lunary_conninfo_database(ngx_lunary_conninfo_t *ci,
    ngx_resolver_t *resolver, uint64_t *database);

/* 1: there are several servers, as far as the string tells; else 0 */
ngx_uint_t ngx_lunary_conninfo_is_multiple(ngx_lunary_conninfo_t *ci);

/* the value of a keyword, or NULL where the connection string had none */
char *ngx_lunary_conninfo_value(ngx_lunary_conninfo_t *ci, const char *keyword);


#endif /* _NGX_LUNARY_CONNINFO_H_INCLUDED_ */
