
/*
 * PostgreSQL's values as JSON tokens.  The bytes come from the network:
 * every length in them is checked against what is there before it is used.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_json.h"
#include "ngx_lunary_camel.h"
#include "ngx_lunary_value.h"


#define NGX_LUNARY_VALUE_USEC        1000000

/* days of 400 years, and from 0000-03-01 to 2000-01-01 */
#define NGX_LUNARY_VALUE_ERA         146097
#define NGX_LUNARY_VALUE_EPOCH       730425

#define NGX_LUNARY_VALUE_DAY_MSEC    86400000

/* of arrays: dimensions at most, and the types of their elements */
#define NGX_LUNARY_VALUE_DIMS        6
#define NGX_LUNARY_VALUE_TEXT        25
#define NGX_LUNARY_VALUE_VARCHAR     1043

#define NGX_LUNARY_VALUE_JSONB       1


typedef struct {
    u_char               *pos;
    u_char               *last;
    size_t                ndim;
    uint32_t              sizes[NGX_LUNARY_VALUE_DIMS];
} ngx_lunary_value_array_t;


static ngx_int_t ngx_lunary_uuid_digit(u_char ch);
static u_char *ngx_lunary_value_number(u_char *p, uint64_t n,
    ngx_uint_t width);
static u_char *ngx_lunary_value_date(u_char *p, int64_t days);
static ngx_int_t ngx_lunary_value_array_header(ngx_lunary_value_array_t *a,
    u_char *p, size_t len);
static ngx_int_t ngx_lunary_value_array_part(ngx_lunary_out_t *out,
    ngx_lunary_value_array_t *a, size_t dim);
static ngx_int_t ngx_lunary_value_array_element(ngx_lunary_out_t *out,
    ngx_lunary_value_array_t *a);


uint32_t
ngx_lunary_value_uint32(u_char *p)
{
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16
           | (uint32_t) p[2] << 8 | p[3];
}


uint64_t
ngx_lunary_value_uint64(u_char *p)
{
    return (uint64_t) ngx_lunary_value_uint32(p) << 32
           | ngx_lunary_value_uint32(p + 4);
}


ngx_int_t
ngx_lunary_value_uuid(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    if (len != NGX_LUNARY_UUID_LEN) {
        return NGX_DECLINED;
    }

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
    }

    *out->pos++ = '"';
    out->pos = ngx_lunary_uuid_text(out->pos, p);
    *out->pos++ = '"';

    return NGX_OK;
}


ngx_int_t
ngx_lunary_value_time(ngx_lunary_out_t *out, int64_t t)
{
    u_char   *p;
    int64_t   days, ms;

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
    }

    /* division truncates towards zero, which before 2000 is the future */

    ms = t / 1000 - (t % 1000 < 0);
    days = ms / NGX_LUNARY_VALUE_DAY_MSEC;
    ms = ms % NGX_LUNARY_VALUE_DAY_MSEC;

    if (ms < 0) {
        ms += NGX_LUNARY_VALUE_DAY_MSEC;
        days--;
    }

    p = out->pos;
    *p++ = '"';

    p = ngx_lunary_value_date(p, days);
    *p++ = 'T';
    p = ngx_lunary_value_number(p, ms / 3600000, 2);
    *p++ = ':';
    p = ngx_lunary_value_number(p, ms / 60000 % 60, 2);
    *p++ = ':';
    p = ngx_lunary_value_number(p, ms / 1000 % 60, 2);
    *p++ = '.';
    p = ngx_lunary_value_number(p, ms % 1000, 3);
    *p++ = 'Z';
    *p++ = '"';

    out->pos = p;

    return NGX_OK;
}


ngx_int_t
ngx_lunary_value_seconds(ngx_lunary_out_t *out, int64_t from, int64_t to)
{
    u_char    *p;
    int64_t    whole;
    uint64_t   n, fraction;

    /*
     * without a sign it always fits, however far the times are apart; the
     * sign is written here: there is no integer -0 to keep it
     */

    n = (to < from) ? (uint64_t) from - (uint64_t) to
                    : (uint64_t) to - (uint64_t) from;
    whole = (int64_t) (n / NGX_LUNARY_VALUE_USEC);
    fraction = n % NGX_LUNARY_VALUE_USEC;

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
    }

    if (to < from) {
        *out->pos++ = '-';
    }

    if (ngx_lunary_json_integer(out, whole) != NGX_OK) {
        return NGX_ERROR;
    }

    if (fraction == 0) {
        return NGX_OK;
    }

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
    }

    p = out->pos;
    *p++ = '.';
    p = ngx_lunary_value_number(p, fraction, 6);

    while (p[-1] == '0') {
        p--;
    }

    out->pos = p;

    return NGX_OK;
}


ngx_int_t
ngx_lunary_value_text_array(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    ngx_int_t                 rc;
    ngx_lunary_value_array_t  a;

    if (ngx_lunary_value_array_header(&a, p, len) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (a.ndim == 0) {
        rc = ngx_lunary_json_raw(out, (u_char *) "[]", 2);

    } else {
        rc = ngx_lunary_value_array_part(out, &a, 0);
    }

    if (rc == NGX_OK && a.pos != a.last) {
        return NGX_DECLINED;
    }

    return rc;
}


ngx_int_t
ngx_lunary_value_jsonb_is_null(u_char *p, size_t len)
{
    if (len < 2 || p[0] != NGX_LUNARY_VALUE_JSONB) {
        return NGX_DECLINED;
    }

    return len == 5 && ngx_memcmp(p + 1, "null", 4) == 0;
}


ngx_int_t
ngx_lunary_value_jsonb(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    if (len < 2 || p[0] != NGX_LUNARY_VALUE_JSONB) {
        return NGX_DECLINED;
    }

    return ngx_lunary_camel(out, p + 1, len - 1);
}


/* "n" with zeros before it, and no digit more than "width" */

static u_char *
ngx_lunary_value_number(u_char *p, uint64_t n, ngx_uint_t width)
{
    ngx_uint_t  i;

    for (i = width; i > 0; i--) {
        p[i - 1] = (u_char) (n % 10 + '0');
        n /= 10;
    }

    return p + width;
}


/*
 * the day "days" after 2000-01-01 in the Gregorian calendar, which is taken
 * to have been in use always.  A year here begins in March, so that a leap
 * day is its last, and an era is 400 of them, all of equal length
 */

static u_char *
ngx_lunary_value_date(u_char *p, int64_t days)
{
    int64_t  era, year, day, month, mday;

    days += NGX_LUNARY_VALUE_EPOCH;

    era = days / NGX_LUNARY_VALUE_ERA - (days % NGX_LUNARY_VALUE_ERA < 0);
    day = days - era * NGX_LUNARY_VALUE_ERA;

    year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= year * 365 + year / 4 - year / 100;
    year += era * 400;

    /* five months from March, and from August, are 153 days */

    month = (day * 5 + 2) / 153;
    mday = day - (month * 153 + 2) / 5 + 1;

    if (month < 10) {
        month += 3;

    } else {
        month -= 9;
        year++;
    }

    if (year >= 0 && year <= 9999) {
        p = ngx_lunary_value_number(p, year, 4);

    } else {
        *p++ = (year < 0) ? '-' : '+';
        p = ngx_lunary_value_number(p, year < 0 ? -year : year, 6);
    }

    *p++ = '-';
    p = ngx_lunary_value_number(p, month, 2);
    *p++ = '-';

    return ngx_lunary_value_number(p, mday, 2);
}


/*
 * the number of dimensions, whether there are nulls, the type; then of each
 * dimension its size and its lower bound, which has no place in JSON
 */

static ngx_int_t
ngx_lunary_value_array_header(ngx_lunary_value_array_t *a, u_char *p,
    size_t len)
{
    size_t    i, room;
    uint32_t  size, type;

    if (len < 12) {
        return NGX_DECLINED;
    }

    a->ndim = ngx_lunary_value_uint32(p);
    type = ngx_lunary_value_uint32(p + 8);

    if (a->ndim > NGX_LUNARY_VALUE_DIMS
        || ngx_lunary_value_uint32(p + 4) > 1
        || (type != NGX_LUNARY_VALUE_TEXT && type != NGX_LUNARY_VALUE_VARCHAR)
        || len - 12 < a->ndim * 8)
    {
        return NGX_DECLINED;
    }

    a->pos = p + 12 + a->ndim * 8;
    a->last = p + len;

    /* an element takes four bytes, so what is there bounds their number */

    room = (a->last - a->pos) / 4;

    for (i = 0; i < a->ndim; i++) {
        size = ngx_lunary_value_uint32(p + 12 + i * 8);

        if (size == 0 || size > room) {
            return NGX_DECLINED;
        }

        room /= size;
        a->sizes[i] = size;
    }

    return NGX_OK;
}


/* writes the dimensions from "dim" on */

static ngx_int_t
ngx_lunary_value_array_part(ngx_lunary_out_t *out, ngx_lunary_value_array_t *a,
    size_t dim)
{
    uint32_t   i;
    ngx_int_t  rc;

    if (dim == a->ndim) {
        return ngx_lunary_value_array_element(out, a);
    }

    for (i = 0; i < a->sizes[dim]; i++) {

        if (ngx_lunary_out_byte(out, i ? ',' : '[') != NGX_OK) {
            return NGX_ERROR;
        }

        rc = ngx_lunary_value_array_part(out, a, dim + 1);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_lunary_out_byte(out, ']');
}


static ngx_int_t
ngx_lunary_value_array_element(ngx_lunary_out_t *out,
    ngx_lunary_value_array_t *a)
{
    u_char    *p;
    uint32_t   len;

    if (a->last - a->pos < 4) {
        return NGX_DECLINED;
    }

    len = ngx_lunary_value_uint32(a->pos);
    a->pos += 4;

    /* a null is an element of length -1 */

    if (len == 0xffffffff) {
        return ngx_lunary_json_raw(out, (u_char *) "null", 4);
    }

    if (len > (size_t) (a->last - a->pos)) {
        return NGX_DECLINED;
    }

    p = a->pos;
    a->pos += len;

    return ngx_lunary_json_string(out, p, len);
}


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
