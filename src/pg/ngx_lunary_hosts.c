
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <pwd.h>
#include "ngx_lunary_hosts.h"


/*
 * the back-off of a host that failed, in milliseconds; doubled each time.  It
 * is short, as the return of the database is not noticed before its end
 */

#define NGX_LUNARY_BACKOFF_MIN  50
#define NGX_LUNARY_BACKOFF_MAX  800


static ngx_int_t ngx_lunary_hosts_default(ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool, const char *keyword, const char *dir, const char *file);
static const char *ngx_lunary_hosts_passfile(ngx_lunary_hosts_t *hosts,
    const char *file);
static ngx_uint_t ngx_lunary_hosts_backs_off(ngx_lunary_hosts_t *hosts,
    ngx_uint_t i);
static ngx_int_t ngx_lunary_attempt_host(ngx_lunary_attempt_t *attempt);
static ngx_int_t ngx_lunary_attempt_resolve(ngx_lunary_attempt_t *attempt,
    ngx_lunary_host_t *host);
static void ngx_lunary_attempt_resolve_handler(ngx_resolver_ctx_t *ctx);
static void ngx_lunary_attempt_unresolved(ngx_lunary_attempt_t *attempt,
    ngx_int_t state);
static void ngx_lunary_attempt_params(ngx_lunary_attempt_t *attempt,
    char *addr);
static ngx_uint_t ngx_lunary_attempt_prefers_standby(
    ngx_lunary_attempt_t *attempt);
static void ngx_lunary_attempt_primary(ngx_lunary_attempt_t *attempt);


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

        /* with "sslcrl" set libpq does not look at "sslcrldir" */

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


/* libpq would warn on stderr, each time, of a file that it does not read */

static const char *
ngx_lunary_hosts_passfile(ngx_lunary_hosts_t *hosts, const char *file)
{
    ngx_file_info_t  fi;

    if (ngx_file_info((u_char *) file, &fi) == NGX_FILE_ERROR
        || (ngx_is_file(&fi) && !(fi.st_mode & (S_IRWXG|S_IRWXO))))
    {
        return file;
    }

    if (!hosts->warned
        && ngx_lunary_conninfo_value(hosts->conninfo, "password") == NULL)
    {
        hosts->warned = 1;

        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "password file \"%s\" is ignored: it must be a plain "
                      "file that only its owner may access", file);
    }

    /* a file that cannot exist */

    return "/dev/null/passfile";
}


static ngx_uint_t
ngx_lunary_hosts_backs_off(ngx_lunary_hosts_t *hosts, ngx_uint_t i)
{
    return hosts->states[i].backoff != 0
           && (ngx_msec_int_t) (hosts->states[i].until - ngx_current_msec)
              > 0;
}


ngx_msec_t
ngx_lunary_hosts_backoff(ngx_lunary_hosts_t *hosts)
{
    ngx_uint_t  i;
    ngx_msec_t  left, least;

    least = NGX_LUNARY_BACKOFF_MAX;

    for (i = 0; i < hosts->n; i++) {

        if (!ngx_lunary_hosts_backs_off(hosts, i)) {
            return 0;
        }

        left = hosts->states[i].until - ngx_current_msec;
        least = ngx_min(least, left);
    }

    return least;
}


ngx_int_t
ngx_lunary_attempt_init(ngx_lunary_attempt_t *attempt,
    ngx_lunary_hosts_t *hosts, ngx_pool_t *pool)
{
    attempt->hosts = hosts;
    attempt->order = ngx_palloc(pool, hosts->n * sizeof(ngx_uint_t));

    return attempt->order ? NGX_OK : NGX_ERROR;
}


void
ngx_lunary_attempt_start(ngx_lunary_attempt_t *attempt)
{
    ngx_uint_t           i, k, tmp;
    ngx_lunary_hosts_t  *hosts;

    hosts = attempt->hosts;

    attempt->n = 0;
    attempt->next = 0;
    attempt->pass = 0;
    attempt->naddrs = 0;
    attempt->addr = 0;
    attempt->primaries = 0;
    attempt->unresolved[0] = '\0';

    /* the last good one first, the others as they are listed */

    for (k = 0; k < hosts->n; k++) {
        i = (k == 0) ? hosts->last_good
                     : (k <= hosts->last_good) ? k - 1 : k;

        if (!ngx_lunary_hosts_backs_off(hosts, i)) {
            attempt->order[attempt->n++] = i;
        }
    }

    if (!hosts->random) {
        return;
    }

    for (k = attempt->n; k > 1; k--) {
        i = ngx_random() % k;

        tmp = attempt->order[k - 1];
        attempt->order[k - 1] = attempt->order[i];
        attempt->order[i] = tmp;
    }
}


ngx_int_t
ngx_lunary_attempt_next(ngx_lunary_attempt_t *attempt)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (attempt->unresolved[0]) {
            return NGX_ERROR;
        }

        if (attempt->addr < attempt->naddrs) {
            ngx_lunary_attempt_params(attempt, attempt->addrs[attempt->addr++]);
            return NGX_OK;
        }

        if (attempt->next == attempt->n) {

            /* no standby was found: a primary will do */

            if (attempt->pass == 0 && attempt->primaries) {
                attempt->pass = 1;
                attempt->n = attempt->primaries;
                attempt->next = 0;
                continue;
            }

            return NGX_DECLINED;
        }

        attempt->host = attempt->order[attempt->next++];
        attempt->naddrs = 0;
        attempt->addr = 0;

        rc = ngx_lunary_attempt_host(attempt);

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
ngx_lunary_attempt_host(ngx_lunary_attempt_t *attempt)
{
    char               **addr;
    ngx_uint_t           i;
    ngx_lunary_host_t   *host;

    host = attempt->hosts->conninfo->hosts.elts;
    host += attempt->host;

    if (host->name.len == 0) {
        ngx_lunary_attempt_params(attempt, host->hostaddr);
        return NGX_OK;
    }

    if (attempt->hosts->resolver) {
        return ngx_lunary_attempt_resolve(attempt, host);
    }

    addr = host->addrs->elts;

    for (i = 0; i < host->addrs->nelts && i < NGX_LUNARY_ATTEMPT_ADDRS; i++) {
        ngx_cpystrn((u_char *) attempt->addrs[i], (u_char *) addr[i],
                    NGX_SOCKADDR_STRLEN);
    }

    attempt->naddrs = i;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_lunary_attempt_resolve(ngx_lunary_attempt_t *attempt,
    ngx_lunary_host_t *host)
{
    ngx_resolver_ctx_t  *ctx, temp;

    ngx_memzero(&temp, sizeof(ngx_resolver_ctx_t));
    temp.name = host->name;

    ctx = ngx_resolve_start(attempt->hosts->resolver, &temp);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_lunary_attempt_unresolved(attempt, NGX_ERROR);
        return NGX_DECLINED;
    }

    ctx->name = host->name;
    ctx->handler = ngx_lunary_attempt_resolve_handler;
    ctx->data = attempt;
    ctx->timeout = attempt->hosts->resolver_timeout;
    ctx->cancelable = 1;

    attempt->resolving = ctx;

    /* the handler may be called at once, for a name that is known */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        attempt->resolving = NULL;
        ngx_lunary_attempt_unresolved(attempt, NGX_ERROR);
        return NGX_DECLINED;
    }

    return NGX_AGAIN;
}


static void
ngx_lunary_attempt_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    size_t                 len;
    ngx_uint_t             i;
    ngx_lunary_attempt_t  *attempt;

    attempt = ctx->data;

    if (ctx->state) {
        ngx_lunary_attempt_unresolved(attempt, ctx->state);

    } else {

        for (i = 0; i < ctx->naddrs && i < NGX_LUNARY_ATTEMPT_ADDRS; i++) {
            len = ngx_sock_ntop(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen,
                                (u_char *) attempt->addrs[i],
                                NGX_SOCKADDR_STRLEN - 1, 0);
            attempt->addrs[i][len] = '\0';
        }

        attempt->naddrs = i;
    }

    ngx_resolve_name_done(ctx);
    attempt->resolving = NULL;

    attempt->resolved(attempt);
}


static void
ngx_lunary_attempt_unresolved(ngx_lunary_attempt_t *attempt, ngx_int_t state)
{
    u_char  *p;

    p = ngx_snprintf((u_char *) attempt->unresolved,
                     NGX_LUNARY_ATTEMPT_REASON_LEN - 1,
                     "the name could not be resolved (%i: %s)",
                     state, ngx_resolver_strerror(state));
    *p = '\0';
}


static void
ngx_lunary_attempt_params(ngx_lunary_attempt_t *attempt, char *addr)
{
    ngx_uint_t              i, n;
    PQconninfoOption       *o;
    ngx_lunary_host_t      *host;
    ngx_lunary_conninfo_t  *ci;

    n = 0;
    ci = attempt->hosts->conninfo;

    host = ci->hosts.elts;
    host += attempt->host;

#define ngx_lunary_attempt_param(keyword, value)                              \
    if (value) {                                                              \
        attempt->keywords[n] = keyword;                                       \
        attempt->values[n++] = value;                                         \
    }

    for (i = 0; i < attempt->hosts->nparams; i++) {
        ngx_lunary_attempt_param(attempt->hosts->keywords[i],
                                 attempt->hosts->values[i]);
    }

    for (o = ci->options; o->keyword; o++) {
        if (ngx_strcmp(o->keyword, "host") != 0
            && ngx_strcmp(o->keyword, "hostaddr") != 0
            && ngx_strcmp(o->keyword, "port") != 0)
        {
            ngx_lunary_attempt_param(o->keyword, o->val);
        }
    }

    for (i = 0; i < n; i++) {
        if (ngx_strcmp(attempt->keywords[i], "passfile") == 0) {
            attempt->values[i] = ngx_lunary_hosts_passfile(attempt->hosts,
                                                           attempt->values[i]);
        }
    }

    /* of a keyword that is given twice libpq takes the last value */

    ngx_lunary_attempt_param("host", host->host);
    ngx_lunary_attempt_param("hostaddr", addr);
    ngx_lunary_attempt_param("port", host->port);

    if (ngx_lunary_attempt_prefers_standby(attempt)) {
        ngx_lunary_attempt_param("target_session_attrs",
                                 attempt->pass ? "any" : "standby");
    } else {
        ngx_lunary_attempt_param("target_session_attrs",
                                 attempt->hosts->session);
    }

    ngx_lunary_attempt_param("fallback_application_name", "nginx-lunary");
    ngx_lunary_attempt_param("client_encoding", "UTF8");
    ngx_lunary_attempt_param("gssencmode", "disable");

#if !(NGX_OPENSSL)
    ngx_lunary_attempt_param("sslmode", "disable");
#endif

    attempt->keywords[n] = NULL;
    attempt->values[n] = NULL;
}


void
ngx_lunary_attempt_succeeded(ngx_lunary_attempt_t *attempt)
{
    attempt->hosts->last_good = attempt->host;
    attempt->hosts->states[attempt->host].backoff = 0;
}


ngx_uint_t
ngx_lunary_attempt_failed(ngx_lunary_attempt_t *attempt, u_char *reason)
{
    ngx_lunary_host_state_t  *state;

    attempt->unresolved[0] = '\0';

    if (attempt->pass == 0
        && ngx_lunary_attempt_prefers_standby(attempt)
        && ngx_strstr(reason, "not in hot standby"))
    {
        ngx_lunary_attempt_primary(attempt);
        return 0;
    }

    state = &attempt->hosts->states[attempt->host];

    state->backoff = ngx_min(state->backoff * 2, NGX_LUNARY_BACKOFF_MAX);
    state->backoff = ngx_max(state->backoff, NGX_LUNARY_BACKOFF_MIN);

    state->until = ngx_current_msec + state->backoff / 2
                   + ngx_random() % (state->backoff / 2 + 1);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, ngx_cycle->log, 0,
                   "lunary host \"%V\" backs off, %M ms",
                   ngx_lunary_attempt_label(attempt),
                   state->until - ngx_current_msec);

    return 1;
}


static ngx_uint_t
ngx_lunary_attempt_prefers_standby(ngx_lunary_attempt_t *attempt)
{
    const char  *session;

    session = attempt->hosts->session;

    return session && ngx_strcmp(session, "prefer-standby") == 0;
}


/* hosts before "next" have had their turn: there is room for it */

static void
ngx_lunary_attempt_primary(ngx_lunary_attempt_t *attempt)
{
    ngx_uint_t  n;

    n = attempt->primaries;

    /* once a host, whichever of its addresses */

    if (n == 0 || attempt->order[n - 1] != attempt->host) {
        attempt->order[attempt->primaries++] = attempt->host;
    }
}


void
ngx_lunary_attempt_stop(ngx_lunary_attempt_t *attempt)
{
    if (attempt->resolving) {
        ngx_resolve_name_done(attempt->resolving);
        attempt->resolving = NULL;
    }
}


ngx_str_t *
ngx_lunary_attempt_label(ngx_lunary_attempt_t *attempt)
{
    ngx_lunary_host_t  *host;

    host = attempt->hosts->conninfo->hosts.elts;

    return &host[attempt->host].label;
}
