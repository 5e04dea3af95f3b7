
/*
 * The query of a request: which statement asks for what the context lacks,
 * and what its rows tell the context and the stream.
 */


#ifndef _NGX_HTTP_LUNARY_QUERY_H_INCLUDED_
#define _NGX_HTTP_LUNARY_QUERY_H_INCLUDED_


#include "ngx_http_lunary.h"


/*
 * sets the statement of the next query and its parameters; what an earlier
 * one found is forgotten, but for the project
 */
void ngx_http_lunary_query_set(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_question_e question);

/*
 * takes a row: the head goes to the context, a run to the stream.  NGX_OK;
 * NGX_ERROR: the stream failed; NGX_DECLINED: no such row can be, "column" of
 * the query names the value, if it is one
 */
ngx_int_t ngx_http_lunary_query_row(ngx_http_lunary_ctx_t *ctx, PGresult *res,
    int row);

/* forgets all rows, which come anew */
void ngx_http_lunary_query_reset(ngx_http_lunary_ctx_t *ctx);

/*
 * the end of the array, after the last row; an empty array for a run that is
 * not there.  NGX_OK, or NGX_ERROR: also where a run that is there came in no
 * row
 */
ngx_int_t ngx_http_lunary_query_end(ngx_http_lunary_ctx_t *ctx);


#endif /* _NGX_HTTP_LUNARY_QUERY_H_INCLUDED_ */
