
/*
 * JSON tokens.
 *
 * Text is passed through in runs as long as possible: what needs no change
 * is copied by memcpy(), in pieces where the output is shorter than the run.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_json.h"
#include "ngx_lunary_plain.h"


static ngx_int_t ngx_lunary_json_escape(ngx_lunary_out_t *out, u_char c);


ngx_int_t
ngx_lunary_json_raw(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    size_t  n;

    for ( ;; ) {
        n = out->end - out->pos;

        if (n >= len) {
            break;
        }

        /* there is no buffer before the first byte */

        if (n) {
            out->pos = ngx_cpymem(out->pos, p, n);
        }

        if (out->more(out) != NGX_OK) {
            return NGX_ERROR;
        }

        p += n;
        len -= n;
    }

    /* "p" may be NULL where there is nothing to copy */

    if (len) {
        out->pos = ngx_cpymem(out->pos, p, len);
    }

    return NGX_OK;
}


ngx_int_t
ngx_lunary_json_string(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    u_char  *last, *next;

    if (ngx_lunary_out_byte(out, '"') != NGX_OK) {
        return NGX_ERROR;
    }

    if (len) {
        last = p + len;

        for ( ;; ) {
            next = ngx_lunary_plain(p, last);

            if (ngx_lunary_json_raw(out, p, next - p) != NGX_OK) {
                return NGX_ERROR;
            }

            if (next == last) {
                break;
            }

            if (ngx_lunary_json_escape(out, *next) != NGX_OK) {
                return NGX_ERROR;
            }

            p = next + 1;
        }
    }

    return ngx_lunary_out_byte(out, '"');
}


static ngx_int_t
ngx_lunary_json_escape(ngx_lunary_out_t *out, u_char c)
{
    u_char        *p;
    static u_char  hex[] = "0123456789abcdef";
    static u_char  shorts[] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
    }

    p = out->pos;
    *p++ = '\\';

    if (c >= 0x20) {
        *p++ = c;

    } else {
        *p++ = shorts[c];

        if (shorts[c] == 'u') {
            *p++ = '0';
            *p++ = '0';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 0xf];
        }
    }

    out->pos = p;

    return NGX_OK;
}
