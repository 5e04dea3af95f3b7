
/*
 * JSON tokens, appended to an output that makes room as it goes.
 *
 * Every function returns NGX_OK, NGX_ERROR when the output could not make
 * room (there is no memory, or the client has left), or, where its comment says
 * so, NGX_DECLINED for input that is not what it should be; so do those of
 * ngx_lunary_camel.h and ngx_lunary_value.h.
 * After anything but NGX_OK a part of the token may already be written.
 * Nothing is ever read or written out of bounds, whatever the input.
 */


#ifndef _NGX_LUNARY_JSON_H_INCLUDED_
#define _NGX_LUNARY_JSON_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_out.h"


/* tests build both ways */

#if (__SSE2__ && !NGX_LUNARY_PORTABLE)
#define NGX_LUNARY_JSON_SSE2   1
#include <emmintrin.h>
#endif


/* "len" bytes as they are */
ngx_int_t ngx_lunary_json_raw(ngx_lunary_out_t *out, u_char *p, size_t len);

/* a string: quoted, with what JSON demands escaped; "p" is UTF-8 */
ngx_int_t ngx_lunary_json_string(ngx_lunary_out_t *out, u_char *p, size_t len);

ngx_int_t ngx_lunary_json_integer(ngx_lunary_out_t *out, int64_t n);

/* the shortest text that reads back as the same double; "d" is finite */
ngx_int_t ngx_lunary_json_double(ngx_lunary_out_t *out, double d);


/*
 * the first byte that a JSON string cannot hold as it is, or "last".  Reads 16
 * bytes at once, or 8 where there is no SSE2
 */
static ngx_inline u_char *
ngx_lunary_json_plain(u_char *p, u_char *last)
{
#if (NGX_LUNARY_JSON_SSE2)

    int      found;
    __m128i  block, quote, slash, space, match;

    quote = _mm_set1_epi8('"');
    slash = _mm_set1_epi8('\\');
    space = _mm_set1_epi8(0x1f);

    for ( /* void */ ; last - p >= 16; p += 16) {
        block = _mm_loadu_si128((__m128i *) p);

        match = _mm_or_si128(_mm_cmpeq_epi8(block, quote),
                             _mm_cmpeq_epi8(block, slash));
        match = _mm_or_si128(match, _mm_cmpeq_epi8(_mm_max_epu8(block, space),
                                                   space));
        found = _mm_movemask_epi8(match);

        if (found) {
            return p + __builtin_ctz(found);
        }
    }

#else

    uint64_t  block, quote, slash, found;

    /*
     * a byte of "x" is zero if and only if the top bit of some byte of
     * (x - 0x01..) & ~x is set, and below 0x20 likewise with 0x20..
     */

    for ( /* void */ ; last - p >= 8; p += 8) {
        ngx_memcpy(&block, p, 8);

        quote = block ^ 0x2222222222222222;
        slash = block ^ 0x5c5c5c5c5c5c5c5c;

        found = ((quote - 0x0101010101010101) & ~quote)
                | ((slash - 0x0101010101010101) & ~slash)
                | ((block - 0x2020202020202020) & ~block);

        if (found & 0x8080808080808080) {
            break;
        }
    }

#endif

    while (p < last && *p != '"' && *p != '\\' && *p >= 0x20) {
        p++;
    }

    return p;
}


#endif /* _NGX_LUNARY_JSON_H_INCLUDED_ */
