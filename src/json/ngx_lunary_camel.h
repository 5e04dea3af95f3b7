
#ifndef _NGX_LUNARY_CAMEL_H_INCLUDED_
#define _NGX_LUNARY_CAMEL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_out.h"


/*
 * the text that PostgreSQL gives for a jsonb, passed through to the letter but
 * for the object keys, which are camel-cased.  Returns are those of
 * ngx_lunary_json.h; NGX_DECLINED: a string has no end.  All else that makes a
 * text no JSON is passed through
 */
ngx_int_t ngx_lunary_camel(ngx_lunary_out_t *out, u_char *p, size_t len);


#endif /* _NGX_LUNARY_CAMEL_H_INCLUDED_ */
