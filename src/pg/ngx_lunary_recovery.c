
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_recovery.h"
#include "ngx_lunary_session.h"
#include "ngx_lunary_sqlstate.h"


/* the schema is looked at anew no more often */
#define NGX_LUNARY_SCHEMA_PACE  1000


static const char *ngx_lunary_recovery_consequence(ngx_lunary_query_t *q,
    const char *sqlstate);
static void ngx_lunary_recovery_judge(ngx_lunary_pool_t *pool,
    ngx_lunary_conn_t *c, ngx_lunary_verdict_e verdict);
static void ngx_lunary_recovery_retry(ngx_lunary_pool_t *pool,
    ngx_lunary_query_t *q, ngx_lunary_result_e otherwise);
static void ngx_lunary_recovery_retire(ngx_lunary_pool_t *pool,
    ngx_lunary_conn_t *c);


void
ngx_lunary_recovery_failed(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    const char *sqlstate)
{
    ngx_lunary_pool_t     *pool;
    ngx_lunary_verdict_e   verdict;

    pool = c->owner->data;
    verdict = ngx_lunary_sqlstate_verdict(sqlstate);

    ngx_lunary_faults_count(pool->counts, sqlstate);
    ngx_lunary_faults_log(&pool->faults, c, sqlstate,
                          ngx_lunary_recovery_consequence(q, sqlstate));

    ngx_lunary_recovery_judge(pool, c, verdict);

    if (q == NULL) {
        return;
    }

    ngx_cpystrn((u_char *) q->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    switch (verdict) {

    case NGX_LUNARY_VERDICT_UNAVAILABLE:
        ngx_lunary_recovery_retry(pool, q, NGX_LUNARY_UNAVAILABLE);
        return;

    case NGX_LUNARY_VERDICT_PREPARE:
        ngx_lunary_recovery_retry(pool, q, NGX_LUNARY_FAILED);
        return;

    case NGX_LUNARY_VERDICT_TIMEOUT:
        ngx_lunary_query_done(q, NGX_LUNARY_TIMEOUT);
        return;

    case NGX_LUNARY_VERDICT_SCHEMA:
    case NGX_LUNARY_VERDICT_FAILED:
        ngx_lunary_query_done(q, NGX_LUNARY_FAILED);
    }
}


/* what becomes of a query that failed, for the log */

static const char *
ngx_lunary_recovery_consequence(ngx_lunary_query_t *q, const char *sqlstate)
{
    if (q == NULL) {
        return "failed a query that nobody waited for";
    }

    switch (ngx_lunary_sqlstate_verdict(sqlstate)) {

    case NGX_LUNARY_VERDICT_UNAVAILABLE:
    case NGX_LUNARY_VERDICT_PREPARE:
        return q->retried || q->committed ? "failed a query, given up"
                                          : "failed a query, sent again";

    case NGX_LUNARY_VERDICT_TIMEOUT:
        return "cancelled a query, answered with 504";

    default:
        return *sqlstate ? "failed a query, answered with 500"
                         : "gave a row that cannot be, answered with 500";
    }
}


/* what becomes of the connection, and of the others */

static void
ngx_lunary_recovery_judge(ngx_lunary_pool_t *pool, ngx_lunary_conn_t *c,
    ngx_lunary_verdict_e verdict)
{
    switch (verdict) {

    case NGX_LUNARY_VERDICT_UNAVAILABLE:
        c->retire = 1;
        return;

    case NGX_LUNARY_VERDICT_PREPARE:
        c->retire = 1;
        ngx_lunary_recovery_renew(pool);
        return;

    case NGX_LUNARY_VERDICT_TIMEOUT:
        return;

    case NGX_LUNARY_VERDICT_SCHEMA:
        ngx_lunary_recovery_renew(pool);
        /* fall through */

    case NGX_LUNARY_VERDICT_FAILED:
        ngx_lunary_recovery_retire(pool, c);
    }
}


void
ngx_lunary_recovery_late(ngx_lunary_conn_t *c, ngx_lunary_query_t *q)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    (void) ngx_atomic_fetch_add(&pool->counts->cancels, 1);

    ngx_cpystrn(c->pg.reason, (u_char *) "lunary_query_timeout",
                NGX_LUNARY_PG_REASON_LEN);

    ngx_lunary_faults_log(&pool->faults, c, "",
                          "did not finish a query in time, "
                          "stopped and answered with 504");

    ngx_lunary_query_done(q, NGX_LUNARY_TIMEOUT);
}


void
ngx_lunary_recovery_stranded(ngx_lunary_conn_t *c, ngx_lunary_query_t *q,
    ngx_uint_t head)
{
    ngx_lunary_pool_t *pool = c->owner->data;

    /* nobody had begun with it: that was no try, it waited all the time */

    if (!head) {
        q->waited += ngx_current_msec - q->sent;

        ngx_lunary_waiting_add(&pool->waiting, q, 1);
        ngx_lunary_waiting_time(&pool->waiting, q);
        return;
    }

    ngx_cpystrn((u_char *) q->sqlstate, (u_char *) c->pg.sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    ngx_lunary_recovery_retry(pool, q, NGX_LUNARY_UNAVAILABLE);
}


/* once, on a session begun from now on: one under way may share the fault */

static void
ngx_lunary_recovery_retry(ngx_lunary_pool_t *pool, ngx_lunary_query_t *q,
    ngx_lunary_result_e otherwise)
{
    if (q->retried || q->committed) {
        ngx_lunary_query_done(q, otherwise);
        return;
    }

    (void) ngx_atomic_fetch_add(&pool->counts->retries, 1);

    q->retried = 1;
    q->fresh = pool->owner.serial + 1;

    if (q->rows) {
        q->again(q);
    }

    ngx_lunary_waiting_add(&pool->waiting, q, 1);
    ngx_lunary_waiting_time(&pool->waiting, q);
}


/*
 * nobody knows what else is wrong with a session that gave a 500.  Where one
 * made since did no better it may finish its moment, lest each request makes
 * its own
 */

static void
ngx_lunary_recovery_retire(ngx_lunary_pool_t *pool, ngx_lunary_conn_t *c)
{
    if (pool->renewed && c->serial >= pool->renewed
        && ngx_current_msec - c->started < NGX_LUNARY_SCHEMA_PACE)
    {
        c->expires = c->started + NGX_LUNARY_SCHEMA_PACE;
        return;
    }

    c->retire = 1;

    if (c->serial >= pool->renewed) {
        pool->renewed = pool->owner.serial + 1;
    }
}


/* all sessions are to be made anew, but not again and again */

void
ngx_lunary_recovery_renew(ngx_lunary_pool_t *pool)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *c;

    if (pool->renewed
        && ngx_current_msec - pool->renewed_time < NGX_LUNARY_SCHEMA_PACE)
    {
        return;
    }

    pool->renewed = pool->owner.serial + 1;
    pool->renewed_time = ngx_current_msec;

    for (i = 0; i < pool->conf.max; i++) {
        pool->conns[i].retire = 1;
    }

    /* none of them takes what the end of another lets go */

    for (i = 0; i < pool->conf.max; i++) {
        c = &pool->conns[i];

        if (c->state == NGX_LUNARY_CONN_IDLE && c->nflights == 0) {
            ngx_lunary_session_end(c);
        }
    }
}


void
ngx_lunary_recovery_broke(ngx_lunary_conn_t *c)
{
    ngx_uint_t          i;
    ngx_lunary_conn_t  *other;
    ngx_lunary_pool_t  *pool;

    pool = c->owner->data;

    (void) ngx_atomic_fetch_add(&pool->counts->lost, 1);

    ngx_lunary_faults_count(pool->counts, c->pg.sqlstate);
    ngx_lunary_faults_log(&pool->faults, c, c->pg.sqlstate,
                          "broke a connection, the others are checked");

    /* where one is lost, the others may be without a word of it yet */

    for (i = 0; i < pool->conf.max; i++) {
        other = &pool->conns[i];

        if (other->state == NGX_LUNARY_CONN_IDLE && !other->retire) {
            ngx_lunary_conn_check(other);
        }
    }

    /* without any left, it is soon known whether new ones can be had */

    ngx_lunary_dispatch_reconnect_in(pool, 1);
}
