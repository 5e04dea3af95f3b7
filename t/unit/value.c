
/* PostgreSQL's values as JSON tokens: src/pg/ngx_lunary_value.c */


#include "unit.h"
#include <time.h>
#include "ngx_lunary_value.h"


#define TEST_RANDOM   50000

/* 2000-01-01, in seconds since 1970 */
#define TEST_EPOCH    946684800

/* from the first bytes of a text[] */
#define TEST_TEXT     25
#define TEST_VARCHAR  1043


typedef struct {
    int64_t      n;
    const char  *out;
} test_number_t;


typedef struct {
    const char  *name;
    const char  *bytes;
    size_t       len;
    const char  *out;
} test_bytes_t;


#define test_bytes(s)  s, sizeof(s) - 1

#define TEST_ONE  "\0\0\0\1\0\0\0\0\0\0\0\31"
#define TEST_TWO  "\0\0\0\2\0\0\0\0\0\0\0\31"

#define test_length(n)  "\0\0\0" n "\0\0\0\1"


static void test_uint(void);
static void test_uuid(void);
static void test_time(void);
static void test_time_random(void);
static void test_seconds(void);
static void test_seconds_random(void);
static void test_array(void);
static void test_array_random(void);
static ngx_uint_t test_array_cut(u_char *p, size_t len);
static ngx_uint_t test_array_flip(u_char *p, size_t len);
static ngx_uint_t test_array_fails(u_char *p, size_t len);
static ngx_int_t test_array_run(u_char *p, size_t len, unit_sink_t *sink);
static json_t *test_array_generate(unit_sink_t *sink, uint32_t *sizes,
    ngx_uint_t ndim);
static void test_jsonb(void);
static void test_no_room(void);
static void test_add32(unit_sink_t *sink, uint32_t n);


static test_number_t  test_times[] = {
    { 0, "\"2000-01-01T00:00:00.000Z\"" },
    { 1, "\"2000-01-01T00:00:00.000Z\"" },
    { 999, "\"2000-01-01T00:00:00.000Z\"" },
    { 1000, "\"2000-01-01T00:00:00.001Z\"" },
    { -1, "\"1999-12-31T23:59:59.999Z\"" },
    { -1000, "\"1999-12-31T23:59:59.999Z\"" },
    { -1001, "\"1999-12-31T23:59:59.998Z\"" },
    { -946684800000000, "\"1970-01-01T00:00:00.000Z\"" },
    { -946684800000001, "\"1969-12-31T23:59:59.999Z\"" },
    { 847662484090999, "\"2026-11-10T21:48:04.090Z\"" },
    { 5097600000000, "\"2000-02-29T00:00:00.000Z\"" },
    { 762480000000000, "\"2024-02-29T00:00:00.000Z\"" },
    { 252455615999999999, "\"9999-12-31T23:59:59.999Z\"" },
    { 252455616000000000, "\"+010000-01-01T00:00:00.000Z\"" },
    { -63113904000000000, "\"0000-01-01T00:00:00.000Z\"" },
    { -63113904000000001, "\"-000001-12-31T23:59:59.999Z\"" },
    { -211810204800000000, "\"-004712-01-01T00:00:00.000Z\"" },
    { 9223371331199999999, "\"+294276-12-31T23:59:59.999Z\"" },
    { INT64_MAX, "\"+294277-01-09T04:00:54.775Z\"" },
    { INT64_MIN, "\"-290278-12-22T19:59:05.224Z\"" },
    { 0, NULL }
};


static test_number_t  test_durations[] = {
    { 0, "0" },
    { 1, "0.000001" },
    { -1, "-0.000001" },
    { 10, "0.00001" },
    { 1500000, "1.5" },
    { -250000, "-0.25" },
    { 1000000, "1" },
    { -1000000, "-1" },
    { 1000001, "1.000001" },
    { 60000000, "60" },
    { 123456789, "123.456789" },
    { INT64_MAX, "9223372036854.775807" },
    { INT64_MIN, "-9223372036854.775808" },
    { 0, NULL }
};


static test_bytes_t  test_arrays[] = {
    { "none", test_bytes("\0\0\0\0\0\0\0\0\0\0\0\31"), "[]" },
    { "one", test_bytes(TEST_ONE test_length("\1") "\0\0\0\1a"),
      "[\"a\"]" },
    { "two", test_bytes(TEST_ONE test_length("\2") "\0\0\0\1a\0\0\0\2b\""),
      "[\"a\",\"b\\\"\"]" },
    { "null and empty", test_bytes("\0\0\0\1\0\0\0\1\0\0\0\31"
      test_length("\2") "\377\377\377\377\0\0\0\0"), "[null,\"\"]" },
    { "varchar, another lower bound", test_bytes("\0\0\0\1\0\0\0\0\0\0\4\23"
      "\0\0\0\1\377\377\377\375\0\0\0\1a"), "[\"a\"]" },
    { "two dimensions", test_bytes(TEST_TWO test_length("\2")
      test_length("\1") "\0\0\0\1a\0\0\0\1b"), "[[\"a\"],[\"b\"]]" },
    { "nothing", test_bytes(""), NULL },
    { "no header", test_bytes("\0\0\0\0\0\0\0\0\0\0\0"), NULL },
    { "none, and more", test_bytes("\0\0\0\0\0\0\0\0\0\0\0\31\0"), NULL },
    { "one, and more", test_bytes(TEST_ONE test_length("\1") "\0\0\0\1ab"),
      NULL },
    { "seven dimensions", test_bytes("\0\0\0\7\0\0\0\0\0\0\0\31"
      test_length("\1") test_length("\1") test_length("\1") test_length("\1")
      test_length("\1") test_length("\1") test_length("\1") "\0\0\0\1a"),
      NULL },
    { "dimensions below zero", test_bytes("\377\377\377\377\0\0\0\0\0\0\0\31"
      test_length("\1") "\0\0\0\1a"), NULL },
    { "dimensions that overflow", test_bytes("\040\0\0\1\0\0\0\0\0\0\0\31"
      test_length("\1") "\0\0\0\1a"), NULL },
    { "another type", test_bytes("\0\0\0\1\0\0\0\0\0\0\0\27"
      test_length("\1") "\0\0\0\1a"), NULL },
    { "other flags", test_bytes("\0\0\0\1\0\0\0\2\0\0\0\31"
      test_length("\1") "\0\0\0\1a"), NULL },
    { "no size", test_bytes(TEST_ONE "\0\0\0"), NULL },
    { "size 0", test_bytes(TEST_ONE test_length("\0")), NULL },
    { "size -1", test_bytes(TEST_ONE "\377\377\377\377\0\0\0\1\0\0\0\1a"),
      NULL },
    { "size too big", test_bytes(TEST_ONE test_length("\2") "\0\0\0\1a"),
      NULL },
    { "sizes that overflow", test_bytes(TEST_TWO "\200\0\0\0\0\0\0\1"
      "\0\0\0\2\0\0\0\1" "\0\0\0\1a"), NULL },
    { "sizes that overflow to 0", test_bytes("\0\0\0\3\0\0\0\0\0\0\0\31"
      "\100\0\0\0\0\0\0\1" "\100\0\0\0\0\0\0\1" test_length("\20")), NULL },
    { "sizes 0 and many", test_bytes(TEST_TWO "\177\377\377\377\0\0\0\1"
      test_length("\0")), NULL },
    { "no length", test_bytes(TEST_ONE test_length("\1") "\0\0\0"), NULL },
    { "no second length", test_bytes(TEST_ONE test_length("\2")
      "\0\0\0\4aaaa\0\0\0"), NULL },
    { "length too big", test_bytes(TEST_ONE test_length("\1") "\0\0\0\2a"),
      NULL },
    { "length -2", test_bytes(TEST_ONE test_length("\1")
      "\377\377\377\376"), NULL },
    { NULL, NULL, 0, NULL }
};


static void
test_uint(void)
{
    u_char  *p;

    p = unit_copy("\1\2\3\4\5\6\7\10", 8);
    unit_ok(ngx_lunary_value_uint32(p) == 0x01020304, "32 bits");
    unit_ok(ngx_lunary_value_uint64(p) == 0x0102030405060708, "64 bits");
    free(p);

    p = unit_copy("\377\376\375\374\373\372\371\370", 8);
    unit_ok(ngx_lunary_value_uint32(p) == 0xfffefdfc, "32 bits, high");
    unit_ok(ngx_lunary_value_uint64(p) == 0xfffefdfcfbfaf9f8,
            "64 bits, high");
    free(p);
}


static void
test_uuid(void)
{
    u_char       *p;
    size_t        len;
    ngx_int_t     rc;
    ngx_uint_t    ok;
    unit_sink_t   sink;

    p = unit_copy("\x01\x23\x45\x67\x89\xab\xcd\xef"
                  "\xfe\xdc\xba\x98\x76\x54\x32\x10", 16);

    unit_sink(&sink, 10, NGX_LUNARY_OUT_ROOM);
    rc = ngx_lunary_value_uuid(&sink.out, p, 16);
    unit_sink_end(&sink);
    unit_ok(rc == NGX_OK
            && unit_is(&sink, "\"01234567-89ab-cdef-fedc-ba9876543210\""),
            "uuid");
    unit_sink_free(&sink);
    free(p);

    ok = 1;

    for (len = 0; len < 40; len++) {

        if (len == 16) {
            continue;
        }

        p = unit_copy("0123456789012345678901234567890123456789", len);
        unit_sink(&sink, 64, NGX_LUNARY_OUT_ROOM);
        rc = ngx_lunary_value_uuid(&sink.out, p, len);
        unit_sink_end(&sink);
        ok = ok && rc == NGX_DECLINED && sink.len == 0;
        unit_sink_free(&sink);
        free(p);
    }

    unit_ok(ok, "uuid of another length");
}


static void
test_time(void)
{
    ngx_int_t       rc;
    unit_sink_t     sink;
    test_number_t  *t;

    for (t = test_times; t->out; t++) {
        unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
        rc = ngx_lunary_value_time(&sink.out, t->n);
        unit_sink_end(&sink);
        unit_ok(rc == NGX_OK && unit_is(&sink, t->out), "time %lld is %.*s",
                (long long) t->n, (int) sink.len, sink.data);
        unit_sink_free(&sink);
    }
}


/* the C library also extends the Gregorian calendar to the past */

static void
test_time_random(void)
{
    char          text[128];
    time_t        sec;
    int64_t       t, us;
    struct tm     tm;
    ngx_int_t     rc;
    ngx_uint_t    i, ok;
    unit_sink_t   sink;

    ok = 1;

    for (i = 0; i < TEST_RANDOM && ok; i++) {
        t = (int64_t) unit_random64() >> unit_random(20);

        sec = t / 1000000;
        us = t % 1000000;

        if (us < 0) {
            us += 1000000;
            sec--;
        }

        sec += TEST_EPOCH;
        (void) gmtime_r(&sec, &tm);
        tm.tm_year += 1900;

        if (tm.tm_year >= 0 && tm.tm_year <= 9999) {
            (void) snprintf(text, sizeof(text), "\"%04d", tm.tm_year);

        } else {
            (void) snprintf(text, sizeof(text), "\"%+07d", tm.tm_year);
        }

        (void) snprintf(text + strlen(text), sizeof(text) - strlen(text),
                        "-%02d-%02dT%02d:%02d:%02d.%03dZ\"", tm.tm_mon + 1,
                        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                        (int) (us / 1000));

        unit_sink(&sink, 30, NGX_LUNARY_OUT_ROOM);
        rc = ngx_lunary_value_time(&sink.out, t);
        unit_sink_end(&sink);
        ok = rc == NGX_OK && unit_is(&sink, text);

        if (!ok) {
            (void) printf("# %lld: %.*s, not %s\n", (long long) t,
                          (int) sink.len, sink.data, text);
        }

        unit_sink_free(&sink);
    }

    unit_ok(ok, "times as the C library has them");
}


static void
test_seconds(void)
{
    ngx_int_t       rc;
    unit_sink_t     sink;
    test_number_t  *t;

    for (t = test_durations; t->out; t++) {
        unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
        rc = ngx_lunary_value_seconds(&sink.out, 0, t->n);
        unit_sink_end(&sink);
        unit_ok(rc == NGX_OK && unit_is(&sink, t->out),
                "%lld microseconds are %.*s", (long long) t->n,
                (int) sink.len, sink.data);
        unit_sink_free(&sink);
    }

    unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
    rc = ngx_lunary_value_seconds(&sink.out, INT64_MIN, INT64_MAX);
    unit_sink_end(&sink);
    unit_ok(rc == NGX_OK && unit_is(&sink, "18446744073709.551615"),
            "all time there is");
    unit_sink_free(&sink);

    unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
    rc = ngx_lunary_value_seconds(&sink.out, INT64_MAX, INT64_MIN);
    unit_sink_end(&sink);
    unit_ok(rc == NGX_OK && unit_is(&sink, "-18446744073709.551615"),
            "all time there is, backwards");
    unit_sink_free(&sink);
}


/* without the decimal point all digits are the same */

static void
test_seconds_random(void)
{
    char         *p, *dst, text[64];
    int64_t       us;
    ngx_int_t     rc, decimals;
    ngx_uint_t    i, ok;
    unit_sink_t   sink;

    ok = 1;

    for (i = 0; i < TEST_RANDOM && ok; i++) {
        us = (int64_t) unit_random64() >> unit_random(64);

        unit_sink(&sink, unit_random(100), NGX_LUNARY_OUT_ROOM);
        rc = ngx_lunary_value_seconds(&sink.out, 0, us);
        unit_sink_end(&sink);

        dst = text;
        decimals = -1;

        for (p = (char *) sink.data; p < (char *) sink.data + sink.len; p++) {
            if (*p == '.') {
                decimals = 0;
                continue;
            }

            decimals += (decimals >= 0);
            *dst++ = *p;
        }

        ok = rc == NGX_OK && decimals != 0
             && (decimals < 0 || dst[-1] != '0');

        for (decimals = ngx_max(decimals, 0); decimals < 6; decimals++) {
            *dst++ = '0';
        }

        *dst = '\0';
        ok = ok && strtoll(text, NULL, 10) == us;

        unit_sink_free(&sink);
    }

    unit_ok(ok, "microseconds, all of them");
}


static void
test_array(void)
{
    u_char        *p;
    ngx_int_t      rc;
    unit_sink_t    sink;
    test_bytes_t  *t;
    const char     square[] = TEST_TWO test_length("\2") test_length("\2")
                              "\0\0\0\0\0\0\0\0\0\0\0";

    for (t = test_arrays; t->name; t++) {
        p = unit_copy(t->bytes, t->len);
        unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
        rc = test_array_run(p, t->len, &sink);
        unit_ok(t->out ? rc == NGX_OK && unit_is(&sink, t->out)
                       : rc == NGX_DECLINED, "array: %s", t->name);
        unit_sink_free(&sink);
        free(p);
    }

    p = unit_copy(square, sizeof(square));
    unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
    rc = test_array_run(p, sizeof(square), &sink);
    unit_ok(rc == NGX_DECLINED && sink.len == 0,
            "array: more elements than bytes, nothing written");
    unit_sink_free(&sink);
    free(p);
}


static void
test_array_random(void)
{
    u_char       *p;
    json_t       *json, *expect;
    uint32_t      sizes[6];
    ngx_uint_t    i, k, ndim, ok, cut, flip, fails, limit;
    unit_sink_t   in, sink;

    ok = cut = flip = fails = 1;

    for (i = 0; i < 500; i++) {
        unit_sink(&in, 0, 64);
        ndim = unit_random(3) ? 1 : 1 + unit_random(6);

        test_add32(&in, ndim);
        test_add32(&in, 1);
        test_add32(&in, unit_random(2) ? TEST_TEXT : TEST_VARCHAR);

        for (k = 0; k < ndim; k++) {
            sizes[k] = 1 + unit_random(ndim == 1 ? 20 : 3);
            test_add32(&in, sizes[k]);
            test_add32(&in, unit_random64());
        }

        expect = test_array_generate(&in, sizes, ndim);
        p = unit_copy(in.data, in.len);

        unit_sink(&sink, unit_random(200), NGX_LUNARY_OUT_ROOM);
        ok = ok && test_array_run(p, in.len, &sink) == NGX_OK;
        json = unit_load(sink.data, sink.len, &limit);
        ok = ok && json_equal(json, expect);

        cut = cut && test_array_cut(p, in.len);
        flip = flip && test_array_flip(p, in.len);
        fails = fails && test_array_fails(p, in.len);

        json_decref(json);
        json_decref(expect);
        unit_sink_free(&sink);
        unit_sink_free(&in);
        free(p);
    }

    unit_ok(ok, "random arrays");
    unit_ok(cut, "random arrays, cut");
    unit_ok(flip, "random arrays, a byte changed");
    unit_ok(fails, "random arrays, the output failing anywhere");
}


static ngx_uint_t
test_array_cut(u_char *p, size_t len)
{
    u_char       *copy;
    size_t        i;
    ngx_int_t     rc;
    unit_sink_t   sink;

    for (i = 0; i < len; i += 1 + i / 64) {
        copy = unit_copy(p, i);
        unit_sink(&sink, 0, 512);
        rc = test_array_run(copy, i, &sink);
        unit_sink_free(&sink);
        free(copy);

        if (rc != NGX_DECLINED) {
            return 0;
        }
    }

    return 1;
}


/* it may still be a valid array, but then the output is JSON */

static ngx_uint_t
test_array_flip(u_char *p, size_t len)
{
    u_char       *copy;
    json_t       *json;
    ngx_int_t     rc;
    ngx_uint_t    i, ok, limit;
    unit_sink_t   sink;

    ok = 1;

    for (i = 0; i < 50 && ok; i++) {
        copy = unit_copy(p, len);
        copy[unit_random(unit_random(2) ? len : 12)] ^= 1 << unit_random(8);

        unit_sink(&sink, 0, 512);
        rc = test_array_run(copy, len, &sink);

        if (rc == NGX_OK) {
            json = unit_load(sink.data, sink.len, &limit);
            ok = json || limit;
            json_decref(json);

        } else {
            ok = rc == NGX_DECLINED;
        }

        unit_sink_free(&sink);
        free(copy);
    }

    return ok;
}


static ngx_uint_t
test_array_fails(u_char *p, size_t len)
{
    ngx_int_t     rc;
    ngx_uint_t    i, calls;
    unit_sink_t   sink;

    i = 0;

    do {
        i++;
        unit_sink(&sink, unit_random(64), NGX_LUNARY_OUT_ROOM);
        sink.fail = i;
        rc = test_array_run(p, len, &sink);
        calls = sink.calls;
        unit_sink_free(&sink);

    } while (rc == NGX_ERROR && calls == i);

    return rc == NGX_OK && calls < i;
}


static ngx_int_t
test_array_run(u_char *p, size_t len, unit_sink_t *sink)
{
    ngx_int_t  rc;

    rc = ngx_lunary_value_text_array(&sink->out, p, len);
    unit_sink_end(sink);

    return rc;
}


static json_t *
test_array_generate(unit_sink_t *sink, uint32_t *sizes, ngx_uint_t ndim)
{
    json_t       *array;
    uint32_t      i;
    const char   *text;

    static const char  *texts[] = {
        "", "a", "production", "with \"quotes\"", "\\", "\n\t\x01", "é😀",
        "a text that is longer than sixteen bytes, and than sixty-four too"
    };

    array = json_array();

    for (i = 0; i < sizes[0]; i++) {

        if (ndim > 1) {
            (void) json_array_append_new(array,
                              test_array_generate(sink, sizes + 1, ndim - 1));
            continue;
        }

        if (unit_random(8) == 0) {
            test_add32(sink, -1);
            (void) json_array_append_new(array, json_null());
            continue;
        }

        text = texts[unit_random(sizeof(texts) / sizeof(texts[0]))];
        test_add32(sink, strlen(text));
        unit_sink_take(sink, text, strlen(text));
        (void) json_array_append_new(array, json_string(text));
    }

    return array;
}


static void
test_jsonb(void)
{
    u_char        *p;
    ngx_int_t      rc, null;
    unit_sink_t    sink;
    test_bytes_t  *t;

    static test_bytes_t  jsonbs[] = {
        { "object", test_bytes("\1{\"a_b\": \"c_d\"}"), "{\"aB\": \"c_d\"}" },
        { "null", test_bytes("\1null"), "null" },
        { "string", test_bytes("\1\"null\""), "\"null\"" },
        { "number", test_bytes("\0011.50"), "1.50" },
        { "nothing", test_bytes(""), NULL },
        { "no text", test_bytes("\1"), NULL },
        { "no version", test_bytes("null"), NULL },
        { "another version", test_bytes("\2null"), NULL },
        { "no end of a string", test_bytes("\1\"a"), NULL },
        { NULL, NULL, 0, NULL }
    };

    for (t = jsonbs; t->name; t++) {
        p = unit_copy(t->bytes, t->len);
        unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
        rc = ngx_lunary_value_jsonb(&sink.out, p, t->len);
        unit_sink_end(&sink);

        unit_ok(t->out ? rc == NGX_OK && unit_is(&sink, t->out)
                       : rc == NGX_DECLINED, "jsonb: %s", t->name);

        null = ngx_lunary_value_jsonb_is_null(p, t->len);

        unit_ok(null == ((t->len < 2 || *t->bytes != 1) ? NGX_DECLINED
                         : t->out != NULL && strcmp(t->out, "null") == 0),
                "jsonb: %s, null: %d", t->name, (int) null);

        unit_sink_free(&sink);
        free(p);
    }
}


static void
test_no_room(void)
{
    ngx_uint_t    i, ok;
    unit_sink_t   sink;

    ok = 1;

    for (i = 0; i < 5; i++) {
        unit_sink(&sink, NGX_LUNARY_OUT_ROOM - 1, NGX_LUNARY_OUT_ROOM);
        sink.fail = 1;

        switch (i) {

        case 0:
            ok = ok && ngx_lunary_value_uuid(&sink.out,
                                             (u_char *) "0123456789abcdef",
                                             16) == NGX_ERROR;
            break;

        case 1:
            ok = ok && ngx_lunary_value_time(&sink.out, 0) == NGX_ERROR;
            break;

        case 2:
            ok = ok && ngx_lunary_value_seconds(&sink.out, 0, 1) == NGX_ERROR;
            break;

        case 3:
            sink.fail = 2;
            ok = ok && ngx_lunary_value_seconds(&sink.out, 0, 1) == NGX_ERROR;
            break;

        default:
            sink.fail = 2;
            ok = ok && ngx_lunary_value_seconds(&sink.out, 0, -1) == NGX_ERROR;
        }

        unit_sink_free(&sink);
    }

    unit_ok(ok, "no room");
}


static void
test_add32(unit_sink_t *sink, uint32_t n)
{
    u_char  bytes[4];

    bytes[0] = n >> 24;
    bytes[1] = n >> 16;
    bytes[2] = n >> 8;
    bytes[3] = n;

    unit_sink_take(sink, bytes, 4);
}


int
main(void)
{
    unit_seed();

    test_uint();
    test_uuid();
    test_time();
    test_time_random();
    test_seconds();
    test_seconds_random();
    test_array();
    test_array_random();
    test_jsonb();
    test_no_room();

    return unit_done();
}
