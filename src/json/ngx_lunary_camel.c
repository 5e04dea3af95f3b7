
/*
 * The camel-casing of object keys in JSON text.
 *
 * The text is PostgreSQL's own form of a jsonb: it is not checked to be JSON.
 * Outside of strings it is passed through, and a string is a key if a ":"
 * follows at once.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_json.h"
#include "ngx_lunary_camel.h"


static u_char *ngx_lunary_camel_string(u_char *p, u_char *last);
static u_char *ngx_lunary_camel_key(ngx_lunary_out_t *out, u_char *start,
    u_char *p, u_char *last);


ngx_int_t
ngx_lunary_camel(ngx_lunary_out_t *out, u_char *p, size_t len)
{
    u_char  *start, *string, *last;

    last = p + len;

    /* what is before "start" is written, what is before "p" is read */

    start = p;

    for ( ;; ) {
        p = ngx_strlchr(p, last, '"');

        if (p == NULL) {
            return ngx_lunary_json_raw(out, start, last - start);
        }

        string = p + 1;
        p = ngx_lunary_camel_string(string, last);

        if (p == NULL) {
            return NGX_DECLINED;
        }

        if (p + 1 < last && p[1] == ':') {
            start = ngx_lunary_camel_key(out, start, string, p);

            if (start == NULL) {
                return NGX_ERROR;
            }
        }

        p++;
    }
}


/* the closing quote of the string that begins at "p", NULL if there is none */

static u_char *
ngx_lunary_camel_string(u_char *p, u_char *last)
{
    for ( ;; ) {
        p = ngx_lunary_json_plain(p, last);

        if (p < last && *p == '"') {
            return p;
        }

        /* an escape is left, what is escaped may be a quote */

        if (last - p < 2 || *p != '\\') {
            return NULL;
        }

        p += 2;
    }
}


/*
 * writes a key up to its last "_", and returns the start of what is left to
 * write, or NULL if there is no room.  Neither an escape nor a character in
 * UTF-8 has an "_" in it, so the first byte of either is enough to step over
 */

static u_char *
ngx_lunary_camel_key(ngx_lunary_out_t *out, u_char *start, u_char *p,
    u_char *last)
{
    u_char  c;

    if (p < last) {
        p++;
    }

    for ( ;; ) {
        p = ngx_strlchr(p, last, '_');

        if (p == NULL) {
            return start;
        }

        if (ngx_lunary_json_raw(out, start, p - start) != NGX_OK) {
            return NULL;
        }

        start = ++p;

        if (p == last) {
            return start;
        }

        c = *p++;

        if (c >= 'a' && c <= 'z') {

            if (ngx_lunary_out_byte(out, c - 'a' + 'A') != NGX_OK) {
                return NULL;
            }

            start = p;
        }
    }
}
