
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_sha1.h>
#include "ngx_http_lunary_run.h"
#include "ngx_http_lunary_sql.h"
#include "ngx_lunary_pg.h"


/*
 * The SQL below has placeholders such as "{credential}".  A table tells what
 * stands in their place, depending on the statement and on the features of the
 * session.
 *
 * (x = y) is true: the planner does not use indexes on project_id and type.
 * offset 0: the planner does not merge the subquery into the outer query.
 * any() with order by: the planner uses an index that begins with
 * parent_run_id; without statistics it may read all of the index on
 * (type, parent_run_id).
 * a.id + 0: PostgreSQL reads all keys, so each key takes the same time.
 */


/* "k": the project that the credential opens, in at most one row */

#define NGX_HTTP_LUNARY_SQL_PROJECT                                           \
    "k as not materialized (select 'private'::text as type,"                  \
    " $2::uuid as project_id)"

#define NGX_HTTP_LUNARY_SQL_KEY                                               \
    "k as materialized (select a.type::text as type, a.project_id"            \
    " from api_key a where a.api_key = $2::uuid order by a.id + 0 limit 1)"

#define NGX_HTTP_LUNARY_SQL_SESSION                                           \
    "k as materialized (select 'private'::text as type, p.project_id"         \
    " from account a, account_project p"                                      \
    " where a.id = $2::uuid and a.role::text = any"                           \
    " (array['owner', 'admin', 'member', 'viewer', 'collaborator'])"          \
    " and p.account_id = $2::uuid and p.project_id = $3::uuid limit 1)"

#define NGX_HTTP_LUNARY_SQL_NO_SESSION                                        \
    "k as not materialized (select 'unsupported'::text as type,"              \
    " null::uuid as project_id)"


/* a run in the project of "from" */

#define NGX_HTTP_LUNARY_SQL_RUN(columns, where, from)                         \
    "lateral (select r.id, " columns " from run r where " where               \
    " and (r.project_id = " from ".project_id) is true"

/*
 * "t": the tree, from the run down.  A run has one parent: the only cycle that
 * the walk can meet leads back to the first run
 */

#define NGX_HTTP_LUNARY_SQL_TREE(root, join, child, stop)                     \
    "t as (select r.id, r.tid, {root_version}r.created_at, r.type,"           \
    " r.feedback, r.project_id" root " from k cross join "                    \
    NGX_HTTP_LUNARY_SQL_RUN("{place} as tid, {version}r.created_at, r.type,"  \
        " r.feedback, r.project_id, r.parent_run_id",                         \
        "r.id = $1::uuid", "k") " offset 0) r" join                           \
    " where k.type = 'private'"                                               \
    " union all select c.id, c.tid, {child_version}c.created_at, c.type,"     \
    " c.feedback, t.project_id" child " from t cross join "                   \
    NGX_HTTP_LUNARY_SQL_RUN("{place} as tid, {version}r.created_at, r.type,"  \
        " r.feedback",                                                        \
        "r.parent_run_id = any (array[t.id]) and r.id <> $1::uuid", "t")      \
    " order by r.parent_run_id offset 0) c" stop ")"

/*
 * "up": from the run to the topmost one.  "mark" is a run passed before, moved
 * up after 1, 2, 4, 8... steps: a walk that meets it is in a cycle (Brent's
 * algorithm)
 */

#define NGX_HTTP_LUNARY_SQL_UP                                                \
    "up as (select r.id, {root_above}r.parent_run_id, r.type, r.feedback,"    \
    " r.project_id, 0 as n, r.id as mark, 1 as power, 0 as steps"             \
    " from k cross join "                                                     \
    NGX_HTTP_LUNARY_SQL_RUN("{above}r.parent_run_id, r.type, r.feedback,"     \
        " r.project_id", "r.id = $1::uuid", "k") " offset 0) r"               \
    " where k.type = 'private'"                                               \
    " union all select p.id, {parent_above}p.parent_run_id, p.type,"          \
    " p.feedback, up.project_id, up.n + 1,"                                   \
    " case when up.power = up.steps then up.id else up.mark end,"             \
    " case when up.power = up.steps then 2 * up.power else up.power end,"     \
    " case when up.power = up.steps then 1 else up.steps + 1 end"             \
    " from up cross join "                                                    \
    NGX_HTTP_LUNARY_SQL_RUN("{above}r.parent_run_id, r.type, r.feedback",     \
        "r.id = up.parent_run_id", "up") " offset 0) p"                       \
    " where up.n = 0 or (up.id <> up.mark and up.id <> $1::uuid))"

/* a row with the head alone; "more" are further columns */

#define NGX_HTTP_LUNARY_SQL_HEAD(full, more)                                  \
    " select case when exists (select from t) then " full " end"              \
    "{credential_columns}{versions_column}" more                              \
    " from (values (0)) z left join k on true"

/* whether FULL has to be asked */

#define NGX_HTTP_LUNARY_SQL_NEED                                              \
    "exists (select from t where t.need or t.type = 'thread')"

/*
 * Selects the runs in "s".  If the project is known, their rows also have the
 * columns of the head: a separate row costs PostgreSQL 3 % more instructions
 */

#define NGX_HTTP_LUNARY_SQL_ROWS(s)                                           \
    "{head_row} (select {head}, {columns} from (" s                           \
    " order by t.created_at, t.id offset 0) s"                                \
    " left join lateral (select r.is_public, r.feedback, r.type, r.name,"     \
    " r.ended_at, r.template_version_id, r.cost, r.prompt_tokens,"            \
    " r.completion_tokens, r.tags, r.input, r.output, r.error, r.status,"     \
    " ({sibling})::uuid as sibling, r.params, r.metadata, r.parent_run_id,"   \
    " r.external_user_id from run r where {row} offset 0) r on true"          \
    " left join lateral (select e.id, e.external_id, e.created_at,"           \
    " e.last_seen, e.props from external_user e"                              \
    " where e.id = r.external_user_id"                                        \
    " and (e.project_id = s.project_id) is true offset 0) u on true"          \
    " order by s.created_at, s.id)"

/*
 * The versions of all rows of a response: the transaction that wrote each run,
 * its user, the version of its template and its template.  A row that is
 * written has a new transaction id.  A run joins the tree when it, or a run
 * above it, is written; a run that leaves the tree makes the list shorter.
 * Transaction ids repeat after 2^32 transactions: the sign of the age and the
 * half of the epoch tell them apart
 */

#define NGX_HTTP_LUNARY_SQL_XMIN(x)                                           \
    x ", case when age(" x ") < 0 then '-' end"

#define NGX_HTTP_LUNARY_SQL_VERSIONS                                          \
    "select concat(string_agg(concat(" NGX_HTTP_LUNARY_SQL_XMIN("t.x")       \
    ", ' ', (select concat(" NGX_HTTP_LUNARY_SQL_XMIN("e.xmin") ")"           \
    " from external_user e where e.id = t.u), ' ',"                           \
    " (select concat(" NGX_HTTP_LUNARY_SQL_XMIN("v.xmin") ", ' ', "           \
    NGX_HTTP_LUNARY_SQL_XMIN("p.xmin") ") from template_version v"            \
    " left join template p on p.id = v.template_id where v.id = t.v)),"       \
    " ','), ' ', txid_snapshot_xmax(txid_current_snapshot()) >> 31, ' '"

/* the list comes before all runs: send a digest of it if it is long */

#define NGX_HTTP_LUNARY_SQL_SHORT(versions)                                   \
    "(select case when length(w.text) < 8192 then w.text"                     \
    " else sha256(convert_to(w.text, 'UTF8'))::text end"                      \
    " from (" versions ") w)"

#define NGX_HTTP_LUNARY_SQL_ABOVE                                             \
    ", (select string_agg(concat(" NGX_HTTP_LUNARY_SQL_XMIN("up.x")           \
    "), ',') from up where up.n > 0)"

/*
 * A schema change may write no row of a table.  It writes rows of the catalog,
 * and each session parses its statements again, which evaluates 'now'
 */

#define NGX_HTTP_LUNARY_SQL_CATALOG(tables, also)                             \
    "(select string_agg(concat(a.attrelid, ' ', a.xmin), ' '"                 \
    " order by a.attrelid, a.attnum) from pg_catalog.pg_attribute a" also     \
    " where a.attrelid = any (" tables ") and a.attnum > 0)"

#define NGX_HTTP_LUNARY_SQL_PARSED  "'now'::timestamptz"


static const char  ngx_http_lunary_catalog_sql[] =
    NGX_HTTP_LUNARY_SQL_PARSED ", case when"
    " current_setting('lunary.parsed', true) is distinct from "
    NGX_HTTP_LUNARY_SQL_PARSED "::text then "
    NGX_HTTP_LUNARY_SQL_CATALOG("array['run'::regclass,"
        " 'external_user'::regclass, 'template_version'::regclass,"
        " 'template'::regclass]::oid[]",
        ", set_config('lunary.parsed', " NGX_HTTP_LUNARY_SQL_PARSED
        "::text, false)")
    " end";


/*
 * MAIN serves a run that has no parent, in a tree without threads: nearly all
 * requests.  Otherwise its head says that FULL is needed.  One statement for
 * all is slower: PostgreSQL starts also the branches of a plan that give no row
 */

static const char  ngx_http_lunary_main_sql[] =
    "with recursive {credential}, "
    NGX_HTTP_LUNARY_SQL_TREE(
        ", null::jsonb as pf, r.parent_run_id is not null as need", "",
        ", case t.type when 'chat' then t.feedback else t.pf end, false",
        " where not t.need")
    NGX_HTTP_LUNARY_SQL_ROWS("select t.created_at, t.id, t.tid, t.pf,"
        " t.project_id from t where not " NGX_HTTP_LUNARY_SQL_NEED
        " or t.id = $1::uuid");


static const char  ngx_http_lunary_full_sql[] =
    "with recursive {credential}, " NGX_HTTP_LUNARY_SQL_UP ", "
    NGX_HTTP_LUNARY_SQL_TREE(
        ", a.id as chat, a.feedback as pf",
        " left join (select up.id, up.feedback from up where up.n > 0"
        " and up.type = 'chat' and up.id <> $1::uuid"
        " order by up.n limit 1) a on true",
        ", case t.type when 'chat' then t.id else t.chat end,"
        " case t.type when 'chat' then t.feedback else t.pf end", "")

    /* in a cycle a chat is not its own ancestor */

    NGX_HTTP_LUNARY_SQL_ROWS("select t.created_at, t.id, t.tid, t.type,"
        " t.project_id, case when t.chat <> t.id then t.pf end as pf,"
        " a.top, a.cyclic from t cross join ("
        "select (select up.id from up order by up.n desc limit 1) as top,"
        " exists (select from up where up.n > 0"
        " and (up.id = up.mark or up.id = $1::uuid)) as cyclic offset 0) a");


static const char  ngx_http_lunary_tag_sql[] =
    "with recursive {credential}, " NGX_HTTP_LUNARY_SQL_UP ", "
    NGX_HTTP_LUNARY_SQL_TREE("", "", "", "")
    NGX_HTTP_LUNARY_SQL_HEAD("false", ", {catalog}");


static const char  ngx_http_lunary_exists_sql[] =
    "with {credential}, t as (select from k cross join "
    NGX_HTTP_LUNARY_SQL_RUN("r.project_id", "r.id = $1::uuid", "k")
    " offset 0) r where k.type = 'private')"
    NGX_HTTP_LUNARY_SQL_HEAD("false", "");


/* the columns that only FULL has */

#define NGX_HTTP_LUNARY_SQL_CHATS(columns)                                    \
    "select " columns " from run r"                                           \
    " where r.parent_run_id = any (array[s.id]) and (r.type = 'chat') is true"\
    " and (r.project_id = s.project_id) is true"                              \
    " order by r.parent_run_id offset 0"

#define NGX_HTTP_LUNARY_SQL_FIRST(column)                                     \
    "case jsonb_typeof(" column ")"                                           \
    " when 'array' then nullif(" column " -> 0, 'null')"                      \
    " when 'null' then null else " column " end"

#define NGX_HTTP_LUNARY_SQL_COUNT(column)                                     \
    "case when " column " is null then 0"                                     \
    " else case jsonb_typeof(" column ")"                                     \
    " when 'array' then jsonb_array_length(" column ")"                       \
    " when 'null' then 0 else 1 end end"

static const char  ngx_http_lunary_first_message_sql[] =
    "case s.type when 'thread' then (select m.message from (select c.input,"
    " c.output from (" NGX_HTTP_LUNARY_SQL_CHATS("r.input, r.output,"
    " r.created_at, r.id") ") c order by c.created_at, c.id offset 0) c"
    " cross join lateral (select coalesce("
    NGX_HTTP_LUNARY_SQL_FIRST("c.input") ", "
    NGX_HTTP_LUNARY_SQL_FIRST("c.output") ") as message offset 0) m"
    " where m.message is not null limit 1) end";

static const char  ngx_http_lunary_messages_count_sql[] =
    "case s.type when 'thread' then (select coalesce(sum("
    NGX_HTTP_LUNARY_SQL_COUNT("r.input") " + "
    NGX_HTTP_LUNARY_SQL_COUNT("r.output") "), 0)::int8 from ("
    NGX_HTTP_LUNARY_SQL_CHATS("r.input, r.output") ") r) end";


/*
 * The probe.  $1 is PQbackendPID(): behind a pooler the backend is another
 * process.  "c" has the tables that rows are read from; a table is "plain" if
 * it is a heap without children that the role may read whole
 */

static const char  ngx_http_lunary_probe_sql[] =
    "with c as (select c.oid,"
    " c.relkind = 'r' and c.relam = 2 and not c.relhassubclass"
    " and has_table_privilege(c.oid, 'select')"
    " and not row_security_active(c.oid) as plain,"
    " row_security_active(c.oid) as secured,"

    /* needs an id that is unique, and no virtual column: it has no version */

    " exists (select from pg_index i join pg_attribute a"
    " on a.attrelid = i.indrelid and a.attname = 'id'"
    " where i.indrelid = c.oid and i.indisunique and i.indisvalid"
    " and i.indpred is null and i.indnkeyatts = 1"
    " and i.indkey[0] = a.attnum) and not exists ("
    "select from pg_attribute a where a.attrelid = c.oid"
    " and a.attgenerated = 'v') as versioned"
    " from pg_class c where c.oid = any (array[to_regclass('run'),"
    " to_regclass('external_user'), to_regclass('template_version'),"
    " to_regclass('template')]::oid[])),"
    " own as (select pg_backend_pid() = $1::int4 as own,"
    " (select count(*) = 4 and bool_and(c.plain)"
    " and to_regclass('pg_dist_partition') is null from c) as plain)"

    " select o.own, exists (select from pg_attribute"
    " where attrelid = to_regclass('run')"
    " and attname = 'sibling_run_id' and not attisdropped),"
    " o.plain, v.versions,"
    " (select count(*) = 4 from pg_attribute a where not a.attisdropped"
    " and has_column_privilege(a.attrelid, a.attnum, 'select')"
    " and (a.attrelid = to_regclass('account')"
    " and a.attname in ('id', 'role')"
    " or a.attrelid = to_regclass('account_project')"
    " and a.attname in ('account_id', 'project_id'))),"
    " coalesce((select bool_or(c.secured) from c), false),"

    /*
     * the identity of the server: a start changes the start time of the
     * postmaster, recovery from a crash the reset time of the statistics
     */

    " case when v.versions then concat("
    "extract(epoch from pg_postmaster_start_time()), ' ',"
    " extract(epoch from pg_stat_get_bgwriter_stat_reset_time()), ' ',"
    " (select d.oid from pg_database d"
    " where d.datname = current_database())) end,"
    " case when v.versions then "
    NGX_HTTP_LUNARY_SQL_CATALOG("array(select c.oid from c)", "") " end"
    " from own o cross join lateral (select coalesce(o.own and o.plain"
    " and (select bool_and(c.versioned) from c)"
    " and current_setting('server_version_num')::int4 >= 150000"
    " and pg_stat_get_bgwriter_stat_reset_time() is not null"

    /* the functions that versions need */

    " and (select bool_and(has_function_privilege(to_regprocedure(f)::oid,"
    " 'execute')) from unnest(array['age(xid)', 'txid_current_snapshot()',"
    " 'txid_snapshot_xmax(txid_snapshot)', 'sha256(bytea)',"
    " 'convert_to(text,name)', 'current_setting(text,boolean)',"
    " 'set_config(text,text,boolean)']) f), false)"
    " as versions offset 0) v";

enum {
    NGX_HTTP_LUNARY_PROBE_SERVER = 6,
    NGX_HTTP_LUNARY_PROBE_CATALOG,
    NGX_HTTP_LUNARY_PROBE_COLUMNS
};


static const char  ngx_http_lunary_note[] =
    "row security is active for the role: runs and keys that it hides look "
    "as if they were not there";


/* a statement before its placeholders are replaced */

typedef struct {
    const char                  *name;
    const char                  *text;
    ngx_http_lunary_by_e         by;
    ngx_uint_t                   tagged;
} ngx_http_lunary_statement_t;


#define ngx_http_lunary_statements_by(name, text, tagged)                     \
    { name, text, NGX_HTTP_LUNARY_BY_PROJECT, tagged },                       \
    { name "_key", text, NGX_HTTP_LUNARY_BY_KEY, tagged },                    \
    { name "_session", text, NGX_HTTP_LUNARY_BY_SESSION, tagged }


static ngx_http_lunary_statement_t  ngx_http_lunary_statements[] = {
    ngx_http_lunary_statements_by("lunary_main", ngx_http_lunary_main_sql, 0),
    ngx_http_lunary_statements_by("lunary_main_tagged",
                                  ngx_http_lunary_main_sql, 1),
    ngx_http_lunary_statements_by("lunary_exists", ngx_http_lunary_exists_sql,
                                  0),
    ngx_http_lunary_statements_by("lunary_tag", ngx_http_lunary_tag_sql, 1),
    { "lunary_full", ngx_http_lunary_full_sql, NGX_HTTP_LUNARY_BY_PROJECT, 0 },
    { "lunary_full_tagged", ngx_http_lunary_full_sql,
      NGX_HTTP_LUNARY_BY_PROJECT, 1 }
};

#define NGX_HTTP_LUNARY_NSTATEMENTS                                           \
    (sizeof(ngx_http_lunary_statements)                                       \
     / sizeof(ngx_http_lunary_statements[0]))


/* texts depend on the features below this bit */

#define NGX_HTTP_LUNARY_NTEXTS      (NGX_HTTP_LUNARY_SESSIONS << 1)


typedef struct {
    ngx_lunary_sql_t             sql;
    ngx_pool_t                  *pool;
    const char                  *names[NGX_HTTP_LUNARY_NSTATEMENTS];
    const char                  *texts[NGX_HTTP_LUNARY_NSTATEMENTS]
                                      [NGX_HTTP_LUNARY_NTEXTS];
} ngx_http_lunary_sql_t;


/* what a text depends on: of the statement, beside the features above */

#define NGX_HTTP_LUNARY_IS_MAIN     0x100
#define NGX_HTTP_LUNARY_IS_TAGGED   0x200   /* has a column for the versions */
#define NGX_HTTP_LUNARY_IS_KNOWN    0x400   /* the project is known */
#define NGX_HTTP_LUNARY_IS_KEY      0x800   /* by key */


typedef struct {
    const char                  *name;
    ngx_uint_t                   on;        /* 0: always "text" */
    const char                  *text;
    const char                  *otherwise;
} ngx_http_lunary_placeholder_t;


/* "{columns}" and "{nulls}" come from the fields of a run */

static ngx_http_lunary_placeholder_t  ngx_http_lunary_placeholders[] = {

    { "credential", NGX_HTTP_LUNARY_IS_KNOWN, NGX_HTTP_LUNARY_SQL_PROJECT,
      "{key_or_session}" },
    { "key_or_session", NGX_HTTP_LUNARY_IS_KEY, NGX_HTTP_LUNARY_SQL_KEY,
      "{session}" },
    { "session", NGX_HTTP_LUNARY_SESSIONS, NGX_HTTP_LUNARY_SQL_SESSION,
      NGX_HTTP_LUNARY_SQL_NO_SESSION },

    /* where the row of a run is, and which it is */

    { "place", NGX_HTTP_LUNARY_PLAIN, "r.ctid", "null::tid" },
    { "row", NGX_HTTP_LUNARY_PLAIN, "r.ctid = s.tid and r.id = s.id",
      "r.id = s.id" },
    { "sibling", NGX_HTTP_LUNARY_SIBLING, "r.sibling_run_id", "null" },

    /* columns for the versions: of a run, and of those above */

    { "version", NGX_HTTP_LUNARY_VERSIONS,
      "r.xmin as x, r.external_user_id as u, r.template_version_id as v, ",
      "" },
    { "root_version", NGX_HTTP_LUNARY_VERSIONS, "r.x, r.u, r.v, ", "" },
    { "child_version", NGX_HTTP_LUNARY_VERSIONS, "c.x, c.u, c.v, ", "" },
    { "above", NGX_HTTP_LUNARY_VERSIONS, "r.xmin as x, ", "" },
    { "root_above", NGX_HTTP_LUNARY_VERSIONS, "r.x, ", "" },
    { "parent_above", NGX_HTTP_LUNARY_VERSIONS, "p.x, ", "" },

    /* the head as a separate row */

    { "head_row", NGX_HTTP_LUNARY_IS_KNOWN, "",
      NGX_HTTP_LUNARY_SQL_HEAD(NGX_HTTP_LUNARY_SQL_NEED, ", {nulls}")
      " union all" },
    { "credential_columns", NGX_HTTP_LUNARY_IS_KNOWN, "",
      ", k.type, k.project_id" },
    { "versions_column", NGX_HTTP_LUNARY_IS_TAGGED, ", {versions}", "" },

    /*
     * the columns of the head in the rows of the runs.  The first run has the
     * versions, and so do others with the same created_at
     */

    { "head", NGX_HTTP_LUNARY_IS_KNOWN, "{full}{first_versions}",
      "null, null, null{no_versions}" },
    { "full", NGX_HTTP_LUNARY_IS_MAIN, NGX_HTTP_LUNARY_SQL_NEED, "false" },
    { "first_versions", NGX_HTTP_LUNARY_IS_TAGGED,
      ", case when s.created_at = (select min(t.created_at) from t)"
      " then {versions} end", "" },
    { "no_versions", NGX_HTTP_LUNARY_IS_TAGGED, ", null", "" },

    { "versions", NGX_HTTP_LUNARY_VERSIONS, "{all_versions}", "null::text" },
    { "all_versions", NGX_HTTP_LUNARY_IS_MAIN,
      NGX_HTTP_LUNARY_SQL_SHORT(NGX_HTTP_LUNARY_SQL_VERSIONS
                                ") as text from t"),
      NGX_HTTP_LUNARY_SQL_SHORT(NGX_HTTP_LUNARY_SQL_VERSIONS
                                NGX_HTTP_LUNARY_SQL_ABOVE
                                ") as text from t") },
    { "catalog", NGX_HTTP_LUNARY_VERSIONS, ngx_http_lunary_catalog_sql,
      "null, null" },

    /* the fields that only FULL has */

    { "trace", 0, "case when not s.cyclic then nullif(s.top, s.id) end", NULL },
    { "first_message", 0, ngx_http_lunary_first_message_sql, NULL },
    { "messages_count", 0, ngx_http_lunary_messages_count_sql, NULL },

    { NULL, 0, NULL, NULL }
};


/* a text being built; while "last" is NULL its length is counted */

typedef struct {
    ngx_http_lunary_statement_t *statement;
    ngx_uint_t                   conditions;
    size_t                       len;
    u_char                      *last;
} ngx_http_lunary_sql_text_t;


static ngx_int_t ngx_http_lunary_sql_probed(ngx_lunary_sql_t *sql,
    PGresult *res, ngx_uint_t *features, u_char *identity);
static void ngx_http_lunary_sql_digest(PGresult *res, int column,
    u_char *digest);
static const char *ngx_http_lunary_sql_note(ngx_lunary_sql_t *sql,
    ngx_uint_t features);
static const char *ngx_http_lunary_sql_text(ngx_lunary_sql_t *sql,
    ngx_uint_t statement, ngx_uint_t features);
static ngx_uint_t ngx_http_lunary_sql_conditions(
    ngx_http_lunary_statement_t *statement, ngx_uint_t features);
static void ngx_http_lunary_sql_expand(ngx_http_lunary_sql_text_t *t,
    const char *text);
static void ngx_http_lunary_sql_append(ngx_http_lunary_sql_text_t *t,
    const char *text, size_t len);
static void ngx_http_lunary_sql_placeholder(ngx_http_lunary_sql_text_t *t,
    const char *name, size_t len);
static void ngx_http_lunary_sql_columns(ngx_http_lunary_sql_text_t *t,
    ngx_uint_t nulls);


ngx_lunary_sql_t *
ngx_http_lunary_sql(ngx_pool_t *pool)
{
    ngx_uint_t              i;
    ngx_http_lunary_sql_t  *sql;

    sql = ngx_pcalloc(pool, sizeof(ngx_http_lunary_sql_t));
    if (sql == NULL) {
        return NULL;
    }

    sql->pool = pool;
    sql->sql.probe = ngx_http_lunary_probe_sql;
    sql->sql.probed = ngx_http_lunary_sql_probed;
    sql->sql.note = ngx_http_lunary_sql_note;
    sql->sql.names = sql->names;
    sql->sql.text = ngx_http_lunary_sql_text;

    for (i = 0; i < NGX_HTTP_LUNARY_NSTATEMENTS; i++) {
        sql->names[i] = ngx_http_lunary_statements[i].name;
    }

    return &sql->sql;
}


ngx_uint_t
ngx_http_lunary_sql_statement(ngx_http_lunary_question_e question,
    ngx_http_lunary_by_e by, ngx_uint_t tagged)
{
    switch (question) {

    case NGX_HTTP_LUNARY_MAIN:
        return tagged ? 3 + by : by;

    case NGX_HTTP_LUNARY_EXISTS:
        return 6 + by;

    case NGX_HTTP_LUNARY_TAG:
        return 9 + by;

    default: /* NGX_HTTP_LUNARY_FULL */
        return tagged ? 13 : 12;
    }
}


ngx_uint_t
ngx_http_lunary_sql_head(ngx_http_lunary_by_e by)
{
    return by == NGX_HTTP_LUNARY_BY_PROJECT ? NGX_HTTP_LUNARY_HEAD_KIND
                                            : NGX_HTTP_LUNARY_HEAD_PROJECT + 1;
}


/* booleans in the order of their bits, then texts */

static ngx_int_t
ngx_http_lunary_sql_probed(ngx_lunary_sql_t *sql, PGresult *res,
    ngx_uint_t *features, u_char *identity)
{
    int                          i;
    size_t                       len;
    u_char                      *value;
    ngx_http_lunary_identity_t  *id;

    if (PQnfields(res) != NGX_HTTP_LUNARY_PROBE_COLUMNS) {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_LUNARY_PROBE_SERVER; i++) {
        value = ngx_lunary_pg_value(res, 0, i, &len);

        if (value == NULL || len != 1) {
            return NGX_ERROR;
        }

        if (*value) {
            *features |= (ngx_uint_t) 1 << i;
        }
    }

    id = (ngx_http_lunary_identity_t *) identity;

    ngx_http_lunary_sql_digest(res, NGX_HTTP_LUNARY_PROBE_SERVER, id->server);
    ngx_http_lunary_sql_digest(res, NGX_HTTP_LUNARY_PROBE_CATALOG,
                               id->catalog);

    return NGX_OK;
}


static void
ngx_http_lunary_sql_digest(PGresult *res, int column, u_char *digest)
{
    size_t       len;
    u_char      *value;
    ngx_sha1_t   sha1;

    value = ngx_lunary_pg_value(res, 0, column, &len);

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, value, len);
    ngx_sha1_final(digest, &sha1);
}


static const char *
ngx_http_lunary_sql_note(ngx_lunary_sql_t *sql, ngx_uint_t features)
{
    return (features & NGX_HTTP_LUNARY_ROW_SECURITY) ? ngx_http_lunary_note
                                                     : NULL;
}


/* a text is built when a session first needs it */

static const char *
ngx_http_lunary_sql_text(ngx_lunary_sql_t *sql, ngx_uint_t statement,
    ngx_uint_t features)
{
    u_char                      *p;
    const char                 **text;
    ngx_http_lunary_sql_t       *s;
    ngx_http_lunary_sql_text_t   t;

    s = (ngx_http_lunary_sql_t *) sql;

    features &= NGX_HTTP_LUNARY_NTEXTS - 1;
    text = &s->texts[statement][features];

    if (*text) {
        return *text;
    }

    ngx_memzero(&t, sizeof(ngx_http_lunary_sql_text_t));

    t.statement = &ngx_http_lunary_statements[statement];
    t.conditions = ngx_http_lunary_sql_conditions(t.statement, features);

    ngx_http_lunary_sql_expand(&t, t.statement->text);

    p = ngx_pnalloc(s->pool, t.len + 1);
    if (p == NULL) {
        return NULL;
    }

    t.last = p;

    ngx_http_lunary_sql_expand(&t, t.statement->text);

    *t.last = '\0';
    *text = (const char *) p;

    return *text;
}


static ngx_uint_t
ngx_http_lunary_sql_conditions(ngx_http_lunary_statement_t *statement,
    ngx_uint_t features)
{
    ngx_uint_t  conditions;

    conditions = features;

    if (statement->tagged) {
        conditions |= NGX_HTTP_LUNARY_IS_TAGGED;

    } else {
        conditions &= ~NGX_HTTP_LUNARY_VERSIONS;
    }

    if (statement->text == ngx_http_lunary_main_sql) {
        conditions |= NGX_HTTP_LUNARY_IS_MAIN;
    }

    if (statement->by == NGX_HTTP_LUNARY_BY_PROJECT) {
        conditions |= NGX_HTTP_LUNARY_IS_KNOWN;
    }

    if (statement->by == NGX_HTTP_LUNARY_BY_KEY) {
        conditions |= NGX_HTTP_LUNARY_IS_KEY;
    }

    return conditions;
}


static void
ngx_http_lunary_sql_expand(ngx_http_lunary_sql_text_t *t, const char *text)
{
    const char  *open, *close;

    for ( ;; ) {
        open = strchr(text, '{');

        if (open == NULL) {
            ngx_http_lunary_sql_append(t, text, ngx_strlen(text));
            return;
        }

        close = strchr(open, '}');

        ngx_http_lunary_sql_append(t, text, open - text);
        ngx_http_lunary_sql_placeholder(t, open + 1, close - open - 1);

        text = close + 1;
    }
}


static void
ngx_http_lunary_sql_append(ngx_http_lunary_sql_text_t *t, const char *text,
    size_t len)
{
    t->len += len;

    if (t->last) {
        t->last = ngx_cpymem(t->last, text, len);
    }
}


static void
ngx_http_lunary_sql_placeholder(ngx_http_lunary_sql_text_t *t,
    const char *name, size_t len)
{
    ngx_http_lunary_placeholder_t  *p;

    if (ngx_strncmp(name, "columns}", 8) == 0) {
        ngx_http_lunary_sql_columns(t, 0);
        return;
    }

    if (ngx_strncmp(name, "nulls}", 6) == 0) {
        ngx_http_lunary_sql_columns(t, 1);
        return;
    }

    for (p = ngx_http_lunary_placeholders; p->name; p++) {
        if (ngx_strncmp(name, p->name, len) == 0 && p->name[len] == '\0') {
            break;
        }
    }

    ngx_http_lunary_sql_expand(t, (p->on == 0 || (t->conditions & p->on))
                                  ? p->text : p->otherwise);
}


/* the columns of a run, or nulls in their place */

static void
ngx_http_lunary_sql_columns(ngx_http_lunary_sql_text_t *t, ngx_uint_t nulls)
{
    ngx_uint_t    i, n;
    const char  **columns;

    n = ngx_http_lunary_run_columns(t->statement->text
                                    == ngx_http_lunary_full_sql, &columns);

    for (i = 0; i < n; i++) {

        if (i) {
            ngx_http_lunary_sql_append(t, ", ", 2);
        }

        ngx_http_lunary_sql_expand(t, nulls ? "null" : columns[i]);
    }
}
