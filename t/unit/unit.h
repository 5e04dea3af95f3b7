
/*
 * A test is a program that prints TAP.  What it hands to the code under test
 * lies in blocks of exactly its size, so that AddressSanitizer and valgrind
 * see a byte too far; so do the buffers that the code writes to.
 */


#ifndef _UNIT_H_INCLUDED_
#define _UNIT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include "ngx_lunary_json.h"


typedef struct {
    ngx_lunary_out_t  out;

    u_char           *data;         /* what was taken so far */
    size_t            len;
    size_t            size;

    u_char           *buffer;       /* what out points to */
    size_t            next;         /* the size of each but the first */
    ngx_uint_t        calls;        /* of more() */
    ngx_uint_t        fail;         /* the one that fails, from 1; or 0 */
} unit_sink_t;


#define unit_is(sink, s)                                                      \
    ((sink)->len == ngx_strlen(s)                                             \
     && ngx_memcmp((sink)->data, s, (sink)->len) == 0)


/* prints a line of TAP; returns ok */
ngx_uint_t unit_ok(ngx_uint_t ok, const char *fmt, ...);

void unit_skip(const char *why);

/* prints the plan; returns the exit code */
int unit_done(void);

/* prints the seed, which is UNIT_SEED of the environment or drawn */
void unit_seed(void);
uint32_t unit_random(uint32_t n);
uint64_t unit_random64(void);

void *unit_alloc(size_t size);

/* a copy in a block of its own */
u_char *unit_copy(const void *p, size_t len);

/* "first" bytes to write to at first, then "next" at a time */
void unit_sink(unit_sink_t *sink, size_t first, size_t next);

/* what was written is in data, len */
void unit_sink_end(unit_sink_t *sink);
void unit_sink_free(unit_sink_t *sink);

/* appends to data as more() does */
void unit_sink_take(unit_sink_t *sink, const void *p, size_t len);


/*
 * JSON as jansson reads it; without a tree, "limit" says that the reason is
 * one that the writer leaves to others: UTF-8, surrogates, sizes of numbers,
 * depth, and zero bytes
 */
json_t *unit_load(u_char *p, size_t len, ngx_uint_t *limit);

/* what the camel-caser has to give, byte by byte, for valid JSON */
void unit_camel_text(unit_sink_t *sink, u_char *p, size_t len);

/* the same as a tree: the oracle's own reading of the input */
json_t *unit_camel_tree(json_t *json);

/* what the writer has to give for a string */
void unit_string_text(unit_sink_t *sink, u_char *p, size_t len);


#endif /* _UNIT_H_INCLUDED_ */
