
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_client.h"


static ngx_uint_t ngx_http_lunary_client_gone(ngx_http_request_t *r);


ngx_int_t
ngx_http_lunary_client_watch(ngx_http_request_t *r)
{
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    c = r->connection;
    rev = c->read;

#if (NGX_HTTP_V2)
    if (r->stream) {
        return NGX_OK;
    }
#endif

#if (NGX_HTTP_V3)
    if (c->quic) {
        return NGX_OK;
    }
#endif

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    /* the client may be gone already, and no other event will come */

    if (rev->ready) {
        ngx_post_event(rev, &ngx_posted_events);
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_lunary_client_has_left(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    if (!c->error && !ngx_http_lunary_client_gone(r)) {
        return 0;
    }

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "client prematurely closed connection");

    c->error = 1;
    c->read->eof = 1;

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        c->ssl->no_send_shutdown = 1;
    }
#endif

    return 1;
}


/* asks the socket, as ngx_http_test_reading() does, which would finalize */

static ngx_uint_t
ngx_http_lunary_client_gone(ngx_http_request_t *r)
{
    u_char             ch;
    ssize_t            n;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    c = r->connection;
    rev = c->read;

#if (NGX_HTTP_V2)
    if (r->stream) {
        return 0;
    }
#endif

#if (NGX_HTTP_V3)
    if (c->quic) {
        return rev->error || c->write->error;
    }
#endif

#if (NGX_HAVE_EPOLLRDHUP)
    if ((ngx_event_flags & NGX_USE_EPOLL_EVENT) && ngx_use_epoll_rdhup) {
        return rev->pending_eof;
    }
#endif

#if (NGX_HAVE_KQUEUE)
    if (ngx_event_flags & NGX_USE_KQUEUE_EVENT) {
        return rev->pending_eof;
    }
#endif

    n = recv(c->fd, &ch, 1, MSG_PEEK);

    if (n == 0 || (n == -1 && ngx_socket_errno != NGX_EAGAIN)) {
        return 1;
    }

    /* a pipelined request: a level-triggered event would fire forever */

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && rev->active) {
        return ngx_del_event(rev, NGX_READ_EVENT, 0) != NGX_OK;
    }

    return 0;
}


ngx_uint_t
ngx_http_lunary_client_pending(ngx_http_request_t *r)
{
    return r->buffered || r->postponed
           || (r == r->main && r->connection->buffered);
}


ngx_int_t
ngx_http_lunary_client_await(ngx_http_request_t *r, ngx_uint_t busy)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    /* another part of the page is sent first */

    if (r->connection->data != r) {
        return NGX_OK;
    }

    wev = r->connection->write;

    clcf = ngx_http_get_module_loc_conf(r->main, ngx_http_core_module);

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        return NGX_ERROR;
    }

    /* limit_rate has set the timer */

    if (wev->delayed) {
        return NGX_OK;
    }

    /* a filter may hold what the client does not take, with nothing busy */

    if (!busy && (!wev->active || wev->ready)) {

        if (wev->timer_set) {
            ngx_del_timer(wev);
        }

    } else if (!wev->timer_set) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_lunary_client_failed(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

#if (NGX_HTTP_V2)
    if (r->stream) {
        return r->stream->out_closed
               || r->stream->connection->connection->error;
    }
#endif

    return c->timedout || c->write->error || c->read->eof;
}


void
ngx_http_lunary_client_cut(ngx_http_request_t *r, ngx_uint_t framed)
{
    struct linger      linger;
    ngx_connection_t  *c;

    c = r->connection;

#if (NGX_HTTP_V2)
    if (r->stream) {
        return;
    }
#endif

#if (NGX_HTTP_V3)
    if (c->quic) {
        c->error = 1;
        return;
    }
#endif

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        c->ssl->no_send_shutdown = 1;
    }
#endif

    if (framed) {
        return;
    }

    linger.l_onoff = 1;
    linger.l_linger = 0;

    if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, (const void *) &linger,
                   sizeof(struct linger))
        == -1)
    {
        ngx_log_error(NGX_LOG_INFO, c->log, ngx_socket_errno,
                      "setsockopt(SO_LINGER) failed");
    }
}
