
/*
 * Answers that were served, kept in memory that the workers share.  A kept
 * answer is served again only after the database has said, for this very
 * request, that nothing it was made of has changed: by its fingerprint, which
 * see in ngx_http_lunary_sql.c.
 *
 * An answer is kept when it is asked for a second time, so that what is asked
 * for once costs no more than its place in the list of those that were.
 */


#ifndef _NGX_HTTP_LUNARY_ANSWERS_H_INCLUDED_
#define _NGX_HTTP_LUNARY_ANSWERS_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the name of its shared memory */
#define NGX_HTTP_LUNARY_ANSWERS_ZONE  "lunary_answers"

/* the smallest size of lunary_answer_cache, in bytes */
#define NGX_HTTP_LUNARY_ANSWERS_MIN   (64 * ngx_pagesize)


/* adds the zone, if any location has use for it; NGX_OK or NGX_ERROR */
ngx_int_t ngx_http_lunary_answers_zone(ngx_conf_t *cf);

/*
 * whether the answer to a request whose project is known is KEPT, was SEEN a
 * while before and may be kept now, or neither: NEW
 */
ngx_http_lunary_answer_e ngx_http_lunary_answers_find(
    ngx_http_lunary_ctx_t *ctx);

/*
 * after the whole answer was written, and before it is finished: keeps it
 * under the fingerprint that came with it, or, without one, that it was seen
 */
void ngx_http_lunary_answers_keep(ngx_http_lunary_ctx_t *ctx);

/*
 * writes the kept answer to the stream if it has the fingerprint that the
 * database told.  NGX_OK; NGX_DECLINED: there is none such, nothing was
 * written, and the context's "answer" says what to ask for instead; NGX_ERROR:
 * the stream failed
 */
ngx_int_t ngx_http_lunary_answers_take(ngx_http_lunary_ctx_t *ctx);


#endif /* _NGX_HTTP_LUNARY_ANSWERS_H_INCLUDED_ */
