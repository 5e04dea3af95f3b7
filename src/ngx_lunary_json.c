
/*
 * JSON tokens, and the camel-casing of object keys in JSON text.
 *
 * Text is passed through in runs as long as possible: what needs no change
 * is looked at 16 bytes at once (8 where there is no SSE2) and copied by
 * memcpy(), in pieces where the output is shorter than the run.
 *
 * The camel-caser is a whole parser of JSON but for UTF-8 and surrogates:
 * a text that it accepts is one value, so no row can write its way out of
 * its place in the answer.  It needs neither recursion nor allocation: of
 * what it is inside of, it keeps a bit a level.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <float.h>
#include <math.h>
#include "ngx_lunary_json.h"


/* tests build both ways */

#if (__SSE2__ && !NGX_LUNARY_PORTABLE)
#define NGX_LUNARY_JSON_SSE2   1
#include <emmintrin.h>
#endif


/*
 * levels of nesting whose kind is remembered; PostgreSQL's stack ends well
 * before.  Deeper ones are counted, but their brackets are not matched
 */
#define NGX_LUNARY_JSON_LEVELS  65536

/* 15 decimal digits survive a double, and 17 tell any two apart */
#define NGX_LUNARY_JSON_DIGITS      15
#define NGX_LUNARY_JSON_MAX_DIGITS  17

/* what may come next in a text */
#define NGX_LUNARY_JSON_VALUE  0x01
#define NGX_LUNARY_JSON_KEY    0x02
#define NGX_LUNARY_JSON_CLOSE  0x04
#define NGX_LUNARY_JSON_COMMA  0x08

/* what may come next after a value; at depth 0, the end */
#define NGX_LUNARY_JSON_AFTER  (NGX_LUNARY_JSON_CLOSE|NGX_LUNARY_JSON_COMMA)

#define ngx_lunary_json_is_digit(p, last)                                     \
    ((p) < (last) && (u_char) (*(p) - '0') < 10)

#define ngx_lunary_json_is_space(p, last)                                     \
    ((p) < (last)                                                             \
     && (*(p) == ' ' || *(p) == '\n' || *(p) == '\t' || *(p) == '\r'))


typedef struct {
    ngx_lunary_out_t     *out;
    u_char               *start;    /* what is before start is written */
    u_char               *pos;      /* what is before pos is parsed */
    u_char               *last;
    size_t                depth;
    ngx_uint_t            expect;
    uint32_t              objects[NGX_LUNARY_JSON_LEVELS / 32];
} ngx_lunary_json_text_t;


static u_char *ngx_lunary_json_plain(u_char *p, u_char *last);
static u_char *ngx_lunary_json_skip_digits(u_char *p, u_char *last);
static ngx_int_t ngx_lunary_json_byte(ngx_lunary_out_t *out, u_char c);
static ngx_int_t ngx_lunary_json_escape(ngx_lunary_out_t *out, u_char c);

static ngx_int_t ngx_lunary_json_token(ngx_lunary_json_text_t *t);
static ngx_int_t ngx_lunary_json_text_string(ngx_lunary_json_text_t *t);
static u_char *ngx_lunary_json_text_escape(u_char *p, u_char *last);
static ngx_int_t ngx_lunary_json_text_key(ngx_lunary_json_text_t *t,
    u_char *p, u_char *last);
static ngx_int_t ngx_lunary_json_text_open(ngx_lunary_json_text_t *t,
    ngx_uint_t object);
static ngx_int_t ngx_lunary_json_text_close(ngx_lunary_json_text_t *t,
    ngx_uint_t object);
static ngx_int_t ngx_lunary_json_text_comma(ngx_lunary_json_text_t *t);
static ngx_int_t ngx_lunary_json_text_literal(ngx_lunary_json_text_t *t,
    char *literal, size_t len);
static ngx_int_t ngx_lunary_json_text_number(ngx_lunary_json_text_t *t);

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

    if (ngx_lunary_json_byte(out, '"') != NGX_OK) {
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

    return ngx_lunary_json_byte(out, '"');
}


ngx_int_t
ngx_lunary_json_camel(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    ngx_int_t               rc;
    ngx_lunary_json_text_t  t;

    if (len == 0) {
        return NGX_DECLINED;
    }

    t.out = out;
    t.start = p;
    t.pos = p;
    t.last = p + len;
    t.depth = 0;
    t.expect = NGX_LUNARY_JSON_VALUE;

    while (t.pos < t.last) {
        rc = ngx_lunary_json_token(&t);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (t.depth || t.expect != NGX_LUNARY_JSON_AFTER) {
        return NGX_DECLINED;
    }

    return ngx_lunary_json_raw(out, t.start, t.last - t.start);
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

    if (!isfinite(d)) {
        /* not to happen, but what is written stays JSON */
        return ngx_lunary_json_raw(out, (u_char *) "null", 4);
    }

    if (ngx_lunary_out_room(out) != NGX_OK) {
        return NGX_ERROR;
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


/* the first byte that a JSON string cannot hold as it is, or "last" */

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


static u_char *
ngx_lunary_json_skip_digits(u_char *p, u_char *last)
{
    while (ngx_lunary_json_is_digit(p, last)) {
        p++;
    }

    return p;
}


static ngx_inline ngx_int_t
ngx_lunary_json_byte(ngx_lunary_out_t *out, u_char c)
{
    if (out->pos == out->end && out->more(out) != NGX_OK) {
        return NGX_ERROR;
    }

    *out->pos++ = c;

    return NGX_OK;
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


static ngx_inline ngx_int_t
ngx_lunary_json_token(ngx_lunary_json_text_t *t)
{
    switch (*t->pos) {

    case ' ':
    case '\n':
    case '\t':
    case '\r':
        t->pos++;
        return NGX_OK;

    case '"':
        return ngx_lunary_json_text_string(t);

    case ',':
        return ngx_lunary_json_text_comma(t);

    case '{':
        return ngx_lunary_json_text_open(t, 1);

    case '[':
        return ngx_lunary_json_text_open(t, 0);

    case '}':
        return ngx_lunary_json_text_close(t, 1);

    case ']':
        return ngx_lunary_json_text_close(t, 0);

    case 't':
        return ngx_lunary_json_text_literal(t, "true", 4);

    case 'f':
        return ngx_lunary_json_text_literal(t, "false", 5);

    case 'n':
        return ngx_lunary_json_text_literal(t, "null", 4);

    default:
        return ngx_lunary_json_text_number(t);
    }
}


static ngx_int_t
ngx_lunary_json_text_string(ngx_lunary_json_text_t *t)
{
    u_char  *p, *key, *last;

    last = t->last;
    key = t->pos + 1;

    p = ngx_lunary_json_plain(key, last);

    while (p < last && *p != '"') {
        p = ngx_lunary_json_text_escape(p, last);

        if (p == NULL) {
            return NGX_DECLINED;
        }

        p = ngx_lunary_json_plain(p, last);
    }

    if (p == last) {
        return NGX_DECLINED;
    }

    t->pos = p + 1;

    while (ngx_lunary_json_is_space(t->pos, last)) {
        t->pos++;
    }

    if (t->pos < last && *t->pos == ':') {

        if (!(t->expect & NGX_LUNARY_JSON_KEY)) {
            return NGX_DECLINED;
        }

        t->pos++;
        t->expect = NGX_LUNARY_JSON_VALUE;

        return ngx_lunary_json_text_key(t, key, p);
    }

    if (!(t->expect & NGX_LUNARY_JSON_VALUE)) {
        return NGX_DECLINED;
    }

    t->expect = NGX_LUNARY_JSON_AFTER;

    return NGX_OK;
}


/* what follows the escape at "p"; NULL if there is none */

static u_char *
ngx_lunary_json_text_escape(u_char *p, u_char *last)
{
    u_char      c;
    ngx_uint_t  i;

    if (*p != '\\' || last - p < 2) {
        return NULL;
    }

    switch (p[1]) {

    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 2;

    case 'u':
        break;

    default:
        return NULL;
    }

    if (last - p < 6) {
        return NULL;
    }

    for (i = 2; i < 6; i++) {
        c = p[i] | 0x20;

        if (!ngx_lunary_json_is_digit(p + i, last) && (c < 'a' || c > 'f')) {
            return NULL;
        }
    }

    return p + 6;
}


/*
 * writes a key up to its last "_"; the rest goes with what follows.  Neither
 * an escape nor a character in UTF-8 has an "_" in it, so the first byte of
 * either is enough to step over
 */

static ngx_int_t
ngx_lunary_json_text_key(ngx_lunary_json_text_t *t, u_char *p, u_char *last)
{
    u_char  c;

    if (p < last) {
        p++;
    }

    for ( ;; ) {
        p = ngx_strlchr(p, last, '_');

        if (p == NULL) {
            return NGX_OK;
        }

        if (ngx_lunary_json_raw(t->out, t->start, p - t->start) != NGX_OK) {
            return NGX_ERROR;
        }

        p++;
        t->start = p;

        if (p == last) {
            return NGX_OK;
        }

        c = *p++;

        if (c >= 'a' && c <= 'z') {

            if (ngx_lunary_json_byte(t->out, c - 'a' + 'A') != NGX_OK) {
                return NGX_ERROR;
            }

            t->start = p;
        }
    }
}


static ngx_int_t
ngx_lunary_json_text_open(ngx_lunary_json_text_t *t, ngx_uint_t object)
{
    uint32_t   bit, *word;

    if (!(t->expect & NGX_LUNARY_JSON_VALUE)) {
        return NGX_DECLINED;
    }

    if (t->depth < NGX_LUNARY_JSON_LEVELS) {
        bit = (uint32_t) 1 << t->depth % 32;
        word = &t->objects[t->depth / 32];

        /* a word is set as a whole before a bit of it is looked at */

        if (bit == 1) {
            *word = 0;
        }

        *word = object ? *word | bit : *word & ~bit;
    }

    t->depth++;
    t->pos++;
    t->expect = NGX_LUNARY_JSON_CLOSE
                | (object ? NGX_LUNARY_JSON_KEY : NGX_LUNARY_JSON_VALUE);

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_json_text_close(ngx_lunary_json_text_t *t, ngx_uint_t object)
{
    size_t  level;

    if (!(t->expect & NGX_LUNARY_JSON_CLOSE) || t->depth == 0) {
        return NGX_DECLINED;
    }

    level = --t->depth;

    if (level < NGX_LUNARY_JSON_LEVELS
        && (t->objects[level / 32] >> level % 32 & 1) != object)
    {
        return NGX_DECLINED;
    }

    t->pos++;
    t->expect = NGX_LUNARY_JSON_AFTER;

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_json_text_comma(ngx_lunary_json_text_t *t)
{
    size_t  level;

    if (!(t->expect & NGX_LUNARY_JSON_COMMA) || t->depth == 0) {
        return NGX_DECLINED;
    }

    level = t->depth - 1;

    if (level >= NGX_LUNARY_JSON_LEVELS) {
        t->expect = NGX_LUNARY_JSON_KEY|NGX_LUNARY_JSON_VALUE;

    } else if (t->objects[level / 32] >> level % 32 & 1) {
        t->expect = NGX_LUNARY_JSON_KEY;

    } else {
        t->expect = NGX_LUNARY_JSON_VALUE;
    }

    t->pos++;

    /* one space, as PostgreSQL writes it */

    if (t->pos < t->last && *t->pos == ' ') {
        t->pos++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_json_text_literal(ngx_lunary_json_text_t *t, char *literal,
    size_t len)
{
    if (!(t->expect & NGX_LUNARY_JSON_VALUE)
        || (size_t) (t->last - t->pos) < len
        || ngx_memcmp(t->pos, literal, len) != 0)
    {
        return NGX_DECLINED;
    }

    /* a token that follows without a break is not expected there */

    t->pos += len;
    t->expect = NGX_LUNARY_JSON_AFTER;

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_json_text_number(ngx_lunary_json_text_t *t)
{
    u_char  *p, *last, *digits;

    p = t->pos;
    last = t->last;

    if (*p == '-') {
        p++;
    }

    digits = p;
    p = ngx_lunary_json_skip_digits(p, last);

    if (p == digits || (*digits == '0' && p - digits > 1)) {
        return NGX_DECLINED;
    }

    if (p < last && *p == '.') {
        digits = ++p;
        p = ngx_lunary_json_skip_digits(p, last);

        if (p == digits) {
            return NGX_DECLINED;
        }
    }

    if (p < last && (*p == 'e' || *p == 'E')) {
        p++;

        if (p < last && (*p == '+' || *p == '-')) {
            p++;
        }

        digits = p;
        p = ngx_lunary_json_skip_digits(p, last);

        if (p == digits) {
            return NGX_DECLINED;
        }
    }

    if (!(t->expect & NGX_LUNARY_JSON_VALUE)) {
        return NGX_DECLINED;
    }

    t->pos = p;
    t->expect = NGX_LUNARY_JSON_AFTER;

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
ngx_lunary_json_decimal(u_char *p, u_char *digits, size_t len, ngx_int_t point)
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
