
/* the variables $lunary_* */


#ifndef _NGX_HTTP_LUNARY_VARIABLES_H_INCLUDED_
#define _NGX_HTTP_LUNARY_VARIABLES_H_INCLUDED_


#include "ngx_http_lunary.h"


/*
 * The names of the values of ngx_http_lunary_outcome_e, and so on; the value
 * that stands for "none yet" has none
 */
extern ngx_str_t  ngx_http_lunary_outcomes[];
extern ngx_str_t  ngx_http_lunary_credentials[];
extern ngx_str_t  ngx_http_lunary_caches[];


/* registers the variables, at preconfiguration; NGX_OK or NGX_ERROR */
ngx_int_t ngx_http_lunary_variables(ngx_conf_t *cf);

/*
 * 1 if the runs that were generated are part of a response, complete or not;
 * 0 if they were discarded for an error response
 */
ngx_uint_t ngx_http_lunary_served(ngx_http_lunary_ctx_t *ctx);

/* adds the times of the query that has ended to those of the request */
void ngx_http_lunary_count_times(ngx_http_lunary_ctx_t *ctx);


#endif /* _NGX_HTTP_LUNARY_VARIABLES_H_INCLUDED_ */
