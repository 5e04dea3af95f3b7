
/*
 * Ids and keys.  The result of the parser equals that of a simple one, and
 * writing it returns the same text in lower case.
 */


#include "fuzz.h"
#include "ngx_lunary_value.h"


static ngx_uint_t fuzz_uuid(const uint8_t *p, size_t len);
static void fuzz_text(u_char *uuid, const uint8_t *p);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char     *p, *uuid;
    ngx_int_t   rc;

    /* in blocks of exactly their size */

    p = unit_copy(data, size);
    uuid = malloc(NGX_LUNARY_UUID_LEN);
    fuzz_must(uuid);

    rc = ngx_lunary_uuid_parse(p, size, uuid);
    fuzz_must(rc == (fuzz_uuid(data, size) ? NGX_OK : NGX_DECLINED));

    if (rc == NGX_OK) {
        fuzz_text(uuid, data);
    }

    free(uuid);
    free(p);

    return 0;
}


static ngx_uint_t
fuzz_uuid(const uint8_t *p, size_t len)
{
    size_t             i;
    static const char  shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

    if (len != sizeof(shape) - 1) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        if (shape[i] == '-' ? p[i] != '-' : !isxdigit(p[i])) {
            return 0;
        }
    }

    return 1;
}


static void
fuzz_text(u_char *uuid, const uint8_t *p)
{
    size_t   i;
    u_char  *text;

    text = malloc(NGX_LUNARY_UUID_TEXT_LEN);
    fuzz_must(text);

    fuzz_must(ngx_lunary_uuid_text(text, uuid)
              == text + NGX_LUNARY_UUID_TEXT_LEN);

    for (i = 0; i < NGX_LUNARY_UUID_TEXT_LEN; i++) {
        fuzz_must(text[i] == tolower(p[i]));
    }

    free(text);
}
