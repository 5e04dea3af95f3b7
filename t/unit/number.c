
/* numbers: src/json/ngx_lunary_json.c */


#include "unit.h"
#include <float.h>
#include <locale.h>
#include <math.h>
#include "ngx_lunary_json.h"


#define TEST_DOUBLES   200000


typedef struct {
    double       d;
    const char  *out;
} test_double_t;


static void test_integer(void);
static void test_double(void);
static void test_double_random(void);
static ngx_uint_t test_double_back(double d);
static void test_locale(void);


static test_double_t  test_doubles[] = {
    { 0, "0" },
    { -0.0, "-0" },
    { 1, "1" },
    { -1, "-1" },
    { 0.1, "0.1" },
    { 0.1 + 0.2, "0.30000000000000004" },
    { 1.5, "1.5" },
    { -0.25, "-0.25" },
    { 0.0125, "0.0125" },
    { 123.456, "123.456" },
    { 0.000001, "0.000001" },
    { 0.0000015, "0.0000015" },
    { 1e-7, "1e-7" },
    { 1.5e-7, "1.5e-7" },
    { 1e15, "1000000000000000" },
    { 9007199254740993.0, "9007199254740992" },
    { 123456789012345680000.0, "123456789012345680000" },
    { 1e20, "100000000000000000000" },
    { 1e21, "1e+21" },
    { 1.5e21, "1.5e+21" },
    { 1e22, "1e+22" },
    { 1e23, "1e+23" },
    { 1e100, "1e+100" },
    { 5e-324, "5e-324" },
    { -1e-323, "-1e-323" },
    { DBL_MIN, "2.2250738585072014e-308" },
    { DBL_MAX, "1.7976931348623157e+308" },
    { 999999999999999.9, "999999999999999.9" },
    { 4.35, "4.35" },
    { 100.0 / 3, "33.333333333333336" },
    { 0, NULL }
};


static void
test_integer(void)
{
    char          text[32];
    int64_t       n;
    ngx_uint_t    i, ok;
    unit_sink_t   sink;

    static int64_t  edges[] = {
        0, 1, -1, 9, 10, -10, 99, 100, INT32_MAX, INT32_MIN, INT64_MAX,
        INT64_MIN, INT64_MIN + 1, 1000000000000000000
    };

    ok = 1;

    for (i = 0; i < 10000; i++) {
        n = (i < sizeof(edges) / sizeof(edges[0]))
            ? edges[i] : (int64_t) unit_random64() >> unit_random(64);

        (void) snprintf(text, sizeof(text), "%lld", (long long) n);

        unit_sink(&sink, unit_random(80), NGX_LUNARY_OUT_ROOM);
        ok = ok && ngx_lunary_json_integer(&sink.out, n) == NGX_OK;
        unit_sink_end(&sink);
        ok = ok && unit_is(&sink, text);
        unit_sink_free(&sink);
    }

    unit_ok(ok, "integers");

    unit_sink(&sink, NGX_LUNARY_OUT_ROOM - 1, 64);
    sink.fail = 1;
    unit_ok(ngx_lunary_json_integer(&sink.out, 1) == NGX_ERROR,
            "integers: no room");
    unit_sink_free(&sink);
}


static void
test_double(void)
{
    ngx_uint_t      ok;
    unit_sink_t     sink;
    test_double_t  *t;

    for (t = test_doubles; t->out; t++) {
        unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
        ok = ngx_lunary_json_double(&sink.out, t->d) == NGX_OK;
        unit_sink_end(&sink);

        unit_ok(ok && unit_is(&sink, t->out), "double %s is %.*s", t->out,
                (int) sink.len, sink.data);
        unit_sink_free(&sink);
    }

    unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
    ok = ngx_lunary_json_double(&sink.out, NAN) == NGX_OK
         && ngx_lunary_json_double(&sink.out, -INFINITY) == NGX_OK;
    unit_sink_end(&sink);
    unit_ok(ok && unit_is(&sink, "nullnull"), "double: none is no JSON");
    unit_sink_free(&sink);

    unit_sink(&sink, NGX_LUNARY_OUT_ROOM - 1, 64);
    sink.fail = 1;
    unit_ok(ngx_lunary_json_double(&sink.out, 1.5) == NGX_ERROR,
            "double: no room");
    unit_sink_free(&sink);
}


static void
test_double_random(void)
{
    double      d;
    uint64_t    n;
    ngx_uint_t  i, ok;

    ok = 1;

    for (i = 0; i < TEST_DOUBLES && ok; i++) {

        switch (i % 4) {

        case 0:
            n = unit_random64();
            ngx_memcpy(&d, &n, sizeof(double));
            break;

        case 1:
            d = ldexp(1, (int) unit_random(2098) - 1074);
            break;

        case 2:
            d = unit_random64() / 18446744073709551616.0;
            break;

        default:
            d = unit_random(1000000000) / pow(10, unit_random(16));
        }

        ok = !isfinite(d) || test_double_back(d);
    }

    unit_ok(ok, "doubles read back as they were");
}


/* exactly the double, as JSON, with no more digits than "%.17g" */

static ngx_uint_t
test_double_back(double d)
{
    char          text[64];
    double        back;
    json_t       *json;
    ngx_uint_t    ok, limit;
    unit_sink_t   sink;

    unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
    ok = ngx_lunary_json_double(&sink.out, d) == NGX_OK;
    unit_sink_take(&sink, sink.buffer, sink.out.pos - sink.buffer);
    unit_sink_take(&sink, "", 1);

    back = strtod((char *) sink.data, NULL);
    json = unit_load(sink.data, sink.len - 1, &limit);

    ok = ok && (json_is_number(json) || limit)
         && ngx_memcmp(&back, &d, sizeof(double)) == 0;

    (void) snprintf(text, sizeof(text), "%.15g", d);

    if (strtod(text, NULL) == d && strchr(text, 'e') == NULL
        && strlen(text) < strlen((char *) sink.data))
    {
        ok = 0;
    }

    if (!ok) {
        (void) printf("# %.17g: %s\n", d, sink.data);
    }

    json_decref(json);
    unit_sink_free(&sink);

    return ok;
}


static void
test_locale(void)
{
    ngx_uint_t    ok;
    unit_sink_t   sink;

    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL
        && setlocale(LC_NUMERIC, "fr_FR.UTF-8") == NULL
        && setlocale(LC_NUMERIC, "nb_NO.UTF-8") == NULL)
    {
        unit_skip("no locale with a decimal comma");
        return;
    }

    unit_sink(&sink, 0, NGX_LUNARY_OUT_ROOM);
    ok = ngx_lunary_json_double(&sink.out, 100.0 / 3) == NGX_OK;
    unit_sink_end(&sink);
    unit_ok(ok && unit_is(&sink, "33.333333333333336"), "double: no comma");
    unit_sink_free(&sink);

    (void) setlocale(LC_NUMERIC, "C");
}


int
main(void)
{
    unit_seed();

    test_integer();
    test_double();
    test_double_random();
    test_locale();

    return unit_done();
}
