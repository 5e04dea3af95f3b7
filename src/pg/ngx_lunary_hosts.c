
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <pwd.h>
#include "ngx_lunary_hosts.h"


/*
 * a host that failed rests, twice as long each time, up to a bound that
 * keeps service close behind the database's return
 */

#define NGX_LUNARY_REST_MIN  50
#define NGX_LUNARY_REST_MAX  800


static ngx_int_t ngx_lunary_hosts_default(ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool, const char *keyword, const char *dir, const char *file);
static ngx_uint_t ngx_lunary_hosts_resting(ngx_lunary_hosts_t *hosts,
    ngx_uint_t i);
static ngx_int_t ngx_lunary_walk_host(ngx_lunary_walk_t *walk);
static ngx_int_t ngx_lunary_walk_resolve(ngx_lunary_walk_t *walk,
    ngx_lunary_host_t *host);
static void ngx_lunary_walk_resolve_handler(ngx_resolver_ctx_t *ctx);
static void ngx_lunary_walk_unresolved(ngx_lunary_walk_t *walk,
    ngx_int_t state);
static void ngx_lunary_walk_params(ngx_lunary_walk_t *walk, char *addr);
static ngx_uint_t ngx_lunary_walk_prefers_standby(ngx_lunary_walk_t *walk);
static void ngx_lunary_walk_primary(ngx_lunary_walk_t *walk);


ngx_int_t
ngx_lunary_hosts_init(ngx_lunary_hosts_t *hosts, ngx_pool_t *pool)
{
    struct passwd  *pw;

    /* with "unless" given, libpq has no default for it */

    static const struct {
        const char  *keyword;
        const char  *file;
        const char  *unless;
    } files[] = {
        { "passfile", "/.pgpass", NULL },
        { "sslcert", "/.postgresql/postgresql.crt", NULL },
        { "sslkey", "/.postgresql/postgresql.key", NULL },
        { "sslrootcert", "/.postgresql/root.crt", NULL },

        /* a file that is not there would end its look at the directory */

        { "sslcrl", "/.postgresql/root.crl", "sslcrldir" }
    };

    ngx_uint_t  i;

    hosts->n = hosts->conninfo->hosts.nelts;
    hosts->last_good = 0;
    hosts->nparams = 0;

    hosts->states = ngx_pcalloc(pool,
                                hosts->n * sizeof(ngx_lunary_host_state_t));
    if (hosts->states == NULL) {
        return NGX_ERROR;
    }

    pw = getpwuid(geteuid());

    if (pw == NULL) {
        return NGX_OK;
    }

    if (ngx_lunary_hosts_default(hosts, pool, "user", pw->pw_name, "")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {

        if (files[i].unless
            && ngx_lunary_conninfo_value(hosts->conninfo, files[i].unless))
        {
            continue;
        }

        if (ngx_lunary_hosts_default(hosts, pool, files[i].keyword, pw->pw_dir,
                                     files[i].file)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_hosts_default(ngx_lunary_hosts_t *hosts, ngx_pool_t *pool,
    const char *keyword, const char *dir, const char *file)
{
    char  *value;

    if (ngx_lunary_conninfo_value(hosts->conninfo, keyword)) {
        return NGX_OK;
    }

    value = ngx_pnalloc(pool, ngx_strlen(dir) + ngx_strlen(file) + 1);
    if (value == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf((u_char *) value, "%s%s%Z", dir, file);

    hosts->keywords[hosts->nparams] = keyword;
    hosts->values[hosts->nparams++] = value;

    return NGX_OK;
}


static ngx_uint_t
ngx_lunary_hosts_resting(ngx_lunary_hosts_t *hosts, ngx_uint_t i)
{
    return hosts->states[i].rest != 0
           && (ngx_msec_int_t) (hosts->states[i].rest_until - ngx_current_msec)
              > 0;
}


ngx_msec_t
ngx_lunary_hosts_rest(ngx_lunary_hosts_t *hosts)
{
    ngx_uint_t  i;
    ngx_msec_t  rest, least;

    least = NGX_LUNARY_REST_MAX;

    for (i = 0; i < hosts->n; i++) {

        if (!ngx_lunary_hosts_resting(hosts, i)) {
            return 0;
        }

        rest = hosts->states[i].rest_until - ngx_current_msec;
        least = ngx_min(least, rest);
    }

    return least;
}


ngx_int_t
ngx_lunary_walk_init(ngx_lunary_walk_t *walk, ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool)
{
    walk->hosts = hosts;
    walk->order = ngx_palloc(pool, hosts->n * sizeof(ngx_uint_t));

    return walk->order ? NGX_OK : NGX_ERROR;
}


void
ngx_lunary_walk_start(ngx_lunary_walk_t *walk)
{
    ngx_uint_t           i, k, tmp;
    ngx_lunary_hosts_t  *hosts;

    hosts = walk->hosts;

    walk->n = 0;
    walk->next = 0;
    walk->pass = 0;
    walk->naddrs = 0;
    walk->addr = 0;
    walk->primaries = 0;
    walk->unresolved[0] = '\0';

    /* the last good one first, the others as they are listed */

    for (k = 0; k < hosts->n; k++) {
        i = (k == 0) ? hosts->last_good
                     : (k <= hosts->last_good) ? k - 1 : k;

        if (!ngx_lunary_hosts_resting(hosts, i)) {
            walk->order[walk->n++] = i;
        }
    }

    if (!hosts->random) {
        return;
    }

    for (k = walk->n; k > 1; k--) {
        i = ngx_random() % k;

        tmp = walk->order[k - 1];
        walk->order[k - 1] = walk->order[i];
        walk->order[i] = tmp;
    }
}


ngx_int_t
ngx_lunary_walk_next(ngx_lunary_walk_t *walk)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (walk->unresolved[0]) {
            return NGX_ERROR;
        }

        if (walk->addr < walk->naddrs) {
            ngx_lunary_walk_params(walk, walk->addrs[walk->addr++]);
            return NGX_OK;
        }

        if (walk->next == walk->n) {

            /* no standby was found: a primary will do */

            if (walk->pass == 0 && walk->primaries) {
                walk->pass = 1;
                walk->n = walk->primaries;
                walk->next = 0;
                continue;
            }

            return NGX_DECLINED;
        }

        walk->host = walk->order[walk->next++];
        walk->naddrs = 0;
        walk->addr = 0;

        rc = ngx_lunary_walk_host(walk);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }
}


/*
 * NGX_OK: there is one attempt and it is ready; NGX_AGAIN: being resolved;
 * NGX_DECLINED: addresses were found, or none
 */

static ngx_int_t
ngx_lunary_walk_host(ngx_lunary_walk_t *walk)
{
    char               **addr;
    ngx_uint_t           i;
    ngx_lunary_host_t   *host;

    host = walk->hosts->conninfo->hosts.elts;
    host += walk->host;

    if (host->name.len == 0) {
        ngx_lunary_walk_params(walk, host->hostaddr);
        return NGX_OK;
    }

    if (walk->hosts->resolver) {
        return ngx_lunary_walk_resolve(walk, host);
    }

    addr = host->addrs->elts;

    for (i = 0; i < host->addrs->nelts && i < NGX_LUNARY_WALK_ADDRS; i++) {
        ngx_cpystrn((u_char *) walk->addrs[i], (u_char *) addr[i],
                    NGX_SOCKADDR_STRLEN);
    }

    walk->naddrs = i;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_lunary_walk_resolve(ngx_lunary_walk_t *walk, ngx_lunary_host_t *host)
{
    ngx_resolver_ctx_t  *ctx, temp;

    ngx_memzero(&temp, sizeof(ngx_resolver_ctx_t));
    temp.name = host->name;

    ctx = ngx_resolve_start(walk->hosts->resolver, &temp);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_lunary_walk_unresolved(walk, NGX_ERROR);
        return NGX_DECLINED;
    }

    ctx->name = host->name;
    ctx->handler = ngx_lunary_walk_resolve_handler;
    ctx->data = walk;
    ctx->timeout = walk->hosts->resolver_timeout;
    ctx->cancelable = 1;

    walk->resolving = ctx;

    /* the handler may be called at once, for a name that is known */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        walk->resolving = NULL;
        ngx_lunary_walk_unresolved(walk, NGX_ERROR);
        return NGX_DECLINED;
    }

    return NGX_AGAIN;
}


static void
ngx_lunary_walk_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    size_t              len;
    ngx_uint_t          i;
    ngx_lunary_walk_t  *walk;

    walk = ctx->data;

    if (ctx->state) {
        ngx_lunary_walk_unresolved(walk, ctx->state);

    } else {

        for (i = 0; i < ctx->naddrs && i < NGX_LUNARY_WALK_ADDRS; i++) {
            len = ngx_sock_ntop(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen,
                                (u_char *) walk->addrs[i],
                                NGX_SOCKADDR_STRLEN - 1, 0);
            walk->addrs[i][len] = '\0';
        }

        walk->naddrs = i;
    }

    ngx_resolve_name_done(ctx);
    walk->resolving = NULL;

    walk->resolved(walk);
}


static void
ngx_lunary_walk_unresolved(ngx_lunary_walk_t *walk, ngx_int_t state)
{
    u_char  *p;

    p = ngx_snprintf((u_char *) walk->unresolved,
                     NGX_LUNARY_WALK_REASON_LEN - 1,
                     "the name could not be resolved (%i: %s)",
                     state, ngx_resolver_strerror(state));
    *p = '\0';
}


static void
ngx_lunary_walk_params(ngx_lunary_walk_t *walk, char *addr)
{
    ngx_uint_t              i, n;
    ngx_lunary_host_t      *host;
    ngx_lunary_conninfo_t  *ci;

    n = 0;
    ci = walk->hosts->conninfo;

    host = ci->hosts.elts;
    host += walk->host;

#define ngx_lunary_walk_param(keyword, value)                                 \
    if (value) {                                                              \
        walk->keywords[n] = keyword;                                          \
        walk->values[n++] = value;                                            \
    }

    for (i = 0; i < walk->hosts->nparams; i++) {
        ngx_lunary_walk_param(walk->hosts->keywords[i],
                              walk->hosts->values[i]);
    }

    for (i = 0; i < ci->n; i++) {
        ngx_lunary_walk_param(ci->keywords[i], ci->values[i]);
    }

    ngx_lunary_walk_param("host", host->host);
    ngx_lunary_walk_param("hostaddr", addr);
    ngx_lunary_walk_param("port", host->port);

    if (ngx_lunary_walk_prefers_standby(walk)) {
        ngx_lunary_walk_param("target_session_attrs",
                              walk->pass ? "any" : "standby");
    } else {
        ngx_lunary_walk_param("target_session_attrs", ci->session);
    }

    ngx_lunary_walk_param("fallback_application_name", "nginx-lunary");
    ngx_lunary_walk_param("client_encoding", "UTF8");
    ngx_lunary_walk_param("gssencmode", "disable");

#if !(NGX_OPENSSL)
    ngx_lunary_walk_param("sslmode", "disable");
#endif

    walk->keywords[n] = NULL;
    walk->values[n] = NULL;
}


void
ngx_lunary_walk_good(ngx_lunary_walk_t *walk)
{
    walk->hosts->last_good = walk->host;
    walk->hosts->states[walk->host].rest = 0;
}


ngx_uint_t
ngx_lunary_walk_bad(ngx_lunary_walk_t *walk, u_char *reason)
{
    ngx_lunary_host_state_t  *state;

    walk->unresolved[0] = '\0';

    if (walk->pass == 0
        && ngx_lunary_walk_prefers_standby(walk)
        && ngx_strstr(reason, "not in hot standby"))
    {
        ngx_lunary_walk_primary(walk);
        return 0;
    }

    state = &walk->hosts->states[walk->host];

    state->rest = state->rest ? ngx_min(state->rest * 2, NGX_LUNARY_REST_MAX)
                              : NGX_LUNARY_REST_MIN;

    state->rest_until = ngx_current_msec + state->rest / 2
                        + ngx_random() % (state->rest / 2 + 1);

    return 1;
}


static ngx_uint_t
ngx_lunary_walk_prefers_standby(ngx_lunary_walk_t *walk)
{
    char  *session;

    session = walk->hosts->conninfo->session;

    return session && ngx_strcmp(session, "prefer-standby") == 0;
}


/* hosts before "next" have had their turn: there is room for it */

static void
ngx_lunary_walk_primary(ngx_lunary_walk_t *walk)
{
    ngx_uint_t  n;

    n = walk->primaries;

    /* once a host, whichever of its addresses */

    if (n == 0 || walk->order[n - 1] != walk->host) {
        walk->order[walk->primaries++] = walk->host;
    }
}


void
ngx_lunary_walk_stop(ngx_lunary_walk_t *walk)
{
    if (walk->resolving) {
        ngx_resolve_name_done(walk->resolving);
        walk->resolving = NULL;
    }
}


ngx_str_t *
ngx_lunary_walk_label(ngx_lunary_walk_t *walk)
{
    ngx_lunary_host_t  *host;

    host = walk->hosts->conninfo->hosts.elts;

    return &host[walk->host].label;
}
