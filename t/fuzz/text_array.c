
/*
 * A text[] of any bytes.  The first byte is the size of the first buffer of
 * the output, the second the call of more() that fails.
 */


#include "fuzz.h"
#include "ngx_lunary_value.h"


static void fuzz_accepted(unit_sink_t *sink, u_char *p);
static size_t fuzz_compare(json_t *json, u_char *p);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char       *p;
    size_t        len;
    ngx_int_t     rc;
    unit_sink_t   sink;

    if (size < 2) {
        return 0;
    }

    len = size - 2;
    p = unit_copy(data + 2, len);

    unit_sink(&sink, data[0], NGX_LUNARY_OUT_ROOM);
    sink.fail = data[1];

    rc = ngx_lunary_value_text_array(&sink.out, p, len);

    if (sink.fail && sink.calls == sink.fail) {
        fuzz_must(rc == NGX_ERROR);

    } else if (rc == NGX_OK) {
        unit_sink_end(&sink);
        fuzz_accepted(&sink, p);

    } else {
        fuzz_must(rc == NGX_DECLINED);
    }

    unit_sink_free(&sink);
    free(p);

    return 0;
}


static void
fuzz_accepted(unit_sink_t *sink, u_char *p)
{
    json_t      *json, *part;
    uint32_t     i, ndim;
    ngx_uint_t   limit;

    json = unit_load(sink->data, sink->len, &limit);
    fuzz_must(json || limit);

    if (json == NULL) {
        return;
    }

    ndim = ngx_lunary_value_uint32(p);
    part = json;

    for (i = 0; i < ndim; i++) {
        fuzz_must(json_array_size(part)
                  == ngx_lunary_value_uint32(p + 12 + i * 8));
        part = json_array_get(part, 0);
    }

    (void) fuzz_compare(json, p + 12 + ndim * 8);

    json_decref(json);
}


/* the elements in order; returns the number of bytes read */

static size_t
fuzz_compare(json_t *json, u_char *p)
{
    size_t     i, len;
    u_char    *start;

    start = p;

    if (json_is_array(json)) {
        for (i = 0; i < json_array_size(json); i++) {
            p += fuzz_compare(json_array_get(json, i), p);
        }

        return p - start;
    }

    len = ngx_lunary_value_uint32(p);

    if (json_is_null(json)) {
        fuzz_must(len == 0xffffffff);
        return 4;
    }

    fuzz_must(json_is_string(json) && json_string_length(json) == len
              && ngx_memcmp(json_string_value(json), p + 4, len) == 0);

    return 4 + len;
}
