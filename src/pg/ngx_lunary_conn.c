
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_pool.h"
#include "ngx_lunary_recovery.h"


/*
 * Parameters of a session, for speed, and to make it read-only.  Every lookup
 * that gains by an index has one.  A prepared statement keeps its plan, so the
 * plan must not depend on how small the tables are when it is made.
 */

typedef struct {
    const char  *sql;
    int          version;       /* of the server, at least */
    const char  *failed;        /* what could not be set, and what it costs */
} ngx_lunary_setting_t;


static const ngx_lunary_setting_t  ngx_lunary_settings[] = {

    { "select pg_catalog.set_config(name, value, false) from (values"
      " ('default_transaction_read_only', 'on'),"
      " ('plan_cache_mode', 'force_generic_plan'),"
      " ('jit', 'off'),"
      " ('enable_seqscan', 'off'),"
      " ('enable_bitmapscan', 'off'),"
      " ('enable_sort', 'off'),"
      " ('max_parallel_workers_per_gather', '0')) as s (name, value)"
      " where pg_catalog.pg_backend_pid() = $1::int4",
      0,
      "default_transaction_read_only, plan_cache_mode, jit, enable_seqscan, "
      "enable_bitmapscan, enable_sort and max_parallel_workers_per_gather "
      "could not be set: queries are slower" },

    /* a backend that executes a query notices that its client has left */

    { "select pg_catalog.set_config('client_connection_check_interval', '1s',"
      " false) where pg_catalog.pg_backend_pid() = $1::int4",
      140000,
      "client_connection_check_interval could not be set: "
      "a query whose client has left runs to its end" }
};

#define NGX_LUNARY_NSETTINGS                                                  \
    (sizeof(ngx_lunary_settings) / sizeof(ngx_lunary_setting_t))


static void ngx_lunary_conn_next_host(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_resolved(ngx_lunary_attempt_t *attempt);
static void ngx_lunary_conn_refused(ngx_lunary_conn_t *c);
static ngx_int_t ngx_lunary_conn_probed(ngx_lunary_conn_t *c,
    ngx_lunary_entry_t *e);
static void ngx_lunary_conn_degraded(ngx_lunary_conn_t *c, ngx_uint_t number,
    const char *text, const char *sqlstate);
static void ngx_lunary_conn_set(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_established(ngx_lunary_conn_t *c);
static void ngx_lunary_conn_warn(ngx_lunary_conn_t *c, const char *text,
    const char *sqlstate);
static void ngx_lunary_conn_end(ngx_lunary_conn_t *c, ngx_uint_t lost);
static void ngx_lunary_conn_timer(ngx_event_t *ev);


ngx_int_t
ngx_lunary_conn_init(ngx_lunary_conn_t *c, ngx_pool_t *pool)
{
    c->pg.log = c->pool->log;
    c->pg.owner = c;

    c->timer.handler = ngx_lunary_conn_timer;
    c->timer.data = c;
    c->timer.log = c->pool->log;

    c->attempt.resolved = ngx_lunary_conn_resolved;
    c->attempt.data = c;

    ngx_queue_insert_tail(&c->pool->states[c->state], &c->queue);
    c->pool->nstates[c->state]++;

    return ngx_lunary_attempt_init(&c->attempt, &c->pool->hosts, pool);
}


void
ngx_lunary_conn_set_state(ngx_lunary_conn_t *c, ngx_lunary_conn_state_e state)
{
    ngx_lunary_pool_t *pool = c->pool;

    ngx_atomic_t  *gauges[] = {
        NULL,
        &pool->gauges->connecting,
        &pool->gauges->idle,
        &pool->gauges->busy
    };

    if (gauges[c->state]) {
        (void) ngx_atomic_fetch_add(gauges[c->state], -1);
    }

    if (gauges[state]) {
        (void) ngx_atomic_fetch_add(gauges[state], 1);
    }

    ngx_queue_remove(&c->queue);
    pool->nstates[c->state]--;

    /* the one that was used last is the first to be used again */

    ngx_queue_insert_head(&pool->states[state], &c->queue);
    pool->nstates[state]++;

    c->state = state;

    /* nginx closes idle connections when a worker exits */

    if (c->pg.connection) {
        c->pg.connection->idle = (state == NGX_LUNARY_CONN_IDLE);
    }
}


void
ngx_lunary_conn_schedule(ngx_lunary_conn_t *c)
{
    ngx_msec_t  due, slow;

    due = c->deadline;

    switch (c->state) {

    case NGX_LUNARY_CONN_FREE:
        return;

    case NGX_LUNARY_CONN_IDLE:
        due = ngx_current_msec + ((c->retire || ngx_exiting)
                                  ? 1 : c->pool->conf.idle);

        if ((ngx_msec_int_t) (c->expires - due) < 0) {
            due = c->expires;
        }

        break;

    case NGX_LUNARY_CONN_BUSY:

        if (c->pg.paused) {

            if (c->timer.timer_set) {
                ngx_del_timer(&c->timer);
            }

            return;
        }

        slow = ngx_lunary_pipeline_slow_time(c);

        if (!ngx_lunary_passed(slow) && (ngx_msec_int_t) (slow - due) < 0) {
            due = slow;
        }

        break;

    default:
        break;
    }

    /*
     * ngx_add_timer() keeps a timer within 300 ms of the new one: delete it if
     * it is later
     */

    if (c->timer.timer_set && (ngx_msec_int_t) (due - c->timer.timer.key) < 0) {
        ngx_del_timer(&c->timer);
    }

    ngx_add_timer(&c->timer, ngx_lunary_passed(due) ? 1
                                                    : due - ngx_current_msec);

    /* a worker that exits waits for its queries and for nothing else */

    c->timer.cancelable = (c->state != NGX_LUNARY_CONN_BUSY);
}


void
ngx_lunary_conn_connect(ngx_lunary_conn_t *c)
{
    c->started = ngx_current_msec;

    ngx_lunary_conn_set_state(c, NGX_LUNARY_CONN_CONNECTING);

    ngx_lunary_attempt_start(&c->attempt);
    ngx_lunary_conn_next_host(c);
}


/* tries hosts until the connection to one is under way, or none is left */

static void
ngx_lunary_conn_next_host(ngx_lunary_conn_t *c)
{
    for ( ;; ) {

        switch (ngx_lunary_attempt_next(&c->attempt)) {

        case NGX_AGAIN:
            return;

        case NGX_DECLINED:
            ngx_lunary_conn_set_state(c, NGX_LUNARY_CONN_FREE);
            ngx_lunary_recovery_unreachable(c);
            return;

        case NGX_ERROR:
            ngx_lunary_pg_error(&c->pg, "", c->attempt.unresolved);
            ngx_lunary_conn_refused(c);
            continue;
        }

        c->serial = ++c->pool->serial;
        c->first = 0;
        c->nentries = 0;
        c->features = 0;
        c->prepared = 0;
        c->preparing = 0;
        ngx_memzero(c->identity, NGX_LUNARY_IDENTITY_LEN);

        ngx_log_debug4(NGX_LOG_DEBUG_EVENT, c->pg.log, 0,
                       "lunary connect, pool %ui, connection %ui, "
                       "session %ui, host \"%V\"",
                       c->pool->number, c->number, c->serial,
                       ngx_lunary_conn_label(c));

        if (ngx_lunary_pg_connect(&c->pg, c->attempt.keywords,
                                  c->attempt.values)
            == NGX_OK)
        {
            c->deadline = ngx_current_msec + c->pool->conf.connect_timeout;
            ngx_lunary_conn_schedule(c);
            return;
        }

        ngx_lunary_conn_refused(c);
    }
}


static void
ngx_lunary_conn_resolved(ngx_lunary_attempt_t *attempt)
{
    ngx_lunary_conn_next_host(attempt->data);
}


static void
ngx_lunary_conn_refused(ngx_lunary_conn_t *c)
{
    if (ngx_lunary_attempt_failed(&c->attempt, c->pg.reason)) {
        ngx_lunary_recovery_refused(c);
    }
}


void
ngx_lunary_conn_opened(ngx_lunary_conn_t *c)
{
    /* the probe sees a schema change that was noticed before */

    c->retire = 0;

    ngx_lunary_pipeline_ask(c, NGX_LUNARY_ENTRY_PROBE, 0,
                            c->pool->conf.sql->probe);
}


ngx_int_t
ngx_lunary_conn_prepared(ngx_lunary_conn_t *c, ngx_lunary_entry_t *e)
{
    if (e->kind == NGX_LUNARY_ENTRY_SETTING) {

        if (e->failed) {
            ngx_lunary_conn_degraded(c, e->number,
                                     ngx_lunary_settings[e->number].failed,
                                     e->sqlstate);
        }

    } else if (ngx_lunary_conn_probed(c, e) != NGX_OK) {
        return NGX_ERROR;

    } else if (ngx_lunary_conn_is_own(c)) {
        ngx_lunary_conn_set(c);
    }

    if (c->nentries) {
        return NGX_AGAIN;
    }

    ngx_lunary_conn_established(c);

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_conn_probed(ngx_lunary_conn_t *c, ngx_lunary_entry_t *e)
{
    if (e->failed && ngx_strncmp(e->sqlstate, "42", 2) == 0) {

        /* the role may not call a function, or the function is missing */

        ngx_lunary_conn_degraded(c, NGX_LUNARY_NSETTINGS,
                                 "the server could not be probed: queries are "
                                 "slower, optional columns are left out",
                                 e->sqlstate);
        c->features = 0;

    } else if (!e->probed) {
        return NGX_ERROR;
    }

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, c->pg.log, 0,
                   "lunary probe done, pool %ui, connection %ui, features %xi",
                   c->pool->number, c->number, c->features);

    return NGX_OK;
}


/* the session can be used without it: warn once a pool */

static void
ngx_lunary_conn_degraded(ngx_lunary_conn_t *c, ngx_uint_t number,
    const char *text, const char *sqlstate)
{
    ngx_uint_t  bit;

    bit = (ngx_uint_t) 1 << number;

    if (!(c->pool->degraded & bit)) {
        c->pool->degraded |= bit;
        ngx_lunary_conn_warn(c, text, sqlstate);
    }
}


static void
ngx_lunary_conn_set(ngx_lunary_conn_t *c)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_LUNARY_NSETTINGS; i++) {

        if (ngx_lunary_pg_version(&c->pg) >= ngx_lunary_settings[i].version) {
            ngx_lunary_pipeline_ask(c, NGX_LUNARY_ENTRY_SETTING, i,
                                    ngx_lunary_settings[i].sql);
        }
    }
}


static void
ngx_lunary_conn_established(ngx_lunary_conn_t *c)
{
    ngx_msec_t                 lifetime;
    const char                *note;
    ngx_lunary_sql_t          *sql;
    ngx_lunary_host_counts_t  *counts;

    sql = c->pool->conf.sql;
    lifetime = c->pool->conf.lifetime;

    c->connect = ngx_current_msec - c->started;
    c->standby = ngx_lunary_pg_is_standby(&c->pg);

    /* not all sessions end at the same time */

    c->expires = ngx_current_msec + lifetime
                 - ngx_random() % (lifetime / 10 + 1);

    ngx_lunary_attempt_succeeded(&c->attempt);

    note = sql->note(sql, c->features);

    if (note) {
        ngx_lunary_conn_warn(c, note, "");
    }

    if (c->pool->host_counts) {
        counts = &c->pool->host_counts[c->attempt.host];

        (void) ngx_atomic_fetch_add(counts->connects, 1);
        (void) ngx_atomic_fetch_add(counts->sessions, 1);
    }

    ngx_lunary_recovery_connected(c);
}


static void
ngx_lunary_conn_warn(ngx_lunary_conn_t *c, const char *text,
    const char *sqlstate)
{
    ngx_log_error(NGX_LOG_WARN, c->pg.log, 0,
                  "database \"%V\" at \"%V\": %s%s%s%s",
                  &c->pool->conf.conninfo->database, ngx_lunary_conn_label(c),
                  text, *sqlstate ? " (SQLSTATE " : "", sqlstate,
                  *sqlstate ? ")" : "");
}


void
ngx_lunary_conn_retire(ngx_lunary_conn_t *c)
{
    if (c->state == NGX_LUNARY_CONN_FREE) {
        return;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, c->pool->log, 0,
                   "lunary connection retired, pool %ui, connection %ui",
                   c->pool->number, c->number);

    c->retire = 1;

    if (c->state == NGX_LUNARY_CONN_IDLE) {
        ngx_lunary_conn_schedule(c);
    }
}


void
ngx_lunary_conn_close(ngx_lunary_conn_t *c)
{
    ngx_lunary_attempt_stop(&c->attempt);
    ngx_lunary_pg_close(&c->pg);
    ngx_lunary_conn_end(c, 0);
}


void
ngx_lunary_conn_lost(ngx_lunary_conn_t *c)
{
    ngx_lunary_pg_close(&c->pg);

    if (c->state == NGX_LUNARY_CONN_CONNECTING) {

        if (c->timer.timer_set) {
            ngx_del_timer(&c->timer);
        }

        ngx_lunary_conn_refused(c);
        ngx_lunary_conn_next_host(c);
        return;
    }

    /* 57P05: the server ends sessions that were idle for too long */

    ngx_lunary_conn_end(c, !ngx_exiting
                           && (c->nentries
                               || ngx_strcmp(c->pg.sqlstate, "57P05") != 0));
}


static void
ngx_lunary_conn_end(ngx_lunary_conn_t *c, ngx_uint_t lost)
{
    if (c->state == NGX_LUNARY_CONN_FREE) {
        return;
    }

    if (c->pool->host_counts && c->state != NGX_LUNARY_CONN_CONNECTING) {
        (void) ngx_atomic_fetch_add(
                       c->pool->host_counts[c->attempt.host].sessions, -1);
    }

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, c->pool->log, 0,
                   "lunary connection closed, pool %ui, connection %ui, "
                   "lost %ui",
                   c->pool->number, c->number, lost);

    if (c->timer.timer_set) {
        ngx_del_timer(&c->timer);
    }

    ngx_lunary_conn_set_state(c, NGX_LUNARY_CONN_FREE);

    if (lost) {
        ngx_lunary_recovery_lost(c);
    }

    ngx_lunary_pipeline_clear(c);
    ngx_lunary_pool_wake(c->pool);
}


static void
ngx_lunary_conn_timer(ngx_event_t *ev)
{
    ngx_lunary_conn_t *c = ev->data;

    switch (c->state) {

    case NGX_LUNARY_CONN_CONNECTING:
        ngx_lunary_pg_error(&c->pg, "", "connection timed out");
        ngx_lunary_conn_lost(c);
        return;

    case NGX_LUNARY_CONN_IDLE:
        ngx_lunary_conn_close(c);
        return;

    case NGX_LUNARY_CONN_BUSY:
        ngx_lunary_pipeline_timeout(c);
        return;

    default: /* NGX_LUNARY_CONN_FREE */
        return;
    }
}


ngx_uint_t
ngx_lunary_conn_is_own(ngx_lunary_conn_t *c)
{
    return c->pool->conf.prepare != NGX_LUNARY_PREPARE_OFF
           && (c->features & NGX_LUNARY_FEATURE_OWN);
}


ngx_str_t *
ngx_lunary_conn_label(ngx_lunary_conn_t *c)
{
    return ngx_lunary_attempt_label(&c->attempt);
}
