
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <math.h>
#include "ngx_http_lunary_run.h"
#include "ngx_lunary_json.h"
#include "ngx_lunary_value.h"


typedef struct ngx_http_lunary_field_s  ngx_http_lunary_field_t;

typedef ngx_int_t (*ngx_http_lunary_field_pt)(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);

typedef ngx_int_t (*ngx_http_lunary_value_pt)(ngx_lunary_out_t *out,
    u_char *p, size_t len);


struct ngx_http_lunary_field_s {
    ngx_str_t                  name;    /* with its punctuation */
    const char                *column;  /* SQL, or NULL */
    ngx_http_lunary_field_pt   write;
    ngx_http_lunary_value_pt   value;   /* the value alone, for "write" */
    ngx_http_lunary_field_t   *fields;  /* of an object, or NULL */
    ngx_uint_t                 n;       /* number of the column */
};


static void ngx_http_lunary_run_number(ngx_http_lunary_field_t *field,
    ngx_uint_t full, ngx_uint_t *n);
static ngx_int_t ngx_http_lunary_run_fields(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);

static ngx_int_t ngx_http_lunary_run_plain(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_project(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_trace(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_json(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_time(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_duration(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_cost(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_tokens(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_user(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);

static ngx_int_t ngx_http_lunary_run_null(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static ngx_int_t ngx_http_lunary_run_bad(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field);
static u_char *ngx_http_lunary_run_value(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field, size_t *len);
static ngx_int_t ngx_http_lunary_run_token(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field, uint64_t *total);

static ngx_int_t ngx_http_lunary_write_bool(ngx_lunary_out_t *out, u_char *p,
    size_t len);
static ngx_int_t ngx_http_lunary_write_int(ngx_lunary_out_t *out, u_char *p,
    size_t len);
static ngx_int_t ngx_http_lunary_write_int_string(ngx_lunary_out_t *out,
    u_char *p, size_t len);


#define ngx_http_lunary_raw(run, text)                                        \
    ngx_lunary_json_raw((run)->out, (u_char *) (text), sizeof(text) - 1)

#define ngx_http_lunary_name(run, field)                                      \
    ngx_lunary_json_raw((run)->out, (field)->name.data, (field)->name.len)

#define ngx_http_lunary_try(call)                                             \
    do {                                                                      \
        ngx_int_t  rc_ = (call);                                              \
                                                                              \
        if (rc_ != NGX_OK) {                                                  \
            return rc_;                                                       \
        }                                                                     \
    } while (0)

/* only FULL has the column */

#define ngx_http_lunary_is_full(field)  ((field)->column[0] == '{')

#define ngx_http_lunary_run_finite(time)                                      \
    ((time) != NGX_LUNARY_TIME_INFINITY                                       \
     && (time) != NGX_LUNARY_TIME_NEG_INFINITY)

#define ngx_http_lunary_field(name, column, write, value)                     \
    { ngx_string(",\"" name "\":"), column, write, value, NULL, 0 }

#define ngx_http_lunary_plain(name, column, value)                            \
    ngx_http_lunary_field(name, column, ngx_http_lunary_run_plain, value)

#define ngx_http_lunary_jsonb(name, column)                                   \
    ngx_http_lunary_field(name, column, ngx_http_lunary_run_json,             \
                          ngx_lunary_value_jsonb)


static ngx_http_lunary_field_t  ngx_http_lunary_user_fields[] = {
    { ngx_string("{\"id\":"), "u.id::int8", ngx_http_lunary_run_plain,
      ngx_http_lunary_write_int_string, NULL, 0 },
    ngx_http_lunary_plain("externalId", "u.external_id::text",
                          ngx_lunary_json_string),
    ngx_http_lunary_field("createdAt", "u.created_at",
                          ngx_http_lunary_run_time, NULL),
    ngx_http_lunary_field("lastSeen", "u.last_seen",
                          ngx_http_lunary_run_time, NULL),
    ngx_http_lunary_jsonb("props", "u.props"),
    { ngx_null_string, NULL, NULL, NULL, NULL, 0 }
};


static ngx_http_lunary_field_t  ngx_http_lunary_token_fields[] = {
    { ngx_string("\"completion\":"), "r.completion_tokens::int8",
      ngx_http_lunary_run_plain, ngx_http_lunary_write_int, NULL, 0 },
    { ngx_string("\"prompt\":"), "r.prompt_tokens::int8",
      ngx_http_lunary_run_plain, ngx_http_lunary_write_int, NULL, 0 },
    { ngx_null_string, NULL, NULL, NULL, NULL, 0 }
};


/*
 * The fields, in the order of the published schema.  "s" is the run in the
 * tree, "r" its row, "u" its user.  A time is not cast: the cast of a timestamp
 * without time zone would depend on the session.  A cost that is beyond a
 * double is read as NaN, which has no value
 */

static ngx_http_lunary_field_t  ngx_http_lunary_fields[] = {
    { ngx_string("{\"id\":"), "s.id", ngx_http_lunary_run_plain,
      ngx_lunary_value_uuid, NULL, 0 },
    ngx_http_lunary_field("projectId", NULL, ngx_http_lunary_run_project, NULL),
    ngx_http_lunary_plain("isPublic", "r.is_public",
                          ngx_http_lunary_write_bool),
    ngx_http_lunary_jsonb("feedback", "r.feedback"),
    ngx_http_lunary_jsonb("parentFeedback", "s.pf"),
    ngx_http_lunary_plain("type", "r.type::text", ngx_lunary_json_string),
    ngx_http_lunary_plain("name", "r.name::text", ngx_lunary_json_string),
    ngx_http_lunary_field("createdAt", "s.created_at",
                          ngx_http_lunary_run_time, NULL),
    ngx_http_lunary_field("endedAt", "r.ended_at",
                          ngx_http_lunary_run_time, NULL),
    ngx_http_lunary_field("duration", NULL, ngx_http_lunary_run_duration, NULL),
    ngx_http_lunary_plain("templateVersionId", "r.template_version_id::int8",
                          ngx_http_lunary_write_int_string),
    ngx_http_lunary_plain("templateSlug",
                          "case when r.template_version_id is not null then"
                          " (select case when p.project_id = s.project_id"
                          " then p.slug::text end from template p"
                          " where p.id = (select v.template_id"
                          " from template_version v"
                          " where v.id = r.template_version_id)) end",
                          ngx_lunary_json_string),
    ngx_http_lunary_field("cost",
                          "case when r.cost is null"
                          " or abs(r.cost) <= 1.7976931348623157e308"
                          " then r.cost::float8 else 'NaN' end",
                          ngx_http_lunary_run_cost, NULL),
    { ngx_string(",\"tokens\":{"), NULL, ngx_http_lunary_run_tokens,
      NULL, ngx_http_lunary_token_fields, 0 },
    ngx_http_lunary_plain("tags", "r.tags::text[]",
                          ngx_lunary_value_text_array),
    ngx_http_lunary_jsonb("input", "r.input"),
    ngx_http_lunary_jsonb("output", "r.output"),
    ngx_http_lunary_jsonb("error", "r.error"),
    ngx_http_lunary_plain("status", "r.status::text", ngx_lunary_json_string),
    ngx_http_lunary_plain("siblingRunId", "r.sibling", ngx_lunary_value_uuid),
    ngx_http_lunary_jsonb("params", "r.params"),
    ngx_http_lunary_jsonb("metadata", "r.metadata"),
    ngx_http_lunary_jsonb("firstMessage", "{first_message}"),
    ngx_http_lunary_plain("messagesCount", "{messages_count}",
                          ngx_http_lunary_write_int),
    { ngx_string(",\"user\":"), NULL, ngx_http_lunary_run_user,
      NULL, ngx_http_lunary_user_fields, 0 },
    ngx_http_lunary_field("traceId", "{trace}", ngx_http_lunary_run_trace,
                          ngx_lunary_value_uuid),
    ngx_http_lunary_plain("parentRunId", "r.parent_run_id",
                          ngx_lunary_value_uuid),
    ngx_http_lunary_plain("promptTokens", "r.prompt_tokens::int8",
                          ngx_http_lunary_write_int),
    ngx_http_lunary_plain("completionTokens", "r.completion_tokens::int8",
                          ngx_http_lunary_write_int),
    { ngx_null_string, NULL, NULL, NULL, NULL, 0 }
};


/*
 * Fields with the same SQL share a column.  Columns that are a placeholder are
 * the last: only FULL has them
 */

#define NGX_HTTP_LUNARY_MAX_COLUMNS  40

static const char  *ngx_http_lunary_columns[NGX_HTTP_LUNARY_MAX_COLUMNS];


ngx_uint_t
ngx_http_lunary_run_columns(ngx_uint_t full, const char ***columns)
{
    static ngx_uint_t  n[2];

    if (n[0] == 0) {
        ngx_http_lunary_run_number(ngx_http_lunary_fields, 0, &n[0]);
        n[1] = n[0];
        ngx_http_lunary_run_number(ngx_http_lunary_fields, 1, &n[1]);
    }

    if (columns) {
        *columns = ngx_http_lunary_columns;
    }

    return n[full];
}


static void
ngx_http_lunary_run_number(ngx_http_lunary_field_t *field, ngx_uint_t full,
    ngx_uint_t *n)
{
    ngx_uint_t  i;

    for ( /* void */ ; field->name.len; field++) {

        if (field->fields) {
            ngx_http_lunary_run_number(field->fields, full, n);
            continue;
        }

        if (field->column == NULL || ngx_http_lunary_is_full(field) != full) {
            continue;
        }

        for (i = 0; i < *n; i++) {
            if (ngx_strcmp(ngx_http_lunary_columns[i], field->column) == 0) {
                break;
            }
        }

        field->n = i;
        ngx_http_lunary_columns[i] = field->column;
        *n = ngx_max(*n, i + 1);
    }
}


ngx_int_t
ngx_http_lunary_run_write(ngx_http_lunary_run_t *run)
{
    ngx_http_lunary_try(ngx_http_lunary_run_fields(run,
                                                   ngx_http_lunary_fields));

    return ngx_http_lunary_raw(run, "}");
}


static ngx_int_t
ngx_http_lunary_run_fields(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    for ( /* void */ ; field->name.len; field++) {
        ngx_http_lunary_try(field->write(run, field));
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_run_project(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    return ngx_lunary_value_uuid(run->out, run->project, NGX_LUNARY_UUID_LEN);
}


/* where there is no column the root has no parent: it is the trace */

static ngx_int_t
ngx_http_lunary_run_trace(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    size_t   len;
    u_char  *id;

    if (run->full) {
        return ngx_http_lunary_run_plain(run, field);
    }

    id = ngx_http_lunary_run_value(run, ngx_http_lunary_fields, &len);

    if (id == NULL || len != NGX_LUNARY_UUID_LEN) {
        return ngx_http_lunary_run_bad(run, field);
    }

    if (ngx_memcmp(id, run->root, NGX_LUNARY_UUID_LEN) == 0) {
        return ngx_http_lunary_run_null(run, field);
    }

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    return ngx_lunary_value_uuid(run->out, run->root, NGX_LUNARY_UUID_LEN);
}


static ngx_int_t
ngx_http_lunary_run_json(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    size_t      len;
    u_char     *p;
    ngx_int_t   null;

    p = ngx_http_lunary_run_value(run, field, &len);

    if (p == NULL) {
        return ngx_http_lunary_run_null(run, field);
    }

    null = ngx_lunary_value_jsonb_is_null(p, len);

    if (null == 1) {
        return ngx_http_lunary_run_null(run, field);
    }

    if (null != 0) {
        return ngx_http_lunary_run_bad(run, field);
    }

    return ngx_http_lunary_run_plain(run, field);
}


/* duration is from createdAt to endedAt, the two fields before it */

static ngx_int_t
ngx_http_lunary_run_time(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    size_t    len;
    u_char   *p;
    int64_t   time;

    time = NGX_LUNARY_TIME_INFINITY;
    p = ngx_http_lunary_run_value(run, field, &len);

    if (p) {

        if (len != sizeof(int64_t)) {
            return ngx_http_lunary_run_bad(run, field);
        }

        time = (int64_t) ngx_lunary_value_uint64(p);
    }

    run->times[0] = run->times[1];
    run->times[1] = time;

    if (!ngx_http_lunary_run_finite(time)) {
        return ngx_http_lunary_run_null(run, field);
    }

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    return ngx_lunary_value_time(run->out, time);
}


static ngx_int_t
ngx_http_lunary_run_duration(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    if (!ngx_http_lunary_run_finite(run->times[0])
        || !ngx_http_lunary_run_finite(run->times[1]))
    {
        return ngx_http_lunary_run_null(run, field);
    }

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    return ngx_lunary_value_seconds(run->out, run->times[0], run->times[1]);
}


static ngx_int_t
ngx_http_lunary_run_cost(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    double     cost;
    size_t     len;
    u_char    *p;
    uint64_t   bits;

    cost = 0;
    p = ngx_http_lunary_run_value(run, field, &len);

    if (p) {

        if (len != sizeof(double)) {
            return ngx_http_lunary_run_bad(run, field);
        }

        bits = ngx_lunary_value_uint64(p);
        ngx_memcpy(&cost, &bits, sizeof(double));
    }

    /* JSON has no NaN and no infinity */

    if (!isfinite(cost)) {
        return ngx_http_lunary_run_null(run, field);
    }

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    return ngx_lunary_json_double(run->out, cost);
}


static ngx_int_t
ngx_http_lunary_run_tokens(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    uint64_t                  total;
    ngx_http_lunary_field_t  *token;

    total = 0;

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    for (token = field->fields; token->name.len; token++) {
        ngx_http_lunary_try(ngx_http_lunary_run_token(run, token, &total));
    }

    ngx_http_lunary_try(ngx_http_lunary_raw(run, "\"total\":"));
    ngx_http_lunary_try(ngx_lunary_json_integer(run->out, (int64_t) total));

    return ngx_http_lunary_raw(run, "}");
}


/* writes a comma behind it: the total follows */

static ngx_int_t
ngx_http_lunary_run_token(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field, uint64_t *total)
{
    size_t   len;
    u_char  *p;

    p = ngx_http_lunary_run_value(run, field, &len);

    if (p == NULL && !run->nulls) {
        return NGX_OK;
    }

    ngx_http_lunary_try(field->write(run, field));

    if (p) {
        *total += ngx_lunary_value_uint64(p);
    }

    return ngx_http_lunary_raw(run, ",");
}


static ngx_int_t
ngx_http_lunary_run_user(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    size_t  len;

    if (ngx_http_lunary_run_value(run, field->fields, &len) == NULL) {
        return ngx_http_lunary_run_null(run, field);
    }

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));
    ngx_http_lunary_try(ngx_http_lunary_run_fields(run, field->fields));

    return ngx_http_lunary_raw(run, "}");
}


/* a value that is written without a change */

static ngx_int_t
ngx_http_lunary_run_plain(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    size_t      len;
    u_char     *p;
    ngx_int_t   rc;

    p = ngx_http_lunary_run_value(run, field, &len);

    if (p == NULL) {
        return ngx_http_lunary_run_null(run, field);
    }

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    rc = field->value(run->out, p, len);

    return rc == NGX_DECLINED ? ngx_http_lunary_run_bad(run, field) : rc;
}


static ngx_int_t
ngx_http_lunary_run_null(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    if (!run->nulls) {
        return NGX_OK;
    }

    ngx_http_lunary_try(ngx_http_lunary_name(run, field));

    return ngx_http_lunary_raw(run, "null");
}


static ngx_int_t
ngx_http_lunary_run_bad(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field)
{
    run->column = field->column;

    return NGX_DECLINED;
}


static u_char *
ngx_http_lunary_run_value(ngx_http_lunary_run_t *run,
    ngx_http_lunary_field_t *field, size_t *len)
{
    if (ngx_http_lunary_is_full(field) && !run->full) {
        return NULL;
    }

    return ngx_lunary_pg_value(run->res, run->row, run->first + (int) field->n,
                               len);
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

    return ngx_lunary_json_integer(out, (int64_t) ngx_lunary_value_uint64(p));
}


static ngx_int_t
ngx_http_lunary_write_int_string(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    ngx_http_lunary_try(ngx_lunary_json_raw(out, (u_char *) "\"", 1));
    ngx_http_lunary_try(ngx_http_lunary_write_int(out, p, len));

    return ngx_lunary_json_raw(out, (u_char *) "\"", 1);
}
