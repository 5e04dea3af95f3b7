
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_session.h"
#include "ngx_lunary_sqlstate.h"


/* a query under way for longer, in milliseconds, is not to be waited behind */
#define NGX_LUNARY_QUICK      20

/* an answer whose rows have come for so long may come in larger parts */
#define NGX_LUNARY_LONG       20

/* libpq's buffer never shrinks: a larger row costs the connection its place */
#define NGX_LUNARY_MAX_ROW    (1024 * 1024)


static void ngx_lunary_conn_result(ngx_lunary_pg_t *pg, PGresult *res);
static void ngx_lunary_conn_violation(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_rows(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res);
static void ngx_lunary_conn_query_row(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f, PGresult *res, int row);
static void ngx_lunary_conn_error(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f, PGresult *res);
static void ngx_lunary_conn_landed(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_pace(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_query_landed(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);
static void ngx_lunary_conn_unprepared(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);
static void ngx_lunary_conn_rest(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_drained(ngx_lunary_pg_t *pg);
static void ngx_lunary_conn_give_back(ngx_lunary_conn_t *c,
    ngx_lunary_flight_t *f);
static void ngx_lunary_conn_timer(ngx_event_t *ev);
static void ngx_lunary_conn_overdue(ngx_lunary_conn_t *c);


ngx_int_t
ngx_lunary_conn_init(ngx_lunary_conn_t *c, ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool)
{
    c->pg.result = ngx_lunary_conn_result;
    c->pg.drained = ngx_lunary_conn_drained;

    c->timer.handler = ngx_lunary_conn_timer;
    c->timer.data = c;
    c->timer.log = c->pg.log;

    return ngx_lunary_session_init(c, hosts, pool);
}


ngx_int_t
ngx_lunary_conn_send(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_uint_t            bit;
    const char           *name, *text;
    ngx_lunary_sql_t     *sql;
    ngx_lunary_flight_t  *f;

    sql = c->owner->sql;
    text = sql->text(sql, q->statement, c->features);

    if (text == NULL) {
        c->retire = 1;
        return NGX_ERROR;
    }

    f = ngx_lunary_flights_push(c, NGX_LUNARY_FLIGHT_QUERY);

    f->query = q;
    f->statement = q->statement;
    ngx_lunary_flights_deadline(c, f, c->nflights == 1);

    q->state = NGX_LUNARY_QUERY_SENT;
    q->conn = c;
    q->sent = ngx_current_msec;
    q->features = c->features;
    q->identity = c->identity;
    q->rows = 0;

    name = c->owner->prepare ? sql->names[q->statement] : NULL;
    bit = (ngx_uint_t) 1 << q->statement;

    if (name && !(c->prepared & bit)) {

        if (ngx_lunary_pg_prepare(&c->pg, name, text, q->nparams) != NGX_OK) {
            goto failed;
        }

        /* those behind count on it; if it fails, all of this ends */

        f->prepares = 1;
        c->prepared |= bit;
    }

    if (ngx_lunary_pg_query(&c->pg, name, text, q->nparams, q->params) != NGX_OK
        || ngx_lunary_pg_sync(&c->pg) != NGX_OK)
    {
        goto failed;
    }

    if (c->state != NGX_LUNARY_CONN_BUSY) {
        c->owner->move(c, NGX_LUNARY_CONN_BUSY);
    }

    ngx_lunary_flights_schedule(c);

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

    ngx_lunary_flights_push(c, NGX_LUNARY_FLIGHT_CHECK);
    ngx_lunary_flights_wake(c, c->owner->connect_timeout, 1);

    (void) ngx_lunary_pg_sync(&c->pg);
}


static void
ngx_lunary_conn_result(ngx_lunary_pg_t *pg, PGresult *res)
{
    ngx_lunary_conn_t    *c;
    ngx_lunary_flight_t  *f;

    c = pg->data;
    f = ngx_lunary_flights_at(c, 0);

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
    ngx_lunary_session_lost(c, "08P01", "protocol violation");
}


static void
ngx_lunary_conn_rows(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res)
{
    int  row, n;

    n = PQntuples(res);

    for (row = 0; row < n; row++) {

        if (f->kind == NGX_LUNARY_FLIGHT_PROBE) {
            ngx_lunary_session_probed(c, f, res);
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
        ngx_lunary_session_lost(c, c->pg.sqlstate, PQresultErrorMessage(res));
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
        ngx_lunary_session_lost(c, f->sqlstate, text);
    }
}


/* the answer to a Sync: the first flight is over */

static void
ngx_lunary_conn_landed(ngx_lunary_conn_t *c)
{
    ngx_lunary_flight_t  f;

    f = *ngx_lunary_flights_at(c, 0);

    if (f.kind == NGX_LUNARY_FLIGHT_QUERY) {
        ngx_lunary_conn_pace(c);
    }

    c->first = (c->first + 1) % NGX_LUNARY_FLIGHTS;
    c->nflights--;
    c->head_since = ngx_current_msec;

    if (c->nflights) {
        ngx_lunary_flights_deadline(c, ngx_lunary_flights_at(c, 0), 1);
    }

    switch (f.kind) {

    case NGX_LUNARY_FLIGHT_QUERY:
        ngx_lunary_conn_query_landed(c, &f);
        return;

    case NGX_LUNARY_FLIGHT_CHECK:
        ngx_lunary_conn_rest(c);
        return;

    default:

        if (ngx_lunary_session_landed(c, &f) == NGX_DONE) {
            ngx_lunary_conn_rest(c);
        }
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
        behind = ngx_lunary_flights_at(c, i);

        if (behind->kind == NGX_LUNARY_FLIGHT_QUERY
            && behind->statement == f->statement)
        {
            behind->orphan = 1;
            ngx_memcpy(behind->sqlstate, f->sqlstate, NGX_LUNARY_SQLSTATE_LEN);
        }
    }
}


/* a flight is over: the connection is idle, or its next flight has its turn */

static void
ngx_lunary_conn_rest(ngx_lunary_conn_t *c)
{
    if (c->nflights == 0) {

        if (c->retire) {
            ngx_lunary_session_end(c);
            return;
        }

        if (c->state != NGX_LUNARY_CONN_IDLE) {
            c->owner->move(c, NGX_LUNARY_CONN_IDLE);
        }
    }

    ngx_lunary_flights_schedule(c);

    c->owner->usable(c);

    if (ngx_exiting && c->state == NGX_LUNARY_CONN_IDLE) {
        ngx_lunary_session_end(c);
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

    f = ngx_lunary_flights_at(c, 0);
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
        f = ngx_lunary_flights_at(c, i);

        if (f->query != q) {
            continue;
        }

        f->query = NULL;
        ngx_lunary_flights_deadline(c, f, i == 0);
        q->conn = NULL;

        if (i == 0) {
            ngx_lunary_conn_resume(c);
        }

        ngx_lunary_flights_schedule(c);
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
        ngx_lunary_conn_give_back(c, ngx_lunary_flights_at(c, i));
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
    ngx_lunary_flights_at(c, 0)->paused = 1;
    ngx_lunary_flights_schedule(c);

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
        f = ngx_lunary_flights_at(c, i);

        if (f->query) {
            f->deadline += ngx_current_msec - c->paused;
        }
    }

    ngx_lunary_flights_schedule(c);
}


static void
ngx_lunary_conn_timer(ngx_event_t *ev)
{
    ngx_lunary_conn_t *c = ev->data;

    switch (c->state) {

    case NGX_LUNARY_CONN_CONNECTING:
        ngx_lunary_session_lost(c, "", "connection timed out");
        return;

    case NGX_LUNARY_CONN_CHECKING:
        ngx_lunary_session_lost(c, "", "no answer to a check");
        return;

    case NGX_LUNARY_CONN_IDLE:
        ngx_lunary_session_end(c);
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
        f = ngx_lunary_flights_at(c, i);

        if (ngx_lunary_passed(f->deadline)) {
            ngx_lunary_conn_give_back(c, f);
        }
    }

    f = ngx_lunary_flights_at(c, 0);

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

        ngx_lunary_session_end(c);
        return;
    }

    if (c->nflights > 1
        && ngx_lunary_passed(c->head_since + NGX_LUNARY_SLOW))
    {
        c->owner->slow(c);
    }

    if (c->state == NGX_LUNARY_CONN_BUSY) {
        ngx_lunary_flights_schedule(c);
    }
}
