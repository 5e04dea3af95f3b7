
/*
 * The harness of the unit tests and the fuzzers, and the oracles: simple
 * implementations of the code under test.
 */


#include "unit.h"
#include <stdarg.h>
#include <time.h>


static ngx_int_t unit_more(ngx_lunary_out_t *out);
static void unit_camel_key(unit_sink_t *sink, u_char *p, u_char *last);
static size_t unit_char(u_char *p, u_char *last);
static char *unit_camel_name(const char *key);


static uint64_t    unit_state = 1;
static ngx_uint_t  unit_count;
static ngx_uint_t  unit_failed;


/* nginx is not linked with the tests */

ngx_int_t
ngx_strncasecmp(u_char *s1, u_char *s2, size_t n)
{
    return strncasecmp((char *) s1, (char *) s2, n);
}


ngx_uint_t
unit_ok(ngx_uint_t ok, const char *fmt, ...)
{
    va_list  args;

    unit_count++;

    if (!ok) {
        unit_failed++;
    }

    (void) printf("%sok %lu - ", ok ? "" : "not ", (unsigned long) unit_count);

    va_start(args, fmt);
    (void) vprintf(fmt, args);
    va_end(args);

    (void) printf("\n");
    (void) fflush(stdout);

    return ok;
}


void
unit_skip(const char *why)
{
    unit_count++;
    (void) printf("ok %lu # SKIP %s\n", (unsigned long) unit_count, why);
}


int
unit_done(void)
{
    (void) printf("1..%lu\n", (unsigned long) unit_count);

    return unit_failed ? 1 : 0;
}


void
unit_seed(void)
{
    char             *seed;
    struct timespec   ts;

    seed = getenv("UNIT_SEED");

    if (seed) {
        unit_state = strtoul(seed, NULL, 10);

    } else {
        (void) clock_gettime(CLOCK_REALTIME, &ts);
        unit_state = (ts.tv_sec ^ ts.tv_nsec) & 0x7fffffff;
    }

    (void) printf("# UNIT_SEED=%lu\n", (unsigned long) unit_state);
}


uint64_t
unit_random64(void)
{
    uint64_t  n;

    /* splitmix64 */

    n = (unit_state += 0x9e3779b97f4a7c15);
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9;
    n = (n ^ (n >> 27)) * 0x94d049bb133111eb;

    return n ^ (n >> 31);
}


uint32_t
unit_random(uint32_t n)
{
    return unit_random64() % n;
}


void *
unit_alloc(size_t size)
{
    void  *p;

    p = malloc(size ? size : 1);

    if (p == NULL) {
        (void) fprintf(stderr, "no memory\n");
        abort();
    }

    return p;
}


u_char *
unit_copy(const void *p, size_t len)
{
    u_char  *copy;

    copy = unit_alloc(len);

    if (len) {
        ngx_memcpy(copy, p, len);
    }

    return copy;
}


void
unit_sink(unit_sink_t *sink, size_t first, size_t next)
{
    ngx_memzero(sink, sizeof(unit_sink_t));

    sink->buffer = unit_alloc(first);
    sink->next = next;

    sink->out.pos = sink->buffer;
    sink->out.end = sink->buffer + first;
    sink->out.more = unit_more;
    sink->out.data = sink;
}


static ngx_int_t
unit_more(ngx_lunary_out_t *out)
{
    unit_sink_t  *sink = out->data;

    unit_sink_take(sink, sink->buffer, out->pos - sink->buffer);
    free(sink->buffer);

    sink->calls++;

    if (sink->calls == sink->fail) {

        /* the buffer for writes after a failure */

        sink->buffer = NULL;
        out->pos = NULL;
        out->end = NULL;

        return NGX_ERROR;
    }

    sink->buffer = unit_alloc(sink->next);
    out->pos = sink->buffer;
    out->end = sink->buffer + sink->next;

    return NGX_OK;
}


void
unit_sink_end(unit_sink_t *sink)
{
    if (sink->buffer) {
        unit_sink_take(sink, sink->buffer, sink->out.pos - sink->buffer);
        free(sink->buffer);
        sink->buffer = NULL;
    }
}


void
unit_sink_free(unit_sink_t *sink)
{
    unit_sink_end(sink);
    free(sink->data);
    sink->data = NULL;
}


void
unit_sink_take(unit_sink_t *sink, const void *p, size_t len)
{
    u_char  *data;

    if (sink->len + len > sink->size) {
        sink->size = (sink->len + len) * 2;
        data = unit_alloc(sink->size);

        if (sink->len) {
            ngx_memcpy(data, sink->data, sink->len);
        }

        free(sink->data);
        sink->data = data;
    }

    if (len) {
        ngx_memcpy(sink->data + sink->len, p, len);
        sink->len += len;
    }
}


json_t *
unit_load(u_char *p, size_t len, ngx_uint_t *limit)
{
    json_t        *json;
    json_error_t   error;

    *limit = 0;

    json = json_loadb((char *) p, len, JSON_DECODE_ANY|JSON_ALLOW_NUL, &error);

    if (json) {
        return json;
    }

    switch (json_error_code(&error)) {

    case json_error_invalid_utf8:
    case json_error_stack_overflow:
    case json_error_null_byte_in_key:
    case json_error_numeric_overflow:
        *limit = 1;
        break;

    default:
        *limit = ngx_strncmp(error.text, "invalid Unicode", 15) == 0;
    }

    return NULL;
}


void
unit_camel_text(unit_sink_t *sink, u_char *p, size_t len)
{
    u_char  *last, *end;

    last = p + len;

    while (p < last) {

        if (*p != '"') {
            unit_sink_take(sink, p++, 1);
            continue;
        }

        for (end = p + 1; *end != '"'; end++) {
            if (*end == '\\') {
                end++;
            }
        }

        if (end + 1 < last && end[1] == ':') {
            unit_sink_take(sink, p, 1);
            unit_camel_key(sink, p + 1, end);
            unit_sink_take(sink, end, 1);

        } else {
            unit_sink_take(sink, p, end + 1 - p);
        }

        p = end + 1;
    }
}


ngx_uint_t
unit_camel_is(unit_sink_t *sink, ngx_int_t rc, u_char *p, size_t len)
{
    json_t       *json;
    ngx_uint_t    ok, limit;
    unit_sink_t   expect;

    json = unit_load(p, len, &limit);

    if (json == NULL || ngx_strlchr(p, p + len, '\0')) {
        ok = rc == NGX_OK || rc == NGX_DECLINED;

    } else {
        unit_sink(&expect, 0, 64);
        unit_camel_text(&expect, p, len);

        ok = rc == NGX_OK && sink->len == expect.len
             && ngx_memcmp(sink->data, expect.data, sink->len) == 0;

        unit_sink_free(&expect);
    }

    json_decref(json);

    return ok;
}


/* one character of the key after the other, each as it is written */

static void
unit_camel_key(unit_sink_t *sink, u_char *p, u_char *last)
{
    size_t  n;
    u_char  c;

    if (p == last) {
        return;
    }

    n = unit_char(p, last);
    unit_sink_take(sink, p, n);
    p += n;

    while (p < last) {

        if (*p != '_') {
            n = unit_char(p, last);
            unit_sink_take(sink, p, n);
            p += n;
            continue;
        }

        p++;

        if (p == last) {
            return;
        }

        n = unit_char(p, last);

        if (*p >= 'a' && *p <= 'z') {
            c = *p & ~0x20;
            unit_sink_take(sink, &c, 1);

        } else {
            unit_sink_take(sink, p, n);
        }

        p += n;
    }
}


/* its length: an escape counts as one, and so does a UTF-8 sequence */

static size_t
unit_char(u_char *p, u_char *last)
{
    size_t  n;

    if (*p == '\\') {
        return p[1] == 'u' ? 6 : 2;
    }

    if (*p < 0xc0) {
        return 1;
    }

    for (n = 1; p + n < last && (p[n] & 0xc0) == 0x80; n++) {
        /* void */
    }

    return n;
}


json_t *
unit_camel_tree(json_t *json)
{
    char    *name;
    void    *iter;
    size_t   i;
    json_t  *tree;

    if (json_is_array(json)) {
        tree = json_array();

        for (i = 0; i < json_array_size(json); i++) {
            (void) json_array_append_new(tree,
                                  unit_camel_tree(json_array_get(json, i)));
        }

        return tree;
    }

    if (!json_is_object(json)) {
        return json_incref(json);
    }

    tree = json_object();

    for (iter = json_object_iter(json);
         iter;
         iter = json_object_iter_next(json, iter))
    {
        name = unit_camel_name(json_object_iter_key(iter));

        (void) json_object_set_new_nocheck(tree, name,
                               unit_camel_tree(json_object_iter_value(iter)));
        free(name);
    }

    return tree;
}


/* for a key without escapes; only the first byte of a character matters */

static char *
unit_camel_name(const char *key)
{
    char  *name, *p;

    name = unit_alloc(strlen(key) + 1);
    p = name;

    if (*key) {
        *p++ = *key++;
    }

    while (*key) {

        if (*key != '_') {
            *p++ = *key++;
            continue;
        }

        key++;

        if (*key) {
            *p++ = (*key >= 'a' && *key <= 'z') ? *key & ~0x20 : *key;
            key++;
        }
    }

    *p = '\0';

    return name;
}


void
unit_string_text(unit_sink_t *sink, u_char *p, size_t len)
{
    char    text[8];
    size_t  i;

    unit_sink_take(sink, "\"", 1);

    for (i = 0; i < len; i++) {

        switch (p[i]) {

        case '"':
            unit_sink_take(sink, "\\\"", 2);
            break;

        case '\\':
            unit_sink_take(sink, "\\\\", 2);
            break;

        case '\b':
            unit_sink_take(sink, "\\b", 2);
            break;

        case '\f':
            unit_sink_take(sink, "\\f", 2);
            break;

        case '\n':
            unit_sink_take(sink, "\\n", 2);
            break;

        case '\r':
            unit_sink_take(sink, "\\r", 2);
            break;

        case '\t':
            unit_sink_take(sink, "\\t", 2);
            break;

        default:

            if (p[i] < 0x20) {
                (void) snprintf(text, sizeof(text), "\\u%04x", p[i]);
                unit_sink_take(sink, text, 6);

            } else {
                unit_sink_take(sink, &p[i], 1);
            }
        }
    }

    unit_sink_take(sink, "\"", 1);
}
