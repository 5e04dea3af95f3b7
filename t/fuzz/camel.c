
/*
 * JSON text of any kind.  The first byte is the size of the first buffer of
 * the output, the second the call of more() that fails; the rest is text.
 */


#include "fuzz.h"
#include "ngx_lunary_camel.h"


static void fuzz_accepted(unit_sink_t *sink, u_char *p, size_t len);
static ngx_uint_t fuzz_escaped_letter(u_char *p, size_t len);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char       *p;
    size_t        len;
    json_t       *json;
    ngx_int_t     rc;
    ngx_uint_t    limit;
    unit_sink_t   sink;

    if (size < 2) {
        return 0;
    }

    len = size - 2;
    p = unit_copy(data + 2, len);

    unit_sink(&sink, data[0], NGX_LUNARY_OUT_ROOM);
    sink.fail = data[1];

    rc = ngx_lunary_camel(&sink.out, p, len);

    if (sink.fail && sink.calls == sink.fail) {
        fuzz_must(rc == NGX_ERROR);

    } else if (rc == NGX_OK) {
        unit_sink_end(&sink);
        fuzz_accepted(&sink, p, len);

    } else {
        fuzz_must(rc == NGX_DECLINED);

        /* jansson stops at a zero byte after a value */

        json = unit_load(p, len, &limit);
        fuzz_must(json == NULL || ngx_strlchr(p, p + len, '\0'));
        json_decref(json);
    }

    unit_sink_free(&sink);
    free(p);

    return 0;
}


/* compares the bytes with the oracle's, and their tree by jansson */

static void
fuzz_accepted(unit_sink_t *sink, u_char *p, size_t len)
{
    json_t       *in, *out, *expect;
    ngx_uint_t    limit;
    unit_sink_t   text;

    unit_sink(&text, 0, 64);
    unit_camel_text(&text, p, len);

    fuzz_must(sink->len == text.len
              && ngx_memcmp(sink->data, text.data, sink->len) == 0);

    unit_sink_free(&text);

    in = unit_load(p, len, &limit);
    fuzz_must(in || limit);

    out = unit_load(sink->data, sink->len, &limit);
    fuzz_must(out || limit);

    /*
     * not compared: equal keys, as jansson stores only one of them; an escaped
     * letter or "_", as PostgreSQL does not write it and the writer does not
     * read it
     */

    json_decref(in);
    in = json_loadb((char *) p, len,
                    JSON_DECODE_ANY|JSON_ALLOW_NUL|JSON_REJECT_DUPLICATES,
                    NULL);

    if (in && out && !fuzz_escaped_letter(p, len)) {
        expect = unit_camel_tree(in);
        fuzz_must(json_equal(out, expect));
        json_decref(expect);
    }

    json_decref(in);
    json_decref(out);
}


static ngx_uint_t
fuzz_escaped_letter(u_char *p, size_t len)
{
    size_t  i;

    for (i = 0; i + 6 <= len; i++) {
        if (ngx_memcmp(p + i, "\\u00", 4) == 0
            && p[i + 4] >= '5' && p[i + 4] <= '7')
        {
            return 1;
        }
    }

    return 0;
}
