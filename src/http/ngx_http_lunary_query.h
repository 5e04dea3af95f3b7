
/*
 * The query of a request: its statement and parameters, and its rows, which
 * go to the context and to the stream.
 */


#ifndef _NGX_HTTP_LUNARY_QUERY_H_INCLUDED_
#define _NGX_HTTP_LUNARY_QUERY_H_INCLUDED_


#include "ngx_http_lunary.h"


/*
 * sets the statement of the next query and its parameters; resets what an
 * earlier query found, except the project
 */
void ngx_http_lunary_query_set(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question);

/*
 * takes a row: the head goes to the context, a run to the stream.  NGX_OK;
 * NGX_ERROR: the stream failed; NGX_DECLINED: the row is invalid, "column" of
 * the query names the value, if one value is the reason
 */
ngx_int_t ngx_http_lunary_query_row(ngx_http_lunary_ctx_t *ctx, PGresult *res,
    int row);

/* resets what the rows so far told: the query is sent again */
void ngx_http_lunary_query_reset(ngx_http_lunary_ctx_t *ctx);

/* after the last row: returns 1 if the result should have had a head */
ngx_uint_t ngx_http_lunary_query_lacks_head(ngx_http_lunary_ctx_t *ctx);

/*
 * writes the end of the array after the last row, or an empty array if the run
 * does not exist.  NGX_OK; NGX_ERROR: the stream failed, or the run exists and
 * no row had it
 */
ngx_int_t ngx_http_lunary_query_end(ngx_http_lunary_ctx_t *ctx);

/*
 * Repeats the query on the primary if a standby did not find the run, the key
 * or the membership.  Returns NGX_OK if the query was queued.  Returns
 * NGX_DECLINED if it was not: then the result of the standby is final
 */
ngx_int_t ngx_http_lunary_query_confirm(ngx_http_lunary_ctx_t *ctx);

/* the query on the primary failed: restores the result of the standby */
void ngx_http_lunary_query_unconfirmed(ngx_http_lunary_ctx_t *ctx);


#endif /* _NGX_HTTP_LUNARY_QUERY_H_INCLUDED_ */
