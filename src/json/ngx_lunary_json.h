
/*
 * JSON tokens, appended to an output that makes room as it goes.
 *
 * Every function returns NGX_OK, NGX_ERROR when the output could not make
 * room (memory or client are gone: the answer cannot go on), or, where its
 * comment says so, NGX_DECLINED for input that is not what it should be; so
 * do those of ngx_lunary_number.h, ngx_lunary_camel.h and ngx_lunary_value.h.
 * After anything but NGX_OK a part of the token may already be written.
 * Nothing is ever read or written out of bounds, whatever the input.
 */


#ifndef _NGX_LUNARY_JSON_H_INCLUDED_
#define _NGX_LUNARY_JSON_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_out.h"


/* "len" bytes as they are */
ngx_int_t ngx_lunary_json_raw(ngx_lunary_out_t *out, u_char *p, size_t len);

/* a string: quoted, with what JSON demands escaped; "p" is UTF-8 */
ngx_int_t ngx_lunary_json_string(ngx_lunary_out_t *out, u_char *p, size_t len);


#endif /* _NGX_LUNARY_JSON_H_INCLUDED_ */
