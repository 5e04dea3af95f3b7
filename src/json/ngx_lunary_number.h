
/*
 * Numbers, as JSON writes them.  Returns are those of ngx_lunary_json.h.
 */


#ifndef _NGX_LUNARY_NUMBER_H_INCLUDED_
#define _NGX_LUNARY_NUMBER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_out.h"


ngx_int_t ngx_lunary_number_integer(ngx_lunary_out_t *out, int64_t n);

/* the shortest text that reads back as the same double; "d" is finite */
ngx_int_t ngx_lunary_number_double(ngx_lunary_out_t *out, double d);


#endif /* _NGX_LUNARY_NUMBER_H_INCLUDED_ */
