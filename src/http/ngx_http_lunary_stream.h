
/*
 * Sends a response as it is written: buffers that are reused, and a temporary
 * file for a client that is slower than the database.
 *
 * The first "whole" bytes are held back and can be discarded.  When more are
 * written, the header is sent and the response streams.  At most "max" bytes
 * wait in memory for the client; what exceeds them is written to a temporary
 * file.
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
    ngx_str_t            *etag;         /* of the response, or empty */
    size_t                whole;        /* lunary_buffers */
    size_t                max;
    off_t                 max_file;     /* 0: no file */
    ngx_path_t           *path;

    ngx_buf_t            *buf;          /* being written, or NULL */
    ngx_chain_t          *ready;        /* written, not given to nginx */
    ngx_chain_t         **last;
    ngx_chain_t          *busy;         /* given to nginx, not sent */
    ngx_chain_t          *free;

    size_t                buffer_size;
    size_t                allocated;    /* bytes in all buffers */
    off_t                 length;       /* bytes written so far */

    ngx_temp_file_t      *file;
    ngx_buf_t            *part;         /* of the file, given to nginx last */
    off_t                 file_sent;    /* bytes given to nginx so far */

    unsigned              committed:1;  /* the header was given to nginx */
    unsigned              begun:1;      /* the header was sent, and no filter
                                           has sent another one instead */
    unsigned              bodyless:1;   /* a filter wants the header only */
    unsigned              framed:1;     /* chunks or a length mark the end */
    unsigned              spooling:1;   /* new rows go to the file */
    unsigned              failed:1;     /* no more can be written */
    unsigned              full:1;       /* the database has to wait */
    unsigned              ended:1;      /* nginx took the last buffer */
} ngx_http_lunary_stream_t;


/* sets up the stream and its "out"; allocates nothing */
void ngx_http_lunary_stream_init(ngx_http_lunary_stream_t *s,
    ngx_http_request_t *r, size_t whole, size_t max, off_t max_file,
    ngx_path_t *path);

/* discards all that was written; the stream must not be committed */
void ngx_http_lunary_stream_reset(ngx_http_lunary_stream_t *s);

/*
 * Sends what is ready, if the response streams.  NGX_OK; NGX_AGAIN: the
 * client must read before more rows are; NGX_ERROR: the response cannot be
 * continued.
 */
ngx_int_t ngx_http_lunary_stream_flush(ngx_http_lunary_stream_t *s);

/*
 * Ends the response: sends the header if it is not sent yet, and gives nginx
 * all that is left.  The return value is for ngx_http_finalize_request().
 */
ngx_int_t ngx_http_lunary_stream_finish(ngx_http_lunary_stream_t *s);

/*
 * After "finish": sends more of what nginx could not send.  The return value
 * is that of ngx_http_output_filter().
 */
ngx_int_t ngx_http_lunary_stream_send(ngx_http_lunary_stream_t *s);

/*
 * Returns 1 if the header was sent and the body was not sent to its end,
 * otherwise 0.  A response that is abandoned now is cut off.
 */
ngx_uint_t ngx_http_lunary_stream_is_partial(ngx_http_lunary_stream_t *s);


#endif /* _NGX_HTTP_LUNARY_STREAM_H_INCLUDED_ */
