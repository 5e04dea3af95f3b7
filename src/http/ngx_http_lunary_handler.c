
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_auth.h"
#include "ngx_http_lunary_client.h"
#include "ngx_http_lunary_metrics.h"
#include "ngx_http_lunary_query.h"
#include "ngx_http_lunary_response.h"
#include "ngx_http_lunary_tag.h"
#include "ngx_http_lunary_variables.h"


static ngx_http_lunary_ctx_t *ngx_http_lunary_create_ctx(
    ngx_http_request_t *r);
static void ngx_http_lunary_set_state(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_state_e state);
static ngx_int_t ngx_http_lunary_start(ngx_http_lunary_ctx_t *ctx);
static ngx_http_lunary_question_e ngx_http_lunary_first_question(
    ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_ask(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question);

static ngx_int_t ngx_http_lunary_row(ngx_lunary_query_t *q, PGresult *res,
    int i);
static void ngx_http_lunary_flush_rows(ngx_lunary_query_t *q);
static void ngx_http_lunary_reset_rows(ngx_lunary_query_t *q);
static void ngx_http_lunary_done(ngx_lunary_query_t *q,
    ngx_lunary_result_e result);
static ngx_int_t ngx_http_lunary_answer(ngx_http_lunary_ctx_t *ctx,
    ngx_lunary_result_e result);
static ngx_int_t ngx_http_lunary_finish(ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_fail(ngx_http_lunary_ctx_t *ctx,
    ngx_lunary_result_e result);
static ngx_int_t ngx_http_lunary_condition(ngx_http_lunary_ctx_t *ctx);
static ngx_int_t ngx_http_lunary_ask_again(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question);
static void ngx_http_lunary_abandon(ngx_http_lunary_ctx_t *ctx);

static ngx_int_t ngx_http_lunary_refuse(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_outcome_e outcome);
static ngx_int_t ngx_http_lunary_cut(ngx_http_lunary_ctx_t *ctx,
    const char *reason, const char *sqlstate);
static ngx_int_t ngx_http_lunary_unwritten(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_left(ngx_http_lunary_ctx_t *ctx, ngx_int_t rc);
static void ngx_http_lunary_finalize(ngx_http_lunary_ctx_t *ctx,
    ngx_int_t rc);

static void ngx_http_lunary_flush(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_send_rest(ngx_http_lunary_ctx_t *ctx);
static void ngx_http_lunary_await(ngx_http_lunary_ctx_t *ctx,
    ngx_uint_t busy);
static ngx_http_lunary_ctx_t *ngx_http_lunary_active(ngx_http_request_t *r);
static void ngx_http_lunary_write_handler(ngx_http_request_t *r);
static void ngx_http_lunary_read_handler(ngx_http_request_t *r);
static void ngx_http_lunary_discard_handler(ngx_http_request_t *r);
static void ngx_http_lunary_cleanup(void *data);


ngx_int_t
ngx_http_lunary_handler(ngx_http_request_t *r)
{
    ngx_str_t               id;
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "lunary request \"%V\", header only:%d", &r->uri,
                   (int) ctx->header_only);

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_METHOD);
    }

    ctx->verdict = ngx_http_lunary_credential(ctx);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "lunary credential: %V \"%V\"",
                   &ngx_http_lunary_credentials[ctx->credential],
                   ngx_http_lunary_key_message(ctx->verdict));

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

    /* a request that is redirected to the location twice counts twice */

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_lunary_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_lunary_ctx_t));

    cln->handler = ngx_http_lunary_metrics_request;

    ctx->request = r;
    ctx->conf = ngx_http_get_module_loc_conf(r, ngx_http_lunary_module);
    ctx->header_only = r->header_only || r->method == NGX_HTTP_HEAD;
    ctx->queue_time = NGX_CONF_UNSET_MSEC;
    ctx->connect_time = NGX_CONF_UNSET_MSEC;
    ctx->first_row_time = NGX_CONF_UNSET_MSEC;
    ctx->query_time = NGX_CONF_UNSET_MSEC;

    ngx_http_set_ctx(r, ctx, ngx_http_lunary_module);

    return ctx;
}


static void
ngx_http_lunary_set_state(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_state_e state)
{
    ngx_http_lunary_state_e  old;

#if (NGX_DEBUG)
    static char  *names[] = { "start", "query", "paused", "sending", "done" };
#endif

    old = ctx->state;

    if (old == state) {
        return;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "lunary request state: %s -> %s", names[old],
                   names[state]);

    ctx->state = state;

    if (state == NGX_HTTP_LUNARY_STATE_PAUSED) {
        ngx_lunary_pool_pause(&ctx->query);

    } else if (old == NGX_HTTP_LUNARY_STATE_PAUSED
               && state == NGX_HTTP_LUNARY_STATE_QUERY)
    {
        ngx_lunary_pool_resume(&ctx->query);
    }
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

    ctx->stream.etag = &ctx->etag;

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

    rc = ngx_http_lunary_ask(ctx, ngx_http_lunary_first_question(ctx));

    if (rc == NGX_BUSY) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_QUEUE_FULL);
    }

    /* an error_page that redirects here may have begun to discard the body */

    r->read_event_handler =
            r->read_event_handler == ngx_http_discarded_request_body_handler
            ? ngx_http_lunary_discard_handler : ngx_http_lunary_read_handler;
    r->write_event_handler = ngx_http_lunary_write_handler;

    r->main->count++;

    return NGX_DONE;
}


/* TAG is of no use where the sessions have no versions */

static ngx_http_lunary_question_e
ngx_http_lunary_first_question(ngx_http_lunary_ctx_t *ctx)
{
    if (ctx->header_only) {
        return NGX_HTTP_LUNARY_EXISTS;
    }

    return ctx->conf->etag && !ctx->conf->untagged
           && ctx->request->headers_in.if_none_match
           ? NGX_HTTP_LUNARY_TAG : NGX_HTTP_LUNARY_MAIN;
}


static ngx_int_t
ngx_http_lunary_ask(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question)
{
    ngx_int_t  rc;

    ctx->confirming = 0;

    ngx_http_lunary_query_set(ctx, question);

    rc = ngx_lunary_pool_query(ctx->conf->pool, &ctx->query);

    ngx_http_lunary_set_state(ctx, rc == NGX_OK ? NGX_HTTP_LUNARY_STATE_QUERY
                                                : NGX_HTTP_LUNARY_STATE_DONE);

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

    /* after NGX_ERROR the stream is marked as failed, the flush finds it */

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

    ngx_http_lunary_count_times(ctx);

    if (ctx->stream.failed) {
        rc = ngx_http_lunary_unwritten(ctx);

    } else if (result == NGX_LUNARY_OK || ctx->confirming) {
        rc = ngx_http_lunary_answer(ctx, result);

    } else {
        rc = ngx_http_lunary_fail(ctx, result);
    }

    if (rc != NGX_DONE) {
        ngx_http_lunary_finalize(ctx, rc);
    }

    ngx_http_run_posted_requests(c);
}


/* all rows are read.  NGX_DONE: the request is not finished */

static ngx_int_t
ngx_http_lunary_answer(ngx_http_lunary_ctx_t *ctx, ngx_lunary_result_e result)
{
    if (result != NGX_LUNARY_OK) {
        ngx_http_lunary_query_unconfirmed(ctx);
    }

    if (ngx_http_lunary_query_lacks_head(ctx)) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_ERROR);
    }

    if (ngx_http_lunary_query_confirm(ctx) == NGX_OK) {
        return NGX_DONE;
    }

    ngx_http_lunary_verdict_session(ctx);

    if (ctx->verdict != NGX_HTTP_LUNARY_KEY_PRIVATE) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_DENIED);
    }

    ngx_http_lunary_verdict_keep(ctx);

    if (!ctx->found && ctx->credential == NGX_HTTP_LUNARY_CREDENTIAL_KEY) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_NOT_FOUND);
    }

    if (ctx->question == NGX_HTTP_LUNARY_TAG && ctx->found) {
        return ngx_http_lunary_condition(ctx);
    }

    if (ctx->needs_full) {
        return ngx_http_lunary_ask_again(ctx, NGX_HTTP_LUNARY_FULL);
    }

    if (ctx->header_only) {
        ctx->outcome = NGX_HTTP_LUNARY_OK;

        return ngx_http_lunary_response_ok(ctx->request, &ctx->etag, -1);
    }

    if (ngx_http_lunary_query_end(ctx) != NGX_OK) {
        return ngx_http_lunary_unwritten(ctx);
    }

    return ngx_http_lunary_finish(ctx);
}


/* TAG is answered: 304, or the rows are asked for */

static ngx_int_t
ngx_http_lunary_condition(ngx_http_lunary_ctx_t *ctx)
{
    if (ctx->etag.len == 0 || !ngx_http_lunary_tag_matches(ctx)) {
        return ngx_http_lunary_ask_again(ctx, NGX_HTTP_LUNARY_MAIN);
    }

    ctx->outcome = NGX_HTTP_LUNARY_NOT_MODIFIED;

    return ngx_http_lunary_response_not_modified(ctx->request, &ctx->etag);
}


/* sends the end of the response.  NGX_DONE: a part of it is still unsent */

static ngx_int_t
ngx_http_lunary_finish(ngx_http_lunary_ctx_t *ctx)
{
    ngx_int_t  rc;

    /* set before the header is sent: "add_header" may use it */

    ctx->outcome = NGX_HTTP_LUNARY_OK;

    rc = ngx_http_lunary_stream_finish(&ctx->stream);

    if (rc == NGX_ERROR) {
        return ngx_http_lunary_unwritten(ctx);
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "lunary response complete, runs:%ui bytes:%O",
                   ctx->nruns, ctx->stream.length);

    if (!ngx_http_lunary_client_pending(ctx->request)) {
        return rc;
    }

    ngx_http_lunary_set_state(ctx, NGX_HTTP_LUNARY_STATE_SENDING);
    ngx_http_lunary_await(ctx, 1);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_lunary_fail(ngx_http_lunary_ctx_t *ctx, ngx_lunary_result_e result)
{
    const char  *sqlstate;

    static const ngx_http_lunary_outcome_e  outcomes[] = {
        [NGX_LUNARY_UNAVAILABLE] = NGX_HTTP_LUNARY_UNAVAILABLE,
        [NGX_LUNARY_QUEUE_TIMEOUT] = NGX_HTTP_LUNARY_QUEUE_TIMEOUT,
        [NGX_LUNARY_TIMEOUT] = NGX_HTTP_LUNARY_TIMEOUT,
        [NGX_LUNARY_FAILED] = NGX_HTTP_LUNARY_ERROR
    };

    if (!ctx->stream.committed) {
        return ngx_http_lunary_refuse(ctx, outcomes[result]);
    }

    sqlstate = ctx->query.sqlstate;

    if (*sqlstate == '\0') {
        return ngx_http_lunary_cut(ctx, result == NGX_LUNARY_TIMEOUT
                                        ? "the query timed out"
                                        : "the query failed", "");
    }

    return ngx_http_lunary_cut(ctx, "the query failed, SQLSTATE ", sqlstate);
}


static ngx_int_t
ngx_http_lunary_ask_again(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question)
{
    return ngx_http_lunary_ask(ctx, question) == NGX_OK
           ? NGX_DONE
           : ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_QUEUE_FULL);
}


/* abandons the query; the time that it took so far counts */

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

    ngx_http_lunary_count_times(ctx);
}


static ngx_int_t
ngx_http_lunary_refuse(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_outcome_e outcome)
{
    ctx->outcome = outcome;

    ngx_http_lunary_set_state(ctx, NGX_HTTP_LUNARY_STATE_DONE);

    return ngx_http_lunary_response_error(ctx->request, outcome,
                                          ctx->verdict);
}


/* a part of the response is sent, and the rest cannot be had */

static ngx_int_t
ngx_http_lunary_cut(ngx_http_lunary_ctx_t *ctx, const char *reason,
    const char *sqlstate)
{
    ctx->outcome = NGX_HTTP_LUNARY_CUT;

    ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                  "the response is cut off: %s%s", reason, sqlstate);

    return NGX_ERROR;
}


/* the response cannot be written */

static ngx_int_t
ngx_http_lunary_unwritten(ngx_http_lunary_ctx_t *ctx)
{
    if (!ctx->stream.committed) {
        return ngx_http_lunary_refuse(ctx, NGX_HTTP_LUNARY_ERROR);
    }

    if (!ctx->stream.begun) {

        /* a filter has refused the header, or has sent its own response */

        ctx->outcome = NGX_HTTP_LUNARY_ERROR;
        return NGX_ERROR;
    }

    if (!ngx_http_lunary_client_failed(ctx->request)) {
        return ngx_http_lunary_cut(ctx, "it cannot be sent", "");
    }

    ctx->outcome = NGX_HTTP_LUNARY_CLIENT_LEFT;

    return NGX_ERROR;
}


static void
ngx_http_lunary_left(ngx_http_lunary_ctx_t *ctx, ngx_int_t rc)
{
    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "lunary client left: %i", rc);

    ctx->outcome = NGX_HTTP_LUNARY_CLIENT_LEFT;

    ngx_http_lunary_finalize(ctx, rc);
}


static void
ngx_http_lunary_finalize(ngx_http_lunary_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_lunary_abandon(ctx);
    ngx_http_lunary_set_state(ctx, NGX_HTTP_LUNARY_STATE_DONE);

    /* an error_page may keep the request */

    r->read_event_handler = ngx_http_block_reading;

    /*
     * A post_action, the parent of a subrequest, or the next request of the
     * connection must not send anything after a part of a response.
     */

    if ((ctx->outcome == NGX_HTTP_LUNARY_CUT
         || ctx->outcome == NGX_HTTP_LUNARY_CLIENT_LEFT)
        && ngx_http_lunary_stream_is_partial(&ctx->stream))
    {
        r->connection->error = 1;
    }

    ngx_http_finalize_request(r, rc);
}


/* sends what is ready, and pauses the query if the client must read first */

static void
ngx_http_lunary_flush(ngx_http_lunary_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_lunary_stream_flush(&ctx->stream);

    if (rc == NGX_ERROR) {
        ngx_http_lunary_finalize(ctx, ngx_http_lunary_unwritten(ctx));
        return;
    }

    ngx_http_lunary_set_state(ctx, rc == NGX_AGAIN
                                   ? NGX_HTTP_LUNARY_STATE_PAUSED
                                   : NGX_HTTP_LUNARY_STATE_QUERY);

    ngx_http_lunary_await(ctx, ctx->stream.busy != NULL);
}


/* sends what is left of a complete response */

static void
ngx_http_lunary_send_rest(ngx_http_lunary_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_lunary_stream_send(&ctx->stream);

    if (rc == NGX_ERROR) {
        ngx_http_lunary_finalize(ctx, ngx_http_lunary_unwritten(ctx));
        return;
    }

    if (ngx_http_lunary_client_pending(ctx->request)) {
        ngx_http_lunary_await(ctx, 1);
        return;
    }

    ngx_http_lunary_finalize(ctx, rc);
}


static void
ngx_http_lunary_await(ngx_http_lunary_ctx_t *ctx, ngx_uint_t busy)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    /* sending the header may have begun to discard the request body */

    if (r->read_event_handler == ngx_http_discarded_request_body_handler) {
        r->read_event_handler = ngx_http_lunary_discard_handler;
    }

    if (ngx_http_lunary_client_await(r, busy) != NGX_OK) {
        ngx_http_lunary_left(ctx, NGX_ERROR);
    }
}


/* the context of a request that the module has not finalized, or NULL */

static ngx_http_lunary_ctx_t *
ngx_http_lunary_active(ngx_http_request_t *r)
{
    ngx_http_lunary_ctx_t  *ctx;

    /* an internal redirect zeroes the contexts */

    ctx = ngx_http_get_module_ctx(r, ngx_http_lunary_module);

    if (ctx == NULL || ctx->state == NGX_HTTP_LUNARY_STATE_DONE) {
        return NULL;
    }

    return ctx;
}


static void
ngx_http_lunary_write_handler(ngx_http_request_t *r)
{
    ngx_event_t            *wev;
    ngx_connection_t       *c;
    ngx_http_lunary_ctx_t  *ctx;

    c = r->connection;
    wev = c->write;
    ctx = ngx_http_lunary_active(r);

    if (ctx == NULL) {
        return;
    }

    if (c->error || wev->error) {
        ngx_http_lunary_left(ctx, NGX_HTTP_CLIENT_CLOSED_REQUEST);
        return;
    }

    if (!ctx->stream.committed) {

        /* the timer is the parent request's */

        wev->timedout = 0;
        return;
    }

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT, "client timed out");
        c->timedout = 1;

        ngx_http_lunary_left(ctx, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    /* the client has read something: send_timeout starts again */

    if (wev->timer_set && !wev->delayed) {
        ngx_del_timer(wev);
    }

    if (wev->delayed || r->aio) {
        ngx_http_lunary_await(ctx, 1);
        return;
    }

    if (ctx->state == NGX_HTTP_LUNARY_STATE_SENDING) {
        ngx_http_lunary_send_rest(ctx);

    } else {
        ngx_http_lunary_flush(ctx);
    }
}


static void
ngx_http_lunary_read_handler(ngx_http_request_t *r)
{
    ngx_http_lunary_ctx_t  *ctx;

    ctx = ngx_http_lunary_active(r);

    if (ctx && ngx_http_lunary_client_has_left(r)) {
        ngx_http_lunary_left(ctx, NGX_HTTP_CLIENT_CLOSED_REQUEST);
    }
}


/*
 * nginx discards the request body.  When that ends, nginx drops its reference
 * to the request, and the client is watched again.
 */

static void
ngx_http_lunary_discard_handler(ngx_http_request_t *r)
{
    ngx_uint_t  count;

    count = r->main->count;

    ngx_http_discarded_request_body_handler(r);

    if (ngx_http_lunary_active(r) == NULL || r->main->count == count) {
        return;
    }

    r->read_event_handler = ngx_http_lunary_read_handler;

    ngx_http_lunary_read_handler(r);
}


/*
 * Called when the request is freed.  Abandons the query.  If only a part of
 * the response was sent, cuts the connection or the stream.
 */

static void
ngx_http_lunary_cleanup(void *data)
{
    ngx_http_lunary_ctx_t *ctx = data;

    ngx_uint_t           undecided;
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_lunary_abandon(ctx);
    ngx_http_lunary_set_state(ctx, NGX_HTTP_LUNARY_STATE_DONE);

    undecided = (ctx->outcome == NGX_HTTP_LUNARY_UNFINISHED);

    if (ngx_http_lunary_stream_is_partial(&ctx->stream)) {

        if (undecided || ctx->outcome == NGX_HTTP_LUNARY_OK) {
            (void) ngx_http_lunary_unwritten(ctx);
        }

        ngx_http_lunary_client_cut(r, ctx->stream.framed);

    } else if (undecided) {
        ctx->outcome = NGX_HTTP_LUNARY_CLIENT_LEFT;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "lunary request ended: %V",
                   &ngx_http_lunary_outcomes[ctx->outcome]);
}
