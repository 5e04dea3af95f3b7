
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_auth.h"
#include "ngx_http_lunary_client.h"
#include "ngx_http_lunary_counters.h"
#include "ngx_http_lunary_refusal.h"
#include "ngx_http_lunary_query.h"
#include "ngx_http_lunary_variables.h"


static ngx_http_lunary_ctx_t *ngx_http_lunary_create_ctx(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_lunary_start(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_verdict_cached(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_cache_id(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_key_cache_id_t *id);
static ngx_int_t ngx_http_lunary_ask(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question);

static ngx_int_t ngx_http_lunary_row(ngx_lunary_query_t *q, PGresult *res,
    int i);
static void ngx_http_lunary_flush_rows(ngx_lunary_query_t *q);
static void ngx_http_lunary_reset_rows(ngx_lunary_query_t *q);
static void ngx_http_lunary_done(ngx_lunary_query_t *q,
    ngx_lunary_result_e result);
static void ngx_http_lunary_times(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_session_verdict(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_keep_key(ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_answer(ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_finish(ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_ask_again(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_finalize(ngx_http_lunary_ctx_t *ctx, ngx_int_t rc);
static void ngx_http_lunary_abandon(ngx_http_lunary_ctx_t *ctx);

static ngx_int_t ngx_http_lunary_refuse(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_outcome_e outcome);
static ngx_int_t ngx_http_lunary_cut(ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_unwritten(ngx_http_lunary_ctx_t *ctx);

static void ngx_http_lunary_broken(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_flush(ngx_http_lunary_ctx_t *ctx);
static ngx_http_lunary_ctx_t *ngx_http_lunary_asking(ngx_http_request_t *r);
static void ngx_http_lunary_write_handler(ngx_http_request_t *r);
static void ngx_http_lunary_read_handler(ngx_http_request_t *r);
static void ngx_http_lunary_discard_handler(ngx_http_request_t *r);
static void ngx_http_lunary_left(ngx_http_lunary_ctx_t *ctx, ngx_int_t rc);
static void ngx_http_lunary_cleanup(void *data);
static void ngx_http_lunary_ctx_cleanup(void *data);


ngx_int_t
ngx_http_lunary_handler(ngx_http_request_t *r)
{
    ngx_str_t               id;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_METHOD);
    }

    ctx->verdict = ngx_http_lunary_credential(ctx);

    if (ctx->verdict != NGX_HTTP_LUNARY_KEY_PRIVATE) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_DENIED);
    }

    if (ngx_http_complex_value(r, ctx->conf->id, &id) != NGX_OK) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_ERROR);
    }

    if (ngx_lunary_uuid_parse(id.data, id.len, ctx->run) != NGX_OK) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_NOT_FOUND);
    }

    return ngx_http_lunary_start(ctx);
}


static ngx_http_lunary_ctx_t *
ngx_http_lunary_create_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_lunary_ctx_t  *ctx;

    /* a request that comes a second time starts anew, and counts twice */

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_lunary_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_lunary_ctx_t));

    cln->handler = ngx_http_lunary_ctx_cleanup;

    ctx->request = r;
    ctx->conf = ngx_http_get_module_loc_conf(r, ngx_http_lunary_module);
    ctx->head = r->header_only || r->method == NGX_HTTP_HEAD;

    ngx_http_set_ctx(r, ctx, ngx_http_lunary_module);

    return ctx;
}


ngx_http_lunary_ctx_t *
ngx_http_lunary_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_lunary_module);

    if (ctx || !(r->internal || r->filter_finalize)) {
        return ctx;
    }

    /* a redirect has zeroed the contexts; the latest one is found first */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_lunary_ctx_cleanup) {
            ctx = cln->data;

            if (ctx->request == r) {
                return ctx;
            }
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_lunary_start(ngx_http_lunary_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_http_cleanup_t          *cln;
    ngx_http_request_t          *r;
    ngx_http_lunary_loc_conf_t  *llcf;

    r = ctx->request;
    llcf = ctx->conf;

    ngx_http_lunary_verdict_cached(ctx);

    ngx_http_lunary_stream_init(&ctx->stream, r, llcf->buffer_size,
                                llcf->buffers_max, llcf->max_temp_file_size,
                                llcf->temp_path);

    ctx->query.row = ngx_http_lunary_row;
    ctx->query.flush = ngx_http_lunary_flush_rows;
    ctx->query.reset = ngx_http_lunary_reset_rows;
    ctx->query.done = ngx_http_lunary_done;
    ctx->query.data = ctx;
    ctx->query.log = r->connection->log;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_ERROR);
    }

    cln->handler = ngx_http_lunary_cleanup;
    cln->data = ctx;

    if (ngx_http_lunary_client_watch(r) != NGX_OK) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_ERROR);
    }

    rc = ngx_http_lunary_ask(ctx, ctx->head ? NGX_HTTP_LUNARY_EXISTS
                                        : NGX_HTTP_LUNARY_MAIN);

    if (rc == NGX_BUSY) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_QUEUE_FULL);
    }

    r->read_event_handler = ngx_http_lunary_read_handler;
    r->write_event_handler = ngx_http_lunary_write_handler;

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_lunary_verdict_cached(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_lunary_loc_conf_t      *llcf;
    ngx_http_lunary_key_cache_id_t   id;

    llcf = ctx->conf;
    ctx->verdict = NGX_HTTP_LUNARY_KEY_UNASKED;

    if (llcf->key_cache == NULL) {
        ctx->cache = NGX_HTTP_LUNARY_CACHE_BYPASS;
        return;
    }

    ngx_http_lunary_cache_id(ctx, &id);

    ctx->cache = ngx_http_lunary_key_cache_find(llcf->key_cache, &id,
                                                llcf->key_valid,
                                                ctx->project);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "lunary key cache: %V",
                   &ngx_http_lunary_caches[ctx->cache]);

    if (ctx->cache == NGX_HTTP_LUNARY_CACHE_HIT) {
        ctx->verdict = NGX_HTTP_LUNARY_KEY_PRIVATE;
        ctx->has_project = 1;
    }
}


static void
ngx_http_lunary_cache_id(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_key_cache_id_t *id)
{
    id->type = ctx->credential;
    id->database = ctx->conf->pool->conf.database;

    if (ctx->credential == NGX_HTTP_LUNARY_CREDENTIAL_KEY) {
        id->data = ctx->key;
        id->len = NGX_LUNARY_UUID_LEN;

    } else {
        id->data = (u_char *) &ctx->session;
        id->len = sizeof(ngx_http_lunary_session_t);
    }
}


static ngx_int_t
ngx_http_lunary_ask(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question)
{
    ngx_int_t  rc;

    ngx_http_lunary_query_set(ctx, question);

    ctx->state = NGX_HTTP_LUNARY_STATE_QUERY;

    rc = ngx_lunary_pool_query(ctx->conf->pool, &ctx->query);

    if (rc != NGX_OK) {
        ctx->state = NGX_HTTP_LUNARY_STATE_DONE;
    }

    return rc;
}


static ngx_int_t
ngx_http_lunary_row(ngx_lunary_query_t *q, PGresult *res, int i)
{
    ngx_int_t               rc;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = q->data;

    rc = ngx_http_lunary_query_row(ctx, res, i);

    q->committed = ctx->stream.committed;

    /* NGX_ERROR is the stream's: the client's or the memory's, see flush */

    return rc == NGX_DECLINED ? NGX_ERROR : NGX_OK;
}


static void
ngx_http_lunary_flush_rows(ngx_lunary_query_t *q)
{
    ngx_connection_t       *c;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = q->data;
    c = ctx->request->connection;

    if (!ctx->stream.committed && !ctx->stream.failed) {
        return;
    }

    ngx_http_set_log_request(c->log, ctx->request);

    ngx_http_lunary_flush(ctx);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_lunary_reset_rows(ngx_lunary_query_t *q)
{
    ngx_http_lunary_ctx_t *ctx = q->data;

    ngx_http_lunary_stream_reset(&ctx->stream);

    ngx_http_lunary_query_reset(ctx);
}


static void
ngx_http_lunary_done(ngx_lunary_query_t *q, ngx_lunary_result_e result)
{
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = q->data;
    c = ctx->request->connection;

    ngx_http_set_log_request(c->log, ctx->request);

    ngx_http_lunary_times(ctx);

    if (ctx->stream.failed) {
        ngx_http_lunary_broken(ctx);
        ngx_http_run_posted_requests(c);
        return;
    }

    if (result == NGX_LUNARY_OK) {
        rc = ngx_http_lunary_answer(ctx);

        if (rc == NGX_DONE) {
            return;
        }

    } else if (ctx->stream.committed) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "the database failed in mid-answer (SQLSTATE %s), "
                      "the answer is cut off",
                      q->sqlstate[0] ? q->sqlstate : "-");

        rc = ngx_http_lunary_cut(ctx);

    } else {
        static const ngx_http_lunary_outcome_e  outcomes[] = {
            [NGX_LUNARY_UNAVAILABLE] = NGX_HTTP_LUNARY_UNAVAILABLE,
            [NGX_LUNARY_QUEUE_TIMEOUT] = NGX_HTTP_LUNARY_QUEUE_TIMEOUT,
            [NGX_LUNARY_TIMEOUT] = NGX_HTTP_LUNARY_TIMEOUT,
            [NGX_LUNARY_FAILED] = NGX_HTTP_LUNARY_ERROR
        };

        rc = ngx_http_lunary_refuse(ctx, outcomes[result]);
    }

    ngx_http_lunary_finalize(ctx, rc);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_lunary_times(ngx_http_lunary_ctx_t *ctx)
{
    ngx_lunary_query_t *q = &ctx->query;

    ctx->queued = 1;
    ctx->queue_time += q->waited;
    q->waited = 0;

    if (!q->asked) {
        return;
    }

    ctx->asked = 1;
    ctx->query_time += q->took;

    if (q->connected) {
        ctx->connected = 1;
        ctx->connect_time += q->connect;
    }

    if (q->rows) {
        ctx->first_row = 1;
        ctx->first_row_time += q->first_row;
    }

    /* told once, whatever becomes of another query */

    q->took = 0;
    q->connected = 0;
    q->rows = 0;
}


/* all rows are there.  NGX_DONE: another query is on its way */

static ngx_int_t
ngx_http_lunary_answer(ngx_http_lunary_ctx_t *ctx)
{
    if (!ctx->has_head) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_ERROR);
    }

    ngx_http_lunary_session_verdict(ctx);

    if (ctx->verdict != NGX_HTTP_LUNARY_KEY_PRIVATE) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_DENIED);
    }

    ngx_http_lunary_keep_key(ctx);

    if (!ctx->found && ctx->credential == NGX_HTTP_LUNARY_CREDENTIAL_KEY) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_NOT_FOUND);
    }

    if (ctx->needs_full) {
        return ngx_http_lunary_ask_again(ctx);
    }

    if (ctx->head) {
        ctx->outcome = NGX_HTTP_LUNARY_OK;

        return ngx_http_lunary_send_header(ctx->request, NGX_HTTP_OK, -1);
    }

    if (ngx_http_lunary_query_end(ctx) != NGX_OK) {
        return ngx_http_lunary_unwritten(ctx);
    }

    return ngx_http_lunary_finish(ctx);
}


static ngx_int_t
ngx_http_lunary_finish(ngx_http_lunary_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->outcome = NGX_HTTP_LUNARY_OK;

    rc = ngx_http_lunary_stream_finish(&ctx->stream);

    return rc == NGX_ERROR ? ngx_http_lunary_unwritten(ctx) : rc;
}


static ngx_int_t
ngx_http_lunary_ask_again(ngx_http_lunary_ctx_t *ctx)
{
    return ngx_http_lunary_ask(ctx, NGX_HTTP_LUNARY_FULL) == NGX_OK
           ? NGX_DONE
           : ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_QUEUE_FULL);
}


/* one line until a session is served again */

static void
ngx_http_lunary_session_verdict(ngx_http_lunary_ctx_t *ctx)
{
    if (ctx->by != NGX_HTTP_LUNARY_BY_SESSION) {
        return;
    }

    if (ctx->verdict != NGX_HTTP_LUNARY_KEY_UNSUPPORTED) {
        ctx->conf->sessions_refused = 0;
        return;
    }

    ctx->verdict = NGX_HTTP_LUNARY_KEY_INVALID;

    if (ctx->conf->sessions_refused) {
        return;
    }

    ctx->conf->sessions_refused = 1;

    ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                  "sessions are refused: the database role cannot read who "
                  "is a member, \"grant select (id, role) on account\" and "
                  "\"grant select on account_project\" to it");
}


static void
ngx_http_lunary_keep_key(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_lunary_loc_conf_t      *llcf;
    ngx_http_lunary_key_cache_id_t   id;

    llcf = ctx->conf;

    if (llcf->key_cache && ctx->by != NGX_HTTP_LUNARY_BY_PROJECT
        && ctx->has_project)
    {
        ngx_http_lunary_cache_id(ctx, &id);
        ngx_http_lunary_key_cache_keep(llcf->key_cache, &id, ctx->project,
                                       ctx->query.sent);
    }
}


static void
ngx_http_lunary_finalize(ngx_http_lunary_ctx_t *ctx, ngx_int_t rc)
{
    if (ctx->state == NGX_HTTP_LUNARY_STATE_QUERY) {
        ngx_http_lunary_abandon(ctx);
    }

    ctx->state = NGX_HTTP_LUNARY_STATE_DONE;

    /* an error_page may keep the request, and nothing of it is ours then */

    ctx->request->read_event_handler = ngx_http_block_reading;

    ngx_http_finalize_request(ctx->request, rc);
}


/* a query that is not over is given up; what it took so far is kept */

static void
ngx_http_lunary_abandon(ngx_http_lunary_ctx_t *ctx)
{
    ngx_lunary_query_t *q = &ctx->query;

    switch (q->state) {

    case NGX_LUNARY_QUERY_WAITING:
    case NGX_LUNARY_QUERY_COMPLETE:
        ngx_lunary_pool_abandon(q);
        break;

    case NGX_LUNARY_QUERY_SENT:
        q->took = ngx_current_msec - q->sent;
        ngx_lunary_pool_abandon(q);
        break;

    default:
        return;
    }

    ngx_http_lunary_times(ctx);
}


static ngx_int_t
ngx_http_lunary_refuse(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_outcome_e outcome)
{
    ctx->outcome = outcome;
    ctx->state = NGX_HTTP_LUNARY_STATE_DONE;

    return ngx_http_lunary_refusal_send(ctx->request, outcome, ctx->verdict);
}


/* the answer has begun and can't be finished: see the cleanup */

static ngx_int_t
ngx_http_lunary_cut(ngx_http_lunary_ctx_t *ctx)
{
    ctx->outcome = NGX_HTTP_LUNARY_CUT;

    return NGX_ERROR;
}


/* what is to be done where the answer can't be written */

static ngx_int_t
ngx_http_lunary_unwritten(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    /* a filter has answered something else, and that is whole */

    if (r->filter_finalize) {
        ctx->outcome = NGX_HTTP_LUNARY_ERROR;
        return NGX_ERROR;
    }

    if (ngx_http_lunary_client_failed(r)) {
        ctx->outcome = NGX_HTTP_LUNARY_CLIENT_LEFT;
        return NGX_ERROR;
    }

    if (!ctx->stream.committed) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_ERROR);
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "the answer is cut off");

    return ngx_http_lunary_cut(ctx);
}


/* the answer can't go on, though the database would */

static void
ngx_http_lunary_broken(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_lunary_abandon(ctx);
    ngx_http_lunary_finalize(ctx, ngx_http_lunary_unwritten(ctx));
}


/* sends what is ready, and lets the database wait for a client that must */

static void
ngx_http_lunary_flush(ngx_http_lunary_ctx_t *ctx)
{
    ngx_int_t                  rc;
    ngx_event_t               *wev;
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;
    c = r->connection;
    wev = c->write;

    rc = ngx_http_lunary_stream_flush(&ctx->stream);

    if (rc == NGX_ERROR) {

        ngx_http_lunary_broken(ctx);
        return;
    }

    if (rc == NGX_AGAIN) {
        ngx_lunary_pool_pause(&ctx->query);

    } else {
        ngx_lunary_pool_resume(&ctx->query);
    }

    if (r->discard_body) {
        r->read_event_handler = ngx_http_lunary_discard_handler;

    } else {
        r->read_event_handler = ngx_http_lunary_read_handler;
    }

    if (c->data != r) {
        return;
    }

    clcf = ngx_http_get_module_loc_conf(r->main, ngx_http_core_module);

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        ngx_http_lunary_left(ctx, NGX_ERROR);
        return;
    }

    if (wev->delayed) {
        return;
    }

    /* a filter may hold what the client does not take, with nothing busy */

    if (ctx->stream.busy == NULL && (!wev->active || wev->ready)) {

        if (wev->timer_set) {
            ngx_del_timer(wev);
        }

    } else if (!wev->timer_set) {
        ngx_add_timer(wev, clcf->send_timeout);
    }
}


/* the context while a query is under way; a redirect may have taken it */

static ngx_http_lunary_ctx_t *
ngx_http_lunary_asking(ngx_http_request_t *r)
{
    ngx_http_lunary_ctx_t *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_lunary_module);

    return ctx && ctx->state == NGX_HTTP_LUNARY_STATE_QUERY ? ctx : NULL;
}


static void
ngx_http_lunary_write_handler(ngx_http_request_t *r)
{
    ngx_event_t                *wev;
    ngx_connection_t           *c;
    ngx_http_lunary_ctx_t      *ctx;
    ngx_http_core_loc_conf_t   *clcf;

    c = r->connection;
    wev = c->write;
    ctx = ngx_http_lunary_asking(r);

    if (ctx == NULL) {
        return;
    }

    if (c->error || wev->error) {
        ngx_http_lunary_left(ctx, NGX_HTTP_CLIENT_CLOSED_REQUEST);
        return;
    }

    if (!ctx->stream.committed) {

        /* the time is that of what the page around this one has written */

        wev->timedout = 0;
        return;
    }

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT, "client timed out");
        c->timedout = 1;

        ngx_http_lunary_left(ctx, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (wev->delayed || r->aio) {

        clcf = ngx_http_get_module_loc_conf(r->main, ngx_http_core_module);

        if (!wev->delayed) {
            ngx_add_timer(wev, clcf->send_timeout);
        }

        if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
            ngx_http_lunary_left(ctx, NGX_ERROR);
        }

        return;
    }

    /* the client took something: its time starts anew */

    if (wev->timer_set) {
        ngx_del_timer(wev);
    }

    ngx_http_lunary_flush(ctx);
}


static void
ngx_http_lunary_read_handler(ngx_http_request_t *r)
{
    ngx_http_lunary_ctx_t *ctx;

    ctx = ngx_http_lunary_asking(r);

    if (ctx == NULL || !ngx_http_lunary_client_has_left(r)) {
        return;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "client prematurely closed connection");

    r->connection->error = 1;

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        r->connection->ssl->no_send_shutdown = 1;
    }
#endif

    ngx_http_lunary_left(ctx, NGX_HTTP_CLIENT_CLOSED_REQUEST);
}


/* nginx reads a body away; when that is over, the client is watched again */

static void
ngx_http_lunary_discard_handler(ngx_http_request_t *r)
{
    ngx_http_discarded_request_body_handler(r);

    if (ngx_http_lunary_asking(r) == NULL || r->discard_body) {
        return;
    }

    r->read_event_handler = ngx_http_lunary_read_handler;

    ngx_http_lunary_read_handler(r);
}


static void
ngx_http_lunary_left(ngx_http_lunary_ctx_t *ctx, ngx_int_t rc)
{
    ctx->outcome = NGX_HTTP_LUNARY_CLIENT_LEFT;

    ngx_http_lunary_finalize(ctx, rc);
}


/*
 * the request goes: its query must not outlive it, and a part of an answer
 * must not look like all of it, whatever the reason
 */

static void
ngx_http_lunary_cleanup(void *data)
{
    ngx_http_lunary_ctx_t *ctx = data;

    if (ctx->state == NGX_HTTP_LUNARY_STATE_QUERY) {
        ctx->state = NGX_HTTP_LUNARY_STATE_DONE;
        ctx->outcome = NGX_HTTP_LUNARY_CLIENT_LEFT;

        ngx_http_lunary_abandon(ctx);
    }

    if (ngx_http_lunary_stream_is_cut(&ctx->stream)) {
        ngx_http_lunary_client_reset(ctx->request);
    }
}


static void
ngx_http_lunary_ctx_cleanup(void *data)
{
    ngx_http_lunary_counters_request(data);
}
