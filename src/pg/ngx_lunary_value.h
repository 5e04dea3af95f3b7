
/*
 * PostgreSQL's values, in the binary format of its protocol, as JSON tokens;
 * UUIDs.
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


#define NGX_LUNARY_UUID_LEN       16
#define NGX_LUNARY_UUID_TEXT_LEN  36

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

/*
 * reads 8-4-4-4-12 hexadecimal digits of either case into 16 bytes.
 * NGX_OK, or NGX_DECLINED for any other text; "uuid" is undefined then
 */
ngx_int_t ngx_lunary_uuid_parse(u_char *p, size_t len, u_char *uuid);

/* writes 36 bytes in lower case, returns the end of them */
u_char *ngx_lunary_uuid_text(u_char *p, u_char *uuid);


#endif /* _NGX_LUNARY_VALUE_H_INCLUDED_ */
