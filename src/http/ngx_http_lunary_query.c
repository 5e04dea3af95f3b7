
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_query.h"
#include "ngx_http_lunary_run.h"
#include "ngx_http_lunary_sql.h"
#include "ngx_http_lunary_tag.h"
#include "ngx_lunary_value.h"


static ngx_uint_t ngx_http_lunary_query_joins_head(
    ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_query_head(ngx_http_lunary_ctx_t *ctx,
    PGresult *res, int row);
static ngx_int_t ngx_http_lunary_query_verdict(ngx_http_lunary_ctx_t *ctx,
    PGresult *res, int row);
static ngx_uint_t ngx_http_lunary_query_first(ngx_http_lunary_ctx_t *ctx);
static ngx_http_lunary_key_e ngx_http_lunary_query_kind(
    ngx_http_lunary_by_e by, u_char *kind, size_t len);
static ngx_int_t ngx_http_lunary_query_full(ngx_http_lunary_ctx_t *ctx,
    PGresult *res, int row);
static ngx_int_t ngx_http_lunary_query_versions(ngx_http_lunary_ctx_t *ctx,
    PGresult *res, int row);
static ngx_int_t ngx_http_lunary_query_run(ngx_http_lunary_ctx_t *ctx,
    PGresult *res, int row);


void
ngx_http_lunary_query_set(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question)
{
    ngx_lunary_query_t *q = &ctx->query;

    ctx->question = question;

    q->nparams = 2;
    q->params[0] = ctx->run;

    if (ctx->has_project) {
        ctx->by = NGX_HTTP_LUNARY_BY_PROJECT;
        q->params[1] = ctx->project;

    } else if (ctx->credential == NGX_HTTP_LUNARY_CREDENTIAL_KEY) {
        ctx->by = NGX_HTTP_LUNARY_BY_KEY;
        q->params[1] = ctx->key;

    } else {
        ctx->by = NGX_HTTP_LUNARY_BY_SESSION;
        q->nparams = 3;
        q->params[1] = ctx->session.user;
        q->params[2] = ctx->session.project;
    }

    q->statement = ngx_http_lunary_sql_statement(question, ctx->by,
                                                 ctx->conf->etag);

    ngx_http_lunary_query_reset(ctx);
}


void
ngx_http_lunary_query_reset(ngx_http_lunary_ctx_t *ctx)
{
    if (ctx->by != NGX_HTTP_LUNARY_BY_PROJECT) {
        ctx->verdict = NGX_HTTP_LUNARY_KEY_UNASKED;
        ctx->has_project = 0;
    }

    ctx->nruns = 0;
    ctx->etag.len = 0;
    ctx->has_head = 0;
    ctx->found = 0;
    ctx->needs_full = 0;
}


ngx_int_t
ngx_http_lunary_query_row(ngx_http_lunary_ctx_t *ctx, PGresult *res, int row)
{
    ngx_int_t  rc;

    if (!ctx->has_head) {
        rc = ngx_http_lunary_query_head(ctx, res, row);

        if (rc != NGX_OK || !ngx_http_lunary_query_joins_head(ctx)) {
            return rc;
        }
    }

    if (!ctx->found || !ctx->has_project) {
        return NGX_DECLINED;
    }

    /* the row of the run that FULL is asked for */

    if (ctx->needs_full) {
        return NGX_OK;
    }

    return ngx_http_lunary_query_run(ctx, res, row);
}


/* whether the head is in the row of the first run */

static ngx_uint_t
ngx_http_lunary_query_joins_head(ngx_http_lunary_ctx_t *ctx)
{
    return ctx->by == NGX_HTTP_LUNARY_BY_PROJECT
           && (ctx->question == NGX_HTTP_LUNARY_MAIN
               || ctx->question == NGX_HTTP_LUNARY_FULL);
}


static ngx_int_t
ngx_http_lunary_query_head(ngx_http_lunary_ctx_t *ctx, PGresult *res, int row)
{
    ngx_uint_t  n;

    n = ngx_http_lunary_query_first(ctx);

    switch (ctx->question) {

    case NGX_HTTP_LUNARY_TAG:

        /* the time of parsing and the catalog */

        n += 2;
        break;

    case NGX_HTTP_LUNARY_EXISTS:
        break;

    default: /* MAIN, FULL */

        /* a row of its own has no run */

        if (!ngx_http_lunary_query_joins_head(ctx)
            && !PQgetisnull(res, row, (int) n))
        {
            return NGX_DECLINED;
        }

        n += ngx_http_lunary_run_columns(ctx->question == NGX_HTTP_LUNARY_FULL,
                                         NULL);
    }

    if (PQnfields(res) != (int) n
        || ngx_http_lunary_query_verdict(ctx, res, row) != NGX_OK
        || ngx_http_lunary_query_full(ctx, res, row) != NGX_OK
        || ngx_http_lunary_query_versions(ctx, res, row) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    ctx->has_head = 1;

    return NGX_OK;
}


/* the number of the first column behind the head */

static ngx_uint_t
ngx_http_lunary_query_first(ngx_http_lunary_ctx_t *ctx)
{
    return ngx_http_lunary_sql_head(ctx->by)
           + (ctx->conf->etag && ctx->question != NGX_HTTP_LUNARY_EXISTS);
}


/* the verdict on the credential */

static ngx_int_t
ngx_http_lunary_query_verdict(ngx_http_lunary_ctx_t *ctx, PGresult *res,
    int row)
{
    size_t   len;
    u_char  *kind, *project;

    if (ctx->by == NGX_HTTP_LUNARY_BY_PROJECT) {
        return NGX_OK;
    }

    kind = ngx_lunary_pg_value(res, row, NGX_HTTP_LUNARY_HEAD_KIND, &len);

    ctx->verdict = ngx_http_lunary_query_kind(ctx->by, kind, len);

    if (ctx->verdict != NGX_HTTP_LUNARY_KEY_PRIVATE) {
        return NGX_OK;
    }

    project = ngx_lunary_pg_value(res, row, NGX_HTTP_LUNARY_HEAD_PROJECT, &len);

    /* without a project no run is found */

    if (project == NULL) {
        return NGX_OK;
    }

    if (len != NGX_LUNARY_UUID_LEN) {
        return NGX_DECLINED;
    }

    ngx_memcpy(ctx->project, project, NGX_LUNARY_UUID_LEN);
    ctx->has_project = 1;

    return NGX_OK;
}


static ngx_http_lunary_key_e
ngx_http_lunary_query_kind(ngx_http_lunary_by_e by, u_char *kind, size_t len)
{
    ngx_uint_t  i;

    static const struct {
        ngx_str_t              kind;
        ngx_http_lunary_key_e  verdict;
    } kinds[] = {
        { ngx_string("private"), NGX_HTTP_LUNARY_KEY_PRIVATE },
        { ngx_string("org_private"), NGX_HTTP_LUNARY_KEY_ORG },
        { ngx_string("unsupported"), NGX_HTTP_LUNARY_KEY_UNSUPPORTED },
        { ngx_null_string, NGX_HTTP_LUNARY_KEY_PUBLIC }
    };

    if (kind == NULL) {
        return by == NGX_HTTP_LUNARY_BY_KEY ? NGX_HTTP_LUNARY_KEY_UNKNOWN
                                            : NGX_HTTP_LUNARY_KEY_NO_PROJECT;
    }

    for (i = 0; kinds[i].kind.len; i++) {
        if (len == kinds[i].kind.len
            && ngx_memcmp(kind, kinds[i].kind.data, len) == 0)
        {
            break;
        }
    }

    return kinds[i].verdict;
}


static ngx_int_t
ngx_http_lunary_query_full(ngx_http_lunary_ctx_t *ctx, PGresult *res, int row)
{
    size_t   len;
    u_char  *full;

    full = ngx_lunary_pg_value(res, row, NGX_HTTP_LUNARY_HEAD_FULL, &len);

    if (full && (len != 1 || (*full && ctx->question != NGX_HTTP_LUNARY_MAIN)))
    {
        return NGX_DECLINED;
    }

    ctx->found = (full != NULL);
    ctx->needs_full = (full && *full);

    return NGX_OK;
}


/* where FULL is needed the versions of MAIN are not complete */

static ngx_int_t
ngx_http_lunary_query_versions(ngx_http_lunary_ctx_t *ctx, PGresult *res,
    int row)
{
    int      n;
    size_t   len, catalog_len;
    u_char  *versions, *parsed, *catalog;

    if (!ctx->conf->etag || ctx->question == NGX_HTTP_LUNARY_EXISTS
        || !ctx->found || ctx->needs_full)
    {
        return NGX_OK;
    }

    n = (int) ngx_http_lunary_sql_head(ctx->by);

    versions = ngx_lunary_pg_value(res, row, n, &len);

    ctx->conf->untagged = (versions == NULL);

    if (versions == NULL) {
        return NGX_OK;
    }

    ngx_http_lunary_tag_set(ctx, versions, len);

    if (ctx->question != NGX_HTTP_LUNARY_TAG) {
        return NGX_OK;
    }

    parsed = ngx_lunary_pg_value(res, row, n + 1, &len);

    if (parsed == NULL || len != sizeof(int64_t)) {
        return NGX_DECLINED;
    }

    catalog = ngx_lunary_pg_value(res, row, n + 2, &catalog_len);

    if (!ngx_http_lunary_tag_current(&ctx->query, parsed, catalog,
                                     catalog_len))
    {
        ctx->etag.len = 0;
        ngx_lunary_pool_outdated(&ctx->query);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_query_run(ngx_http_lunary_ctx_t *ctx, PGresult *res, int row)
{
    ngx_int_t              rc;
    ngx_http_lunary_run_t  run;

    ngx_memzero(&run, sizeof(ngx_http_lunary_run_t));

    run.res = res;
    run.row = row;
    run.first = (int) ngx_http_lunary_query_first(ctx);
    run.full = (ctx->question == NGX_HTTP_LUNARY_FULL);
    run.out = &ctx->stream.out;
    run.root = ctx->run;
    run.project = ctx->project;
    run.nulls = ctx->conf->null_fields;

    if (PQgetisnull(res, row, run.first)) {
        return NGX_DECLINED;
    }

    rc = ngx_lunary_json_raw(run.out, (u_char *) (ctx->nruns++ ? "," : "["),
                             1);

    if (rc == NGX_OK) {
        rc = ngx_http_lunary_run_write(&run);
    }

    if (rc == NGX_DECLINED) {
        ctx->query.column = run.column;
    }

    return rc;
}


ngx_uint_t
ngx_http_lunary_query_lacks_head(ngx_http_lunary_ctx_t *ctx)
{
    return !ctx->has_head && !ngx_http_lunary_query_joins_head(ctx);
}


ngx_int_t
ngx_http_lunary_query_end(ngx_http_lunary_ctx_t *ctx)
{
    if (!ctx->found) {
        return ngx_lunary_json_raw(&ctx->stream.out, (u_char *) "[]", 2);
    }

    if (ctx->nruns == 0) {
        return NGX_ERROR;
    }

    return ngx_lunary_json_raw(&ctx->stream.out, (u_char *) "]", 1);
}


ngx_int_t
ngx_http_lunary_query_confirm(ngx_http_lunary_ctx_t *ctx)
{
    if (ctx->found || ctx->confirming
        || (ctx->verdict != NGX_HTTP_LUNARY_KEY_PRIVATE
            && ctx->verdict != NGX_HTTP_LUNARY_KEY_UNKNOWN
            && ctx->verdict != NGX_HTTP_LUNARY_KEY_NO_PROJECT)
        || ngx_lunary_pool_confirm(ctx->conf->pool, &ctx->query) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "lunary absent on a standby, asking the primary");

    ctx->confirming = 1;
    ctx->absent = ctx->verdict;

    ngx_http_lunary_query_reset(ctx);

    return NGX_OK;
}


void
ngx_http_lunary_query_unconfirmed(ngx_http_lunary_ctx_t *ctx)
{
    (void) ngx_atomic_fetch_add(&ctx->conf->pool->counts->unconfirmed, 1);

    ngx_http_lunary_query_reset(ctx);

    ctx->has_head = 1;
    ctx->verdict = ctx->absent;
}
