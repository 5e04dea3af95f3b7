
/*
 * JSON text of any kind.  The first byte is the size of the first buffer of
 * the output, the second the call of more() that fails; the rest is text.
 */


#include "fuzz.h"
#include "ngx_lunary_camel.h"


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

    rc = ngx_lunary_camel(&sink.out, p, len);

    if (sink.fail && sink.calls == sink.fail) {
        fuzz_must(rc == NGX_ERROR);

    } else {
        unit_sink_end(&sink);
        fuzz_must(unit_camel_is(&sink, rc, p, len));
    }

    unit_sink_free(&sink);
    free(p);

    return 0;
}
