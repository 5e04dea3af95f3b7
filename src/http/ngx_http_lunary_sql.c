
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_sql.h"


/*
 * The statements.  $1 is the run, $2 the project, or the key where the key is
 * checked in the same breath.
 *
 * "main" answers for a run without a parent in a tree without threads, which
 * is nearly every request; for any other it gives one row that says so, and
 * "full" is asked then.  Branches that are never taken still cost their
 * start-up, which is why "main" has none of them.
 *
 * (x = y) is true: keeps indexes on project_id and type out of the plan.
 * offset 0: keeps each step of the recursion a lookup of its own.  any() with
 * order by: keeps it on an index that begins with parent_run_id; without
 * statistics the planner else reads all of the one on (type, parent_run_id).
 * a.id + 0: all keys are looked through, in the same time for each.
 *
 * :S is the column of siblings or null, :P the project.
 */

#define NGX_HTTP_LUNARY_ROOT                                                  \
    " from run r"                                                             \
    " where r.id = $1::uuid and (r.project_id = :P) is true"

/* the walk down; a run below the root has one way to it */

#define NGX_HTTP_LUNARY_CHILD                                                 \
    " from t cross join lateral ("                                            \
    "select r.id, r.ctid as tid, r.created_at, r.type, r.feedback"            \
    " from run r"                                                             \
    " where r.parent_run_id = any (array[t.id]) and r.id <> $1::uuid"         \
    " and (r.project_id = :P) is true"                                        \
    " order by r.parent_run_id offset 0) c"

#define NGX_HTTP_LUNARY_COLUMNS                                               \
    "select s.need, s.id, r.is_public, r.feedback, s.pf,"                     \
    " r.type::text, r.name::text, s.created_at::timestamptz,"                 \
    " r.ended_at::timestamptz, r.template_version_id::int8,"                  \
    " case when r.template_version_id is not null then"                       \
    " (select case when p.project_id = :P then p.slug::text end"              \
    " from template p where p.id ="                                           \
    " (select v.template_id from template_version v"                          \
    " where v.id = r.template_version_id)) end,"                              \
    " r.cost::float8, r.prompt_tokens::int8, r.completion_tokens::int8,"      \
    " r.tags::text[], r.input, r.output, r.error, r.status::text,"            \
    " r.sibling, r.params, r.metadata, r.parent_run_id,"                      \
    " u.id::int8, u.external_id::text, u.created_at::timestamptz,"            \
    " u.last_seen::timestamptz, u.props"

/* the rows themselves, once it is known which; found again by their place */

#define NGX_HTTP_LUNARY_JOINS                                                 \
    " left join lateral (select r.is_public, r.feedback, r.type, r.name,"     \
    " r.ended_at, r.template_version_id, r.cost, r.prompt_tokens,"            \
    " r.completion_tokens, r.tags, r.input, r.output, r.error, r.status,"     \
    " (:S)::uuid as sibling, r.params, r.metadata, r.parent_run_id,"          \
    " r.external_user_id"                                                     \
    " from run r where r.ctid = s.tid and r.id = s.id offset 0) r"            \
    " on true"                                                                \
    " left join lateral (select e.id, e.external_id, e.created_at,"           \
    " e.last_seen, e.props from external_user e"                              \
    " where e.id = r.external_user_id"                                        \
    " and (e.project_id = :P) is true offset 0) u on true"                    \
    " order by s.need desc, s.created_at, s.id"

#define NGX_HTTP_LUNARY_KEY                                                   \
    "select a.type::text as type, a.project_id"                               \
    " from api_key a where a.api_key = $2::uuid order by a.id + 0 limit 1"

/* one row where the tree holds a thread, which sorts it first */

#define NGX_HTTP_LUNARY_ONE                                                   \
    " order by 1 desc, 2, 3"                                                  \
    " limit case when exists (select from t"                                  \
    " where t.type = 'thread') then 1 end) s"


#define NGX_HTTP_LUNARY_WALK                                                  \
    "with recursive t as ("                                                   \
    "select r.id, r.ctid as tid, r.created_at, r.type, r.feedback,"           \
    " null::jsonb as pf, r.parent_run_id is not null as need"                 \
    NGX_HTTP_LUNARY_ROOT                                                      \
    " union all "                                                             \
    "select c.id, c.tid, c.created_at, c.type, c.feedback,"                   \
    " case t.type when 'chat' then t.feedback else t.pf end, false"           \
    NGX_HTTP_LUNARY_CHILD                                                     \
    " where not t.need) "

#define NGX_HTTP_LUNARY_ROWS                                                  \
    " from (select t.need or t.type = 'thread' as need, t.created_at, t.id,"  \
    " case when not (t.need or t.type = 'thread') then t.tid end as tid,"     \
    " t.pf from t"                                                            \
    NGX_HTTP_LUNARY_ONE                                                       \
    NGX_HTTP_LUNARY_JOINS


static const char  ngx_http_lunary_main_sql[] =
    NGX_HTTP_LUNARY_WALK
    NGX_HTTP_LUNARY_COLUMNS
    NGX_HTTP_LUNARY_ROWS;


static const char  ngx_http_lunary_key_main_sql[] =
    "with recursive k as materialized (" NGX_HTTP_LUNARY_KEY "), t as ("
    "select r.id, r.ctid as tid, r.created_at, r.type, r.feedback,"
    " null::jsonb as pf, r.parent_run_id is not null as need,"
    " r.project_id"
    " from k cross join lateral (select r.id, r.ctid, r.created_at, r.type,"
    " r.feedback, r.parent_run_id, r.project_id from run r"
    " where r.id = $1::uuid and (r.project_id = k.project_id) is true"
    " offset 0) r where k.type = 'private'"
    " union all "
    "select c.id, c.tid, c.created_at, c.type, c.feedback,"
    " case t.type when 'chat' then t.feedback else t.pf end, false,"
    " t.project_id"
    " from t cross join lateral ("
    "select r.id, r.ctid as tid, r.created_at, r.type, r.feedback"
    " from run r"
    " where r.parent_run_id = any (array[t.id]) and r.id <> $1::uuid"
    " and (r.project_id = t.project_id) is true"
    " order by r.parent_run_id offset 0) c"
    " where not t.need) "
    NGX_HTTP_LUNARY_COLUMNS ", s.key_type, s.project_id"
    " from (select t.need or t.type = 'thread' as need, t.created_at, t.id,"
    " case when not (t.need or t.type = 'thread') then t.tid end as tid, t.pf,"
    " k.type as key_type, k.project_id"
    " from k left join t on true"
    NGX_HTTP_LUNARY_ONE
    NGX_HTTP_LUNARY_JOINS;


/*
 * "up" walks to the top; "mark" is a run that it leaves behind, ever farther
 * apart, and meets again if it goes round in a cycle (R. P. Brent's way).
 * A chat is no ancestor of itself, though a cycle leads back to it
 */

static const char  ngx_http_lunary_full_sql[] =
    "with recursive up as ("
    "select r.id, r.parent_run_id, r.type, r.feedback, 0 as n,"
    " r.id as mark, 1 as power, 0 as lam"
    NGX_HTTP_LUNARY_ROOT
    " union all "
    "select p.id, p.parent_run_id, p.type, p.feedback, up.n + 1,"
    " case when up.power = up.lam then up.id else up.mark end,"
    " case when up.power = up.lam then 2 * up.power else up.power end,"
    " case when up.power = up.lam then 1 else up.lam + 1 end"
    " from up cross join lateral ("
    "select r.id, r.parent_run_id, r.type, r.feedback from run r"
    " where r.id = up.parent_run_id and (r.project_id = :P) is true"
    " offset 0) p"
    " where up.n = 0 or (up.id <> up.mark and up.id <> $1::uuid)"
    "), t as ("
    "select r.id, r.ctid as tid, r.created_at, r.type, r.feedback,"
    " a.id as chat, a.feedback as pf"
    " from run r left join (select up.id, up.feedback from up"
    " where up.n > 0 and up.type = 'chat' and up.id <> $1::uuid"
    " order by up.n limit 1) a on true"
    " where r.id = $1::uuid and (r.project_id = :P) is true"
    " union all "
    "select c.id, c.tid, c.created_at, c.type, c.feedback,"
    " case t.type when 'chat' then t.id else t.chat end,"
    " case t.type when 'chat' then t.feedback else t.pf end"
    NGX_HTTP_LUNARY_CHILD
    ") "
    NGX_HTTP_LUNARY_COLUMNS ","
    " case when not s.cyclic then nullif(s.top, s.id) end,"
    " case s.type when 'thread' then ("
    "select m.message from (select c.input, c.output from ("
    "select r.input, r.output, r.created_at, r.id from run r"
    " where r.parent_run_id = any (array[s.id]) and (r.type = 'chat') is true"
    " and (r.project_id = :P) is true"
    " order by r.parent_run_id offset 0) c"
    " order by c.created_at, c.id offset 0) c"
    " cross join lateral (select coalesce("
    "case jsonb_typeof(c.input)"
    " when 'array' then nullif(c.input -> 0, 'null')"
    " when 'null' then null else c.input end,"
    " case jsonb_typeof(c.output)"
    " when 'array' then nullif(c.output -> 0, 'null')"
    " when 'null' then null else c.output end) as message offset 0) m"
    " where m.message is not null limit 1) end,"
    " case s.type when 'thread' then ("
    "select coalesce(sum("
    "case when r.input is null then 0 else case jsonb_typeof(r.input)"
    " when 'array' then jsonb_array_length(r.input)"
    " when 'null' then 0 else 1 end end"
    " + case when r.output is null then 0 else case jsonb_typeof(r.output)"
    " when 'array' then jsonb_array_length(r.output)"
    " when 'null' then 0 else 1 end end), 0)::int8"
    " from (select r.input, r.output from run r"
    " where r.parent_run_id = any (array[s.id]) and (r.type = 'chat') is true"
    " and (r.project_id = :P) is true"
    " order by r.parent_run_id offset 0) r) end"
    " from (select false as need, t.created_at, t.id, t.tid, t.type,"
    " a.top, a.cyclic, case when t.chat <> t.id then t.pf end as pf"
    " from t cross join ("
    "select (select up.id from up order by up.n desc limit 1) as top,"
    " exists (select from up where up.n > 0"
    " and (up.id = up.mark or up.id = $1::uuid)) as cyclic offset 0) a"
    " order by t.created_at, t.id offset 0) s"
    NGX_HTTP_LUNARY_JOINS;


static const char  ngx_http_lunary_head_sql[] =
    "select true" NGX_HTTP_LUNARY_ROOT;


static const char  ngx_http_lunary_key_head_sql[] =
    "select exists (select from run r where r.id = $1::uuid"
    " and (r.project_id = k.project_id) is true"
    " and k.type = 'private'), k.type, k.project_id"
    " from (" NGX_HTTP_LUNARY_KEY ") k";


/* a boolean for each feature; a missing table fails the first query */

static const char  ngx_http_lunary_probe_sql[] =
    "select pg_catalog.pg_backend_pid() = $1::int4,"
    " exists (select from pg_catalog.pg_attribute"
    " where attrelid = pg_catalog.to_regclass('run')"
    " and attname = 'sibling_run_id' and not attisdropped)";

#define NGX_HTTP_LUNARY_PROBE_COLUMNS  2
#define NGX_HTTP_LUNARY_HAS_SIBLING    (1 << 1)

/* sets of features */
#define NGX_HTTP_LUNARY_FEATURES       (1 << NGX_HTTP_LUNARY_PROBE_COLUMNS)


typedef struct {
    const char  *name;
    const char  *sql;
    const char  *project;
    int          columns;
} ngx_http_lunary_statement_t;


static ngx_http_lunary_statement_t  ngx_http_lunary_statements[] = {
    { "lunary_main", ngx_http_lunary_main_sql, "$2::uuid", 28 },
    { "lunary_key_main", ngx_http_lunary_key_main_sql, "s.project_id", 30 },
    { "lunary_full", ngx_http_lunary_full_sql, "$2::uuid", 31 },
    { "lunary_head", ngx_http_lunary_head_sql, "$2::uuid", 1 },
    { "lunary_key_head", ngx_http_lunary_key_head_sql, "k.project_id", 3 }
};


typedef struct {
    ngx_lunary_sql_t   sql;
    const char        *names[NGX_HTTP_LUNARY_NSTATEMENTS];
    const char        *texts[NGX_HTTP_LUNARY_NSTATEMENTS]
                            [NGX_HTTP_LUNARY_FEATURES];
} ngx_http_lunary_sql_t;


static ngx_int_t ngx_http_lunary_sql_probed(ngx_lunary_sql_t *sql,
    PGresult *res, ngx_uint_t *features, u_char *identity);
static const char *ngx_http_lunary_sql_note(ngx_lunary_sql_t *sql,
    ngx_uint_t features);
static const char *ngx_http_lunary_sql_get_text(ngx_lunary_sql_t *sql,
    ngx_uint_t statement, ngx_uint_t features);
static const char *ngx_http_lunary_sql_text(ngx_pool_t *pool,
    ngx_http_lunary_statement_t *statement, ngx_uint_t features);
static const char *ngx_http_lunary_sql_value(
    ngx_http_lunary_statement_t *statement, ngx_uint_t features, char name);


ngx_lunary_sql_t *
ngx_http_lunary_sql(ngx_pool_t *pool)
{
    ngx_uint_t              i, k;
    ngx_http_lunary_sql_t  *sql;

    sql = ngx_pcalloc(pool, sizeof(ngx_http_lunary_sql_t));
    if (sql == NULL) {
        return NULL;
    }

    sql->sql.probe = ngx_http_lunary_probe_sql;
    sql->sql.probed = ngx_http_lunary_sql_probed;
    sql->sql.note = ngx_http_lunary_sql_note;
    sql->sql.names = sql->names;
    sql->sql.text = ngx_http_lunary_sql_get_text;

    for (i = 0; i < NGX_HTTP_LUNARY_NSTATEMENTS; i++) {
        sql->names[i] = ngx_http_lunary_statements[i].name;

        for (k = 0; k < NGX_HTTP_LUNARY_FEATURES; k++) {
            sql->texts[i][k] = ngx_http_lunary_sql_text(pool,
                                            &ngx_http_lunary_statements[i], k);
            if (sql->texts[i][k] == NULL) {
                return NULL;
            }
        }
    }

    return &sql->sql;
}


/* a boolean for each feature, in binary: one byte */

static ngx_int_t
ngx_http_lunary_sql_probed(ngx_lunary_sql_t *sql, PGresult *res,
    ngx_uint_t *features, u_char *identity)
{
    int      i;
    u_char  *value;
    size_t   len;

    if (PQnfields(res) != NGX_HTTP_LUNARY_PROBE_COLUMNS) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_LUNARY_PROBE_COLUMNS; i++) {
        value = ngx_lunary_pg_value(res, 0, i, &len);

        if (value == NULL || len != 1) {
            return NGX_ERROR;
        }

        if (*value) {
            *features |= (ngx_uint_t) 1 << i;
        }
    }

    return NGX_OK;
}


static const char *
ngx_http_lunary_sql_note(ngx_lunary_sql_t *sql, ngx_uint_t features)
{
    return NULL;
}


static const char *
ngx_http_lunary_sql_get_text(ngx_lunary_sql_t *sql, ngx_uint_t statement,
    ngx_uint_t features)
{
    return ((ngx_http_lunary_sql_t *) sql)->texts[statement][features];
}


static const char *
ngx_http_lunary_sql_text(ngx_pool_t *pool,
    ngx_http_lunary_statement_t *statement, ngx_uint_t features)
{
    size_t       len, n;
    u_char      *text, *last;
    ngx_uint_t   pass;
    const char  *sql, *p, *value;

    sql = statement->sql;

    text = NULL;
    last = NULL;
    len = 0;

    /* the length first, then the text */

    for (pass = 0; pass < 2; pass++) {

        for (p = sql; *p; p += n) {

            if (p[0] == ':' && p[1] >= 'A' && p[1] <= 'Z') {
                value = ngx_http_lunary_sql_value(statement, features, p[1]);
                len += ngx_strlen(value);
                last = text ? ngx_cpymem(last, value, ngx_strlen(value))
                            : NULL;
                n = 2;
                continue;
            }

            /* a cast is "::" */

            n = (p[0] == ':') ? 2 : 1;
            len += n;
            last = text ? ngx_cpymem(last, p, n) : NULL;
        }

        if (text == NULL) {
            text = ngx_pnalloc(pool, len + 1);
            if (text == NULL) {
                return NULL;
            }

            last = text;
        }
    }

    *last = '\0';

    return (const char *) text;
}


static const char *
ngx_http_lunary_sql_value(ngx_http_lunary_statement_t *statement,
    ngx_uint_t features, char name)
{
    switch (name) {

    case 'S':
        return (features & NGX_HTTP_LUNARY_HAS_SIBLING) ? "r.sibling_run_id"
                                                        : "null";

    default: /* 'P' */
        return statement->project;
    }
}


int
ngx_http_lunary_sql_columns(ngx_uint_t statement)
{
    return ngx_http_lunary_statements[statement].columns;
}
