
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_runs.h"
#include "ngx_http_lunary_sql.h"
#include "ngx_lunary_json.h"
#include "ngx_lunary_number.h"
#include "ngx_lunary_value.h"


/* a row that is being written */

typedef struct {
    ngx_http_lunary_ctx_t  *ctx;
    ngx_lunary_out_t       *out;
    PGresult               *res;
    int                     row;
    u_char                 *id;
    ngx_uint_t              nulls;      /* are written */
} ngx_http_lunary_row_t;


typedef ngx_int_t (*ngx_http_lunary_write_pt)(ngx_lunary_out_t *out,
    u_char *p, size_t len);


static ngx_int_t ngx_http_lunary_runs_verdict(ngx_http_lunary_ctx_t *ctx,
    PGresult *res, int row, int column);
static ngx_int_t ngx_http_lunary_runs_head(ngx_http_lunary_ctx_t *ctx,
    PGresult *res, int row);
static ngx_int_t ngx_http_lunary_runs_run(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_identity(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_times(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_cost(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_tokens(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_payload(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_thread(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_user(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_trace(ngx_http_lunary_row_t *w);
static ngx_int_t ngx_http_lunary_runs_counts(ngx_http_lunary_row_t *w);

static ngx_int_t ngx_http_lunary_runs_field(ngx_http_lunary_row_t *w,
    ngx_str_t *name, int column, ngx_http_lunary_write_pt write);
static ngx_int_t ngx_http_lunary_runs_jsonb(ngx_http_lunary_row_t *w,
    ngx_str_t *name, int column);
static ngx_int_t ngx_http_lunary_runs_time(ngx_http_lunary_row_t *w,
    ngx_str_t *name, int column);
static ngx_int_t ngx_http_lunary_runs_null(ngx_http_lunary_row_t *w,
    ngx_str_t *name);
static ngx_int_t ngx_http_lunary_runs_finite_time(ngx_http_lunary_row_t *w,
    int column, int64_t *time);
static ngx_int_t ngx_http_lunary_runs_int(ngx_http_lunary_row_t *w,
    int column, int64_t *n);

static ngx_int_t ngx_http_lunary_write_bool(ngx_lunary_out_t *out, u_char *p,
    size_t len);
static ngx_int_t ngx_http_lunary_write_int(ngx_lunary_out_t *out, u_char *p,
    size_t len);
static ngx_int_t ngx_http_lunary_write_int_string(ngx_lunary_out_t *out,
    u_char *p, size_t len);


#define ngx_http_lunary_raw(w, text)                                          \
    ngx_lunary_json_raw((w)->out, (u_char *) (text), sizeof(text) - 1)

/* a field's name with all that stands between it and the field before */

#define ngx_http_lunary_name(name)  ngx_string(",\"" name "\":")


void
ngx_http_lunary_runs_ask(ngx_http_lunary_ctx_t *ctx)
{
    ngx_lunary_query_t *q = &ctx->query;

    if (ctx->head) {
        q->statement = ctx->has_project ? NGX_HTTP_LUNARY_HEAD
                                        : NGX_HTTP_LUNARY_KEY_HEAD;

    } else if (ctx->needs_full) {
        q->statement = NGX_HTTP_LUNARY_FULL;

    } else if (ctx->has_project) {
        q->statement = NGX_HTTP_LUNARY_MAIN;

    } else {
        q->statement = NGX_HTTP_LUNARY_KEY_MAIN;
    }

    ctx->by_key = !ctx->has_project;
    ctx->full = (q->statement == NGX_HTTP_LUNARY_FULL);
    ctx->needs_full = 0;
    ctx->found = 0;

    q->nparams = 2;
    q->params[0] = ctx->run;
    q->params[1] = ctx->has_project ? ctx->project : ctx->key;
}


ngx_int_t
ngx_http_lunary_runs_row(ngx_http_lunary_ctx_t *ctx, PGresult *res, int row)
{
    size_t                  len;
    u_char                 *id, *need;
    ngx_uint_t              statement;
    ngx_http_lunary_row_t   w;

    statement = ctx->query.statement;

    if (PQnfields(res) != ngx_http_lunary_sql_columns(statement)) {
        return NGX_DECLINED;
    }

    if (ctx->head) {
        return ngx_http_lunary_runs_head(ctx, res, row);
    }

    if (statement == NGX_HTTP_LUNARY_KEY_MAIN
        && ngx_http_lunary_runs_verdict(ctx, res, row,
                                        NGX_HTTP_LUNARY_MAIN_KEY_TYPE)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    id = ngx_lunary_pg_value(res, row, NGX_HTTP_LUNARY_ID, &len);

    if (id == NULL) {

        /* a key without such a run: that row is for the key alone */

        return statement == NGX_HTTP_LUNARY_KEY_MAIN && !ctx->found
               ? NGX_OK : NGX_DECLINED;
    }

    if (len != NGX_LUNARY_UUID_LEN) {
        return NGX_DECLINED;
    }

    need = ngx_lunary_pg_value(res, row, NGX_HTTP_LUNARY_NEED, &len);

    if (need == NULL || len != 1 || !ctx->has_project || ctx->needs_full) {
        return NGX_DECLINED;
    }

    ctx->found = 1;

    if (*need) {
        ctx->needs_full = 1;
        return ctx->nruns ? NGX_DECLINED : NGX_OK;
    }

    w.ctx = ctx;
    w.out = &ctx->stream.out;
    w.res = res;
    w.row = row;
    w.id = id;
    w.nulls = ctx->conf->null_fields;

    return ngx_http_lunary_runs_run(&w);
}


/* what the database says of the key, each row the same */

static ngx_int_t
ngx_http_lunary_runs_verdict(ngx_http_lunary_ctx_t *ctx, PGresult *res,
    int row, int column)
{
    size_t   len;
    u_char  *p;

    if (ctx->verdict != NGX_HTTP_LUNARY_KEY_UNASKED) {
        return NGX_OK;
    }

    p = ngx_lunary_pg_value(res, row, column, &len);
    if (p == NULL) {
        return NGX_DECLINED;
    }

    if (len == sizeof("private") - 1 && ngx_memcmp(p, "private", len) == 0) {
        ctx->verdict = NGX_HTTP_LUNARY_KEY_PRIVATE;

    } else if (len == sizeof("org_private") - 1
               && ngx_memcmp(p, "org_private", len) == 0)
    {
        ctx->verdict = NGX_HTTP_LUNARY_KEY_ORG;
        return NGX_OK;

    } else {
        ctx->verdict = NGX_HTTP_LUNARY_KEY_PUBLIC;
        return NGX_OK;
    }

    p = ngx_lunary_pg_value(res, row, column + 1, &len);

    if (p == NULL) {
        /* a key of no project finds no run */
        return NGX_OK;
    }

    if (len != NGX_LUNARY_UUID_LEN) {
        return NGX_DECLINED;
    }

    ngx_memcpy(ctx->project, p, NGX_LUNARY_UUID_LEN);
    ctx->has_project = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_runs_head(ngx_http_lunary_ctx_t *ctx, PGresult *res, int row)
{
    size_t   len;
    u_char  *there;

    if (ctx->query.statement == NGX_HTTP_LUNARY_KEY_HEAD
        && ngx_http_lunary_runs_verdict(ctx, res, row,
                                        NGX_HTTP_LUNARY_HEAD_KEY_TYPE)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    there = ngx_lunary_pg_value(res, row, 0, &len);

    if (there == NULL || len != 1) {
        return NGX_DECLINED;
    }

    ctx->found = *there;

    return NGX_OK;
}


ngx_int_t
ngx_http_lunary_runs_end(ngx_http_lunary_ctx_t *ctx)
{
    return ngx_lunary_json_raw(&ctx->stream.out, (u_char *) "]", 1);
}


static ngx_int_t
ngx_http_lunary_runs_run(ngx_http_lunary_row_t *w)
{
    ngx_int_t   rc;
    ngx_uint_t  i;

    static ngx_int_t (*const parts[])(ngx_http_lunary_row_t *w) = {
        ngx_http_lunary_runs_identity,
        ngx_http_lunary_runs_times,
        ngx_http_lunary_runs_cost,
        ngx_http_lunary_runs_tokens,
        ngx_http_lunary_runs_payload,
        ngx_http_lunary_runs_thread,
        ngx_http_lunary_runs_user,
        ngx_http_lunary_runs_trace,
        ngx_http_lunary_runs_counts
    };

    if (w->ctx->nruns++ == 0) {
        rc = ngx_http_lunary_raw(w, "[{\"id\":");

    } else {
        rc = ngx_http_lunary_raw(w, ",{\"id\":");
    }

    for (i = 0; rc == NGX_OK && i < sizeof(parts) / sizeof(parts[0]); i++) {
        rc = parts[i](w);
    }

    return rc == NGX_OK ? ngx_http_lunary_raw(w, "}") : rc;
}


#define ngx_http_lunary_try(call)                                             \
    do {                                                                      \
        ngx_int_t  try_rc = call;                                             \
                                                                              \
        if (try_rc != NGX_OK) {                                               \
            return try_rc;                                                    \
        }                                                                     \
    } while (0)


static ngx_int_t
ngx_http_lunary_runs_identity(ngx_http_lunary_row_t *w)
{
    static ngx_str_t  project_id = ngx_http_lunary_name("projectId");
    static ngx_str_t  is_public = ngx_http_lunary_name("isPublic");
    static ngx_str_t  feedback = ngx_http_lunary_name("feedback");
    static ngx_str_t  parent_feedback = ngx_http_lunary_name("parentFeedback");
    static ngx_str_t  type = ngx_http_lunary_name("type");
    static ngx_str_t  name = ngx_http_lunary_name("name");

    ngx_http_lunary_try(ngx_lunary_value_uuid(w->out, w->id,
                                              NGX_LUNARY_UUID_LEN));

    ngx_http_lunary_try(ngx_lunary_json_raw(w->out, project_id.data,
                                            project_id.len));
    ngx_http_lunary_try(ngx_lunary_value_uuid(w->out, w->ctx->project,
                                              NGX_LUNARY_UUID_LEN));

    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &is_public,
                                                   NGX_HTTP_LUNARY_IS_PUBLIC,
                                                   ngx_http_lunary_write_bool));
    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &feedback,
                                                   NGX_HTTP_LUNARY_FEEDBACK));
    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &parent_feedback,
                                            NGX_HTTP_LUNARY_PARENT_FEEDBACK));
    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &type,
                                                   NGX_HTTP_LUNARY_TYPE,
                                                   ngx_lunary_json_string));

    return ngx_http_lunary_runs_field(w, &name, NGX_HTTP_LUNARY_NAME,
                                      ngx_lunary_json_string);
}


static ngx_int_t
ngx_http_lunary_runs_times(ngx_http_lunary_row_t *w)
{
    int64_t    created, ended;
    ngx_int_t  rc;

    static ngx_str_t  created_at = ngx_http_lunary_name("createdAt");
    static ngx_str_t  ended_at = ngx_http_lunary_name("endedAt");
    static ngx_str_t  name = ngx_http_lunary_name("duration");
    static ngx_str_t  version = ngx_http_lunary_name("templateVersionId");
    static ngx_str_t  slug = ngx_http_lunary_name("templateSlug");

    ngx_http_lunary_try(ngx_http_lunary_runs_time(w, &created_at,
                                                  NGX_HTTP_LUNARY_CREATED_AT));
    ngx_http_lunary_try(ngx_http_lunary_runs_time(w, &ended_at,
                                                  NGX_HTTP_LUNARY_ENDED_AT));

    rc = ngx_http_lunary_runs_finite_time(w, NGX_HTTP_LUNARY_CREATED_AT,
                                          &created);
    if (rc == NGX_OK) {
        rc = ngx_http_lunary_runs_finite_time(w, NGX_HTTP_LUNARY_ENDED_AT,
                                              &ended);
    }

    if (rc == NGX_OK) {
        ngx_http_lunary_try(ngx_lunary_json_raw(w->out, name.data, name.len));
        ngx_http_lunary_try(ngx_lunary_value_seconds(w->out, created, ended));

    } else {
        ngx_http_lunary_try(ngx_http_lunary_runs_null(w, &name));
    }

    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &version,
                                        NGX_HTTP_LUNARY_TEMPLATE_VERSION_ID,
                                        ngx_http_lunary_write_int_string));

    return ngx_http_lunary_runs_field(w, &slug, NGX_HTTP_LUNARY_TEMPLATE_SLUG,
                                      ngx_lunary_json_string);
}


static ngx_int_t
ngx_http_lunary_runs_cost(ngx_http_lunary_row_t *w)
{
    double     cost;
    size_t     len;
    u_char    *p;
    uint64_t   bits;

    static ngx_str_t  name = ngx_http_lunary_name("cost");

    p = ngx_lunary_pg_value(w->res, w->row, NGX_HTTP_LUNARY_COST, &len);

    if (p == NULL) {
        return ngx_http_lunary_raw(w, ",\"cost\":0");
    }

    if (len != sizeof(double)) {
        return NGX_DECLINED;
    }

    bits = ngx_lunary_value_uint64(p);
    ngx_memcpy(&cost, &bits, sizeof(double));

    /* JSON has no word for NaN and the infinities */

    if (cost - cost != 0) {
        return ngx_http_lunary_runs_null(w, &name);
    }

    ngx_http_lunary_try(ngx_lunary_json_raw(w->out, name.data, name.len));

    return ngx_lunary_number_double(w->out, cost);
}


static ngx_int_t
ngx_http_lunary_runs_tokens(ngx_http_lunary_row_t *w)
{
    int64_t    prompt, completion;
    ngx_int_t  has_prompt, has_completion;

    has_prompt = ngx_http_lunary_runs_int(w, NGX_HTTP_LUNARY_PROMPT_TOKENS,
                                          &prompt);
    has_completion = ngx_http_lunary_runs_int(w,
                                            NGX_HTTP_LUNARY_COMPLETION_TOKENS,
                                            &completion);

    if (has_prompt == NGX_ERROR || has_completion == NGX_ERROR) {
        return NGX_DECLINED;
    }

    ngx_http_lunary_try(ngx_http_lunary_raw(w, ",\"tokens\":{"));

    if (has_completion == NGX_OK) {
        ngx_http_lunary_try(ngx_http_lunary_raw(w, "\"completion\":"));
        ngx_http_lunary_try(ngx_lunary_number_integer(w->out, completion));
        ngx_http_lunary_try(ngx_http_lunary_raw(w, ","));

    } else if (w->nulls) {
        ngx_http_lunary_try(ngx_http_lunary_raw(w, "\"completion\":null,"));
    }

    if (has_prompt == NGX_OK) {
        ngx_http_lunary_try(ngx_http_lunary_raw(w, "\"prompt\":"));
        ngx_http_lunary_try(ngx_lunary_number_integer(w->out, prompt));
        ngx_http_lunary_try(ngx_http_lunary_raw(w, ","));

    } else if (w->nulls) {
        ngx_http_lunary_try(ngx_http_lunary_raw(w, "\"prompt\":null,"));
    }

    ngx_http_lunary_try(ngx_http_lunary_raw(w, "\"total\":"));
    ngx_http_lunary_try(ngx_lunary_number_integer(w->out,
                                       (int64_t) ((uint64_t) prompt
                                                  + (uint64_t) completion)));

    return ngx_http_lunary_raw(w, "}");
}


static ngx_int_t
ngx_http_lunary_runs_payload(ngx_http_lunary_row_t *w)
{
    static ngx_str_t  tags = ngx_http_lunary_name("tags");
    static ngx_str_t  input = ngx_http_lunary_name("input");
    static ngx_str_t  output = ngx_http_lunary_name("output");
    static ngx_str_t  error = ngx_http_lunary_name("error");
    static ngx_str_t  status = ngx_http_lunary_name("status");
    static ngx_str_t  sibling = ngx_http_lunary_name("siblingRunId");
    static ngx_str_t  params = ngx_http_lunary_name("params");
    static ngx_str_t  metadata = ngx_http_lunary_name("metadata");

    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &tags,
                                                   NGX_HTTP_LUNARY_TAGS,
                                                ngx_lunary_value_text_array));
    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &input,
                                                   NGX_HTTP_LUNARY_INPUT));
    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &output,
                                                   NGX_HTTP_LUNARY_OUTPUT));
    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &error,
                                               NGX_HTTP_LUNARY_ERROR_COLUMN));
    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &status,
                                                   NGX_HTTP_LUNARY_STATUS,
                                                   ngx_lunary_json_string));
    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &sibling,
                                            NGX_HTTP_LUNARY_SIBLING_RUN_ID,
                                            ngx_lunary_value_uuid));
    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &params,
                                                   NGX_HTTP_LUNARY_PARAMS));

    return ngx_http_lunary_runs_jsonb(w, &metadata, NGX_HTTP_LUNARY_METADATA);
}


static ngx_int_t
ngx_http_lunary_runs_thread(ngx_http_lunary_row_t *w)
{
    static ngx_str_t  first = ngx_http_lunary_name("firstMessage");
    static ngx_str_t  count = ngx_http_lunary_name("messagesCount");

    if (w->ctx->query.statement != NGX_HTTP_LUNARY_FULL) {
        ngx_http_lunary_try(ngx_http_lunary_runs_null(w, &first));
        return ngx_http_lunary_runs_null(w, &count);
    }

    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &first,
                                              NGX_HTTP_LUNARY_FIRST_MESSAGE));

    return ngx_http_lunary_runs_field(w, &count,
                                      NGX_HTTP_LUNARY_MESSAGES_COUNT,
                                      ngx_http_lunary_write_int);
}


static ngx_int_t
ngx_http_lunary_runs_user(ngx_http_lunary_row_t *w)
{
    size_t   len;
    u_char  *id;

    static ngx_str_t  user = ngx_http_lunary_name("user");
    static ngx_str_t  external_id = ngx_http_lunary_name("externalId");
    static ngx_str_t  created_at = ngx_http_lunary_name("createdAt");
    static ngx_str_t  last_seen = ngx_http_lunary_name("lastSeen");
    static ngx_str_t  props = ngx_http_lunary_name("props");

    id = ngx_lunary_pg_value(w->res, w->row, NGX_HTTP_LUNARY_USER_ID, &len);

    if (id == NULL) {
        return ngx_http_lunary_runs_null(w, &user);
    }

    ngx_http_lunary_try(ngx_http_lunary_raw(w, ",\"user\":{\"id\":"));
    ngx_http_lunary_try(ngx_http_lunary_write_int_string(w->out, id, len));

    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &external_id,
                                                   NGX_HTTP_LUNARY_EXTERNAL_ID,
                                                   ngx_lunary_json_string));
    ngx_http_lunary_try(ngx_http_lunary_runs_time(w, &created_at,
                                            NGX_HTTP_LUNARY_USER_CREATED_AT));
    ngx_http_lunary_try(ngx_http_lunary_runs_time(w, &last_seen,
                                                  NGX_HTTP_LUNARY_LAST_SEEN));
    ngx_http_lunary_try(ngx_http_lunary_runs_jsonb(w, &props,
                                                   NGX_HTTP_LUNARY_PROPS));

    return ngx_http_lunary_raw(w, "}");
}


/* in "main" the run that was asked for is the top, and has none above it */

static ngx_int_t
ngx_http_lunary_runs_trace(ngx_http_lunary_row_t *w)
{
    static ngx_str_t  trace = ngx_http_lunary_name("traceId");
    static ngx_str_t  parent = ngx_http_lunary_name("parentRunId");

    if (w->ctx->query.statement == NGX_HTTP_LUNARY_FULL) {
        ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &trace,
                                                      NGX_HTTP_LUNARY_TRACE_ID,
                                                      ngx_lunary_value_uuid));

    } else if (ngx_memcmp(w->id, w->ctx->run, NGX_LUNARY_UUID_LEN) == 0) {
        ngx_http_lunary_try(ngx_http_lunary_runs_null(w, &trace));

    } else {
        ngx_http_lunary_try(ngx_lunary_json_raw(w->out, trace.data,
                                                trace.len));
        ngx_http_lunary_try(ngx_lunary_value_uuid(w->out, w->ctx->run,
                                                  NGX_LUNARY_UUID_LEN));
    }

    return ngx_http_lunary_runs_field(w, &parent,
                                      NGX_HTTP_LUNARY_PARENT_RUN_ID,
                                      ngx_lunary_value_uuid);
}


static ngx_int_t
ngx_http_lunary_runs_counts(ngx_http_lunary_row_t *w)
{
    static ngx_str_t  prompt = ngx_http_lunary_name("promptTokens");
    static ngx_str_t  completion = ngx_http_lunary_name("completionTokens");

    ngx_http_lunary_try(ngx_http_lunary_runs_field(w, &prompt,
                                                NGX_HTTP_LUNARY_PROMPT_TOKENS,
                                                ngx_http_lunary_write_int));

    return ngx_http_lunary_runs_field(w, &completion,
                                      NGX_HTTP_LUNARY_COMPLETION_TOKENS,
                                      ngx_http_lunary_write_int);
}


static ngx_int_t
ngx_http_lunary_runs_field(ngx_http_lunary_row_t *w, ngx_str_t *name,
    int column, ngx_http_lunary_write_pt write)
{
    size_t   len;
    u_char  *p;

    p = ngx_lunary_pg_value(w->res, w->row, column, &len);

    if (p == NULL) {
        return ngx_http_lunary_runs_null(w, name);
    }

    ngx_http_lunary_try(ngx_lunary_json_raw(w->out, name->data, name->len));

    return write(w->out, p, len);
}


static ngx_int_t
ngx_http_lunary_runs_jsonb(ngx_http_lunary_row_t *w, ngx_str_t *name,
    int column)
{
    size_t      len;
    u_char     *p;
    ngx_int_t   null;

    p = ngx_lunary_pg_value(w->res, w->row, column, &len);

    if (p == NULL) {
        return ngx_http_lunary_runs_null(w, name);
    }

    null = ngx_lunary_value_jsonb_is_null(p, len);

    if (null == 1) {
        return ngx_http_lunary_runs_null(w, name);
    }

    if (null != 0) {
        return NGX_DECLINED;
    }

    ngx_http_lunary_try(ngx_lunary_json_raw(w->out, name->data, name->len));

    return ngx_lunary_value_jsonb(w->out, p, len);
}


static ngx_int_t
ngx_http_lunary_runs_time(ngx_http_lunary_row_t *w, ngx_str_t *name,
    int column)
{
    int64_t    time;
    ngx_int_t  rc;

    rc = ngx_http_lunary_runs_finite_time(w, column, &time);

    if (rc == NGX_DECLINED) {
        return ngx_http_lunary_runs_null(w, name);
    }

    if (rc == NGX_ERROR) {
        return NGX_DECLINED;
    }

    ngx_http_lunary_try(ngx_lunary_json_raw(w->out, name->data, name->len));

    return ngx_lunary_value_time(w->out, time);
}


static ngx_int_t
ngx_http_lunary_runs_null(ngx_http_lunary_row_t *w, ngx_str_t *name)
{
    if (!w->nulls) {
        return NGX_OK;
    }

    ngx_http_lunary_try(ngx_lunary_json_raw(w->out, name->data, name->len));

    return ngx_http_lunary_raw(w, "null");
}


/* NGX_DECLINED: null or infinite; NGX_ERROR: no timestamp */

static ngx_int_t
ngx_http_lunary_runs_finite_time(ngx_http_lunary_row_t *w, int column,
    int64_t *time)
{
    ngx_int_t  rc;

    rc = ngx_http_lunary_runs_int(w, column, time);

    if (rc == NGX_OK
        && (*time == NGX_LUNARY_TIME_INFINITY
            || *time == NGX_LUNARY_TIME_NEG_INFINITY))
    {
        return NGX_DECLINED;
    }

    return rc;
}


/* NGX_DECLINED: null, "n" is 0 then; NGX_ERROR: not eight bytes */

static ngx_int_t
ngx_http_lunary_runs_int(ngx_http_lunary_row_t *w, int column, int64_t *n)
{
    size_t   len;
    u_char  *p;

    *n = 0;

    p = ngx_lunary_pg_value(w->res, w->row, column, &len);

    if (p == NULL) {
        return NGX_DECLINED;
    }

    if (len != sizeof(int64_t)) {
        return NGX_ERROR;
    }

    *n = (int64_t) ngx_lunary_value_uint64(p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_write_bool(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    if (len != 1) {
        return NGX_DECLINED;
    }

    return *p ? ngx_lunary_json_raw(out, (u_char *) "true", 4)
              : ngx_lunary_json_raw(out, (u_char *) "false", 5);
}


static ngx_int_t
ngx_http_lunary_write_int(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    if (len != sizeof(int64_t)) {
        return NGX_DECLINED;
    }

    return ngx_lunary_number_integer(out, (int64_t) ngx_lunary_value_uint64(p));
}


static ngx_int_t
ngx_http_lunary_write_int_string(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    ngx_http_lunary_try(ngx_lunary_json_raw(out, (u_char *) "\"", 1));
    ngx_http_lunary_try(ngx_http_lunary_write_int(out, p, len));

    return ngx_lunary_json_raw(out, (u_char *) "\"", 1);
}
