
/*
 * All other values.  The first byte selects the type, the second is the size
 * of the first buffer of the output, the rest is the value.
 */


#include "fuzz.h"
#include <math.h>
#include <time.h>
#include "ngx_lunary_json.h"
#include "ngx_lunary_value.h"


/* 2000-01-01, in seconds since 1970 */
#define FUZZ_EPOCH  946684800


static void fuzz_number(unit_sink_t *sink, ngx_uint_t kind, u_char *p);
static void fuzz_integer(unit_sink_t *sink, int64_t n);
static void fuzz_double(unit_sink_t *sink, uint64_t n);
static void fuzz_time(unit_sink_t *sink, int64_t t);
static void fuzz_seconds(unit_sink_t *sink, int64_t us);
static void fuzz_uuid(unit_sink_t *sink, u_char *p, size_t len);
static void fuzz_jsonb(unit_sink_t *sink, u_char *p, size_t len);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char       *p;
    size_t        len;
    unit_sink_t   sink;

    if (size < 2) {
        return 0;
    }

    len = size - 2;
    p = unit_copy(data + 2, len);

    unit_sink(&sink, data[1], NGX_LUNARY_OUT_ROOM);

    switch (data[0] % 6) {

    case 0:
        fuzz_uuid(&sink, p, len);
        break;

    case 1:
        fuzz_jsonb(&sink, p, len);
        break;

    default:

        if (len >= 8) {
            fuzz_number(&sink, data[0] % 6, p);
        }
    }

    unit_sink_free(&sink);
    free(p);

    return 0;
}


static void
fuzz_number(unit_sink_t *sink, ngx_uint_t kind, u_char *p)
{
    uint64_t  n;

    n = ngx_lunary_value_uint64(p);

    switch (kind) {

    case 2:
        fuzz_integer(sink, n);
        break;

    case 3:
        fuzz_double(sink, n);
        break;

    case 4:
        fuzz_time(sink, n);
        break;

    default:
        fuzz_seconds(sink, n);
    }
}


static void
fuzz_integer(unit_sink_t *sink, int64_t n)
{
    fuzz_must(ngx_lunary_json_integer(&sink->out, n) == NGX_OK);

    unit_sink_end(sink);
    unit_sink_take(sink, "", 1);

    fuzz_must(strtoll((char *) sink->data, NULL, 10) == n);
    fuzz_must(n != 0 || sink->len == 2);
}


static void
fuzz_double(unit_sink_t *sink, uint64_t n)
{
    double       d, back;
    json_t      *json;
    ngx_uint_t   limit;

    ngx_memcpy(&d, &n, sizeof(double));

    fuzz_must(ngx_lunary_json_double(&sink->out, d) == NGX_OK);

    unit_sink_end(sink);
    unit_sink_take(sink, "", 1);

    json = unit_load(sink->data, sink->len - 1, &limit);
    fuzz_must(json || limit);

    if (isfinite(d)) {
        back = strtod((char *) sink->data, NULL);
        fuzz_must(ngx_memcmp(&back, &d, sizeof(double)) == 0);

    } else {
        fuzz_must(json_is_null(json));
    }

    json_decref(json);
}


/* the year may be too large for strptime() */

static void
fuzz_time(unit_sink_t *sink, int64_t t)
{
    int         ms, year, n;
    char       *p;
    int64_t     back;
    struct tm   tm;

    fuzz_must(ngx_lunary_value_time(&sink->out, t) == NGX_OK);

    unit_sink_end(sink);
    unit_sink_take(sink, "", 1);

    p = (char *) sink->data + 1;
    ngx_memzero(&tm, sizeof(struct tm));

    fuzz_must(sink->len == ((*p == '-' || *p == '+') ? 30 : 27));
    fuzz_must(sscanf(p, "%d-%2d-%2dT%2d:%2d:%2d.%3dZ\"%n", &year, &tm.tm_mon,
                     &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms, &n)
              == 7 && p[n] == '\0');

    tm.tm_year = year - 1900;
    tm.tm_mon--;

    back = (int64_t) timegm(&tm) - FUZZ_EPOCH;

    /* milliseconds, rounded down; 128 bits do not overflow */

    fuzz_must((__int128) back * 1000000 + ms * 1000 <= t
              && (__int128) back * 1000000 + ms * 1000 + 1000 > t);
}


static void
fuzz_seconds(unit_sink_t *sink, int64_t us)
{
    char         *p, text[64];
    ngx_uint_t    i, n;

    fuzz_must(ngx_lunary_value_seconds(&sink->out, 0, us) == NGX_OK);

    unit_sink_end(sink);
    unit_sink_take(sink, "", 1);

    p = (char *) sink->data;
    n = strcspn(p, ".");
    fuzz_must(p[n] == '\0' || (p[n + 1] && p[sink->len - 2] != '0'));

    ngx_memcpy(text, p, n);
    p += n + (p[n] == '.');

    for (i = 0; i < 6; i++) {
        text[n++] = *p ? *p++ : '0';
    }

    text[n] = '\0';

    fuzz_must(*p == '\0' && strtoll(text, NULL, 10) == us);
}


static void
fuzz_uuid(unit_sink_t *sink, u_char *p, size_t len)
{
    char        text[48];
    size_t      n;
    ngx_int_t   rc;
    ngx_uint_t  i;

    rc = ngx_lunary_value_uuid(&sink->out, p, len);
    unit_sink_end(sink);

    if (len != 16) {
        fuzz_must(rc == NGX_DECLINED && sink->len == 0);
        return;
    }

    n = 0;

    for (i = 0; i < 16; i++) {
        n += sprintf(text + n, (i == 4 || i == 6 || i == 8 || i == 10)
                               ? "-%02x" : "%02x", p[i]);
    }

    fuzz_must(rc == NGX_OK && sink->len == 38 && sink->data[0] == '"'
              && sink->data[37] == '"'
              && ngx_memcmp(sink->data + 1, text, 36) == 0);
}


static void
fuzz_jsonb(unit_sink_t *sink, u_char *p, size_t len)
{
    ngx_int_t  rc, null;

    null = ngx_lunary_value_jsonb_is_null(p, len);
    rc = ngx_lunary_value_jsonb(&sink->out, p, len);
    unit_sink_end(sink);

    fuzz_must(null == 0 || null == 1 || null == NGX_DECLINED);
    fuzz_must(null != NGX_DECLINED || rc == NGX_DECLINED);

    /* PostgreSQL writes no space around a value */

    fuzz_must((null == 1) == (rc == NGX_OK && sink->len == 4
                              && ngx_memcmp(sink->data, "null", 4) == 0));
}
