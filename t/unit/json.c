
/* JSON text and strings: src/json/ */


#include "unit.h"
#include "ngx_lunary_camel.h"


#define TEST_TREES     300
#define TEST_GARBAGE   20000

#define test_camel(sink, p, len)                                              \
    ngx_lunary_camel(&(sink)->out, p, len)


typedef struct {
    const char  *in;
    const char  *out;
} test_pair_t;


static void test_keys(void);
static void test_valid(void);
static void test_invalid(void);
static void test_trees(void);
static ngx_uint_t test_tree(u_char *p, size_t len);
static ngx_uint_t test_splits(u_char *p, size_t len, unit_sink_t *expect);
static ngx_uint_t test_fails(u_char *p, size_t len);
static void test_garbage(void);
static void test_big(void);
static void test_raw(void);
static void test_string(void);
static ngx_uint_t test_string_splits(u_char *p, size_t len);

static void test_generate(unit_sink_t *sink, ngx_uint_t depth);
static void test_generate_string(unit_sink_t *sink, ngx_uint_t key);
static void test_generate_number(unit_sink_t *sink);
static void test_add(unit_sink_t *sink, const char *s);


static test_pair_t  test_key_names[] = {
    { "", "" },
    { "a", "a" },
    { "_", "_" },
    { "__", "_" },
    { "___", "__" },
    { "____", "__" },
    { "a_", "a" },
    { "a__", "a_" },
    { "a_b", "aB" },
    { "a__b", "a_b" },
    { "a___b", "a_B" },
    { "_id", "_id" },
    { "__id", "_Id" },
    { "_a_b", "_aB" },
    { "max_tokens", "maxTokens" },
    { "max_tokens_", "maxTokens" },
    { "a_B", "aB" },
    { "a_1", "a1" },
    { "a_1_b", "a1B" },
    { "a_{", "a{" },
    { "a_`", "a`" },
    { "a_z_A_Z", "aZAZ" },
    { "A_B", "AB" },
    { "a-b c", "a-b c" },
    { "a_\\\"b", "a\\\"b" },
    { "a_\\\\_b", "a\\\\B" },
    { "a_\\u0041b_c", "a\\u0041bC" },
    { "a_\\n", "a\\n" },
    { "\\\"_b", "\\\"B" },
    { "\\\\_b", "\\\\B" },
    { "\\u0001_b", "\\u0001B" },
    { "\\n__b", "\\n_b" },
    { "é_é", "éé" },
    { "é_b", "éB" },
    { "_é_b", "_éB" },
    { "€_€_b", "€€B" },
    { "😀_a_😀", "😀A😀" },
    { "ключ_b", "ключB" },
    { "a_sixteen_byte_key_and_one_more_", "aSixteenByteKeyAndOneMore" },
    { "0123456789abcde_f", "0123456789abcdeF" },
    { "0123456789abcdef_g", "0123456789abcdefG" },
    { NULL, NULL }
};


static const char  *test_valids[] = {
    "null", "true", "false", "0", "-0", "-0.0", "1", "-12.5e+10", "1E-2",
    "123456789012345678901234567890.123456789012345678901234567890",
    "\"\"", "\"a_b\"", "[]", "{}", "[[], {}]", " [ 1 , 2 ] ", "\"\\u0000\"",
    "\"a_b: \\\"c_d\\\": \"", "[\"a_b\", \"c_d\"]", "\t\r\n {\r}\n",
    "[null, true, false, -1, {}]", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\uD83d\"",
    "\"0123456789abcdef0123456789abcdef\"", NULL
};


/* strings without an end, or with a control character */

static const char  *test_invalids[] = {
    "\"", "\"a", "\"\\\"", "\"\\", "\"a\\", "\"\\u123", "\"\n\"", "\"\x1f\"",
    "\"0123456789abcde\n0123456789\"", "{\"a", "{\"a_", "{\"a\\",
    "{\"a\": \"b", "{\"a\": [1, \"x", "[\"a\"\"]", NULL
};


/* each as a key, with every size of the output buffers */

static void
test_keys(void)
{
    char         *text;
    test_pair_t  *t;
    unit_sink_t   expect;

    for (t = test_key_names; t->in; t++) {
        unit_sink(&expect, 0, 64);
        test_add(&expect, "{\"");
        test_add(&expect, t->out);
        test_add(&expect, "\": \"a_b\"}");

        text = unit_alloc(strlen(t->in) + 16);
        (void) sprintf(text, "{\"%s\": \"a_b\"}", t->in);

        unit_ok(test_splits((u_char *) text, strlen(text), &expect)
                && test_fails((u_char *) text, strlen(text)),
                "key '%s' is '%s'", t->in, t->out);

        free(text);
        unit_sink_free(&expect);
    }
}


static void
test_valid(void)
{
    size_t        len;
    const char  **t;
    unit_sink_t   expect;

    for (t = test_valids; *t; t++) {
        len = strlen(*t);

        unit_sink(&expect, 0, 64);
        test_add(&expect, *t);

        unit_ok(test_splits((u_char *) *t, len, &expect), "valid %lu: %s",
                (unsigned long) (t - test_valids), strchr(*t, '\n') ? "" : *t);

        unit_sink_free(&expect);
    }
}


static void
test_invalid(void)
{
    u_char       *p;
    size_t        len;
    ngx_int_t     rc;
    const char  **t;
    unit_sink_t   sink;

    for (t = test_invalids; *t; t++) {
        len = strlen(*t);
        p = unit_copy(*t, len);

        unit_sink(&sink, 64, 64);
        rc = test_camel(&sink, p, len);

        unit_ok(rc == NGX_DECLINED, "invalid %lu: %s",
                (unsigned long) (t - test_invalids),
                strpbrk(*t, "\n\x1f") ? "" : *t);

        unit_sink_free(&sink);
        free(p);
    }
}


static void
test_trees(void)
{
    ngx_uint_t    i, ok, cuts, fails;
    unit_sink_t   in, expect;

    ok = 1;
    cuts = 1;
    fails = 1;

    for (i = 0; i < TEST_TREES && ok && cuts && fails; i++) {
        unit_sink(&in, 0, 64);
        unit_sink(&expect, 0, 64);

        test_generate(&in, 0);
        ok = test_tree(in.data, in.len);

        if (in.len < 400) {
            unit_camel_text(&expect, in.data, in.len);
            cuts = test_splits(in.data, in.len, &expect);
            fails = test_fails(in.data, in.len);
        }

        if (!ok || !cuts || !fails) {
            (void) printf("# %.*s\n", (int) in.len, in.data);
        }

        unit_sink_free(&in);
        unit_sink_free(&expect);
    }

    unit_ok(ok, "random trees as jansson reads them");
    unit_ok(cuts, "random trees, the output cut anywhere");
    unit_ok(fails, "random trees, the output failing anywhere");
}


static ngx_uint_t
test_tree(u_char *p, size_t len)
{
    json_t       *in, *out, *expect;
    ngx_uint_t    ok, limit;
    unit_sink_t   sink;

    p = unit_copy(p, len);

    unit_sink(&sink, 100, 100);
    ok = test_camel(&sink, p, len) == NGX_OK;
    unit_sink_end(&sink);

    in = unit_load(p, len, &limit);
    expect = unit_camel_tree(in);
    out = unit_load(sink.data, sink.len, &limit);

    ok = ok && in && out && json_equal(out, expect);

    json_decref(in);
    json_decref(out);
    json_decref(expect);
    unit_sink_free(&sink);
    free(p);

    return ok;
}


/* every size of the first buffer, then buffers of the smallest size */

static ngx_uint_t
test_splits(u_char *p, size_t len, unit_sink_t *expect)
{
    size_t        first;
    ngx_uint_t    ok;
    unit_sink_t   sink;

    ok = 1;
    p = unit_copy(p, len);

    for (first = 0; first <= expect->len + 1 && ok; first++) {
        unit_sink(&sink, first, NGX_LUNARY_OUT_ROOM);

        ok = test_camel(&sink, p, len) == NGX_OK;
        unit_sink_end(&sink);

        ok = ok && sink.len == expect->len
             && ngx_memcmp(sink.data, expect->data, sink.len) == 0;

        if (!ok) {
            (void) printf("# first buffer %lu: %.*s\n", (unsigned long) first,
                          (int) sink.len, sink.data);
        }

        unit_sink_free(&sink);
    }

    free(p);

    return ok;
}


static ngx_uint_t
test_fails(u_char *p, size_t len)
{
    size_t        first;
    ngx_int_t     rc;
    ngx_uint_t    i, ok, calls;
    unit_sink_t   sink;

    ok = 1;
    p = unit_copy(p, len);

    for (first = 0; first <= NGX_LUNARY_OUT_ROOM && ok; first++) {
        i = 0;

        do {
            i++;
            unit_sink(&sink, first, NGX_LUNARY_OUT_ROOM);
            sink.fail = i;

            rc = test_camel(&sink, p, len);
            calls = sink.calls;

            unit_sink_free(&sink);

        } while (rc == NGX_ERROR && calls == i);

        ok = rc == NGX_OK && calls < i;
    }

    free(p);

    return ok;
}


/* whatever is done to a text, JSON is written rightly, all stays in bounds */

static void
test_garbage(void)
{
    u_char       *p;
    size_t        len;
    ngx_int_t     rc;
    ngx_uint_t    i, k, ok, accepted;
    unit_sink_t   in, sink;
    const char    bytes[] = "{}[]\"\\:,_ aunlte019.-+Eb";

    ok = 1;
    accepted = 0;

    for (i = 0; i < TEST_GARBAGE && ok; i++) {
        unit_sink(&in, 0, 64);
        test_generate(&in, 3);

        for (k = unit_random(3); k > 0; k--) {
            in.data[unit_random(in.len)] =
                                         bytes[unit_random(sizeof(bytes) - 1)];
        }

        len = unit_random(4) ? in.len : unit_random(in.len);
        p = unit_copy(in.data, len);

        unit_sink(&sink, unit_random(100), NGX_LUNARY_OUT_ROOM);

        rc = test_camel(&sink, p, len);
        unit_sink_end(&sink);

        ok = unit_camel_is(&sink, rc, p, len);
        accepted += (rc == NGX_OK);

        if (!ok) {
            (void) printf("# %.*s\n", (int) len, p);
        }

        unit_sink_free(&in);
        unit_sink_free(&sink);
        free(p);
    }

    unit_ok(ok, "texts with wrong bytes");
    (void) printf("# %lu of %d were accepted\n", (unsigned long) accepted,
                  TEST_GARBAGE);
}


static void
test_big(void)
{
    size_t        i;
    ngx_uint_t    ok;
    unit_sink_t   in, sink, expect;

    unit_sink(&in, 0, 64);
    unit_sink(&sink, 1, 16384);
    unit_sink(&expect, 0, 64);

    test_add(&in, "{\"first_key\": \"");

    for (i = 0; i < 500000; i++) {
        test_add(&in, i % 100 ? "twenty bytes of_text" : "\\n\\\"\\\\\\u001f");
    }

    test_add(&in, "\", \"last_key\": [\"");

    for (i = 0; i < 1000000; i++) {
        test_add(&in, "a_b\", \"");
    }

    test_add(&in, "\"]}");

    ok = test_camel(&sink, in.data, in.len) == NGX_OK;
    unit_sink_end(&sink);
    unit_camel_text(&expect, in.data, in.len);

    unit_ok(ok && sink.len == expect.len && sink.len == in.len - 2
            && ngx_memcmp(sink.data, expect.data, sink.len) == 0,
            "a value of %lu bytes", (unsigned long) in.len);

    unit_sink_free(&in);
    unit_sink_free(&sink);
    unit_sink_free(&expect);
}


static void
test_raw(void)
{
    u_char       *p;
    size_t        i, len, first;
    ngx_uint_t    ok, fail;
    unit_sink_t   sink;

    ok = 1;
    fail = 1;

    for (len = 0; len < 300; len++) {
        p = unit_alloc(len);

        for (i = 0; i < len; i++) {
            p[i] = unit_random(256);
        }

        for (first = 0; first < 100; first++) {
            unit_sink(&sink, first, 64);
            ok = ok && ngx_lunary_json_raw(&sink.out, p, len) == NGX_OK;
            unit_sink_end(&sink);
            ok = ok && sink.len == len
                 && ngx_memcmp(sink.data ? sink.data : p, p, len) == 0;
            unit_sink_free(&sink);

            unit_sink(&sink, first, 64);
            sink.fail = 1;
            fail = fail && ngx_lunary_json_raw(&sink.out, p, len)
                           == (first < len ? NGX_ERROR : NGX_OK);
            unit_sink_free(&sink);
        }

        free(p);
    }

    unit_ok(ok, "raw bytes, the output cut anywhere");
    unit_ok(fail, "raw bytes, the output failing");

    unit_sink(&sink, 0, 64);
    unit_ok(ngx_lunary_json_raw(&sink.out, NULL, 0) == NGX_OK, "raw nothing");
    unit_sink_free(&sink);
}


/* every byte at every place of a block, then random bytes */

static void
test_string(void)
{
    u_char       *p, text[40];
    size_t        len;
    ngx_uint_t    c, i, ok;
    unit_sink_t   sink;

    for (c = 0, ok = 1; c < 256; c++) {
        for (i = 0; i < sizeof(text); i++) {
            ngx_memset(text, 'x', sizeof(text));
            text[i] = c;
            ok = ok && test_string_splits(text, (i < 20) ? i + 1
                                                         : sizeof(text));
        }
    }

    unit_ok(ok, "strings: every byte at every place");

    for (i = 0, ok = 1; i < 300; i++) {
        len = unit_random(200);
        p = unit_alloc(len);

        for (c = 0; c < len; c++) {
            p[c] = unit_random(256) & (i % 2 ? 0x3f : 0xff);
        }

        ok = ok && test_string_splits(p, len);
        free(p);
    }

    unit_ok(ok, "strings: random bytes");

    unit_sink(&sink, 0, 64);
    ok = ngx_lunary_json_string(&sink.out, NULL, 0) == NGX_OK;
    unit_sink_end(&sink);
    unit_ok(ok && unit_is(&sink, "\"\""), "strings: none");
    unit_sink_free(&sink);
}


static ngx_uint_t
test_string_splits(u_char *p, size_t len)
{
    size_t        first, step;
    ngx_int_t     rc;
    ngx_uint_t    ok, i, calls;
    unit_sink_t   sink, expect;

    p = unit_copy(p, len);
    unit_sink(&expect, 0, 64);
    unit_string_text(&expect, p, len);

    ok = 1;
    step = expect.len < 60 ? 1 : 7;

    for (first = 0; first <= expect.len + 1 && ok; first += step) {
        unit_sink(&sink, first, NGX_LUNARY_OUT_ROOM);
        ok = ngx_lunary_json_string(&sink.out, p, len) == NGX_OK;
        unit_sink_end(&sink);

        ok = ok && sink.len == expect.len
             && ngx_memcmp(sink.data, expect.data, sink.len) == 0;
        unit_sink_free(&sink);
    }

    i = 0;

    do {
        i++;
        unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
        sink.fail = i;
        rc = ngx_lunary_json_string(&sink.out, p, len);
        calls = sink.calls;
        unit_sink_free(&sink);

    } while (rc == NGX_ERROR && calls == i);

    unit_sink_free(&expect);
    free(p);

    return ok && rc == NGX_OK && calls < i;
}


/* JSON as PostgreSQL writes it, sometimes with other white space */

static void
test_generate(unit_sink_t *sink, ngx_uint_t depth)
{
    ngx_uint_t  i, n, kind;

    kind = unit_random(depth < 6 ? 8 : 4);

    if (depth == 0 && kind < 4 && unit_random(8)) {
        kind += 4;
    }

    switch (kind) {

    case 0:
        test_generate_string(sink, 0);
        return;

    case 1:
        test_generate_number(sink);
        return;

    case 2:
        test_add(sink, unit_random(2) ? "true" : "false");
        return;

    case 3:
        test_add(sink, "null");
        return;
    }

    test_add(sink, kind < 6 ? "[" : "{");
    n = unit_random(5);

    for (i = 0; i < n; i++) {

        if (i) {
            test_add(sink, unit_random(20) ? ", " : " \t,\r\n");
        }

        if (kind >= 6) {
            test_generate_string(sink, 1 + i);
            test_add(sink, unit_random(20) ? ": " : ":\n");
        }

        test_generate(sink, depth + 1);
    }

    test_add(sink, kind < 6 ? "]" : "}");
}


/* the first letter of a key is its place, so all keys of an object differ */

static void
test_generate_string(unit_sink_t *sink, ngx_uint_t key)
{
    u_char       c;
    ngx_uint_t   n;
    const char  *piece;

    static const char  *pieces[] = {
        "_", "_", "_", "__", "a", "b_", "_c", "Z", "0", " ", ":", "\\\"",
        "\\\\", "\\n", "\\t", "\\b", "\\f", "\\r", "\\/", "\\u001f",
        "\\u00e9", "\\ud83d\\ude00", "é", "€", "😀",
        "{", "}", "[", "]", ",",
        "temperature", "a longer piece of text without any", "\\\": \\\""
    };

    test_add(sink, "\"");

    if (key) {
        c = 'a' + key;
        unit_sink_take(sink, &c, 1);
    }

    for (n = unit_random(8); n > 0; n--) {
        piece = pieces[unit_random(sizeof(pieces) / sizeof(pieces[0]))];
        test_add(sink, piece);
    }

    test_add(sink, "\"");
}


static void
test_generate_number(unit_sink_t *sink)
{
    char  text[64];

    switch (unit_random(4)) {

    case 0:
        (void) snprintf(text, sizeof(text), "%d",
                        (int) unit_random(2000) - 1000);
        break;

    case 1:
        (void) snprintf(text, sizeof(text), "%.10f",
                        unit_random(1000000) / 3e5 - 1);
        break;

    case 2:
        (void) snprintf(text, sizeof(text), "%ue%s%u", unit_random(10),
                        unit_random(2) ? "-" : "", unit_random(300));
        break;

    default:
        (void) snprintf(text, sizeof(text), "-0.%u00E+%u",
                        unit_random(1000000), unit_random(300));
    }

    test_add(sink, text);
}


static void
test_add(unit_sink_t *sink, const char *s)
{
    unit_sink_take(sink, s, strlen(s));
}


int
main(void)
{
    unit_seed();

    test_keys();
    test_valid();
    test_invalid();
    test_trees();
    test_garbage();
    test_big();
    test_raw();
    test_string();

    return unit_done();
}
