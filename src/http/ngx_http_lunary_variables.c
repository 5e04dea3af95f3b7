
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_metrics.h"
#include "ngx_http_lunary_variables.h"


typedef enum {
    NGX_HTTP_LUNARY_VAR_OUTCOME = 0,
    NGX_HTTP_LUNARY_VAR_CREDENTIAL,
    NGX_HTTP_LUNARY_VAR_PROJECT,
    NGX_HTTP_LUNARY_VAR_RUNS,
    NGX_HTTP_LUNARY_VAR_ADDR,
    NGX_HTTP_LUNARY_VAR_RETRIES,
    NGX_HTTP_LUNARY_VAR_QUEUE_TIME,
    NGX_HTTP_LUNARY_VAR_CONNECT_TIME,
    NGX_HTTP_LUNARY_VAR_FIRST_ROW_TIME,
    NGX_HTTP_LUNARY_VAR_QUERY_TIME,
    NGX_HTTP_LUNARY_VAR_SQLSTATE,
    NGX_HTTP_LUNARY_VAR_CACHE,
    NGX_HTTP_LUNARY_VAR_VERSION,
    NGX_HTTP_LUNARY_NVARS
} ngx_http_lunary_var_e;


static ngx_int_t ngx_http_lunary_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_lunary_variable_value(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_var_e var, ngx_str_t *value);
static ngx_int_t ngx_http_lunary_variable_project(ngx_http_lunary_ctx_t *ctx,
    ngx_str_t *value);
static ngx_int_t ngx_http_lunary_variable_addr(ngx_http_lunary_ctx_t *ctx,
    ngx_str_t *value);
static ngx_int_t ngx_http_lunary_variable_number(ngx_http_lunary_ctx_t *ctx,
    ngx_uint_t n, ngx_str_t *value);
static ngx_int_t ngx_http_lunary_variable_time(ngx_http_lunary_ctx_t *ctx,
    ngx_msec_t ms, ngx_str_t *value);
static void ngx_http_lunary_add_time(ngx_msec_t *total, ngx_msec_t ms);


static ngx_str_t  ngx_http_lunary_vars[NGX_HTTP_LUNARY_NVARS] = {
    ngx_string("lunary_outcome"),
    ngx_string("lunary_credential_type"),
    ngx_string("lunary_project_id"),
    ngx_string("lunary_runs"),
    ngx_string("lunary_addr"),
    ngx_string("lunary_retries"),
    ngx_string("lunary_queue_time"),
    ngx_string("lunary_connect_time"),
    ngx_string("lunary_first_row_time"),
    ngx_string("lunary_query_time"),
    ngx_string("lunary_sqlstate"),
    ngx_string("lunary_key_cache_status"),
    ngx_string("lunary_version")
};


ngx_str_t  ngx_http_lunary_outcomes[] = {
    ngx_null_string, ngx_string("ok"), ngx_string("not_modified"),
    ngx_string("method"), ngx_string("denied"), ngx_string("not_found"),
    ngx_string("queue_full"), ngx_string("queue_timeout"),
    ngx_string("unavailable"), ngx_string("timeout"), ngx_string("error"),
    ngx_string("cut"), ngx_string("client_left")
};


ngx_str_t  ngx_http_lunary_caches[] = {
    ngx_null_string, ngx_string("BYPASS"), ngx_string("MISS"),
    ngx_string("EXPIRED"), ngx_string("HIT")
};


ngx_str_t  ngx_http_lunary_credentials[] = {
    ngx_string("none"), ngx_string("key"), ngx_string("session")
};


ngx_int_t
ngx_http_lunary_variables(ngx_conf_t *cf)
{
    ngx_uint_t            i;
    ngx_http_variable_t  *var;

    for (i = 0; i < NGX_HTTP_LUNARY_NVARS; i++) {
        var = ngx_http_add_variable(cf, &ngx_http_lunary_vars[i],
                                    NGX_HTTP_VAR_NOCACHEABLE);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = ngx_http_lunary_variable;
        var->data = i;
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
ngx_http_lunary_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_str_t               value;
    ngx_http_lunary_ctx_t  *ctx;

    ngx_str_null(&value);

    ctx = ngx_http_lunary_get_ctx(r);

    if (data == NGX_HTTP_LUNARY_VAR_VERSION) {
        ngx_str_set(&value, NGINX_LUNARY_VERSION);

    } else if (ctx && ngx_http_lunary_variable_value(ctx, data, &value)
                      != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* an empty one can be tested, mapped, and left out of a header */

    if (value.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = value.data;
    v->len = value.len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


/* "value" stays empty where the request has none; NGX_ERROR: no memory */

static ngx_int_t
ngx_http_lunary_variable_value(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_var_e var, ngx_str_t *value)
{
    switch (var) {

    case NGX_HTTP_LUNARY_VAR_OUTCOME:
        *value = ngx_http_lunary_outcomes[ctx->outcome];
        return NGX_OK;

    case NGX_HTTP_LUNARY_VAR_CREDENTIAL:
        *value = ngx_http_lunary_credentials[ctx->credential];
        return NGX_OK;

    case NGX_HTTP_LUNARY_VAR_PROJECT:
        return ngx_http_lunary_variable_project(ctx, value);

    case NGX_HTTP_LUNARY_VAR_RUNS:

        if (ctx->query_time == NGX_CONF_UNSET_MSEC) {
            ngx_str_set(value, "-");
            return NGX_OK;
        }

        return ngx_http_lunary_variable_number(ctx, ngx_http_lunary_served(ctx)
                                                    ? ctx->nruns : 0, value);

    case NGX_HTTP_LUNARY_VAR_ADDR:
        return ngx_http_lunary_variable_addr(ctx, value);

    case NGX_HTTP_LUNARY_VAR_RETRIES:
        return ngx_http_lunary_variable_number(ctx, ctx->query.retries, value);

    case NGX_HTTP_LUNARY_VAR_QUEUE_TIME:
        return ngx_http_lunary_variable_time(ctx, ctx->queue_time, value);

    case NGX_HTTP_LUNARY_VAR_CONNECT_TIME:
        return ngx_http_lunary_variable_time(ctx, ctx->connect_time, value);

    case NGX_HTTP_LUNARY_VAR_FIRST_ROW_TIME:
        return ngx_http_lunary_variable_time(ctx, ctx->first_row_time, value);

    case NGX_HTTP_LUNARY_VAR_QUERY_TIME:
        return ngx_http_lunary_variable_time(ctx, ctx->query_time, value);

    case NGX_HTTP_LUNARY_VAR_SQLSTATE:
        value->data = (u_char *) (ctx->query.sqlstate[0] ? ctx->query.sqlstate
                                                         : "-");
        value->len = ngx_strlen(value->data);
        return NGX_OK;

    default: /* NGX_HTTP_LUNARY_VAR_CACHE */
        *value = ngx_http_lunary_caches[ctx->cache];
        return NGX_OK;
    }
}


static ngx_int_t
ngx_http_lunary_variable_project(ngx_http_lunary_ctx_t *ctx, ngx_str_t *value)
{
    if (!ctx->has_project || ctx->verdict != NGX_HTTP_LUNARY_KEY_PRIVATE) {
        return NGX_OK;
    }

    value->data = ngx_pnalloc(ctx->request->pool, NGX_LUNARY_UUID_TEXT_LEN);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_lunary_uuid_text(value->data, ctx->project);
    value->len = NGX_LUNARY_UUID_TEXT_LEN;

    return NGX_OK;
}


/* as $upstream_addr: the hosts in the order in which they were asked */

static ngx_int_t
ngx_http_lunary_variable_addr(ngx_http_lunary_ctx_t *ctx, ngx_str_t *value)
{
    u_char              *p;
    size_t               len;
    ngx_uint_t           i;
    ngx_lunary_query_t  *q;

    q = &ctx->query;
    len = 0;

    for (i = 0; i < q->nhosts; i++) {
        len += q->hosts[i]->len + 2;
    }

    p = ngx_pnalloc(ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;

    for (i = 0; i < q->nhosts; i++) {
        p = ngx_sprintf(p, i ? ", %V" : "%V", q->hosts[i]);
    }

    value->len = p - value->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_variable_number(ngx_http_lunary_ctx_t *ctx, ngx_uint_t n,
    ngx_str_t *value)
{
    value->data = ngx_pnalloc(ctx->request->pool, NGX_INT_T_LEN);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    value->len = ngx_sprintf(value->data, "%ui", n) - value->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_variable_time(ngx_http_lunary_ctx_t *ctx, ngx_msec_t ms,
    ngx_str_t *value)
{
    u_char  *p;

    if (ms == NGX_CONF_UNSET_MSEC) {
        ngx_str_set(value, "-");
        return NGX_OK;
    }

    p = ngx_pnalloc(ctx->request->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;
    value->len = ngx_sprintf(p, "%T.%03M", (time_t) ms / 1000, ms % 1000) - p;

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
