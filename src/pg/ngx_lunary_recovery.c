
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_recovery.h"


/* milliseconds; sessions are not replaced more often for their schema */
#define NGX_LUNARY_RENEW_PACE   1000

/* the same line is not logged more often */
#define NGX_LUNARY_LOG_PACE     10000

/* a database that is down is tried so often while no query waits */
#define NGX_LUNARY_LOGIN_PACE   2000


static const char *ngx_lunary_recovery_consequence(ngx_lunary_query_t *q,
    const char *sqlstate);
static void ngx_lunary_recovery_session(ngx_lunary_conn_t *c,
    ngx_lunary_error_e error);
static void ngx_lunary_recovery_unprepared(ngx_lunary_conn_t *c);
static void ngx_lunary_recovery_retry(ngx_lunary_query_t *q,
    ngx_lunary_result_e otherwise);
static void ngx_lunary_recovery_retire(ngx_lunary_conn_t *c);
static void ngx_lunary_recovery_log(ngx_lunary_conn_t *c,
    const char *sqlstate, const char *what);
static void ngx_lunary_recovery_count(ngx_lunary_pool_t *pool,
    const char *sqlstate);


void
ngx_lunary_recovery_failed(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    const char *sqlstate)
{
    ngx_lunary_error_e  error;

    error = ngx_lunary_sqlstate_error(sqlstate);

    if (q && q->column && *sqlstate == '\0') {
        ngx_lunary_pg_error(&c->pg, "", q->column);
    }

    ngx_lunary_recovery_count(c->pool, sqlstate);
    ngx_lunary_recovery_log(c, sqlstate,
                            ngx_lunary_recovery_consequence(q, sqlstate));

    ngx_lunary_recovery_session(c, error);

    if (q == NULL) {
        return;
    }

    ngx_cpystrn((u_char *) q->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    switch (error) {

    case NGX_LUNARY_ERROR_UNAVAILABLE:
        ngx_lunary_recovery_retry(q, NGX_LUNARY_UNAVAILABLE);
        return;

    case NGX_LUNARY_ERROR_PREPARE:
        ngx_lunary_recovery_retry(q, NGX_LUNARY_FAILED);
        return;

    case NGX_LUNARY_ERROR_TIMEOUT:
        ngx_lunary_query_complete(q, NGX_LUNARY_TIMEOUT);
        return;

    default:
        ngx_lunary_query_complete(q, NGX_LUNARY_FAILED);
    }
}


/* what becomes of a query that failed, for the log */

static const char *
ngx_lunary_recovery_consequence(ngx_lunary_query_t *q, const char *sqlstate)
{
    if (q == NULL) {
        return "failed an abandoned query";
    }

    if (q->committed) {
        return *sqlstate ? "failed a query, the response is cut"
                         : "returned an invalid value, the response is cut";
    }

    switch (ngx_lunary_sqlstate_error(sqlstate)) {

    case NGX_LUNARY_ERROR_UNAVAILABLE:
    case NGX_LUNARY_ERROR_PREPARE:
        return q->retried ? "failed a query again, it is given up"
                          : "failed a query, it is sent again";

    case NGX_LUNARY_ERROR_TIMEOUT:
        return "cancelled a query";

    default:
        return *sqlstate ? "failed a query" : "returned an invalid value";
    }
}


/* what becomes of the session, and of the others */

static void
ngx_lunary_recovery_session(ngx_lunary_conn_t *c, ngx_lunary_error_e error)
{
    switch (error) {

    case NGX_LUNARY_ERROR_UNAVAILABLE:
        ngx_lunary_conn_retire(c);
        return;

    case NGX_LUNARY_ERROR_PREPARE:
        ngx_lunary_recovery_unprepared(c);
        ngx_lunary_conn_retire(c);
        ngx_lunary_recovery_renew(c->pool);
        return;

    case NGX_LUNARY_ERROR_TIMEOUT:
        return;

    case NGX_LUNARY_ERROR_SCHEMA:
        ngx_lunary_recovery_renew(c->pool);
        /* fall through */

    default:
        ngx_lunary_recovery_retire(c);
    }
}


/* behind a pooler that does not carry them, prepare no more statements */

static void
ngx_lunary_recovery_unprepared(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t *pool = c->pool;

    if (pool->unprepared
        || pool->conf.prepare != NGX_LUNARY_PREPARE_ON
        || ngx_lunary_conn_is_own(c))
    {
        return;
    }

    pool->unprepared = 1;

    ngx_log_error(NGX_LOG_WARN, pool->log, 0,
                  "database \"%V\" at \"%V\" is behind a pooler that loses "
                  "prepared statements, none are used from now on",
                  &pool->conf.conninfo->database, ngx_lunary_conn_label(c));
}


void
ngx_lunary_recovery_timeout(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    (void) ngx_atomic_fetch_add(&c->pool->counts->cancels, 1);

    ngx_lunary_pg_error(&c->pg, "", "lunary_query_timeout");

    ngx_lunary_recovery_log(c, "", q->committed
                            ? "did not finish a query in time, "
                              "the response is cut"
                            : "did not finish a query in time");

    ngx_lunary_query_complete(q, NGX_LUNARY_TIMEOUT);
}


void
ngx_lunary_recovery_interrupted(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_cpystrn((u_char *) q->sqlstate, (u_char *) c->pg.sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    ngx_lunary_recovery_retry(q, NGX_LUNARY_UNAVAILABLE);
}


/* once, on a session begun from now on: another may fail in the same way */

static void
ngx_lunary_recovery_retry(ngx_lunary_query_t *q, ngx_lunary_result_e otherwise)
{
    if (q->retried || q->committed) {
        ngx_lunary_query_complete(q, otherwise);
        return;
    }

    (void) ngx_atomic_fetch_add(&q->pool->counts->retries, 1);

    q->retried = 1;
    q->retries++;
    q->fresh = q->pool->serial + 1;

    if (q->rows) {
        q->reset(q);
    }

    ngx_lunary_query_set_state(q, NGX_LUNARY_QUERY_WAITING);
}


/*
 * a session that failed a query may have more wrong with it.  Keep it until it
 * is 1 s old if it was made after the last one was retired for this: else each
 * query that fails costs a login
 */

static void
ngx_lunary_recovery_retire(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t  *pool;

    pool = c->pool;

    if (pool->renewed && c->serial >= pool->renewed
        && ngx_current_msec - c->started < NGX_LUNARY_RENEW_PACE)
    {
        c->expires = c->started + NGX_LUNARY_RENEW_PACE;
        return;
    }

    ngx_lunary_conn_retire(c);

    if (c->serial >= pool->renewed) {
        pool->renewed = pool->serial + 1;
    }
}


void
ngx_lunary_recovery_renew(ngx_lunary_pool_t *pool)
{
    ngx_uint_t  i;

    if (pool->renewed
        && ngx_current_msec - pool->renewed_time < NGX_LUNARY_RENEW_PACE)
    {
        pool->outdated = 1;
        return;
    }

    pool->outdated = 0;

    pool->renewed = pool->serial + 1;
    pool->renewed_time = ngx_current_msec;

    for (i = 0; i < pool->conf.max; i++) {
        ngx_lunary_conn_retire(&pool->conns[i]);
    }
}


void
ngx_lunary_recovery_lost(ngx_lunary_conn_t *c)
{
    ngx_queue_t        *idle, *item;
    ngx_lunary_pool_t  *pool;

    pool = c->pool;

    (void) ngx_atomic_fetch_add(&pool->counts->lost, 1);

    ngx_lunary_recovery_count(pool, c->pg.sqlstate);
    ngx_lunary_recovery_log(c, c->pg.sqlstate,
                            "closed a connection, idle ones are closed, too");

    /* the others may be lost, too, without an event */

    idle = &pool->states[NGX_LUNARY_CONN_IDLE];

    while (!ngx_queue_empty(idle)) {
        item = ngx_queue_head(idle);
        ngx_lunary_conn_close(ngx_queue_data(item, ngx_lunary_conn_t, queue));
    }

    /* if none is left, find out whether the database is there */

    ngx_lunary_pool_reconnect_in(pool, 1);
}


void
ngx_lunary_recovery_refused(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t *pool = c->pool;

    pool->failures++;

    (void) ngx_atomic_fetch_add(&pool->counts->connect_failures, 1);

    if (pool->host_counts) {
        (void) ngx_atomic_fetch_add(
                           pool->host_counts[c->attempt.host].failures, 1);
    }

    ngx_lunary_recovery_count(pool, c->pg.sqlstate);

    ngx_lunary_recovery_log(c, c->pg.sqlstate,
                            "cannot be connected to, requests wait");
}


void
ngx_lunary_recovery_unreachable(ngx_lunary_conn_t *c)
{
    ngx_msec_t          backoff;
    ngx_lunary_pool_t  *pool;

    pool = c->pool;

    if (!pool->down) {
        pool->down = 1;
        pool->down_since = ngx_current_msec;
    }

    *pool->unreachable = 1;

    backoff = ngx_lunary_hosts_backoff(&pool->hosts);

    if (pool->nwaiting == 0) {
        backoff = ngx_max(backoff, NGX_LUNARY_LOGIN_PACE);
    }

    ngx_lunary_pool_reconnect_in(pool, ngx_max(backoff, 1));
}


void
ngx_lunary_recovery_connected(ngx_lunary_conn_t *c)
{
    ngx_lunary_pool_t *pool = c->pool;

    (void) ngx_atomic_fetch_add(&pool->counts->connects, 1);

    *pool->unreachable = 0;

    if (pool->down) {
        pool->down = 0;
        pool->last_error.time = 0;

        ngx_log_error(NGX_LOG_NOTICE, pool->log, 0,
                      "database \"%V\" at \"%V\" is back after %M ms "
                      "and %ui attempts to connect",
                      &pool->conf.conninfo->database, ngx_lunary_conn_label(c),
                      ngx_current_msec - pool->down_since, pool->failures);
    }

    pool->failures = 0;
}


/* one line a failure; the same again within a while is counted, not logged */

static void
ngx_lunary_recovery_log(ngx_lunary_conn_t *c, const char *sqlstate,
    const char *what)
{
    u_char                    repeated[64], *p;
    ngx_uint_t                loggable;
    ngx_lunary_last_error_t  *last;

    last = &c->pool->last_error;

    if (last->time && last->what == what
        && ngx_strcmp(last->sqlstate, sqlstate) == 0
        && ngx_current_msec - last->time < NGX_LUNARY_LOG_PACE)
    {
        last->repeated++;
        return;
    }

    p = repeated;

    if (last->repeated) {
        p = ngx_snprintf(p, sizeof(repeated) - 1, ", repeated %ui times before",
                         last->repeated);
    }

    *p = '\0';

    loggable = c->pg.reason[0] && ngx_lunary_sqlstate_is_loggable(sqlstate);

    ngx_log_error(NGX_LOG_ERR, c->pool->log, 0,
                  "database \"%V\" at \"%V\" %s (SQLSTATE %s%s%s)%s",
                  &c->pool->conf.conninfo->database, ngx_lunary_conn_label(c),
                  what, *sqlstate ? sqlstate : "-",
                  loggable ? ": " : "",
                  loggable ? c->pg.reason : (u_char *) "", repeated);

    ngx_cpystrn((u_char *) last->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    last->what = what;
    last->time = ngx_current_msec;
    last->repeated = 0;
}


static void
ngx_lunary_recovery_count(ngx_lunary_pool_t *pool, const char *sqlstate)
{
    ngx_uint_t  class;

    if (*sqlstate) {
        class = ngx_lunary_sqlstate_class(sqlstate);

        (void) ngx_atomic_fetch_add(&pool->counts->sqlstate[class], 1);
    }
}
