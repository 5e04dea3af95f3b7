
/*
 * Measures the writer, memcpy(), and jansson's load and dump, with text like
 * that in Lunary's column "input".
 *
 * The output is written to buffers of 16 kB, as in nginx; memcpy() copies the
 * text at once.  Times are CPU times.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include <time.h>
#include "ngx_lunary_camel.h"
#include "ngx_lunary_json.h"


#define BENCH_BUFFER   16384

/* a result is the best of this number of parts of a second */
#define BENCH_ROUNDS   15
#define BENCH_SECONDS  0.05
#define BENCH_BATCH    16


typedef struct {
    u_char           *p;
    size_t            len;
    size_t            written;
} bench_text_t;

typedef ngx_int_t (*bench_pt)(bench_text_t *text);


static ngx_int_t bench_memcpy(bench_text_t *text);
static ngx_int_t bench_raw(bench_text_t *text);
static ngx_int_t bench_camel(bench_text_t *text);
static ngx_int_t bench_string(bench_text_t *text);
static ngx_int_t bench_jansson(bench_text_t *text);
static ngx_int_t bench_more(ngx_lunary_out_t *out);
static void bench_start(ngx_lunary_out_t *out, bench_text_t *text);
static double bench_now(void);
static double bench_run(bench_pt run, bench_text_t *text);
static void bench_chat(bench_text_t *text, size_t size, ngx_uint_t change);
static void bench_embedding(bench_text_t *text, size_t size);
static void bench_arguments(bench_text_t *text, size_t size);
static void bench_prose(bench_text_t *text, size_t len, ngx_uint_t escaped);
static void bench_add(bench_text_t *text, const char *s);
static uint32_t bench_random(uint32_t n);
static void bench_report(const char *name, bench_text_t *text,
    ngx_uint_t plain);


static u_char    bench_buffer[BENCH_BUFFER];
static u_char   *bench_copy;
static uint32_t  bench_seed = 1;

static const char  *bench_words[] = {
    "the", "of", "model", "answer", "to", "a", "customer", "should", "be",
    "is", "that", "temperature", "we", "function", "which", "retrieval",
    "document", "as", "an", "information", "please", "and", "in", "summarize",
    "context", "for", "you", "are", "helpful", "assistant", "this", "token"
};


static ngx_int_t
bench_memcpy(bench_text_t *text)
{
    ngx_memcpy(bench_copy, text->p, text->len);
    __asm__ volatile ("" : : "r" (bench_copy) : "memory");

    return NGX_OK;
}


static ngx_int_t
bench_raw(bench_text_t *text)
{
    ngx_lunary_out_t  out;

    bench_start(&out, text);

    return ngx_lunary_json_raw(&out, text->p, text->len);
}


static ngx_int_t
bench_camel(bench_text_t *text)
{
    ngx_lunary_out_t  out;

    bench_start(&out, text);

    return ngx_lunary_camel(&out, text->p, text->len);
}


static ngx_int_t
bench_string(bench_text_t *text)
{
    ngx_lunary_out_t  out;

    bench_start(&out, text);

    return ngx_lunary_json_string(&out, text->p, text->len);
}


static ngx_int_t
bench_jansson(bench_text_t *text)
{
    char    *dump;
    json_t  *json;

    json = json_loadb((char *) text->p, text->len, JSON_DECODE_ANY, NULL);

    if (json == NULL) {
        return NGX_ERROR;
    }

    dump = json_dumps(json, JSON_COMPACT|JSON_ENCODE_ANY);

    json_decref(json);
    free(dump);

    return dump ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
bench_more(ngx_lunary_out_t *out)
{
    bench_text_t  *text = out->data;

    text->written += out->pos - bench_buffer;
    out->pos = bench_buffer;

    return NGX_OK;
}


static void
bench_start(ngx_lunary_out_t *out, bench_text_t *text)
{
    out->pos = bench_buffer;
    out->end = bench_buffer + BENCH_BUFFER;
    out->more = bench_more;
    out->data = text;
}


static double
bench_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);

    return ts.tv_sec + ts.tv_nsec / 1e9;
}


/* bytes a second */

static double
bench_run(bench_pt run, bench_text_t *text)
{
    double      best, start, took;
    ngx_uint_t  i, k, n;

    best = 0;

    for (i = 0; i < BENCH_ROUNDS; i++) {
        start = bench_now();
        n = 0;

        do {
            /* reading the clock is a system call */

            for (k = 0; k < BENCH_BATCH; k++) {
                if (run(text) != NGX_OK) {
                    (void) fprintf(stderr, "the text was refused\n");
                    exit(1);
                }
            }

            n += BENCH_BATCH;
            took = bench_now() - start;

        } while (took < BENCH_SECONDS);

        if (n * text->len / took > best) {
            best = n * text->len / took;
        }
    }

    return best;
}


/* messages of chat completions; some call a tool */

static void
bench_chat(bench_text_t *text, size_t size, ngx_uint_t change)
{
    text->len = 0;
    bench_add(text, "[{\"role\": \"system\", \"content\": \"");
    bench_prose(text, 600, 0);
    bench_add(text, "\"}");

    while (text->len + 2048 < size) {
        bench_add(text, ", {\"role\": \"user\", \"content\": \"");
        bench_prose(text, 50 + bench_random(400), 0);
        bench_add(text, "\"}, {\"role\": \"assistant\", \"content\": \"");
        bench_prose(text, 200 + bench_random(800), 0);
        bench_add(text, "\"");

        if (bench_random(4) == 0) {
            bench_add(text, change ? ", \"tool_calls\": [{\"id\": \"call_7\""
                                   : ", \"toolCalls\": [{\"id\": \"call_7\"");
            bench_add(text, ", \"type\": \"function\", \"function\": {\"name\""
                            ": \"search_docs\", \"arguments\": \"");
            bench_prose(text, 160, 1);
            bench_add(text, "\"}}]");
        }

        bench_add(text, change ? ", \"finish_reason\": \"stop\", \"index\": 0}"
                               : ", \"finishReason\": \"stop\", \"index\": 0}");
    }

    bench_add(text, "]");
}


static void
bench_embedding(bench_text_t *text, size_t size)
{
    char  number[32];

    text->len = 0;
    bench_add(text, "{\"embedding\": [0");

    while (text->len + 64 < size) {
        (void) snprintf(number, sizeof(number), ", %s0.0%u%05u",
                        bench_random(2) ? "-" : "", bench_random(9) + 1,
                        bench_random(100000));
        bench_add(text, number);
    }

    bench_add(text, "]}");
}


/* text with many escapes: the arguments of a tool call */

static void
bench_arguments(bench_text_t *text, size_t size)
{
    text->len = 0;
    bench_add(text, "{\"arguments\": \"");
    bench_prose(text, size - 64, 1);
    bench_add(text, "\"}");
}


/* about "len" bytes in a string; "escaped" is JSON within JSON */

static void
bench_prose(bench_text_t *text, size_t len, ngx_uint_t escaped)
{
    size_t    last;
    uint32_t  n;

    last = text->len + len;

    while (text->len < last) {
        bench_add(text, bench_words[bench_random(32)]);
        n = bench_random(100);

        if (escaped && n < 60) {
            bench_add(text, n < 30 ? "\\\": \\\"" : "\\\", \\\"");

        } else if (n < 2) {
            bench_add(text, ".\\n\\n");

        } else if (n < 6) {
            bench_add(text, ":\\n- ");

        } else if (n < 8) {
            bench_add(text, " \\\"quoted\\\" ");

        } else if (n < 10) {
            bench_add(text, " – déjà ");

        } else {
            bench_add(text, n < 18 ? ", " : " ");
        }
    }
}


static void
bench_add(bench_text_t *text, const char *s)
{
    size_t  len;

    len = ngx_strlen(s);
    ngx_memcpy(text->p + text->len, s, len);
    text->len += len;
}


static uint32_t
bench_random(uint32_t n)
{
    bench_seed = bench_seed * 1664525 + 1013904223;

    return (bench_seed >> 8) % n;
}


static void
bench_report(const char *name, bench_text_t *text, ngx_uint_t plain)
{
    double  copy, raw, writer, jansson;

    copy = bench_run(bench_memcpy, text);
    raw = bench_run(bench_raw, text);
    writer = bench_run(plain ? bench_string : bench_camel, text);
    jansson = plain ? 0 : bench_run(bench_jansson, text);

    (void) printf("%-28s %8lu %8.2f %8.2f %8.2f", name,
                  (unsigned long) text->len, copy / 1e9, raw / 1e9,
                  writer / 1e9);

    if (plain) {
        (void) printf(" %8s %7.2f %8s\n", "-", writer / copy, "-");

    } else {
        (void) printf(" %8.3f %7.2f %8.1f\n", jansson / 1e9, writer / copy,
                      writer / jansson);
    }

    (void) fflush(stdout);
}


int
main(void)
{
    size_t        size;
    ngx_uint_t    i;
    bench_text_t  text;

    text.p = malloc(2 << 20);
    bench_copy = malloc(2 << 20);

    if (text.p == NULL || bench_copy == NULL) {
        return 1;
    }

    (void) printf("%-28s %8s %8s %8s %8s %8s %7s %8s\n"
                  "%-28s %8s %8s %8s %8s %8s %7s %8s\n",
                  "GB/s", "bytes", "memcpy", "raw", "writer", "jansson",
                  "/memcpy", "/jansson", "----", "-----", "------", "---",
                  "------", "-------", "-------", "--------");

    for (i = 0; i < 2; i++) {
        size = i ? 1 << 20 : 20480;

        bench_chat(&text, size, 0);
        bench_report("chat, nothing to change", &text, 0);

        bench_chat(&text, size, 1);
        bench_report("chat, keys to change", &text, 0);

        bench_embedding(&text, size);
        bench_report("numbers", &text, 0);

        bench_arguments(&text, size);
        bench_report("escaped JSON", &text, 0);

        text.len = 0;
        bench_prose(&text, size, 1);
        bench_report("string of escaped JSON", &text, 1);

        bench_chat(&text, size, 0);
        bench_report("string of chat", &text, 1);
    }

    free(bench_copy);
    free(text.p);

    return 0;
}
