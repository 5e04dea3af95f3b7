
/*
 * A string of any bytes.  The first byte is the size of the first buffer of
 * the output, the second the call of more() that fails.
 */


#include "fuzz.h"


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char       *p;
    size_t        len;
    json_t       *json;
    ngx_int_t     rc;
    ngx_uint_t    limit;
    unit_sink_t   sink, text;

    if (size < 2) {
        return 0;
    }

    len = size - 2;
    p = unit_copy(data + 2, len);

    unit_sink(&sink, data[0], NGX_LUNARY_OUT_ROOM);
    sink.fail = data[1];

    rc = ngx_lunary_json_string(&sink.out, p, len);

    if (sink.fail && sink.calls == sink.fail) {
        fuzz_must(rc == NGX_ERROR);

    } else {
        fuzz_must(rc == NGX_OK);
        unit_sink_end(&sink);

        unit_sink(&text, 0, 64);
        unit_string_text(&text, p, len);
        fuzz_must(sink.len == text.len
                  && ngx_memcmp(sink.data, text.data, sink.len) == 0);
        unit_sink_free(&text);

        json = unit_load(sink.data, sink.len, &limit);
        fuzz_must(json || limit);
        fuzz_must(json == NULL
                  || (json_string_length(json) == len
                      && ngx_memcmp(json_string_value(json), p, len) == 0));
        json_decref(json);
    }

    unit_sink_free(&sink);
    free(p);

    return 0;
}
