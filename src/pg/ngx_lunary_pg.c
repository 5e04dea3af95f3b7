
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <dlfcn.h>
#include "ngx_lunary_conn.h"
#include "ngx_lunary_pg.h"


/* these OIDs are fixed in PostgreSQL's catalog */
#define NGX_LUNARY_PG_INT4_OID    23
#define NGX_LUNARY_PG_UUID_OID    2950


static ngx_int_t ngx_lunary_pg_register(ngx_lunary_pg_t *pg, ngx_event_t *ev);
static void ngx_lunary_pg_unregister(ngx_lunary_pg_t *pg);
static ngx_int_t ngx_lunary_pg_adopt(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_disown(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_connect_handler(ngx_event_t *ev);
static void ngx_lunary_pg_poll(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_open(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_read_handler(ngx_event_t *rev);
static void ngx_lunary_pg_read(ngx_lunary_pg_t *pg);
static ngx_int_t ngx_lunary_pg_results(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_notifies(ngx_lunary_pg_t *pg);
static ngx_uint_t ngx_lunary_pg_hidden(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_clear_errors(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_write_handler(ngx_event_t *wev);
static ngx_int_t ngx_lunary_pg_flush(ngx_lunary_pg_t *pg);
static ngx_int_t ngx_lunary_pg_break(ngx_lunary_pg_t *pg);
static void ngx_lunary_pg_reason(ngx_lunary_pg_t *pg, const char *text);
static void ngx_lunary_pg_notice(void *data, const PGresult *res);


ngx_int_t
ngx_lunary_pg_connect(ngx_lunary_pg_t *pg, const char *const *keywords,
    const char *const *values)
{
    ngx_connection_t  *c;

    pg->syncs = 0;
    pg->paused = 0;
    pg->broken = 0;
    pg->tls = 1;
    pg->sqlstate[0] = '\0';
    pg->reason[0] = '\0';

    pg->conn = PQconnectStartParams(keywords, values, 0);

    if (pg->conn == NULL) {
        ngx_lunary_pg_reason(pg, "no memory");
        return NGX_ERROR;
    }

    PQsetNoticeReceiver(pg->conn, ngx_lunary_pg_notice, pg);

    /* libpq tells the SQLSTATE of a failed connection in a verbose text only */

    PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE);

    if (PQstatus(pg->conn) == CONNECTION_BAD
        || PQsetnonblocking(pg->conn, 1) != 0)
    {
        ngx_lunary_pg_reason(pg, PQerrorMessage(pg->conn));
        goto failed;
    }

    c = ngx_get_connection(PQsocket(pg->conn), pg->log);
    if (c == NULL) {
        ngx_lunary_pg_reason(pg, "worker_connections are not enough");
        goto failed;
    }

    c->data = pg;
    c->log = pg->log;
    c->read->log = pg->log;
    c->write->log = pg->log;
    c->read->handler = ngx_lunary_pg_connect_handler;
    c->write->handler = ngx_lunary_pg_connect_handler;
    c->log_error = NGX_ERROR_INFO;

    pg->connection = c;

    /* libpq wants a first poll when the socket is writable */

    if (ngx_lunary_pg_register(pg, c->write) != NGX_OK) {
        ngx_lunary_pg_close(pg);
        return NGX_ERROR;
    }

    return NGX_OK;

failed:

    PQfinish(pg->conn);
    pg->conn = NULL;

    return NGX_ERROR;
}


/* "ev" is the connection's read or write */

static ngx_int_t
ngx_lunary_pg_register(ngx_lunary_pg_t *pg, ngx_event_t *ev)
{
    ngx_int_t  event;

    event = ev->write ? NGX_WRITE_EVENT : NGX_READ_EVENT;

    if (PQsocket(pg->conn) != (int) pg->connection->fd
        || ngx_add_event(ev, event, NGX_LEVEL_EVENT) != NGX_OK)
    {
        ngx_lunary_pg_reason(pg, "the socket could not be watched");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_lunary_pg_unregister(ngx_lunary_pg_t *pg)
{
    ngx_uint_t         flags;
    ngx_connection_t  *c;

    c = pg->connection;

    flags = 0;

    /*
     * a socket that libpq has closed itself has left the kernel's queue
     * already, and its number may by now be another's
     */

    if (PQsocket(pg->conn) != (int) c->fd) {
        flags = NGX_CLOSE_EVENT;
        ngx_lunary_pg_disown(pg);
    }

    if (c->read->active) {
        (void) ngx_del_event(c->read, NGX_READ_EVENT, flags);
    }

    if (c->write->active) {
        (void) ngx_del_event(c->write, NGX_WRITE_EVENT, flags);
    }

    if (c->read->posted) {
        ngx_delete_posted_event(c->read);
    }

    if (c->write->posted) {
        ngx_delete_posted_event(c->write);
    }

    /* events that epoll has returned already are of the old socket */

    c->read->instance = !c->read->instance;
    c->write->instance = !c->write->instance;
}


/* the connection takes the socket that libpq has now, if it has any */

static ngx_int_t
ngx_lunary_pg_adopt(ngx_lunary_pg_t *pg)
{
    ngx_socket_t       s;
    ngx_connection_t  *c;

    c = pg->connection;
    s = PQsocket(pg->conn);

    if (s == (ngx_socket_t) -1 || s == c->fd) {
        return NGX_OK;
    }

    ngx_lunary_pg_disown(pg);

    /* with poll() nginx finds its connections by the number of the socket */

    if (ngx_cycle->files) {

        if ((ngx_uint_t) s >= ngx_cycle->files_n) {
            ngx_lunary_pg_reason(pg, "too many open files");
            return NGX_ERROR;
        }

        ngx_cycle->files[s] = c;
    }

    c->fd = s;

    return NGX_OK;
}


/* the number of a socket that is closed is soon another's */

static void
ngx_lunary_pg_disown(ngx_lunary_pg_t *pg)
{
    ngx_connection_t  *c;

    c = pg->connection;

    if (ngx_cycle->files && ngx_cycle->files[c->fd] == c) {
        ngx_cycle->files[c->fd] = NULL;
    }
}


static void
ngx_lunary_pg_connect_handler(ngx_event_t *ev)
{
    ngx_connection_t  *c;

    c = ev->data;

    ngx_lunary_pg_poll(c->data);
}


static void
ngx_lunary_pg_poll(ngx_lunary_pg_t *pg)
{
    const char                 *text;
    ngx_event_t                *ev;
    ngx_connection_t           *c;
    PostgresPollingStatusType   status;

    /*
     * the poll may close the socket and open another, of the same number
     * too: nothing of the old one may stay registered
     */

    ngx_lunary_pg_unregister(pg);

    status = PQconnectPoll(pg->conn);
    ngx_lunary_pg_clear_errors(pg);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, pg->log, 0,
                   "lunary connect poll: %d, fd:%d",
                   (int) status, PQsocket(pg->conn));

    if (ngx_lunary_pg_adopt(pg) != NGX_OK) {
        ngx_lunary_conn_lost(pg->owner);
        return;
    }

    c = pg->connection;

    switch (status) {

    case PGRES_POLLING_READING:
    case PGRES_POLLING_WRITING:

        ev = (status == PGRES_POLLING_READING) ? c->read : c->write;

        if (ngx_lunary_pg_register(pg, ev) == NGX_OK) {
            return;
        }

        break;

    case PGRES_POLLING_OK:
        ngx_lunary_pg_open(pg);
        return;

    default:
        text = PQerrorMessage(pg->conn);
        ngx_lunary_pg_reason(pg, text);
        ngx_lunary_sqlstate_find((char *) pg->reason, pg->sqlstate);

        /* a login trigger may raise any text, PostgreSQL adds a context */

        if (strstr(text, "\nCONTEXT:")) {
            ngx_lunary_pg_reason(pg, "");
        }
    }

    ngx_lunary_conn_lost(pg->owner);
}


static void
ngx_lunary_pg_open(ngx_lunary_pg_t *pg)
{
    ngx_connection_t  *c;

    c = pg->connection;

    c->read->handler = ngx_lunary_pg_read_handler;
    c->write->handler = ngx_lunary_pg_write_handler;

    if (PQsetnonblocking(pg->conn, 1) != 0
        || PQenterPipelineMode(pg->conn) != 1)
    {
        ngx_lunary_pg_reason(pg, PQerrorMessage(pg->conn));
        ngx_lunary_conn_lost(pg->owner);
        return;
    }

    if (ngx_lunary_pg_register(pg, c->read) != NGX_OK) {
        ngx_lunary_conn_lost(pg->owner);
        return;
    }

    ngx_lunary_conn_opened(pg->owner);
}


static const Oid  ngx_lunary_pg_types[NGX_LUNARY_PG_PARAMS] = {
    NGX_LUNARY_PG_UUID_OID, NGX_LUNARY_PG_UUID_OID, NGX_LUNARY_PG_UUID_OID
};


ngx_int_t
ngx_lunary_pg_prepare(ngx_lunary_pg_t *pg, const char *name, const char *sql,
    ngx_uint_t nparams)
{
    return PQsendPrepare(pg->conn, name, sql, (int) nparams,
                         ngx_lunary_pg_types)
           ? NGX_OK : ngx_lunary_pg_break(pg);
}


ngx_int_t
ngx_lunary_pg_query(ngx_lunary_pg_t *pg, const char *name, const char *sql,
    ngx_uint_t nparams, u_char *const *params)
{
    static const int  lengths[NGX_LUNARY_PG_PARAMS] = { 16, 16, 16 };
    static const int  formats[NGX_LUNARY_PG_PARAMS] = { 1, 1, 1 };

    int                 sent;
    const char *const  *values;

    values = (const char *const *) params;

    if (name) {
        sent = PQsendQueryPrepared(pg->conn, name, (int) nparams, values,
                                   lengths, formats, 1);
    } else {
        sent = PQsendQueryParams(pg->conn, sql, (int) nparams,
                                 ngx_lunary_pg_types, values, lengths,
                                 formats, 1);
    }

    return sent ? NGX_OK : ngx_lunary_pg_break(pg);
}


ngx_int_t
ngx_lunary_pg_query_pid(ngx_lunary_pg_t *pg, const char *sql, ngx_uint_t own)
{
    static const Oid  type = NGX_LUNARY_PG_INT4_OID;
    static const int  length = 4;
    static const int  format = 1;

    uint32_t     pid;
    const char  *value;

    pid = own ? htonl((uint32_t) PQbackendPID(pg->conn)) : 0;
    value = (const char *) &pid;

    return PQsendQueryParams(pg->conn, sql, 1, &type, &value, &length, &format,
                             1)
           ? NGX_OK : ngx_lunary_pg_break(pg);
}


ngx_int_t
ngx_lunary_pg_sync(ngx_lunary_pg_t *pg)
{
    if (PQpipelineSync(pg->conn) != 1) {
        return ngx_lunary_pg_break(pg);
    }

    if (pg->syncs++ == 0) {
        (void) PQsetSingleRowMode(pg->conn);
    }

    return ngx_lunary_pg_flush(pg) == NGX_OK ? NGX_OK
                                             : ngx_lunary_pg_break(pg);
}


static ngx_int_t
ngx_lunary_pg_flush(ngx_lunary_pg_t *pg)
{
    int           left;
    ngx_event_t  *wev;

    wev = pg->connection->write;
    left = PQflush(pg->conn);
    ngx_lunary_pg_clear_errors(pg);

    if (left < 0) {
        return NGX_ERROR;
    }

    if (left > 0) {

        if (!wev->active) {
            return ngx_lunary_pg_register(pg, wev);
        }

        return NGX_OK;
    }

    if (wev->active) {
        return ngx_del_event(wev, NGX_WRITE_EVENT, 0);
    }

    return NGX_OK;
}


static void
ngx_lunary_pg_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;

    c = wev->data;

    if (ngx_lunary_pg_flush(c->data) != NGX_OK) {
        (void) ngx_lunary_pg_break(c->data);
    }
}


/*
 * the owner is told of the loss from the event loop: the caller may be in the
 * middle of something, and the server may have sent a reason that is not read
 */

static ngx_int_t
ngx_lunary_pg_break(ngx_lunary_pg_t *pg)
{
    if (!pg->broken) {
        pg->broken = 1;
        ngx_lunary_pg_reason(pg, PQerrorMessage(pg->conn));
    }

    /* libpq may have closed its socket already */

    if (PQsocket(pg->conn) != (int) pg->connection->fd) {
        ngx_lunary_pg_unregister(pg);
    }

    ngx_post_event(pg->connection->read, &ngx_posted_events);

    return NGX_ERROR;
}


static void
ngx_lunary_pg_read_handler(ngx_event_t *rev)
{
    ngx_lunary_pg_t   *pg;
    ngx_connection_t  *c;

    c = rev->data;
    pg = c->data;

    /* nginx closes its idle connections when a worker leaves */

    if (c->close) {
        ngx_lunary_pg_reason(pg, "the worker shuts down");
        ngx_lunary_conn_lost(pg->owner);
        return;
    }

    if (pg->paused && !pg->broken) {
        return;
    }

    ngx_lunary_pg_read(pg);
}


static void
ngx_lunary_pg_read(ngx_lunary_pg_t *pg)
{
    ngx_int_t  rc, alive;

    /* read again while TLS has data that shows in no event of the socket */

    for ( ;; ) {

        alive = PQconsumeInput(pg->conn);
        ngx_lunary_pg_clear_errors(pg);

        /* libpq may have closed the socket, and its number may be reused */

        if (PQsocket(pg->conn) != (int) pg->connection->fd) {
            ngx_lunary_pg_unregister(pg);
        }

        rc = ngx_lunary_pg_results(pg);

        if (rc == NGX_DONE) {
            ngx_lunary_conn_close(pg->owner);
            return;
        }

        ngx_lunary_pg_notifies(pg);

        if (rc == NGX_OK && !alive && !pg->broken) {
            ngx_lunary_pg_reason(pg, PQerrorMessage(pg->conn));
        }

        if (rc == NGX_ERROR || !alive || pg->broken) {
            ngx_lunary_conn_lost(pg->owner);
            return;
        }

        if (pg->paused || !ngx_lunary_pg_hidden(pg)) {
            break;
        }
    }

    ngx_lunary_pipeline_flush(pg->owner);
}


/* NGX_OK, NGX_DONE or NGX_ERROR, as ngx_lunary_pipeline_result() */

static ngx_int_t
ngx_lunary_pg_results(ngx_lunary_pg_t *pg)
{
    PGresult    *res;
    ngx_int_t    rc;
    ngx_uint_t   nulls;

    nulls = 0;

    while (!PQisBusy(pg->conn) && pg->syncs && !pg->paused) {

        res = PQgetResult(pg->conn);

        if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
            pg->syncs--;
        }

        /* libpq wants single rows to be asked for with each query */

        if (res == NULL || PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
            (void) PQsetSingleRowMode(pg->conn);
        }

        if (res == NULL) {

            if (PQstatus(pg->conn) == CONNECTION_BAD) {
                return NGX_OK;
            }

            /*
             * two in a row, and a response still to come: some versions of
             * libpq lose the Sync after an error behind the end of a query
             */

            if (nulls++) {
                ngx_lunary_pg_error(pg, "08P01", "protocol violation");
                return NGX_ERROR;
            }

            continue;
        }

        nulls = 0;

        rc = ngx_lunary_pipeline_result(pg->owner, res);

        PQclear(res);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* behind a pooler another client's LISTEN may bring notifications */

static void
ngx_lunary_pg_notifies(ngx_lunary_pg_t *pg)
{
    PGnotify  *notify;

    for ( ;; ) {
        notify = PQnotifies(pg->conn);

        if (notify == NULL) {
            return;
        }

        PQfreemem(notify);
    }
}


/*
 * what TLS has read already shows in no event of the socket.  libpq may use
 * another OpenSSL than nginx: ask the one that libpq was linked with
 */

static ngx_uint_t
ngx_lunary_pg_hidden(ngx_lunary_pg_t *pg)
{
    void  *ssl, *libpq;

    static ngx_uint_t   found;
    static int        (*pending)(const void *ssl);

    union {
        void   *object;
        int   (*function)(const void *ssl);
    } symbol;

    Dl_info  info;

    ssl = pg->tls ? PQsslStruct(pg->conn, "OpenSSL") : NULL;

    if (ssl == NULL) {
        return 0;
    }

    if (!found) {
        found = 1;
        symbol.object = NULL;

        if (dladdr((void *) (uintptr_t) &PQfinish, &info)) {
            libpq = dlopen(info.dli_fname, RTLD_NOW|RTLD_NOLOAD);

            if (libpq) {
                symbol.object = dlsym(libpq, "SSL_pending");
            }
        }

        pending = symbol.function;
    }

    return pending && pending(ssl) > 0;
}


/*
 * an error of libpq's TLS must not be found in OpenSSL's queue by nginx, which
 * would take it for one of a client
 */

static void
ngx_lunary_pg_clear_errors(ngx_lunary_pg_t *pg)
{
#if (NGX_OPENSSL)
    if (pg->tls) {
        ERR_clear_error();
    }
#endif
}


void
ngx_lunary_pg_pause(ngx_lunary_pg_t *pg)
{
    ngx_event_t  *rev;

    pg->paused = 1;

    rev = pg->connection->read;

    if (rev->active) {
        (void) ngx_del_event(rev, NGX_READ_EVENT, 0);
    }
}


void
ngx_lunary_pg_resume(ngx_lunary_pg_t *pg)
{
    ngx_connection_t  *c;

    pg->paused = 0;

    c = pg->connection;

    if (!c->read->active && !pg->broken) {
        (void) ngx_lunary_pg_register(pg, c->read);
    }

    /* results may be at hand that no event will tell of */

    ngx_post_event(c->read, &ngx_posted_events);
}


void
ngx_lunary_pg_close(ngx_lunary_pg_t *pg)
{
    ngx_connection_t  *c;

    if (pg->conn == NULL) {
        return;
    }

    c = pg->connection;

    /* events off, then libpq closes the socket, then nginx forgets it */

    ngx_lunary_pg_unregister(pg);

    PQfinish(pg->conn);
    ngx_lunary_pg_clear_errors(pg);

    ngx_free_connection(c);
    c->fd = (ngx_socket_t) -1;

    pg->conn = NULL;
    pg->connection = NULL;
    pg->syncs = 0;
    pg->paused = 0;
}


ngx_int_t
ngx_lunary_pg_version(ngx_lunary_pg_t *pg)
{
    return PQserverVersion(pg->conn);
}


ngx_uint_t
ngx_lunary_pg_is_standby(ngx_lunary_pg_t *pg)
{
    const char  *value;

    /* PostgreSQL 14 and later report it, a pooler may not */

    value = PQparameterStatus(pg->conn, "in_hot_standby");

    return value == NULL || ngx_strcmp(value, "off") != 0;
}


void
ngx_lunary_pg_error(ngx_lunary_pg_t *pg, const char *sqlstate,
    const char *text)
{
    ngx_cpystrn((u_char *) pg->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);
    ngx_lunary_pg_reason(pg, text);
}


static void
ngx_lunary_pg_reason(ngx_lunary_pg_t *pg, const char *text)
{
    u_char  *p, *last;

    p = pg->reason;
    last = p + NGX_LUNARY_PG_REASON_LEN - 1;

    for ( /* void */ ; *text && *text != '\n' && p < last; text++) {
        *p++ = ((u_char) *text < 0x20 || *text == 0x7f) ? ' ' : *text;
    }

    *p = '\0';
}


/*
 * libpq calls this function for each notice, instead of printing it to stderr.
 * If the server ends an idle session, its FATAL message arrives as a notice:
 * the session is broken, even if the socket is still open
 */

static void
ngx_lunary_pg_notice(void *data, const PGresult *res)
{
    ngx_lunary_pg_t *pg = data;

    char  *state, *severity, *text;

    severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

    if (state == NULL || severity == NULL) {
        return;
    }

    /* it sends a warning before an immediate shutdown, and after a crash */

    if (ngx_strcmp(severity, "FATAL") == 0
        || (ngx_strcmp(severity, "WARNING") == 0
            && ngx_strncmp(state, "57P", 3) == 0))
    {
        ngx_lunary_pg_error(pg, state, text ? text : "");

        /* while it connects, the poll tells of it */

        pg->broken = (PQpipelineStatus(pg->conn) != PQ_PIPELINE_OFF);
    }
}
