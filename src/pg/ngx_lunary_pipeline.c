
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_pipeline.h"
#include "ngx_lunary_pool.h"
#include "ngx_lunary_recovery.h"


/* milliseconds; no query is sent behind one that has taken longer */
#define NGX_LUNARY_QUICK    20

/*
 * milliseconds; queries behind one that has taken longer are moved, if another
 * connection can be had.  PostgreSQL then executes them on both connections, so
 * they are not moved at once
 */
#define NGX_LUNARY_SLOW     40

/* milliseconds until the connection of an abandoned query is closed */
#define NGX_LUNARY_GRACE    100

/* and of a query that was moved: to wait for it is cheaper than a login */
#define NGX_LUNARY_MOVED    1000

/* libpq's buffer never shrinks: retire the connection after a larger row */
#define NGX_LUNARY_MAX_ROW  (1024 * 1024)


static ngx_lunary_entry_t *ngx_lunary_pipeline_at(ngx_lunary_conn_t *c,
    ngx_uint_t i);
static ngx_lunary_entry_t *ngx_lunary_pipeline_push(ngx_lunary_conn_t *c,
    ngx_lunary_entry_e kind, ngx_lunary_query_t *q);
static void ngx_lunary_pipeline_begin(ngx_lunary_conn_t *c);
static ngx_int_t ngx_lunary_pipeline_write(ngx_lunary_conn_t *c,
    ngx_lunary_query_t *q, const char *text);
static ngx_int_t ngx_lunary_pipeline_violation(ngx_lunary_conn_t *c);
static void ngx_lunary_pipeline_rows(ngx_lunary_conn_t *c,
    ngx_lunary_entry_t *e, PGresult *res);
static void ngx_lunary_pipeline_row(ngx_lunary_conn_t *c,
    ngx_lunary_entry_t *e, PGresult *res, int row);
static ngx_int_t ngx_lunary_pipeline_error(ngx_lunary_conn_t *c,
    ngx_lunary_entry_t *e, PGresult *res);
static ngx_int_t ngx_lunary_pipeline_complete(ngx_lunary_conn_t *c);
static void ngx_lunary_pipeline_query_complete(ngx_lunary_conn_t *c,
    ngx_lunary_entry_t *e, ngx_msec_t took);


/* the first is number 0 */

static ngx_lunary_entry_t *
ngx_lunary_pipeline_at(ngx_lunary_conn_t *c, ngx_uint_t i)
{
    return &c->entries[(c->first + i) % NGX_LUNARY_DEPTH];
}


static ngx_lunary_entry_t *
ngx_lunary_pipeline_push(ngx_lunary_conn_t *c, ngx_lunary_entry_e kind,
    ngx_lunary_query_t *q)
{
    ngx_lunary_entry_t  *e;

    e = ngx_lunary_pipeline_at(c, c->nentries++);

    ngx_memzero(e, sizeof(ngx_lunary_entry_t));
    e->kind = kind;
    e->query = q;

    if (c->nentries == 1) {
        ngx_lunary_pipeline_begin(c);
    }

    return e;
}


/* an entry has become the first: the server works on it from now on */

static void
ngx_lunary_pipeline_begin(ngx_lunary_conn_t *c)
{
    ngx_lunary_entry_t  *e;

    e = ngx_lunary_pipeline_at(c, 0);

    c->begun = ngx_current_msec;

    if (e->kind != NGX_LUNARY_ENTRY_QUERY) {
        return;
    }

    if (e->query == NULL) {
        c->deadline = ngx_current_msec + (e->moved ? NGX_LUNARY_MOVED
                                                   : NGX_LUNARY_GRACE);
        return;
    }

    c->deadline = ngx_current_msec + c->pool->conf.query_timeout;

    if (e->query->timer.timer_set) {
        ngx_del_timer(&e->query->timer);
    }
}


ngx_int_t
ngx_lunary_pipeline_send(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    const char        *text;
    ngx_lunary_sql_t  *sql;

    sql = c->pool->conf.sql;
    text = sql->text(sql, q->statement, c->features);

    if (text == NULL || ngx_lunary_pipeline_write(c, q, text) != NGX_OK) {

        /* the event loop reads what the server has sent, and closes it */

        ngx_lunary_conn_retire(c);
        return NGX_ERROR;
    }

    ngx_log_debug5(NGX_LOG_DEBUG_EVENT, q->log, 0,
                   "lunary query sent, %s, pool %ui, connection %ui, "
                   "session %ui, behind %ui",
                   sql->names[q->statement], c->pool->number, c->number,
                   c->serial, c->nentries);

    ngx_lunary_query_set_state(q, NGX_LUNARY_QUERY_SENT);

    q->conn = c;
    q->features = c->features;
    q->identity = c->identity;
    q->standby = c->standby;
    q->sent = ngx_current_msec;
    q->rows = 0;

    if (q->nhosts < NGX_LUNARY_QUERY_HOSTS) {
        q->hosts[q->nhosts++] = ngx_lunary_conn_label(c);
    }

    if (!q->asked) {
        q->asked = 1;
        q->connect = c->connect;
        q->connected = (c->started - q->queued < NGX_MAX_INT32_VALUE);
    }

    (void) ngx_lunary_pipeline_push(c, NGX_LUNARY_ENTRY_QUERY, q);

    if (c->state != NGX_LUNARY_CONN_BUSY) {
        ngx_lunary_conn_set_state(c, NGX_LUNARY_CONN_BUSY);
    }

    ngx_lunary_conn_schedule(c);

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_pipeline_write(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    const char *text)
{
    ngx_uint_t          bit;
    const char         *name;
    ngx_lunary_pool_t  *pool;

    pool = c->pool;
    name = NULL;

    if (ngx_lunary_conn_is_own(c)
        || (pool->conf.prepare == NGX_LUNARY_PREPARE_ON && !pool->unprepared))
    {
        name = pool->conf.sql->names[q->statement];
    }

    bit = (ngx_uint_t) 1 << q->statement;

    if (name && !(c->prepared & bit)) {

        if (ngx_lunary_pg_prepare(&c->pg, name, text, q->nparams) != NGX_OK) {
            return NGX_ERROR;
        }

        c->preparing = bit;
    }

    if (ngx_lunary_pg_query(&c->pg, name, text, q->nparams, q->params)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_lunary_pg_sync(&c->pg);
}


void
ngx_lunary_pipeline_ask(ngx_lunary_conn_t *c, ngx_lunary_entry_e kind,
    ngx_uint_t number, const char *sql)
{
    ngx_uint_t  own;

    ngx_lunary_pipeline_push(c, kind, NULL)->number = number;

    /* with "lunary_prepare off" no session counts as our own */

    own = (c->pool->conf.prepare != NGX_LUNARY_PREPARE_OFF);

    if (ngx_lunary_pg_query_pid(&c->pg, sql, own) == NGX_OK) {
        (void) ngx_lunary_pg_sync(&c->pg);
    }
}


ngx_int_t
ngx_lunary_pipeline_result(ngx_lunary_conn_t *c, PGresult *res)
{
    ngx_lunary_entry_t  *e;

    if (c->nentries == 0) {
        return ngx_lunary_pipeline_violation(c);
    }

    e = ngx_lunary_pipeline_at(c, 0);

    switch (PQresultStatus(res)) {

    case PGRES_TUPLES_OK:
        e->ended = 1;
        /* fall through */

    case PGRES_SINGLE_TUPLE:
        ngx_lunary_pipeline_rows(c, e, res);
        return NGX_OK;

    case PGRES_PIPELINE_SYNC:

        /* without the end of the rows some may be missing */

        if (!e->ended && !e->failed) {
            return ngx_lunary_pipeline_violation(c);
        }

        return ngx_lunary_pipeline_complete(c);

    case PGRES_FATAL_ERROR:
        return ngx_lunary_pipeline_error(c, e, res);

    case PGRES_COMMAND_OK:
        c->prepared |= c->preparing;
        c->preparing = 0;
        return NGX_OK;

    case PGRES_PIPELINE_ABORTED:
        return NGX_OK;

    default:

        /* a result that nobody asked for: the server cannot be trusted */

        return ngx_lunary_pipeline_violation(c);
    }
}


static ngx_int_t
ngx_lunary_pipeline_violation(ngx_lunary_conn_t *c)
{
    ngx_lunary_pg_error(&c->pg, "08P01", "protocol violation");

    return NGX_ERROR;
}


static void
ngx_lunary_pipeline_rows(ngx_lunary_conn_t *c, ngx_lunary_entry_t *e,
    PGresult *res)
{
    int                row, n;
    ngx_lunary_sql_t  *sql;

    n = PQntuples(res);

    if (e->kind == NGX_LUNARY_ENTRY_PROBE && n > 0) {
        sql = c->pool->conf.sql;

        e->probed = (sql->probed(sql, res, &c->features, c->identity)
                     == NGX_OK);
        return;
    }

    for (row = 0; row < n; row++) {
        ngx_lunary_pipeline_row(c, e, res, row);
    }
}


static void
ngx_lunary_pipeline_row(ngx_lunary_conn_t *c, ngx_lunary_entry_t *e,
    PGresult *res, int row)
{
    ngx_lunary_query_t  *q;

    if (PQresultMemorySize(res) > NGX_LUNARY_MAX_ROW) {
        c->retire = 1;
    }

    q = e->query;

    if (q == NULL || e->invalid) {
        return;
    }

    if (!q->rows) {
        q->rows = 1;
        q->first_row = ngx_current_msec - q->sent;

        ngx_log_debug2(NGX_LOG_DEBUG_EVENT, q->log, 0,
                       "lunary first row, connection %ui, after %M ms",
                       c->number, q->first_row);
    }

    if (q->row(q, res, row) != NGX_OK) {
        e->invalid = 1;
        c->retire = 1;
    }
}


static ngx_int_t
ngx_lunary_pipeline_error(ngx_lunary_conn_t *c, ngx_lunary_entry_t *e,
    PGresult *res)
{
    char  *sqlstate, *text, *severity, *context;

    sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    context = PQresultErrorField(res, PG_DIAG_CONTEXT);
    text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

    /* a pooler may give the old field alone */

    if (severity == NULL) {
        severity = PQresultErrorField(res, PG_DIAG_SEVERITY);
    }

    /*
     * an error without a SQLSTATE is libpq's own: the connection is lost, or
     * a result did not fit in memory and would be waited for in vain
     */

    if (sqlstate == NULL) {
        ngx_lunary_pg_error(&c->pg, c->pg.sqlstate, PQresultErrorMessage(res));
        return NGX_ERROR;
    }

    e->failed = 1;
    ngx_cpystrn((u_char *) e->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    /*
     * Do not log a message that may quote a row.  A function in the database
     * can raise any text with any SQLSTATE, but PostgreSQL then adds a context
     */

    if (text == NULL || context || !ngx_lunary_sqlstate_is_loggable(sqlstate)) {
        text = "";
    }

    ngx_lunary_pg_error(&c->pg, e->sqlstate, text);

    /* any other severity ends the session */

    return severity && ngx_strcmp(severity, "ERROR") == 0 ? NGX_OK : NGX_ERROR;
}


/* the response to a Sync: the first entry is complete */

static ngx_int_t
ngx_lunary_pipeline_complete(ngx_lunary_conn_t *c)
{
    ngx_int_t           rc;
    ngx_msec_t          took;
    ngx_lunary_entry_t  e;

    e = *ngx_lunary_pipeline_at(c, 0);
    took = ngx_current_msec - c->begun;

    c->first = (c->first + 1) % NGX_LUNARY_DEPTH;

    if (--c->nentries) {
        ngx_lunary_pipeline_begin(c);
    }

    if (e.kind == NGX_LUNARY_ENTRY_QUERY) {
        ngx_lunary_pipeline_query_complete(c, &e, took);

    } else {
        rc = ngx_lunary_conn_prepared(c, &e);

        if (rc != NGX_OK) {
            return rc == NGX_AGAIN ? NGX_OK : NGX_ERROR;
        }
    }

    /* the error of this one is not the next one's */

    if (!c->pg.broken) {
        ngx_lunary_pg_error(&c->pg, "", "");
    }

    if (c->nentries == 0) {
        ngx_lunary_conn_set_state(c, NGX_LUNARY_CONN_IDLE);

        if (c->retire) {
            return NGX_DONE;
        }
    }

    ngx_lunary_conn_schedule(c);
    ngx_lunary_pool_wake(c->pool);

    return NGX_OK;
}


static void
ngx_lunary_pipeline_query_complete(ngx_lunary_conn_t *c,
    ngx_lunary_entry_t *e, ngx_msec_t took)
{
    ngx_lunary_pool_t   *pool;
    ngx_lunary_query_t  *q;

    q = e->query;
    pool = c->pool;

    /* a moving average in which no single query weighs much */

    took = ngx_min(took, 4 * NGX_LUNARY_QUICK);
    pool->pace = (7 * pool->pace + 16 * took) / 8;

    if (c->nentries == 0) {
        c->preparing = 0;
    }

    if (ngx_lunary_passed(c->expires)) {
        c->retire = 1;
    }

    if (q) {
        q->took = ngx_current_msec - q->sent;

        ngx_log_debug4(NGX_LOG_DEBUG_EVENT, q->log, 0,
                       "lunary query complete, pool %ui, connection %ui, "
                       "SQLSTATE %s, after %M ms",
                       pool->number, c->number,
                       e->failed ? e->sqlstate : "00000", q->took);
    }

    if (e->failed || e->invalid) {
        ngx_lunary_recovery_failed(c, q, e->sqlstate);

    } else if (q) {
        ngx_lunary_query_complete(q, NGX_LUNARY_OK);
    }
}


void
ngx_lunary_pipeline_flush(ngx_lunary_conn_t *c)
{
    ngx_lunary_query_t  *q;

    if (c->nentries == 0) {
        return;
    }

    q = ngx_lunary_pipeline_at(c, 0)->query;

    if (q && q->rows) {
        q->flush(q);
    }
}


void
ngx_lunary_pipeline_forget(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_uint_t           i;
    ngx_lunary_entry_t  *e;

    for (i = 0; i < c->nentries; i++) {
        e = ngx_lunary_pipeline_at(c, i);

        if (e->query == q) {
            e->query = NULL;
            break;
        }
    }

    if (i == 0) {
        ngx_lunary_pipeline_resume(c);
        c->deadline = ngx_current_msec + NGX_LUNARY_GRACE;
        ngx_lunary_conn_schedule(c);
    }
}


void
ngx_lunary_pipeline_move(ngx_lunary_conn_t *c)
{
    ngx_uint_t           i;
    ngx_lunary_entry_t  *e;

    for (i = c->nentries; i > 1; i--) {
        e = ngx_lunary_pipeline_at(c, i - 1);

        if (e->query) {
            ngx_lunary_query_requeue(e->query);
            e->query = NULL;
            e->moved = 1;
        }
    }
}


ngx_uint_t
ngx_lunary_pipeline_is_quick(ngx_lunary_conn_t *c)
{
    /*
     * a pooler may give its session to another client after each response, and
     * where queries were slow of late the next one is likely to be slow, too
     */

    return c->state == NGX_LUNARY_CONN_BUSY && !c->retire && !c->pg.paused
           && ngx_lunary_conn_is_own(c)
           && c->pool->pace <= 16 * NGX_LUNARY_QUICK / 2
           && ngx_current_msec - c->begun <= NGX_LUNARY_QUICK;
}


ngx_uint_t
ngx_lunary_pipeline_is_full(ngx_lunary_conn_t *c)
{
    /* whether a statement can be prepared is known before others count on it */

    return c->nentries == NGX_LUNARY_DEPTH || c->preparing;
}


ngx_msec_t
ngx_lunary_pipeline_slow_time(ngx_lunary_conn_t *c)
{
    return c->begun + NGX_LUNARY_SLOW;
}


void
ngx_lunary_pipeline_pause(ngx_lunary_conn_t *c)
{
    if (c->pg.paused) {
        return;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->pg.log, 0,
                   "lunary paused, pool %ui, connection %ui",
                   c->pool->number, c->number);

    ngx_lunary_pg_pause(&c->pg);

    c->paused = ngx_current_msec;
    ngx_lunary_conn_schedule(c);

    /* a slow client may take long: the queries behind go elsewhere */

    ngx_lunary_pipeline_move(c);
    ngx_lunary_pool_wake(c->pool);
}


void
ngx_lunary_pipeline_resume(ngx_lunary_conn_t *c)
{
    ngx_msec_t  paused;

    if (!c->pg.paused) {
        return;
    }

    paused = ngx_current_msec - c->paused;

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, c->pg.log, 0,
                   "lunary resumed, pool %ui, connection %ui, after %M ms",
                   c->pool->number, c->number, paused);

    ngx_lunary_pg_resume(&c->pg);

    c->begun += paused;
    c->deadline += paused;
    ngx_lunary_conn_schedule(c);
}


void
ngx_lunary_pipeline_timeout(ngx_lunary_conn_t *c)
{
    ngx_lunary_query_t  *q;

    if (!ngx_lunary_passed(c->deadline)) {

        /* the first query is slow: dispatch moves those behind */

        ngx_lunary_conn_schedule(c);
        ngx_lunary_pool_wake(c->pool);
        return;
    }

    q = ngx_lunary_pipeline_at(c, 0)->query;

    if (q) {
        q->took = ngx_current_msec - q->sent;
        ngx_lunary_pipeline_at(c, 0)->query = NULL;

        ngx_lunary_recovery_timeout(c, q);
    }

    /* PostgreSQL notices the closed socket, and stops the query */

    ngx_lunary_conn_close(c);
}


void
ngx_lunary_pipeline_clear(ngx_lunary_conn_t *c)
{
    ngx_lunary_query_t  *q;

    ngx_lunary_pipeline_move(c);

    q = c->nentries ? ngx_lunary_pipeline_at(c, 0)->query : NULL;
    c->nentries = 0;

    if (q) {
        q->took = ngx_current_msec - q->sent;
        ngx_lunary_recovery_interrupted(c, q);
    }
}
