
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_metrics.h"
#include "ngx_http_lunary_variables.h"


static ngx_int_t ngx_http_lunary_variable_outcome(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_project(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_runs(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_sqlstate(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_cache(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_credential(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_addr(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_retries(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_version(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_set(ngx_http_variable_value_t *v,
    u_char *data, size_t len);
static void ngx_http_lunary_add_time(ngx_msec_t *total, ngx_msec_t ms);


ngx_str_t  ngx_http_lunary_outcomes[] = {
    ngx_string("-"), ngx_string("ok"), ngx_string("not_modified"),
    ngx_string("method"), ngx_string("denied"), ngx_string("not_found"),
    ngx_string("queue_full"), ngx_string("queue_timeout"),
    ngx_string("unavailable"), ngx_string("timeout"), ngx_string("error"),
    ngx_string("cut"), ngx_string("client_left")
};


ngx_str_t  ngx_http_lunary_caches[] = {
    ngx_string("-"), ngx_string("BYPASS"), ngx_string("MISS"),
    ngx_string("EXPIRED"), ngx_string("HIT")
};


ngx_str_t  ngx_http_lunary_credentials[] = {
    ngx_string("none"), ngx_string("key"), ngx_string("session")
};


static ngx_http_variable_t  ngx_http_lunary_vars[] = {

    { ngx_string("lunary_outcome"), NULL, ngx_http_lunary_variable_outcome,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_project_id"), NULL, ngx_http_lunary_variable_project,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_runs"), NULL, ngx_http_lunary_variable_runs,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_queue_time"), NULL, ngx_http_lunary_variable_time,
      offsetof(ngx_http_lunary_ctx_t, queue_time),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_connect_time"), NULL, ngx_http_lunary_variable_time,
      offsetof(ngx_http_lunary_ctx_t, connect_time),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_first_row_time"), NULL,
      ngx_http_lunary_variable_time,
      offsetof(ngx_http_lunary_ctx_t, first_row_time),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_query_time"), NULL, ngx_http_lunary_variable_time,
      offsetof(ngx_http_lunary_ctx_t, query_time),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_sqlstate"), NULL, ngx_http_lunary_variable_sqlstate,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_key_cache_status"), NULL,
      ngx_http_lunary_variable_cache, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_credential_type"), NULL,
      ngx_http_lunary_variable_credential, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_addr"), NULL, ngx_http_lunary_variable_addr,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_retries"), NULL, ngx_http_lunary_variable_retries,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("lunary_version"), NULL, ngx_http_lunary_variable_version,
      0, 0, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_lunary_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_lunary_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


ngx_http_lunary_ctx_t *
ngx_http_lunary_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_lunary_module);

    if (ctx || !(r->internal || r->filter_finalize)) {
        return ctx;
    }

    /* a redirect zeroes the contexts; the latest cleanup comes first */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_lunary_metrics_request) {
            ctx = cln->data;

            if (ctx->request == r) {
                return ctx;
            }
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_lunary_variable_outcome(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t              *name;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL || ctx->outcome == NGX_HTTP_LUNARY_UNFINISHED) {
        v->not_found = 1;
        return NGX_OK;
    }

    name = &ngx_http_lunary_outcomes[ctx->outcome];

    return ngx_http_lunary_variable_set(v, name->data, name->len);
}


static ngx_int_t
ngx_http_lunary_variable_project(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    /* an empty one can be tested, mapped, and left out of a header */

    if (ctx == NULL || !ctx->has_project
        || ctx->verdict != NGX_HTTP_LUNARY_KEY_PRIVATE)
    {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_LUNARY_UUID_TEXT_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_lunary_uuid_text(p, ctx->project);

    return ngx_http_lunary_variable_set(v, p, NGX_LUNARY_UUID_TEXT_LEN);
}


static ngx_int_t
ngx_http_lunary_variable_runs(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_uint_t              n;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    if (ctx->query_time == NGX_CONF_UNSET_MSEC) {
        return ngx_http_lunary_variable_set(v, (u_char *) "-", 1);
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    n = ngx_http_lunary_served(ctx) ? ctx->nruns : 0;

    return ngx_http_lunary_variable_set(v, p, ngx_sprintf(p, "%ui", n) - p);
}


static ngx_int_t
ngx_http_lunary_variable_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_msec_t              ms;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ms = *(ngx_msec_t *) ((u_char *) ctx + data);

    if (ms == NGX_CONF_UNSET_MSEC) {
        return ngx_http_lunary_variable_set(v, (u_char *) "-", 1);
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_lunary_variable_set(v, p,
                                        ngx_sprintf(p, "%T.%03M",
                                                    (time_t) ms / 1000,
                                                    ms % 1000)
                                        - p);
}


static ngx_int_t
ngx_http_lunary_variable_sqlstate(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    char                   *sqlstate;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    sqlstate = ctx->query.sqlstate[0] ? ctx->query.sqlstate : "-";

    return ngx_http_lunary_variable_set(v, (u_char *) sqlstate,
                                        ngx_strlen(sqlstate));
}


static ngx_int_t
ngx_http_lunary_variable_cache(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t              *name;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL || ctx->cache == NGX_HTTP_LUNARY_CACHE_NONE) {
        v->not_found = 1;
        return NGX_OK;
    }

    name = &ngx_http_lunary_caches[ctx->cache];

    return ngx_http_lunary_variable_set(v, name->data, name->len);
}


static ngx_int_t
ngx_http_lunary_variable_credential(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t              *name;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    name = &ngx_http_lunary_credentials[ctx->credential];

    return ngx_http_lunary_variable_set(v, name->data, name->len);
}


/* as $upstream_addr: the hosts in the order in which they were asked */

static ngx_int_t
ngx_http_lunary_variable_addr(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p, *addr;
    size_t                  len;
    ngx_uint_t              i;
    ngx_lunary_query_t     *q;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL || ctx->query.nhosts == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    q = &ctx->query;
    len = 0;

    for (i = 0; i < q->nhosts; i++) {
        len += q->hosts[i]->len + 2;
    }

    addr = ngx_pnalloc(r->pool, len);
    if (addr == NULL) {
        return NGX_ERROR;
    }

    p = addr;

    for (i = 0; i < q->nhosts; i++) {
        p = ngx_sprintf(p, i ? ", %V" : "%V", q->hosts[i]);
    }

    return ngx_http_lunary_variable_set(v, addr, p - addr);
}


static ngx_int_t
ngx_http_lunary_variable_retries(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                 *p;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_get_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_lunary_variable_set(v, p,
                                        ngx_sprintf(p, "%ui",
                                                    ctx->query.retries) - p);
}


static ngx_int_t
ngx_http_lunary_variable_version(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    return ngx_http_lunary_variable_set(v, (u_char *) NGINX_LUNARY_VERSION,
                                        sizeof(NGINX_LUNARY_VERSION) - 1);
}


static ngx_int_t
ngx_http_lunary_variable_set(ngx_http_variable_value_t *v, u_char *data,
    size_t len)
{
    v->data = data;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


void
ngx_http_lunary_count_times(ngx_http_lunary_ctx_t *ctx)
{
    ngx_lunary_query_t *q = &ctx->query;

    ngx_http_lunary_add_time(&ctx->queue_time, q->waited);
    q->waited = 0;

    if (!q->asked) {
        return;
    }

    ngx_http_lunary_add_time(&ctx->query_time, q->took);

    if (q->connected) {
        ngx_http_lunary_add_time(&ctx->connect_time, q->connect);
    }

    if (q->rows) {
        ngx_http_lunary_add_time(&ctx->first_row_time, q->first_row);
    }

    /* another query of the request must not add these again */

    q->took = 0;
    q->connected = 0;
    q->rows = 0;
}


static void
ngx_http_lunary_add_time(ngx_msec_t *total, ngx_msec_t ms)
{
    *total = *total == NGX_CONF_UNSET_MSEC ? ms : *total + ms;
}


/* a response that failed before its header was sent had no runs */

ngx_uint_t
ngx_http_lunary_served(ngx_http_lunary_ctx_t *ctx)
{
    return ctx->outcome == NGX_HTTP_LUNARY_OK || ctx->stream.committed;
}
