
/*
 * What a log line can tell of a request: the $lunary_* variables.
 */


#ifndef _NGX_HTTP_LUNARY_VARIABLES_H_INCLUDED_
#define _NGX_HTTP_LUNARY_VARIABLES_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the names of the values of ngx_http_lunary_outcome_e, and so on */
extern ngx_str_t  ngx_http_lunary_outcomes[];
extern ngx_str_t  ngx_http_lunary_caches[];
extern ngx_str_t  ngx_http_lunary_credentials[];


/* registers the variables, at preconfiguration; NGX_OK or NGX_ERROR */
ngx_int_t ngx_http_lunary_variables(ngx_conf_t *cf);

/* whether the runs that were written went to the client */
ngx_uint_t ngx_http_lunary_served(ngx_http_lunary_ctx_t *ctx);

/* adds the times of the query that has ended to those of the request */
void ngx_http_lunary_count_times(ngx_http_lunary_ctx_t *ctx);


#endif /* _NGX_HTTP_LUNARY_VARIABLES_H_INCLUDED_ */
