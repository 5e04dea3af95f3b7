
/*
 * The camel-casing of object keys in JSON text.
 *
 * It is a whole parser of JSON but for UTF-8 and surrogates:
 * a text that it accepts is one value, so no row can write its way out of
 * its place in the answer.  It needs neither recursion nor allocation: of
 * what it is inside of, it keeps a bit a level.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_json.h"
#include "ngx_lunary_camel.h"


/*
 * levels of nesting whose kind is remembered; PostgreSQL's stack ends well
 * before.  Deeper ones are counted, but their brackets are not matched
 */
#define NGX_LUNARY_CAMEL_LEVELS  65536

/* what may come next in a text */
#define NGX_LUNARY_CAMEL_VALUE  0x01
#define NGX_LUNARY_CAMEL_KEY    0x02
#define NGX_LUNARY_CAMEL_CLOSE  0x04
#define NGX_LUNARY_CAMEL_COMMA  0x08

/* what may come next after a value; at depth 0, the end */
#define NGX_LUNARY_CAMEL_AFTER  (NGX_LUNARY_CAMEL_CLOSE|NGX_LUNARY_CAMEL_COMMA)

#define ngx_lunary_camel_is_digit(p, last)                                    \
    ((p) < (last) && (u_char) (*(p) - '0') < 10)

#define ngx_lunary_camel_is_space(p, last)                                    \
    ((p) < (last)                                                             \
     && (*(p) == ' ' || *(p) == '\n' || *(p) == '\t' || *(p) == '\r'))


typedef struct {
    ngx_lunary_out_t     *out;
    u_char               *start;    /* what is before start is written */
    u_char               *pos;      /* what is before pos is parsed */
    u_char               *last;
    size_t                depth;
    ngx_uint_t            expect;
    uint32_t              objects[NGX_LUNARY_CAMEL_LEVELS / 32];
} ngx_lunary_camel_t;


static ngx_int_t ngx_lunary_camel_token(ngx_lunary_camel_t *t);
static ngx_int_t ngx_lunary_camel_string(ngx_lunary_camel_t *t);
static u_char *ngx_lunary_camel_escape(u_char *p, u_char *last);
static ngx_int_t ngx_lunary_camel_key(ngx_lunary_camel_t *t, u_char *p,
    u_char *last);
static ngx_int_t ngx_lunary_camel_open(ngx_lunary_camel_t *t,
    ngx_uint_t object);
static ngx_int_t ngx_lunary_camel_close(ngx_lunary_camel_t *t,
    ngx_uint_t object);
static ngx_int_t ngx_lunary_camel_comma(ngx_lunary_camel_t *t);
static ngx_int_t ngx_lunary_camel_literal(ngx_lunary_camel_t *t, char *literal,
    size_t len);
static ngx_int_t ngx_lunary_camel_number(ngx_lunary_camel_t *t);
static u_char *ngx_lunary_camel_skip_digits(u_char *p, u_char *last);


ngx_int_t
ngx_lunary_camel(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    ngx_int_t           rc;
    ngx_lunary_camel_t  t;

    if (len == 0) {
        return NGX_DECLINED;
    }

    t.out = out;
    t.start = p;
    t.pos = p;
    t.last = p + len;
    t.depth = 0;
    t.expect = NGX_LUNARY_CAMEL_VALUE;

    while (t.pos < t.last) {
        rc = ngx_lunary_camel_token(&t);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (t.depth || t.expect != NGX_LUNARY_CAMEL_AFTER) {
        return NGX_DECLINED;
    }

    return ngx_lunary_json_raw(out, t.start, t.last - t.start);
}


static ngx_inline ngx_int_t
ngx_lunary_camel_token(ngx_lunary_camel_t *t)
{
    switch (*t->pos) {

    case ' ':
    case '\n':
    case '\t':
    case '\r':
        t->pos++;
        return NGX_OK;

    case '"':
        return ngx_lunary_camel_string(t);

    case ',':
        return ngx_lunary_camel_comma(t);

    case '{':
        return ngx_lunary_camel_open(t, 1);

    case '[':
        return ngx_lunary_camel_open(t, 0);

    case '}':
        return ngx_lunary_camel_close(t, 1);

    case ']':
        return ngx_lunary_camel_close(t, 0);

    case 't':
        return ngx_lunary_camel_literal(t, "true", 4);

    case 'f':
        return ngx_lunary_camel_literal(t, "false", 5);

    case 'n':
        return ngx_lunary_camel_literal(t, "null", 4);

    default:
        return ngx_lunary_camel_number(t);
    }
}


static ngx_int_t
ngx_lunary_camel_string(ngx_lunary_camel_t *t)
{
    u_char  *p, *key, *last;

    last = t->last;
    key = t->pos + 1;

    p = ngx_lunary_json_plain(key, last);

    while (p < last && *p != '"') {
        p = ngx_lunary_camel_escape(p, last);

        if (p == NULL) {
            return NGX_DECLINED;
        }

        p = ngx_lunary_json_plain(p, last);
    }

    if (p == last) {
        return NGX_DECLINED;
    }

    t->pos = p + 1;

    while (ngx_lunary_camel_is_space(t->pos, last)) {
        t->pos++;
    }

    if (t->pos < last && *t->pos == ':') {

        if (!(t->expect & NGX_LUNARY_CAMEL_KEY)) {
            return NGX_DECLINED;
        }

        t->pos++;
        t->expect = NGX_LUNARY_CAMEL_VALUE;

        return ngx_lunary_camel_key(t, key, p);
    }

    if (!(t->expect & NGX_LUNARY_CAMEL_VALUE)) {
        return NGX_DECLINED;
    }

    t->expect = NGX_LUNARY_CAMEL_AFTER;

    return NGX_OK;
}


/* what follows the escape at "p"; NULL if there is none */

static u_char *
ngx_lunary_camel_escape(u_char *p, u_char *last)
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

        if (!ngx_lunary_camel_is_digit(p + i, last) && (c < 'a' || c > 'f')) {
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
ngx_lunary_camel_key(ngx_lunary_camel_t *t, u_char *p, u_char *last)
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

            if (ngx_lunary_out_byte(t->out, c - 'a' + 'A') != NGX_OK) {
                return NGX_ERROR;
            }

            t->start = p;
        }
    }
}


static ngx_int_t
ngx_lunary_camel_open(ngx_lunary_camel_t *t, ngx_uint_t object)
{
    uint32_t   bit, *word;

    if (!(t->expect & NGX_LUNARY_CAMEL_VALUE)) {
        return NGX_DECLINED;
    }

    if (t->depth < NGX_LUNARY_CAMEL_LEVELS) {
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
    t->expect = NGX_LUNARY_CAMEL_CLOSE
                | (object ? NGX_LUNARY_CAMEL_KEY : NGX_LUNARY_CAMEL_VALUE);

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_camel_close(ngx_lunary_camel_t *t, ngx_uint_t object)
{
    size_t  level;

    if (!(t->expect & NGX_LUNARY_CAMEL_CLOSE) || t->depth == 0) {
        return NGX_DECLINED;
    }

    level = --t->depth;

    if (level < NGX_LUNARY_CAMEL_LEVELS
        && (t->objects[level / 32] >> level % 32 & 1) != object)
    {
        return NGX_DECLINED;
    }

    t->pos++;
    t->expect = NGX_LUNARY_CAMEL_AFTER;

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_camel_comma(ngx_lunary_camel_t *t)
{
    size_t  level;

    if (!(t->expect & NGX_LUNARY_CAMEL_COMMA) || t->depth == 0) {
        return NGX_DECLINED;
    }

    level = t->depth - 1;

    if (level >= NGX_LUNARY_CAMEL_LEVELS) {
        t->expect = NGX_LUNARY_CAMEL_KEY|NGX_LUNARY_CAMEL_VALUE;

    } else if (t->objects[level / 32] >> level % 32 & 1) {
        t->expect = NGX_LUNARY_CAMEL_KEY;

    } else {
        t->expect = NGX_LUNARY_CAMEL_VALUE;
    }

    t->pos++;

    /* one space, as PostgreSQL writes it */

    if (t->pos < t->last && *t->pos == ' ') {
        t->pos++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_camel_literal(ngx_lunary_camel_t *t, char *literal,
    size_t len)
{
    if (!(t->expect & NGX_LUNARY_CAMEL_VALUE)
        || (size_t) (t->last - t->pos) < len
        || ngx_memcmp(t->pos, literal, len) != 0)
    {
        return NGX_DECLINED;
    }

    /* a token that follows without a break is not expected there */

    t->pos += len;
    t->expect = NGX_LUNARY_CAMEL_AFTER;

    return NGX_OK;
}


static ngx_int_t
ngx_lunary_camel_number(ngx_lunary_camel_t *t)
{
    u_char  *p, *last, *digits;

    p = t->pos;
    last = t->last;

    if (*p == '-') {
        p++;
    }

    digits = p;
    p = ngx_lunary_camel_skip_digits(p, last);

    if (p == digits || (*digits == '0' && p - digits > 1)) {
        return NGX_DECLINED;
    }

    if (p < last && *p == '.') {
        digits = ++p;
        p = ngx_lunary_camel_skip_digits(p, last);

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
        p = ngx_lunary_camel_skip_digits(p, last);

        if (p == digits) {
            return NGX_DECLINED;
        }
    }

    if (!(t->expect & NGX_LUNARY_CAMEL_VALUE)) {
        return NGX_DECLINED;
    }

    t->pos = p;
    t->expect = NGX_LUNARY_CAMEL_AFTER;

    return NGX_OK;
}


static u_char *
ngx_lunary_camel_skip_digits(u_char *p, u_char *last)
{
    while (ngx_lunary_camel_is_digit(p, last)) {
        p++;
    }

    return p;
}
