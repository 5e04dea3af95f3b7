
/*
 * What to ask for, and the way from a row to JSON.
 */


#ifndef _NGX_HTTP_LUNARY_RUNS_H_INCLUDED_
#define _NGX_HTTP_LUNARY_RUNS_H_INCLUDED_


#include "ngx_http_lunary.h"


/*
 * chooses the statement and the parameters for what the context has: a key or
 * a project, HEAD or GET, a first query or the full one
 */
void ngx_http_lunary_runs_ask(ngx_http_lunary_ctx_t *ctx);

/*
 * takes a row: the verdict on the key and whether the run is there go to the
 * context, a run goes to the stream.  NGX_OK;
 * NGX_ERROR: the stream failed; NGX_DECLINED: no such row can be
 */
ngx_int_t ngx_http_lunary_runs_row(ngx_http_lunary_ctx_t *ctx, PGresult *res,
    int row);

/* the end of the array; as above */
ngx_int_t ngx_http_lunary_runs_end(ngx_http_lunary_ctx_t *ctx);


#endif /* _NGX_HTTP_LUNARY_RUNS_H_INCLUDED_ */
