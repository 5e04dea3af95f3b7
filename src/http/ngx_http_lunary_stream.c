
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_response.h"
#include "ngx_http_lunary_stream.h"


#define NGX_HTTP_LUNARY_BUFFER      (32 * 1024)
#define NGX_HTTP_LUNARY_MIN_BUFFER  4096


static ngx_int_t ngx_http_lunary_stream_more(ngx_lunary_out_t *out);
static ngx_int_t ngx_http_lunary_stream_next(ngx_http_lunary_stream_t *s);
static void ngx_http_lunary_stream_take(ngx_http_lunary_stream_t *s);
static void ngx_http_lunary_stream_recycle(ngx_http_lunary_stream_t *s);
static ngx_int_t ngx_http_lunary_stream_begin(ngx_http_lunary_stream_t *s,
    off_t length);
static ngx_int_t ngx_http_lunary_stream_commit(ngx_http_lunary_stream_t *s);
static ngx_int_t ngx_http_lunary_stream_pass(ngx_http_lunary_stream_t *s,
    ngx_chain_t *in);
static ngx_int_t ngx_http_lunary_stream_output(ngx_http_lunary_stream_t *s,
    ngx_chain_t *in);
static void ngx_http_lunary_stream_begun(ngx_http_lunary_stream_t *s);
static ngx_int_t ngx_http_lunary_stream_spool(ngx_http_lunary_stream_t *s);
static ngx_int_t ngx_http_lunary_stream_unspool(ngx_http_lunary_stream_t *s);
static ngx_chain_t *ngx_http_lunary_stream_file_part(
    ngx_http_lunary_stream_t *s);
static ngx_uint_t ngx_http_lunary_stream_may_spool(
    ngx_http_lunary_stream_t *s);
static ngx_int_t ngx_http_lunary_stream_end(ngx_http_lunary_stream_t *s);


void
ngx_http_lunary_stream_init(ngx_http_lunary_stream_t *s,
    ngx_http_request_t *r, size_t whole, size_t max, off_t max_file,
    ngx_path_t *path)
{
    ngx_memzero(s, sizeof(ngx_http_lunary_stream_t));

    s->request = r;
    s->whole = whole;
    s->max = max;
    s->max_file = max_file;
    s->path = path;
    s->last = &s->ready;

    s->buffer_size = ngx_min(whole, NGX_HTTP_LUNARY_BUFFER);
    s->buffer_size = ngx_max(s->buffer_size, NGX_HTTP_LUNARY_MIN_BUFFER);

    /* the first byte written asks for a buffer */

    s->out.more = ngx_http_lunary_stream_more;
    s->out.data = s;
}


void
ngx_http_lunary_stream_reset(ngx_http_lunary_stream_t *s)
{
    ngx_http_lunary_stream_take(s);
    ngx_http_lunary_stream_recycle(s);

    s->length = 0;
}


/* frees the buffers that are ready, unsent */

static void
ngx_http_lunary_stream_recycle(ngx_http_lunary_stream_t *s)
{
    ngx_chain_t  *cl;

    while (s->ready) {
        cl = s->ready;
        s->ready = cl->next;

        cl->buf->pos = cl->buf->start;
        cl->buf->last = cl->buf->start;

        cl->next = s->free;
        s->free = cl;
    }

    s->last = &s->ready;
}


/* the current buffer is full or missing: takes another one */

static ngx_int_t
ngx_http_lunary_stream_more(ngx_lunary_out_t *out)
{
    ngx_http_lunary_stream_t *s = out->data;

    if (s->failed) {
        return NGX_ERROR;
    }

    ngx_http_lunary_stream_take(s);

    if (s->committed || s->length >= (off_t) s->whole) {

        if (ngx_http_lunary_stream_commit(s) != NGX_OK) {
            s->failed = 1;
            return NGX_ERROR;
        }
    }

    if (ngx_http_lunary_stream_next(s) != NGX_OK) {
        s->failed = 1;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_stream_next(ngx_http_lunary_stream_t *s)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = s->free;

    if (cl) {
        s->free = cl->next;

    } else {
        cl = ngx_alloc_chain_link(s->request->pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        cl->buf = ngx_create_temp_buf(s->request->pool, s->buffer_size);
        if (cl->buf == NULL) {
            return NGX_ERROR;
        }

        cl->buf->tag = (ngx_buf_tag_t) &ngx_http_lunary_module;

        s->allocated += s->buffer_size;
    }

    cl->next = NULL;
    b = cl->buf;

    *s->last = cl;
    s->buf = b;

    s->out.pos = b->last;
    s->out.end = b->end;

    return NGX_OK;
}


/* moves what was written to what is ready */

static void
ngx_http_lunary_stream_take(ngx_http_lunary_stream_t *s)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = s->buf;

    if (b == NULL) {
        return;
    }

    cl = *s->last;

    if (s->out.pos == b->last) {

        /* nginx must not see an empty buffer */

        *s->last = NULL;
        cl->next = s->free;
        s->free = cl;

    } else {
        s->length += s->out.pos - b->last;
        b->last = s->out.pos;
        s->last = &cl->next;
    }

    s->buf = NULL;
    s->out.pos = NULL;
    s->out.end = NULL;
}


/* sends the header; "length" is that of the body, or -1 */

static ngx_int_t
ngx_http_lunary_stream_begin(ngx_http_lunary_stream_t *s, off_t length)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = s->request;

    s->committed = 1;

    rc = ngx_http_lunary_response_ok(r, s->etag, length);

    ngx_http_lunary_stream_begun(s);

    /* a filter may have answered in place of this response */

    if (rc == NGX_ERROR || rc > NGX_OK || r->filter_finalize) {
        return NGX_ERROR;
    }

    s->bodyless = r->header_only;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "lunary response begun, length:%O header only:%d",
                   length, r->header_only);

    return NGX_OK;
}


/*
 * A filter may send its own response instead of the header, or hold the header
 * until it sees the body.  Once the header is sent, what follows can be cut.
 */

static void
ngx_http_lunary_stream_begun(ngx_http_lunary_stream_t *s)
{
    ngx_http_request_t  *r;

    r = s->request;

    if (s->begun || !r->header_sent || r->filter_finalize
        || r->subrequest_in_memory)
    {
        return;
    }

    s->begun = 1;
    s->framed = r->main->chunked
                || r->main->headers_out.content_length_n != -1;
}


/* streams the response: gives nginx all that is ready */

static ngx_int_t
ngx_http_lunary_stream_commit(ngx_http_lunary_stream_t *s)
{
    if (!s->committed && ngx_http_lunary_stream_begin(s, -1) != NGX_OK) {
        return NGX_ERROR;
    }

    if (s->bodyless) {
        ngx_http_lunary_stream_recycle(s);
        return NGX_OK;
    }

    if (s->spooling) {
        return ngx_http_lunary_stream_spool(s);
    }

    if (ngx_http_lunary_stream_pass(s, s->ready) != NGX_OK) {
        return NGX_ERROR;
    }

    s->ready = NULL;
    s->last = &s->ready;

    /* the buffer to write to needs memory, too */

    if (s->free == NULL && s->allocated + s->buffer_size > s->max) {

        if (ngx_http_lunary_stream_may_spool(s)) {
            s->spooling = 1;

        } else {
            s->full = 1;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_stream_pass(ngx_http_lunary_stream_t *s, ngx_chain_t *in)
{
    ngx_int_t     rc;
    ngx_chain_t  *cl;

    for (cl = in; cl; cl = cl->next) {
        cl->buf->recycled = 1;
    }

    rc = ngx_http_lunary_stream_output(s, in);

    ngx_chain_update_chains(s->request->pool, &s->free, &s->busy, &in,
                            (ngx_buf_tag_t) &ngx_http_lunary_module);

    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* a filter that held the header may send it with the body */

static ngx_int_t
ngx_http_lunary_stream_output(ngx_http_lunary_stream_t *s, ngx_chain_t *in)
{
    ngx_int_t  rc;

    rc = ngx_http_output_filter(s->request, in);

    ngx_http_lunary_stream_begun(s);

    return rc;
}


static ngx_uint_t
ngx_http_lunary_stream_may_spool(ngx_http_lunary_stream_t *s)
{
    return s->max_file && (s->file == NULL || s->file->offset < s->max_file);
}


static ngx_int_t
ngx_http_lunary_stream_spool(ngx_http_lunary_stream_t *s)
{
    ssize_t           n;
    ngx_temp_file_t  *tf;

    if (s->ready == NULL) {
        return NGX_OK;
    }

    tf = s->file;

    if (tf == NULL) {
        tf = ngx_pcalloc(s->request->pool, sizeof(ngx_temp_file_t));
        if (tf == NULL) {
            return NGX_ERROR;
        }

        tf->file.fd = NGX_INVALID_FILE;
        tf->file.log = s->request->connection->log;
        tf->path = s->path;
        tf->pool = s->request->pool;
        tf->warn = "a response is buffered to a temporary file";
        tf->log_level = NGX_LOG_WARN;
        tf->clean = 1;

        s->file = tf;
    }

    n = ngx_write_chain_to_temp_file(tf, s->ready);

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    tf->offset += n;

    ngx_http_lunary_stream_recycle(s);

    if (!ngx_http_lunary_stream_may_spool(s)) {
        s->full = 1;
    }

    return NGX_OK;
}


/* sends the next part of the file, if all that precedes it is sent */

static ngx_int_t
ngx_http_lunary_stream_unspool(ngx_http_lunary_stream_t *s)
{
    ngx_chain_t  *cl;

    if (!s->spooling) {
        return NGX_OK;
    }

    if (s->busy && ngx_http_lunary_stream_pass(s, NULL) != NGX_OK) {
        return NGX_ERROR;
    }

    while (s->spooling && s->busy == NULL) {

        if (s->file == NULL || s->file_sent == s->file->offset) {

            /*
             * The client has caught up.  The kernel may still be sending
             * from the file, so it is appended to, never overwritten.
             */

            s->spooling = 0;
            break;
        }

        cl = ngx_http_lunary_stream_file_part(s);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_lunary_stream_pass(s, cl) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* the buffer is reused if the part before it is sent */

static ngx_chain_t *
ngx_http_lunary_stream_file_part(ngx_http_lunary_stream_t *s)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = s->part;

    if (b == NULL || s->busy) {
        b = ngx_alloc_buf(s->request->pool);
        if (b == NULL) {
            return NULL;
        }

        s->part = b;
    }

    cl = ngx_alloc_chain_link(s->request->pool);
    if (cl == NULL) {
        return NULL;
    }

    ngx_memzero(b, sizeof(ngx_buf_t));

    b->in_file = 1;
    b->temp_file = 1;
    b->file = &s->file->file;
    b->file_pos = s->file_sent;
    b->file_last = s->file->offset;

    s->file_sent = s->file->offset;

    cl->buf = b;
    cl->next = NULL;

    return cl;
}


ngx_int_t
ngx_http_lunary_stream_flush(ngx_http_lunary_stream_t *s)
{
    if (s->failed) {
        return NGX_ERROR;
    }

    ngx_http_lunary_stream_take(s);

    if (ngx_http_lunary_stream_commit(s) != NGX_OK
        || ngx_http_lunary_stream_unspool(s) != NGX_OK)
    {
        s->failed = 1;
        return NGX_ERROR;
    }

    if (s->full && s->busy == NULL && !s->spooling) {
        s->full = 0;
    }

    return s->full ? NGX_AGAIN : NGX_OK;
}


ngx_int_t
ngx_http_lunary_stream_finish(ngx_http_lunary_stream_t *s)
{
    off_t         length;
    ngx_int_t     rc;
    ngx_chain_t  *in;

    if (s->failed) {
        return NGX_ERROR;
    }

    ngx_http_lunary_stream_take(s);

    length = s->length > (off_t) s->whole ? -1 : s->length;

    if (!s->committed && ngx_http_lunary_stream_begin(s, length) != NGX_OK) {
        return NGX_ERROR;
    }

    if (s->bodyless) {
        s->ended = 1;
        return NGX_OK;
    }

    if (s->spooling && ngx_http_lunary_stream_spool(s) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_lunary_stream_end(s) != NGX_OK) {
        return NGX_ERROR;
    }

    in = s->ready;
    s->ready = NULL;

    rc = ngx_http_lunary_stream_output(s, in);

    if (rc != NGX_ERROR) {
        s->ended = 1;
    }

    return rc;
}


ngx_int_t
ngx_http_lunary_stream_send(ngx_http_lunary_stream_t *s)
{
    return ngx_http_lunary_stream_output(s, NULL);
}


ngx_uint_t
ngx_http_lunary_stream_is_partial(ngx_http_lunary_stream_t *s)
{
    ngx_http_request_t  *r;

    r = s->request;

    if (!s->begun || s->bodyless) {
        return 0;
    }

    return !s->ended || r->connection->buffered || r->buffered
           || r->postponed || r->main->buffered || r->main->out;
}


/*
 * Adds the rest of the file, and marks the last buffer.  There is one: the
 * end of the array was just written.
 */

static ngx_int_t
ngx_http_lunary_stream_end(ngx_http_lunary_stream_t *s)
{
    ngx_chain_t  *cl;

    if (s->spooling && s->file_sent < s->file->offset) {
        cl = ngx_http_lunary_stream_file_part(s);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        *s->last = cl;
        s->last = &cl->next;
    }

    for (cl = s->ready; cl->next; cl = cl->next) { /* void */ }

    cl->buf->recycled = 0;
    cl->buf->last_buf = (s->request == s->request->main) ? 1 : 0;
    cl->buf->last_in_chain = 1;

    return NGX_OK;
}
