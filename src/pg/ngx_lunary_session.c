
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_session.h"


/*
 * nothing but speed depends on these, but for the read-only one.  There is
 * an index for all that is worth one, and the planner's guesses at small
 * tables and few rows are not wanted in a plan that is kept.
 *
 * The last row is there for its size: it makes libpq's buffer 256k and not 16,
 * and long answers come in with as many reads less
 */

static const char  ngx_lunary_session_settings[] =
    "select set_config(name, value, false) from (values"
    " ('default_transaction_read_only', 'on'),"
    " ('plan_cache_mode', 'force_generic_plan'),"
    " ('jit', 'off'),"
    " ('enable_seqscan', 'off'),"
    " ('enable_bitmapscan', 'off'),"
    " ('enable_sort', 'off'),"
    " ('max_parallel_workers_per_gather', '0')) as s (name, value)"
    " union all select repeat(' ', 150000)";


static void ngx_lunary_session_attempt(ngx_lunary_conn_t *c);
static void ngx_lunary_session_resolved(ngx_lunary_walk_t *walk);
static void ngx_lunary_session_refused(ngx_lunary_conn_t *c);
static void ngx_lunary_session_opened(ngx_lunary_pg_t *pg);
static ngx_int_t ngx_lunary_session_prepare(ngx_lunary_conn_t *c);
static ngx_int_t ngx_lunary_session_probe(ngx_lunary_conn_t *c);
static void ngx_lunary_session_established(ngx_lunary_conn_t *c);
static void ngx_lunary_session_failed(ngx_lunary_pg_t *pg);
static ngx_uint_t ngx_lunary_session_timed_out(ngx_lunary_conn_t *c);
static void ngx_lunary_session_gone(ngx_lunary_conn_t *c,
    ngx_uint_t unexpected);


ngx_int_t
ngx_lunary_session_init(ngx_lunary_conn_t *c, ngx_lunary_hosts_t *hosts,
    ngx_pool_t *pool)
{
    c->pg.opened = ngx_lunary_session_opened;
    c->pg.failed = ngx_lunary_session_failed;
    c->pg.data = c;

    c->walk.resolved = ngx_lunary_session_resolved;
    c->walk.data = c;

    return ngx_lunary_walk_init(&c->walk, hosts, pool);
}


void
ngx_lunary_session_start(ngx_lunary_conn_t *c)
{
    c->started = ngx_current_msec;

    c->owner->move(c, NGX_LUNARY_CONN_CONNECTING);

    ngx_lunary_walk_start(&c->walk);
    ngx_lunary_session_attempt(c);
}


/* tries one host after the other until one is connecting, or none is left */

static void
ngx_lunary_session_attempt(ngx_lunary_conn_t *c)
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
            ngx_lunary_session_refused(c);
            continue;
        }

        c->serial = ++c->owner->serial;
        c->first = 0;
        c->nflights = 0;
        c->features = 0;
        ngx_memzero(c->identity, NGX_LUNARY_IDENTITY_LEN);
        c->prepared = 0;
        c->largest = 0;

        if (ngx_lunary_pg_connect(&c->pg, c->walk.keywords, c->walk.values)
            == NGX_OK)
        {
            ngx_lunary_flights_wake(c, c->owner->connect_timeout, 1);
            return;
        }

        ngx_lunary_session_refused(c);
    }
}


static void
ngx_lunary_session_resolved(ngx_lunary_walk_t *walk)
{
    ngx_lunary_session_attempt(walk->data);
}


static void
ngx_lunary_session_refused(ngx_lunary_conn_t *c)
{
    if (ngx_lunary_walk_bad(&c->walk, c->pg.reason)) {
        c->owner->refused(c);
    }
}


/*
 * settings and a look at the schema, each with a Sync, all in one round trip
 */

static void
ngx_lunary_session_opened(ngx_lunary_pg_t *pg)
{
    ngx_lunary_conn_t *c = pg->data;

    /* what is said of the schema from here on, the probe may have missed */

    c->retire = 0;

    (void) ngx_lunary_session_prepare(c);
}


static ngx_int_t
ngx_lunary_session_prepare(ngx_lunary_conn_t *c)
{
    ngx_lunary_pg_t  *pg;

    pg = &c->pg;

    if (c->owner->prepare) {

        ngx_lunary_flights_push(c, NGX_LUNARY_FLIGHT_SESSION);

        if (ngx_lunary_pg_query(pg, NULL,
                                ngx_lunary_session_settings, 0, NULL)
            != NGX_OK || ngx_lunary_pg_sync(pg) != NGX_OK)
        {
            return NGX_ERROR;
        }

        /* by this a backend notices that we have left it */

        if (ngx_lunary_pg_version(pg) >= 140000) {

            ngx_lunary_flights_push(c, NGX_LUNARY_FLIGHT_INTERVAL);

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

    return ngx_lunary_session_probe(c);
}


static ngx_int_t
ngx_lunary_session_probe(ngx_lunary_conn_t *c)
{
    ngx_lunary_flight_t  *f;

    f = ngx_lunary_flights_push(c, NGX_LUNARY_FLIGHT_PROBE);

    ngx_lunary_flights_deadline(c, f, 1);

    if (ngx_lunary_pg_query_pid(&c->pg, c->owner->sql->probe) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_lunary_pg_sync(&c->pg);
}


void
ngx_lunary_session_probed(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    PGresult *res)
{
    ngx_lunary_sql_t  *sql;

    sql = c->owner->sql;

    f->found = (sql->probed(sql, res, &c->features, c->identity) == NGX_OK);
}


ngx_int_t
ngx_lunary_session_landed(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f)
{
    if ((f->failed && f->kind != NGX_LUNARY_FLIGHT_INTERVAL)
        || (!f->found && f->kind == NGX_LUNARY_FLIGHT_PROBE))
    {
        ngx_lunary_session_lost(c, f->sqlstate, (char *) c->pg.reason);
        return NGX_ERROR;
    }

    if (c->nflights) {
        return NGX_OK;
    }

    ngx_lunary_session_established(c);

    return NGX_DONE;
}


static void
ngx_lunary_session_established(ngx_lunary_conn_t *c)
{
    ngx_msec_t         lifetime;
    const char        *note;
    ngx_lunary_sql_t  *sql;

    sql = c->owner->sql;
    lifetime = c->owner->lifetime;

    c->connect = ngx_current_msec - c->started;

    /* not all of them at once */

    c->expires = ngx_current_msec + lifetime
                 - ngx_random() % (lifetime / 10 + 1);

    /* a setting may have failed, which is no fault */

    c->pg.reason[0] = '\0';

    ngx_lunary_walk_good(&c->walk);

    note = sql->note(sql, c->features);

    if (note) {
        ngx_log_error(NGX_LOG_WARN, c->pg.log, 0, "database \"%V\": %s",
                      ngx_lunary_walk_label(&c->walk), note);
    }

    c->owner->connected(c);
}


void
ngx_lunary_session_end(ngx_lunary_conn_t *c)
{
    ngx_lunary_walk_stop(&c->walk);
    ngx_lunary_pg_close(&c->pg);
    ngx_lunary_session_gone(c, 0);
}


void
ngx_lunary_session_lost(ngx_lunary_conn_t *c, const char *sqlstate,
    const char *reason)
{
    ngx_cpystrn((u_char *) c->pg.sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);
    ngx_lunary_pg_reason(&c->pg, reason);

    ngx_lunary_pg_close(&c->pg);
    ngx_lunary_session_failed(&c->pg);
}


static void
ngx_lunary_session_failed(ngx_lunary_pg_t *pg)
{
    ngx_lunary_conn_t *c = pg->data;

    if (c->state != NGX_LUNARY_CONN_CONNECTING) {
        ngx_lunary_session_gone(c, !ngx_exiting
                                   && !ngx_lunary_session_timed_out(c));
        return;
    }

    if (c->timer.timer_set) {
        ngx_del_timer(&c->timer);
    }

    ngx_lunary_session_refused(c);
    ngx_lunary_session_attempt(c);
}


/* the server keeps idle sessions for a shorter time than we do: no fault */

static ngx_uint_t
ngx_lunary_session_timed_out(ngx_lunary_conn_t *c)
{
    return c->nflights == 0 && ngx_strcmp(c->pg.sqlstate, "57P05") == 0;
}


static void
ngx_lunary_session_gone(ngx_lunary_conn_t *c, ngx_uint_t unexpected)
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
        f = ngx_lunary_flights_at(c, --c->nflights);

        if (f->query) {
            f->query->conn = NULL;
            f->query->took = ngx_current_msec - f->query->sent;

            c->owner->stranded(c, f->query, c->nflights == 0);
        }
    }

    c->owner->gone(c);
}
