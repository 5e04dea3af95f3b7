
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary.h"
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


/* what is ready needs not be sent any more: its buffers are free */

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


/* the buffer is full: it is passed on, and another one taken */

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


/* what was written so far becomes part of what is ready */

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

        /* nothing in it, and nothing that nginx should see */

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


/* no way back from here: the header goes out, "length" or -1 in it */

static ngx_int_t
ngx_http_lunary_stream_begin(ngx_http_lunary_stream_t *s, off_t length)
{
    ngx_int_t  rc;

    s->committed = 1;

    rc = ngx_http_lunary_send_header(s->request, NGX_HTTP_OK, length);

    /* a filter that has answered something else may have more to send */

    if (rc == NGX_ERROR || rc > NGX_OK || s->request->filter_finalize) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the answer streams: all that is ready goes out */

static ngx_int_t
ngx_http_lunary_stream_commit(ngx_http_lunary_stream_t *s)
{
    if (!s->committed && ngx_http_lunary_stream_begin(s, -1) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a filter may have made it an answer without a body */

    if (s->request->header_only) {
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

    /* the buffer to write to comes on top */

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

    rc = ngx_http_output_filter(s->request, in);

    ngx_chain_update_chains(s->request->pool, &s->free, &s->busy, &in,
                            (ngx_buf_tag_t) &ngx_http_lunary_module);

    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
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
        tf->warn = "an answer is buffered to a temporary file";
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


/* the next part of the file, once the client has all that was before it */

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
             * it has caught up.  What was sent from the file may still be
             * on its way, so nothing in it is written over
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


/* the part before, if any, has been sent when the next one is asked for */

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
    off_t                length;
    ngx_chain_t         *in;
    ngx_http_request_t  *r;

    r = s->request;

    if (s->failed) {
        return NGX_ERROR;
    }

    ngx_http_lunary_stream_take(s);

    length = s->length > (off_t) s->whole ? -1 : s->length;

    if (!s->committed && ngx_http_lunary_stream_begin(s, length) != NGX_OK) {
        return NGX_ERROR;
    }

    s->ended = 1;

    if (r->header_only) {
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

    return ngx_http_output_filter(r, in);
}


ngx_uint_t
ngx_http_lunary_stream_is_cut(ngx_http_lunary_stream_t *s)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = s->request;

    if (!s->committed || r->header_only || r->filter_finalize) {
        return 0;
    }

    c = r->connection;

    return !s->ended || c->error || c->buffered || r->buffered
           || r->main->buffered || r->main->out;
}


/*
 * the rest of the file, if any, and the mark of the end.  The last thing
 * written is still there, ready or in the file
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


ngx_int_t
ngx_http_lunary_send_header(ngx_http_request_t *r, ngx_uint_t status,
    off_t length)
{
    ngx_str_set(&r->headers_out.content_type,
                "application/json; charset=utf-8");
    r->headers_out.content_type_len = sizeof("application/json") - 1;
    r->headers_out.content_type_lowcase = NULL;

    r->headers_out.status = status;

    if (length == -1) {
        ngx_http_clear_content_length(r);

    } else {
        r->headers_out.content_length_n = length;
    }

    if (ngx_http_lunary_header(r, "Cache-Control", "private, no-store")
        == NULL)
    {
        return NGX_ERROR;
    }

    /* it has no version that a condition of the request could mean */

    r->disable_not_modified = 1;

    /* now that the answer is decided on nobody else wants the body */

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        r->keepalive = 0;
    }

    return ngx_http_send_header(r);
}


ngx_table_elt_t *
ngx_http_lunary_header(ngx_http_request_t *r, char *key, char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    h->key.data = (u_char *) key;
    h->key.len = ngx_strlen(key);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return h;
}
