
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_sqlstate.h"


/* what an abandoned query may still take before its connection is closed */
#define NGX_LUNARY_GRACE      100

/* and one that went elsewhere meanwhile: it is cheaper than a new session */
#define NGX_LUNARY_RECALLED   1000

/* when the queries behind one that is not quick are taken elsewhere */
#define NGX_LUNARY_SLOW       40

/* how old, in milliseconds, what is known of the schema may become */
#define NGX_LUNARY_PROBE_AGE  10000

/* an answer whose rows have come for so long may come in larger parts */
#define NGX_LUNARY_LONG      20

/* libpq's buffer never shrinks: a larger row costs the connection its place */
#define NGX_LUNARY_MAX_ROW    (1024 * 1024)


/*
 * nothing but speed depends on these, but for the read-only one.  There is
 * an index for all that is worth one, and the planner's guesses at small
 * tables and few rows are not wanted in a plan that is kept.
 *
 * The last row is there for its size: it makes libpq's buffer 256k and not 16,
 * and long answers come in with as many reads less
 */

static const char  ngx_lunary_conn_settings[] =
    "select set_config(name, value, false) from (values"
    " ('default_transaction_read_only', 'on'),"
    " ('plan_cache_mode', 'force_generic_plan'),"
    " ('jit', 'off'),"
    " ('enable_seqscan', 'off'),"
    " ('enable_bitmapscan', 'off'),"
    " ('enable_sort', 'off'),"
    " ('max_parallel_workers_per_gather', '0')) as s (name, value)"
    " union all select repeat(' ', 150000)";


static void ngx_lunary_conn_attempt(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_resolved(ngx_lunary_walk_t *walk);
static void ngx_lunary_conn_refused(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_opened(ngx_lunary_pg_t *pg);
static ngx_int_t ngx_lunary_conn_session(ngx_lunary_conn_t *c);
static ngx_int_t ngx_lunary_conn_probe(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_established(ngx_lunary_conn_t *c);
static ngx_lunary_flight_t *ngx_lunary_conn_push(ngx_lunary_conn_t *c,
    ngx_lunary_flight_e kind);
static ngx_lunary_flight_t *ngx_lunary_conn_flight(ngx_lunary_conn_t *c,
    ngx_uint_t i);
static void ngx_lunary_conn_deadline(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f, ngx_uint_t head);
static void ngx_lunary_conn_result(ngx_lunary_pg_t *pg, PGresult *res);
static void ngx_lunary_conn_violation(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_rows(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res);
static void ngx_lunary_conn_query_row(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f, PGresult *res, int row);
static void ngx_lunary_conn_features(ngx_lunary_flight_t *f, PGresult *res);
static void ngx_lunary_conn_error(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f, PGresult *res);
static void ngx_lunary_conn_landed(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_pace(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_query_landed(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);
static void ngx_lunary_conn_unprepared(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);
static void ngx_lunary_conn_setup_landed(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);
static void ngx_lunary_conn_outdated(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_rest(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_drained(ngx_lunary_pg_t *pg);
static void ngx_lunary_conn_give_back(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);
static void ngx_lunary_conn_lost(ngx_lunary_conn_t *c, const char *sqlstate,
    const char *reason);
static void ngx_lunary_conn_failed(ngx_lunary_pg_t *pg);
static ngx_uint_t ngx_lunary_conn_timed_out(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_gone(ngx_lunary_conn_t *c, ngx_uint_t unexpected);
static void ngx_lunary_conn_schedule(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_wake(ngx_lunary_conn_t *c, ngx_msec_t delay,
    ngx_uint_t cancelable);
static void ngx_lunary_conn_timer(ngx_event_t *ev);
static void ngx_lunary_conn_overdue(ngx_lunary_conn_t *c);

#define ngx_lunary_passed(t)                                                  \
    ((ngx_msec_int_t) (ngx_current_msec - (t)) >= 0)


ngx_int_t
ngx_lunary_conn_init(ngx_lunary_conn_t *c, ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool)
{
    c->pg.opened = ngx_lunary_conn_opened;
    c->pg.result = ngx_lunary_conn_result;
    c->pg.drained = ngx_lunary_conn_drained;
    c->pg.failed = ngx_lunary_conn_failed;
    c->pg.data = c;

    c->walk.resolved = ngx_lunary_conn_resolved;
    c->walk.data = c;

    c->timer.handler = ngx_lunary_conn_timer;
    c->timer.data = c;
    c->timer.log = c->pg.log;

    return ngx_lunary_walk_init(&c->walk, hosts, pool);
}


void
ngx_lunary_conn_connect(ngx_lunary_conn_t *c)
{
    c->started = ngx_current_msec;

    c->owner->move(c, NGX_LUNARY_CONN_CONNECTING);

    ngx_lunary_walk_start(&c->walk);
    ngx_lunary_conn_attempt(c);
}


/* tries one host after the other until one is connecting, or none is left */

static void
ngx_lunary_conn_attempt(ngx_lunary_conn_t *c)
{
    for ( ;; ) {

        switch (ngx_lunary_walk_next(&c->walk)) {

        case NGX_AGAIN:
            return;

        case NGX_DECLINED:
            c->owner->move(c, NGX_LUNARY_CONN_FREE);
            c->owner->unreachable(c);
            return;

        case NGX_ERROR:
            c->pg.sqlstate[0] = '\0';
            ngx_lunary_pg_reason(&c->pg, c->walk.unresolved);
            ngx_lunary_conn_refused(c);
            continue;
        }

        c->first = 0;
        c->nflights = 0;
        c->features = 0;
        c->prepared = 0;
        c->largest = 0;

        if (ngx_lunary_pg_connect(&c->pg, c->walk.keywords, c->walk.values)
            == NGX_OK)
        {
            ngx_lunary_conn_wake(c, c->owner->connect_timeout, 1);
            return;
        }

        ngx_lunary_conn_refused(c);
    }
}


static void
ngx_lunary_conn_resolved(ngx_lunary_walk_t *walk)
{
    ngx_lunary_conn_attempt(walk->data);
}


static void
ngx_lunary_conn_refused(ngx_lunary_conn_t *c)
{
    if (ngx_lunary_walk_bad(&c->walk, c->pg.reason)) {
        c->owner->refused(c);
    }
}


/*
 * settings and a look at the schema, each with a Sync, all in one round trip
 */

static void
ngx_lunary_conn_opened(ngx_lunary_pg_t *pg)
{
    ngx_lunary_conn_t *c = pg->data;

    /* what is said of the schema from here on, the probe may have missed */

    c->retire = 0;

    (void) ngx_lunary_conn_session(c);
}


static ngx_int_t
ngx_lunary_conn_session(ngx_lunary_conn_t *c)
{
    ngx_lunary_pg_t  *pg;

    pg = &c->pg;

    if (c->owner->prepare) {

        ngx_lunary_conn_push(c, NGX_LUNARY_FLIGHT_SESSION);

        if (ngx_lunary_pg_query(pg, NULL,
                                ngx_lunary_conn_settings, 0, NULL)
            != NGX_OK || ngx_lunary_pg_sync(pg) != NGX_OK)
        {
            return NGX_ERROR;
        }

        /* by this a backend notices that we have left it */

        if (ngx_lunary_pg_version(pg) >= 140000) {

            ngx_lunary_conn_push(c, NGX_LUNARY_FLIGHT_INTERVAL);

            if (ngx_lunary_pg_query(pg, NULL,
                                    "select set_config("
                                    "'client_connection_check_interval',"
                                    " '1s', false)", 0, NULL)
                != NGX_OK || ngx_lunary_pg_sync(pg) != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return ngx_lunary_conn_probe(c);
}


static ngx_int_t
ngx_lunary_conn_probe(ngx_lunary_conn_t *c)
{
    ngx_lunary_flight_t  *f;

    f = ngx_lunary_conn_push(c, NGX_LUNARY_FLIGHT_PROBE);

    ngx_lunary_conn_deadline(c, f, 1);
    c->probe_time = ngx_current_msec;

    if (ngx_lunary_pg_query(&c->pg, NULL, c->owner->sql->probe, 0, NULL)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_lunary_pg_sync(&c->pg);
}


static void
ngx_lunary_conn_established(ngx_lunary_conn_t *c)
{
    ngx_msec_t  lifetime;

    lifetime = c->owner->lifetime;

    c->connect = ngx_current_msec - c->started;

    /* not all of them at once */

    c->expires = ngx_current_msec + lifetime
                 - ngx_random() % (lifetime / 10 + 1);

    ngx_lunary_walk_good(&c->walk);

    c->owner->connected(c);

    ngx_lunary_conn_rest(c);
}


ngx_int_t
ngx_lunary_conn_send(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_uint_t            bit;
    const char           *name, *sql;
    ngx_lunary_flight_t  *f;

    /*
     * a column that is new is no error that would tell of it.  Behind a
     * pooler nothing may go before the query
     */

    if (c->owner->prepare
        && ngx_lunary_passed(c->probe_time + NGX_LUNARY_PROBE_AGE)
        && ngx_lunary_conn_probe(c) != NGX_OK)
    {
        c->retire = 1;
        return NGX_ERROR;
    }

    f = ngx_lunary_conn_push(c, NGX_LUNARY_FLIGHT_QUERY);

    f->query = q;
    f->statement = q->statement;
    ngx_lunary_conn_deadline(c, f, c->nflights == 1);

    q->state = NGX_LUNARY_QUERY_SENT;
    q->conn = c;
    q->sent = ngx_current_msec;
    q->session = c->started + c->connect;
    q->rows = 0;

    name = c->owner->prepare ? c->owner->sql->names[q->statement] : NULL;
    sql = c->owner->sql->texts[q->statement][c->features];
    bit = (ngx_uint_t) 1 << q->statement;

    if (name && !(c->prepared & bit)) {

        if (ngx_lunary_pg_prepare(&c->pg, name, sql) != NGX_OK) {
            goto failed;
        }

        /* those behind count on it; if it fails, all of this ends */

        f->prepares = 1;
        c->prepared |= bit;
    }

    if (ngx_lunary_pg_query(&c->pg, name, sql, q->nparams, q->params) != NGX_OK
        || ngx_lunary_pg_sync(&c->pg) != NGX_OK)
    {
        goto failed;
    }

    if (c->state != NGX_LUNARY_CONN_BUSY) {
        c->owner->move(c, NGX_LUNARY_CONN_BUSY);
    }

    ngx_lunary_conn_schedule(c);

    return NGX_OK;

failed:

    /* the event loop tells of the loss: the caller's caller may be anyone */

    c->nflights--;
    c->retire = 1;
    q->conn = NULL;

    return NGX_ERROR;
}


void
ngx_lunary_conn_check(ngx_lunary_conn_t *c)
{
    c->owner->move(c, NGX_LUNARY_CONN_CHECKING);

    ngx_lunary_conn_push(c, NGX_LUNARY_FLIGHT_CHECK);
    ngx_lunary_conn_wake(c, c->owner->connect_timeout, 1);

    (void) ngx_lunary_pg_sync(&c->pg);
}


static ngx_lunary_flight_t *
ngx_lunary_conn_push(ngx_lunary_conn_t *c, ngx_lunary_flight_e kind)
{
    ngx_lunary_flight_t  *f;

    f = ngx_lunary_conn_flight(c, c->nflights++);

    ngx_memzero(f, sizeof(ngx_lunary_flight_t));
    f->kind = kind;

    if (c->nflights == 1) {
        c->head_since = ngx_current_msec;
    }

    return f;
}


static ngx_lunary_flight_t *
ngx_lunary_conn_flight(ngx_lunary_conn_t *c, ngx_uint_t i)
{
    return &c->flights[(c->first + i) % NGX_LUNARY_FLIGHTS];
}


/* one behind another waits for its turn no longer than in the queue */

static void
ngx_lunary_conn_deadline(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    ngx_uint_t head)
{
    ngx_msec_t  left;

    if (head && (f->query || f->kind != NGX_LUNARY_FLIGHT_QUERY)) {
        left = c->owner->query_timeout;

    } else if (f->query == NULL) {
        left = f->recalled ? NGX_LUNARY_RECALLED : NGX_LUNARY_GRACE;

    } else {
        left = f->query->waited < c->owner->queue_timeout
               ? c->owner->queue_timeout - f->query->waited : 0;
    }

    f->deadline = ngx_current_msec + left;
}


static void
ngx_lunary_conn_result(ngx_lunary_pg_t *pg, PGresult *res)
{
    ngx_lunary_conn_t    *c;
    ngx_lunary_flight_t  *f;

    c = pg->data;
    f = ngx_lunary_conn_flight(c, 0);

    if (c->nflights == 0) {
        ngx_lunary_conn_violation(c);
        return;
    }

    switch (PQresultStatus(res)) {

    case PGRES_TUPLES_OK:
        f->ended = 1;
        /* fall through */

    case PGRES_SINGLE_TUPLE:
        ngx_lunary_conn_rows(c, f, res);
        return;

    case PGRES_PIPELINE_SYNC:

        /*
         * rows of which the end was not said may not be all; and those that
         * come later would be taken for another flight's
         */

        if (f->kind != NGX_LUNARY_FLIGHT_CHECK && !f->ended && !f->failed) {
            ngx_lunary_conn_violation(c);
            return;
        }

        ngx_lunary_conn_landed(c);
        return;

    case PGRES_FATAL_ERROR:
        ngx_lunary_conn_error(c, f, res);
        return;

    case PGRES_COMMAND_OK:

        /* the statement stands, whatever becomes of its first use */

        f->prepares = 0;
        return;

    case PGRES_PIPELINE_ABORTED:
        return;

    default:

        /* none that we asked for: whoever speaks there is not to be trusted */

        ngx_lunary_conn_violation(c);
    }
}


static void
ngx_lunary_conn_violation(ngx_lunary_conn_t *c)
{
    ngx_lunary_conn_lost(c, "08P01", "protocol violation");
}


static void
ngx_lunary_conn_rows(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res)
{
    int  row, n;

    n = PQntuples(res);

    for (row = 0; row < n; row++) {

        if (f->kind == NGX_LUNARY_FLIGHT_PROBE) {
            ngx_lunary_conn_features(f, res);
            return;
        }

        if (f->kind != NGX_LUNARY_FLIGHT_QUERY) {
            return;
        }

        ngx_lunary_conn_query_row(c, f, res, row);

        /* the row may have cost us the connection */

        if (c->pg.state != NGX_LUNARY_PG_OPEN) {
            return;
        }
    }
}


static void
ngx_lunary_conn_query_row(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res, int row)
{
    size_t               size;
    ngx_lunary_query_t  *q;

    size = PQresultMemorySize(res);
    c->largest = ngx_max(c->largest, size);

    q = f->query;

    if (q == NULL || f->broken) {
        return;
    }

    if (!q->rows) {
        q->rows = 1;
        q->first_row = ngx_current_msec - q->sent;
    }

    if (q->row(q, res, row) != NGX_OK) {
        f->broken = 1;
        c->retire = 1;
    }
}


/*
 * a boolean a feature, in binary: a byte each.  What is there must not be
 * guessed: without its column a deleted run would be served
 */

static void
ngx_lunary_conn_features(ngx_lunary_flight_t *f, PGresult *res)
{
    int      i, n;
    u_char  *value;
    size_t   len;

    n = PQnfields(res);

    if (n != NGX_LUNARY_NFEATURES) {
        return;
    }

    for (i = 0; i < n; i++) {
        value = ngx_lunary_pg_value(res, 0, i, &len);

        if (value == NULL || len != 1) {
            return;
        }

        if (*value) {
            f->features |= (ngx_uint_t) 1 << i;
        }
    }

    f->found = 1;
}


static void
ngx_lunary_conn_error(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res)
{
    char  *sqlstate, *text, *severity;

    sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

    /* a pooler may say it in the old way only */

    if (severity == NULL) {
        severity = PQresultErrorField(res, PG_DIAG_SEVERITY);
    }

    /*
     * without a SQLSTATE it is libpq that speaks: the connection is lost, or
     * there was no memory for a result, which would be waited for in vain
     */

    if (sqlstate == NULL) {
        ngx_lunary_conn_lost(c, c->pg.sqlstate, PQresultErrorMessage(res));
        return;
    }

    f->failed = 1;

    if (f->orphan && ngx_strcmp(sqlstate, "26000") == 0) {
        return;
    }

    ngx_cpystrn((u_char *) f->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    /* a text that may quote what rows hold is not kept at all */

    if (text == NULL || !ngx_lunary_sqlstate_is_told(sqlstate)) {
        text = "";
    }

    ngx_lunary_pg_reason(&c->pg, text);

    /* by any other severity the server says that it ends the session */

    if (severity == NULL || ngx_strcmp(severity, "ERROR") != 0) {
        ngx_lunary_conn_lost(c, f->sqlstate, text);
    }
}


/* the answer to a Sync: the first flight is over */

static void
ngx_lunary_conn_landed(ngx_lunary_conn_t *c)
{
    ngx_lunary_flight_t  f;

    f = *ngx_lunary_conn_flight(c, 0);

    if (f.kind == NGX_LUNARY_FLIGHT_QUERY) {
        ngx_lunary_conn_pace(c);
    }

    c->first = (c->first + 1) % NGX_LUNARY_FLIGHTS;
    c->nflights--;
    c->head_since = ngx_current_msec;

    if (c->nflights) {
        ngx_lunary_conn_deadline(c, ngx_lunary_conn_flight(c, 0), 1);
    }

    switch (f.kind) {

    case NGX_LUNARY_FLIGHT_QUERY:
        ngx_lunary_conn_query_landed(c, &f);
        return;

    case NGX_LUNARY_FLIGHT_CHECK:
        ngx_lunary_conn_rest(c);
        return;

    default:
        ngx_lunary_conn_setup_landed(c, &f);
    }
}


/* a moving average in which no single query weighs much */

static void
ngx_lunary_conn_pace(ngx_lunary_conn_t *c)
{
    ngx_msec_t  took;

    took = ngx_min(ngx_current_msec - c->head_since, 4 * NGX_LUNARY_QUICK);

    c->owner->pace = (7 * c->owner->pace + 16 * took) / 8;
}


static void
ngx_lunary_conn_query_landed(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f)
{
    ngx_lunary_query_t  *q;

    q = f->query;

    if (f->failed && f->prepares) {
        c->prepared &= ~((ngx_uint_t) 1 << f->statement);
        ngx_lunary_conn_unprepared(c, f);
    }

    if (c->largest > NGX_LUNARY_MAX_ROW || ngx_lunary_passed(c->expires)) {
        c->retire = 1;
    }

    if (q) {
        q->conn = NULL;
        q->took = ngx_current_msec - q->sent;
    }

    if (f->failed || f->broken) {
        c->owner->failed(c, q, f->sqlstate);

    } else if (q) {

        /* the next query of this request finds the connection ready */

        if (c->nflights == 0 && !c->retire) {
            c->owner->move(c, NGX_LUNARY_CONN_IDLE);
        }

        c->owner->finished(c, q);
    }

    if (c->pg.state == NGX_LUNARY_PG_OPEN) {

        /* the reason of this failure is none of the next */

        c->pg.reason[0] = '\0';

        ngx_lunary_conn_rest(c);
    }
}


/*
 * what the schema refuses to prepare fails the flights behind for the same
 * reason; that they miss the statement is none worth another try
 */

static void
ngx_lunary_conn_unprepared(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f)
{
    ngx_uint_t            i;
    ngx_lunary_flight_t  *behind;

    if (ngx_strncmp(f->sqlstate, "42", 2) != 0) {
        return;
    }

    for (i = 0; i < c->nflights; i++) {
        behind = ngx_lunary_conn_flight(c, i);

        if (behind->kind == NGX_LUNARY_FLIGHT_QUERY
            && behind->statement == f->statement)
        {
            behind->orphan = 1;
            ngx_memcpy(behind->sqlstate, f->sqlstate, NGX_LUNARY_SQLSTATE_LEN);
        }
    }
}


static void
ngx_lunary_conn_setup_landed(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f)
{
    if (c->state != NGX_LUNARY_CONN_CONNECTING) {

        if (f->found && f->features == c->features) {
            ngx_lunary_conn_rest(c);
            return;
        }

        if (!f->found) {
            c->owner->failed(c, NULL, f->sqlstate);
        }

        ngx_lunary_conn_outdated(c);
        return;
    }

    if ((f->failed && f->kind != NGX_LUNARY_FLIGHT_INTERVAL)
        || (!f->found && f->kind == NGX_LUNARY_FLIGHT_PROBE))
    {
        ngx_lunary_conn_lost(c, f->sqlstate, (char *) c->pg.reason);
        return;
    }

    if (f->kind == NGX_LUNARY_FLIGHT_PROBE) {
        c->features = f->features;
    }

    if (c->nflights == 0) {
        ngx_lunary_conn_established(c);
    }
}


/*
 * another schema, or nobody knows which: what was sent behind the look at it
 * is asked anew.  No row of that was given, and nobody is the wiser
 */

static void
ngx_lunary_conn_outdated(ngx_lunary_conn_t *c)
{
    ngx_uint_t  i;

    for (i = c->nflights; i > 0; i--) {
        ngx_lunary_conn_give_back(c, ngx_lunary_conn_flight(c, i - 1));
    }

    c->owner->outdated(c);

    ngx_lunary_conn_close(c);
}


/* a flight is over: the connection is idle, or its next flight has its turn */

static void
ngx_lunary_conn_rest(ngx_lunary_conn_t *c)
{
    if (c->nflights == 0) {

        if (c->retire) {
            ngx_lunary_conn_close(c);
            return;
        }

        if (c->state != NGX_LUNARY_CONN_IDLE) {
            c->owner->move(c, NGX_LUNARY_CONN_IDLE);
        }
    }

    ngx_lunary_conn_schedule(c);

    c->owner->usable(c);

    if (ngx_exiting && c->state == NGX_LUNARY_CONN_IDLE) {
        ngx_lunary_conn_close(c);
    }
}


static void
ngx_lunary_conn_drained(ngx_lunary_pg_t *pg)
{
    ngx_lunary_conn_t    *c;
    ngx_lunary_query_t   *q;
    ngx_lunary_flight_t  *f;

    c = pg->data;

    pg->gather = 0;

    if (c->nflights == 0) {
        return;
    }

    f = ngx_lunary_conn_flight(c, 0);
    q = f->query;

    if (q == NULL || !q->rows) {
        return;
    }

    /*
     * a part in twenty of its time, at most, for a long answer; nothing where
     * the client is the one who is waited for
     */

    pg->gather = q->committed && !f->paused
                 && ngx_lunary_passed(q->sent + q->first_row
                                      + NGX_LUNARY_LONG);

    q->drained(q);
}


void
ngx_lunary_conn_abandon(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_uint_t            i;
    ngx_lunary_flight_t  *f;

    for (i = 0; i < c->nflights; i++) {
        f = ngx_lunary_conn_flight(c, i);

        if (f->query != q) {
            continue;
        }

        f->query = NULL;
        ngx_lunary_conn_deadline(c, f, i == 0);
        q->conn = NULL;

        if (i == 0) {
            ngx_lunary_conn_resume(c);
        }

        ngx_lunary_conn_schedule(c);
        return;
    }
}


ngx_uint_t
ngx_lunary_conn_is_quick(ngx_lunary_conn_t *c)
{
    /* where queries are slow of late, the next one is likely to be, too */

    return !c->retire && !c->pg.paused
           && c->owner->pace <= 16 * NGX_LUNARY_QUICK / 2
           && ngx_current_msec - c->head_since <= NGX_LUNARY_QUICK;
}


void
ngx_lunary_conn_recall(ngx_lunary_conn_t *c)
{
    ngx_uint_t  i;

    for (i = c->nflights - 1; i > 0; i--) {
        ngx_lunary_conn_give_back(c, ngx_lunary_conn_flight(c, i));
    }
}


/* a query without a row goes; its flight stays, and nobody waits for it */

static void
ngx_lunary_conn_give_back(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f)
{
    ngx_lunary_query_t  *q;

    q = f->query;

    if (q == NULL) {
        return;
    }

    f->query = NULL;
    f->recalled = 1;
    q->conn = NULL;

    c->owner->stranded(c, q, 0);
}


void
ngx_lunary_conn_pause(ngx_lunary_conn_t *c)
{
    if (c->pg.paused) {
        return;
    }

    ngx_lunary_pg_pause(&c->pg);
    c->paused = ngx_current_msec;
    ngx_lunary_conn_flight(c, 0)->paused = 1;
    ngx_lunary_conn_schedule(c);

    /* nobody can tell for how long: those behind are better off elsewhere */

    if (c->nflights > 1) {
        ngx_lunary_conn_recall(c);
        c->owner->usable(c);
    }
}


void
ngx_lunary_conn_resume(ngx_lunary_conn_t *c)
{
    ngx_uint_t            i;
    ngx_lunary_flight_t  *f;

    if (!c->pg.paused) {
        return;
    }

    ngx_lunary_pg_resume(&c->pg);

    c->head_since += ngx_current_msec - c->paused;

    for (i = 0; i < c->nflights; i++) {
        f = ngx_lunary_conn_flight(c, i);

        if (f->query) {
            f->deadline += ngx_current_msec - c->paused;
        }
    }

    ngx_lunary_conn_schedule(c);
}


void
ngx_lunary_conn_close(ngx_lunary_conn_t *c)
{
    ngx_lunary_walk_stop(&c->walk);
    ngx_lunary_pg_close(&c->pg);
    ngx_lunary_conn_gone(c, 0);
}


/* the server has not kept to what was agreed; "" where it gave no SQLSTATE */

static void
ngx_lunary_conn_lost(ngx_lunary_conn_t *c, const char *sqlstate,
    const char *reason)
{
    ngx_cpystrn((u_char *) c->pg.sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);
    ngx_lunary_pg_reason(&c->pg, reason);

    ngx_lunary_pg_close(&c->pg);
    ngx_lunary_conn_failed(&c->pg);
}


static void
ngx_lunary_conn_failed(ngx_lunary_pg_t *pg)
{
    ngx_lunary_conn_t *c = pg->data;

    if (c->state != NGX_LUNARY_CONN_CONNECTING) {
        ngx_lunary_conn_gone(c, !ngx_exiting && !ngx_lunary_conn_timed_out(c));
        return;
    }

    if (c->timer.timer_set) {
        ngx_del_timer(&c->timer);
    }

    ngx_lunary_conn_refused(c);
    ngx_lunary_conn_attempt(c);
}


/* the server keeps idle sessions for a shorter time than we do: no fault */

static ngx_uint_t
ngx_lunary_conn_timed_out(ngx_lunary_conn_t *c)
{
    return c->nflights == 0 && ngx_strcmp(c->pg.sqlstate, "57P05") == 0;
}


static void
ngx_lunary_conn_gone(ngx_lunary_conn_t *c, ngx_uint_t unexpected)
{
    ngx_lunary_flight_t  *f;

    if (c->state == NGX_LUNARY_CONN_FREE) {
        return;
    }

    if (c->timer.timer_set) {
        ngx_del_timer(&c->timer);
    }

    c->owner->move(c, NGX_LUNARY_CONN_FREE);

    /* while "pg" says why: it may be connected anew from within "stranded" */

    if (unexpected) {
        c->owner->broke(c);
    }

    while (c->nflights) {
        f = ngx_lunary_conn_flight(c, --c->nflights);

        if (f->query) {
            f->query->conn = NULL;
            f->query->took = ngx_current_msec - f->query->sent;

            c->owner->stranded(c, f->query, c->nflights == 0);
        }
    }

    c->owner->gone(c);
}


/* the next moment at which something is due */

static void
ngx_lunary_conn_schedule(ngx_lunary_conn_t *c)
{
    ngx_uint_t            i, cancelable;
    ngx_msec_t            due, slow;
    ngx_lunary_flight_t  *f;

    if (c->pg.paused) {

        if (c->timer.timer_set) {
            ngx_del_timer(&c->timer);
        }

        return;
    }

    if (c->nflights == 0) {
        due = c->expires - ngx_current_msec;

        ngx_lunary_conn_wake(c, ngx_min(c->owner->idle, due), 1);
        return;
    }

    f = ngx_lunary_conn_flight(c, 0);
    due = f->deadline;
    cancelable = (f->query == NULL);

    for (i = 1; i < c->nflights; i++) {
        if (ngx_lunary_conn_flight(c, i)->query) {
            cancelable = 0;
        }
    }

    /* there may be those who wait for room behind, even if nobody is there */

    if (c->nflights > 1) {
        slow = c->head_since + NGX_LUNARY_SLOW;

        if (ngx_lunary_passed(slow)) {
            slow = ngx_current_msec + NGX_LUNARY_SLOW;
        }

        if ((ngx_msec_int_t) (slow - due) < 0) {
            due = slow;
        }
    }

    ngx_lunary_conn_wake(c, ngx_lunary_passed(due) ? 1
                            : due - ngx_current_msec, cancelable);
}


/* nginx leaves a timer that is a little late as it is: too late for a tick */

static void
ngx_lunary_conn_wake(ngx_lunary_conn_t *c, ngx_msec_t delay,
    ngx_uint_t cancelable)
{
    ngx_msec_t  key;

    key = ngx_current_msec + delay;

    if (c->timer.timer_set && (ngx_msec_int_t) (key - c->timer.timer.key) < 0) {
        ngx_del_timer(&c->timer);
    }

    ngx_add_timer(&c->timer, delay);
    c->timer.cancelable = cancelable;
}


static void
ngx_lunary_conn_timer(ngx_event_t *ev)
{
    ngx_lunary_conn_t *c = ev->data;

    switch (c->state) {

    case NGX_LUNARY_CONN_CONNECTING:
        ngx_lunary_conn_lost(c, "", "connection timed out");
        return;

    case NGX_LUNARY_CONN_CHECKING:
        ngx_lunary_conn_lost(c, "", "no answer to a check");
        return;

    case NGX_LUNARY_CONN_IDLE:
        ngx_lunary_conn_close(c);
        return;

    case NGX_LUNARY_CONN_BUSY:
        ngx_lunary_conn_overdue(c);
        return;

    case NGX_LUNARY_CONN_FREE:
        return;
    }
}


static void
ngx_lunary_conn_overdue(ngx_lunary_conn_t *c)
{
    ngx_uint_t            i;
    ngx_lunary_query_t   *q;
    ngx_lunary_flight_t  *f;

    for (i = c->nflights - 1; i > 0; i--) {
        f = ngx_lunary_conn_flight(c, i);

        if (ngx_lunary_passed(f->deadline)) {
            ngx_lunary_conn_give_back(c, f);
        }
    }

    f = ngx_lunary_conn_flight(c, 0);

    if (ngx_lunary_passed(f->deadline)) {
        c->retire = 1;
        q = f->query;

        if (q) {
            f->query = NULL;
            q->conn = NULL;
            q->took = ngx_current_msec - q->sent;

            c->owner->late(c, q);
        }

        /* by its socket's end PostgreSQL notices that nobody waits */

        ngx_lunary_conn_close(c);
        return;
    }

    if (c->nflights > 1
        && ngx_lunary_passed(c->head_since + NGX_LUNARY_SLOW))
    {
        c->owner->slow(c);
    }

    if (c->state == NGX_LUNARY_CONN_BUSY) {
        ngx_lunary_conn_schedule(c);
    }
}
