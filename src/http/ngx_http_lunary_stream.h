
/*
 * The way of an answer to its client: buffers that are used again, a
 * temporary file behind them for a client that is slower than the database.
 *
 * Up to "whole" bytes the answer is held back and can be taken back; beyond,
 * it goes out as it comes.  In memory it never holds more than "max", and
 * when that is reached the rest goes to the file.
 */


#ifndef _NGX_HTTP_LUNARY_STREAM_H_INCLUDED_
#define _NGX_HTTP_LUNARY_STREAM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_lunary_out.h"


typedef struct {
    ngx_lunary_out_t      out;          /* what the writer writes to */

    ngx_http_request_t   *request;
    size_t                whole;        /* lunary_buffers */
    size_t                max;
    off_t                 max_file;     /* 0: no file */
    ngx_path_t           *path;

    ngx_buf_t            *buf;          /* being written, or NULL */
    ngx_chain_t          *ready;        /* written, not given to nginx */
    ngx_chain_t         **last;
    ngx_chain_t          *busy;         /* nginx's until they are sent */
    ngx_chain_t          *free;

    size_t                buffer_size;
    size_t                allocated;    /* bytes in all buffers */
    off_t                 length;       /* bytes written in all */

    ngx_temp_file_t      *file;
    ngx_buf_t            *part;         /* of it, given to nginx last */
    off_t                 file_sent;    /* given to nginx so far */

    unsigned              committed:1;  /* the header is out */
    unsigned              spooling:1;   /* what comes goes to the file */
    unsigned              failed:1;     /* the client or the memory is gone */
    unsigned              full:1;       /* can take no more for now */
    unsigned              ended:1;      /* all of it was given to nginx */
} ngx_http_lunary_stream_t;


/* sets "out" up; all but what "out" needs is taken from the arguments */
void ngx_http_lunary_stream_init(ngx_http_lunary_stream_t *s,
    ngx_http_request_t *r, size_t whole, size_t max, off_t max_file,
    ngx_path_t *path);

/* takes back all that was written; it must not be committed */
void ngx_http_lunary_stream_reset(ngx_http_lunary_stream_t *s);

/*
 * gives nginx what is ready, if the answer is a streaming one, and looks how
 * much of it left.  NGX_OK; NGX_AGAIN: the client has to catch up before more
 * rows are read; NGX_ERROR: the answer cannot go on
 */
ngx_int_t ngx_http_lunary_stream_flush(ngx_http_lunary_stream_t *s);

/*
 * ends the answer: sends the header if that is still to do, and the rest.
 * The return is one for ngx_http_finalize_request()
 */
ngx_int_t ngx_http_lunary_stream_finish(ngx_http_lunary_stream_t *s);

/*
 * when the request goes: whether a part of the answer was sent to the client
 * and the rest never will be
 */
ngx_uint_t ngx_http_lunary_stream_is_cut(ngx_http_lunary_stream_t *s);

/*
 * the header of any answer of ours, with the length where it is known (or
 * -1); what the client still sends of a body is read away from here on.  The
 * return is that of ngx_http_send_header()
 */
ngx_int_t ngx_http_lunary_send_header(ngx_http_request_t *r, ngx_uint_t status,
    off_t length);


/* adds a header to the answer; both strings are to last.  NULL: no memory */
ngx_table_elt_t *ngx_http_lunary_header(ngx_http_request_t *r, char *key,
    char *value);


#endif /* _NGX_HTTP_LUNARY_STREAM_H_INCLUDED_ */
