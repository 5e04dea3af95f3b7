
/*
 * PostgreSQL's values, in the binary format of its protocol, as JSON tokens.
 *
 * Returns are those of ngx_lunary_json.h; NGX_DECLINED always means bytes
 * that are no value of the type, of which nothing has been written yet
 * (but for text arrays and jsonb, where a part may have been).
 */


#ifndef _NGX_LUNARY_VALUE_H_INCLUDED_
#define _NGX_LUNARY_VALUE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_out.h"


/* infinities of timestamptz, in microseconds since 2000-01-01 UTC */
#define NGX_LUNARY_TIME_INFINITY      INT64_MAX
#define NGX_LUNARY_TIME_NEG_INFINITY  INT64_MIN


/* network byte order to the host's; the caller has checked the length */
uint32_t ngx_lunary_value_uint32(u_char *p);
uint64_t ngx_lunary_value_uint64(u_char *p);

/* 16 bytes as a quoted lower-case UUID */
ngx_int_t ngx_lunary_value_uuid(ngx_lunary_out_t *out, u_char *p, size_t len);

/*
 * microseconds since 2000-01-01 UTC as a quoted ISO 8601 time in UTC with
 * milliseconds, truncated (towards the past); years beyond 0 to 9999 with a
 * sign and six digits, as JavaScript writes them.  "t" is finite
 */
ngx_int_t ngx_lunary_value_time(ngx_lunary_out_t *out, int64_t t);

/*
 * what lies between two times in microseconds, as seconds: a number with at
 * most six decimals, 1.5 or -0.25
 */
ngx_int_t ngx_lunary_value_seconds(ngx_lunary_out_t *out, int64_t from,
    int64_t to);

/* text[] of any dimension, as nested arrays; a null element is null */
ngx_int_t ngx_lunary_value_text_array(ngx_lunary_out_t *out, u_char *p,
    size_t len);

/*
 * whether a jsonb is the JSON null: 1 or 0; NGX_DECLINED where the bytes are
 * no jsonb in the version known (1)
 */
ngx_int_t ngx_lunary_value_jsonb_is_null(u_char *p, size_t len);

/* a jsonb with its keys camel-cased */
ngx_int_t ngx_lunary_value_jsonb(ngx_lunary_out_t *out, u_char *p, size_t len);


#endif /* _NGX_LUNARY_VALUE_H_INCLUDED_ */
