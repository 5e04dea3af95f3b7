
#ifndef _NGX_LUNARY_CAMEL_H_INCLUDED_
#define _NGX_LUNARY_CAMEL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_out.h"


/*
 * a JSON value in the text that PostgreSQL gives for jsonb, passed through
 * to the letter but for the object keys, which are camel-cased; at any depth
 * without recursion.  Returns are those of ngx_lunary_json.h, NGX_DECLINED:
 * the text is no such value
 */
ngx_int_t ngx_lunary_camel(ngx_lunary_out_t *out, u_char *p, size_t len);


#endif /* _NGX_LUNARY_CAMEL_H_INCLUDED_ */
