
/*
 * JSON tokens.
 *
 * Text is passed through in runs as long as possible: what needs no change
 * is copied by memcpy(), in pieces where the output is shorter than the run.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <float.h>
#include <math.h>
#include "ngx_lunary_json.h"


/* 15 decimal digits survive a double, and 17 tell any two apart */
#define NGX_LUNARY_JSON_DIGITS      15
#define NGX_LUNARY_JSON_MAX_DIGITS  17


static ngx_int_t ngx_lunary_json_escape(ngx_lunary_out_t *out, u_char c);
static size_t ngx_lunary_json_digits(u_char *digits, uint64_t n);
static size_t ngx_lunary_json_short_digits(u_char *digits, double d,
    ngx_int_t *point);
static size_t ngx_lunary_json_long_digits(u_char *digits, double d,
    ngx_int_t *point);
static u_char *ngx_lunary_json_decimal(u_char *p, u_char *digits, size_t len,
    ngx_int_t point);
static u_char *ngx_lunary_json_exponent(u_char *p, u_char *digits, size_t len,
    ngx_int_t n);


static double  ngx_lunary_json_tens[] = {
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
    1e14, 1e15
};


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
            next = ngx_lunary_json_plain(p, last);

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


ngx_int_t
ngx_lunary_json_integer(ngx_lunary_out_t *out, int64_t n)
{
    size_t   len;
    u_char   digits[NGX_INT64_LEN];

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
    }

    if (n < 0) {
        *out->pos++ = '-';
        len = ngx_lunary_json_digits(digits, - (uint64_t) n);

    } else {
        len = ngx_lunary_json_digits(digits, n);
    }

    out->pos = ngx_cpymem(out->pos, digits, len);

    return NGX_OK;
}


ngx_int_t
ngx_lunary_json_double(ngx_lunary_out_t *out, double d)
{
    size_t     len;
    u_char     digits[NGX_LUNARY_JSON_MAX_DIGITS];
    ngx_int_t  point;

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!isfinite(d)) {
        /* should not happen; the text stays JSON all the same */
        out->pos = ngx_cpymem(out->pos, "null", 4);
        return NGX_OK;
    }

    if (signbit(d)) {
        *out->pos++ = '-';
        d = -d;
    }

    if (d == 0) {
        *out->pos++ = '0';
        return NGX_OK;
    }

    len = ngx_lunary_json_short_digits(digits, d, &point);

    if (len == 0) {
        len = ngx_lunary_json_long_digits(digits, d, &point);
    }

    out->pos = ngx_lunary_json_decimal(out->pos, digits, len, point);

    return NGX_OK;
}


static size_t
ngx_lunary_json_digits(u_char *digits, uint64_t n)
{
    size_t   len;
    u_char  *p, temp[NGX_INT64_LEN];

    p = temp + NGX_INT64_LEN;

    do {
        *--p = (u_char) (n % 10 + '0');
        n /= 10;
    } while (n);

    len = temp + NGX_INT64_LEN - p;
    ngx_memcpy(digits, p, len);

    return len;
}


/*
 * the digits of a number that is an integer of at most 15 of them divided
 * by a power of ten: both are exact doubles, so their quotient is what
 * reading the decimal gives.  0 if "d" is no such number
 */

static size_t
ngx_lunary_json_short_digits(u_char *digits, double d, ngx_int_t *point)
{
    double      n;
    size_t      len;
    ngx_uint_t  i;

    for (i = 0; i <= NGX_LUNARY_JSON_DIGITS; i++) {
        n = d * ngx_lunary_json_tens[i];

        if (n >= ngx_lunary_json_tens[NGX_LUNARY_JSON_DIGITS]) {
            break;
        }

        n = (double) (uint64_t) (n + 0.5);

        if (n / ngx_lunary_json_tens[i] == d) {
            len = ngx_lunary_json_digits(digits, (uint64_t) n);
            *point = (ngx_int_t) len - (ngx_int_t) i;

            return len;
        }
    }

    return 0;
}


/*
 * the digits of any number, by trial; what is not a digit before the "e" is
 * the decimal point of the locale.  Below the normal numbers, 15 digits may
 * be more than the shortest; of a few powers of two a digit less would do,
 * as the gap to the next number is narrower below them than above
 */

static size_t
ngx_lunary_json_long_digits(u_char *digits, double d, ngx_int_t *point)
{
    int      n;
    char     text[64], *p;
    size_t   len;

    n = (d < DBL_MIN) ? 1 : NGX_LUNARY_JSON_DIGITS;

    for ( /* void */ ; n <= NGX_LUNARY_JSON_MAX_DIGITS; n++) {
        (void) snprintf(text, sizeof(text), "%.*e", n - 1, d);

        if (strtod(text, NULL) == d) {
            break;
        }
    }

    digits[0] = text[0];
    len = 1;

    for (p = text + 1; *p != 'e'; p++) {
        if (*p >= '0' && *p <= '9') {
            digits[len++] = *p;
        }
    }

    while (len > 1 && digits[len - 1] == '0') {
        len--;
    }

    *point = strtol(p + 1, NULL, 10) + 1;

    return len;
}


/*
 * 0.digits * 10^point as ECMAScript's Number::toString() lays it out: without
 * an exponent from 1e-6 to 1e21
 */

static u_char *
ngx_lunary_json_decimal(u_char *p, u_char *digits, size_t len,
    ngx_int_t point)
{
    size_t  n;

    if (point <= -6 || point > 21) {
        return ngx_lunary_json_exponent(p, digits, len, point - 1);
    }

    if (point <= 0) {
        *p++ = '0';
        *p++ = '.';
        ngx_memset(p, '0', -point);

        return ngx_cpymem(p - point, digits, len);
    }

    n = point;

    if (n >= len) {
        p = ngx_cpymem(p, digits, len);
        ngx_memset(p, '0', n - len);

        return p + (n - len);
    }

    p = ngx_cpymem(p, digits, n);
    *p++ = '.';

    return ngx_cpymem(p, digits + n, len - n);
}


static u_char *
ngx_lunary_json_exponent(u_char *p, u_char *digits, size_t len, ngx_int_t n)
{
    *p++ = *digits;

    if (len > 1) {
        *p++ = '.';
        p = ngx_cpymem(p, digits + 1, len - 1);
    }

    *p++ = 'e';
    *p++ = (n < 0) ? '-' : '+';

    return p + ngx_lunary_json_digits(p, n < 0 ? -n : n);
}
