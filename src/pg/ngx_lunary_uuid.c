
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_uuid.h"


static ngx_int_t ngx_lunary_uuid_digit(u_char ch);


ngx_int_t
ngx_lunary_uuid_parse(u_char *p, size_t len, u_char *uuid)
{
    ngx_int_t   high, low;
    ngx_uint_t  i, n;

    if (len != NGX_LUNARY_UUID_TEXT_LEN) {
        return NGX_DECLINED;
    }

    for (i = 0, n = 0; n < NGX_LUNARY_UUID_LEN; n++) {

        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (p[i++] != '-') {
                return NGX_DECLINED;
            }
        }

        high = ngx_lunary_uuid_digit(p[i++]);
        low = ngx_lunary_uuid_digit(p[i++]);

        if (high < 0 || low < 0) {
            return NGX_DECLINED;
        }

        uuid[n] = (u_char) (high << 4 | low);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_uuid_digit(u_char ch)
{
    if (ch >= '0' && ch <= '9') {
        return ch - '0';
    }

    ch = (u_char) (ch | 0x20);

    if (ch >= 'a' && ch <= 'f') {
        return ch - 'a' + 10;
    }

    return -1;
}


u_char *
ngx_lunary_uuid_text(u_char *p, u_char *uuid)
{
    ngx_uint_t     n;
    static u_char  hex[] = "0123456789abcdef";

    for (n = 0; n < NGX_LUNARY_UUID_LEN; n++) {

        if (n == 4 || n == 6 || n == 8 || n == 10) {
            *p++ = '-';
        }

        *p++ = hex[uuid[n] >> 4];
        *p++ = hex[uuid[n] & 0xf];
    }

    return p;
}
