
/*
 * A test is a program that prints TAP.  The input of the code under test, and
 * the buffers it writes to, are blocks of exactly their size, so that
 * AddressSanitizer and valgrind detect an access out of bounds.
 */


#ifndef _UNIT_H_INCLUDED_
#define _UNIT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include "ngx_lunary_json.h"


typedef struct {
    ngx_lunary_out_t  out;

    u_char           *data;         /* the output so far */
    size_t            len;
    size_t            size;

    u_char           *buffer;       /* the buffer of out */
    size_t            next;         /* the size of each buffer but the first */
    ngx_uint_t        calls;        /* number of calls of more() */
    ngx_uint_t        fail;         /* the call that fails, from 1; or 0 */
} unit_sink_t;


#define unit_is(sink, s)                                                      \
    ((sink)->len == ngx_strlen(s)                                             \
     && ngx_memcmp((sink)->data, s, (sink)->len) == 0)


/* prints a line of TAP; returns ok */
ngx_uint_t unit_ok(ngx_uint_t ok, const char *fmt, ...);

void unit_skip(const char *why);

/* prints the plan; returns the exit code */
int unit_done(void);

/* prints the seed: UNIT_SEED of the environment, or a random one */
void unit_seed(void);
uint32_t unit_random(uint32_t n);
uint64_t unit_random64(void);

void *unit_alloc(size_t size);

/* a copy in a new block */
u_char *unit_copy(const void *p, size_t len);

/* a first buffer of "first" bytes, then buffers of "next" bytes */
void unit_sink(unit_sink_t *sink, size_t first, size_t next);

/* the output is in data, len */
void unit_sink_end(unit_sink_t *sink);
void unit_sink_free(unit_sink_t *sink);

/* appends to data as more() does */
void unit_sink_take(unit_sink_t *sink, const void *p, size_t len);


/*
 * JSON as read by jansson.  If it returns no tree, "limit" is set for errors
 * that the writer does not detect: UTF-8, surrogates, sizes of numbers, depth,
 * and zero bytes
 */
json_t *unit_load(u_char *p, size_t len, ngx_uint_t *limit);

/* what the camel-caser has to give, byte by byte; each string has an end */
void unit_camel_text(unit_sink_t *sink, u_char *p, size_t len);

/*
 * 1: the camel-caser returned "rc" and wrote "sink" as it has to: JSON as
 * unit_camel_text() does, and for any other text whatever it likes; else 0
 */
ngx_uint_t unit_camel_is(unit_sink_t *sink, ngx_int_t rc, u_char *p,
    size_t len);

/* the same as a tree: the oracle's own reading of the input */
json_t *unit_camel_tree(json_t *json);

/* the expected output of the writer for a string */
void unit_string_text(unit_sink_t *sink, u_char *p, size_t len);


#endif /* _UNIT_H_INCLUDED_ */
