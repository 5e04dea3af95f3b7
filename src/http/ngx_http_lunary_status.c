
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <jansson.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_metrics.h"
#include "ngx_http_lunary_response.h"
#include "ngx_http_lunary_status.h"
#include "ngx_http_lunary_variables.h"


/*
 * a counter of one value, or with a label, of a value for each of its names;
 * or a histogram
 */

typedef struct {
    char         *name;
    char         *label;        /* or NULL */
    ngx_str_t    *names;        /* NULL: SQLSTATE classes */
    ngx_uint_t    n;
    size_t        offset;       /* in the metrics */
    char         *help;
} ngx_http_lunary_metric_t;


static ngx_int_t ngx_http_lunary_status_ready(ngx_http_request_t *r,
    ngx_lunary_pool_t *pool);
static ngx_int_t ngx_http_lunary_status_page(ngx_http_request_t *r);
static json_t *ngx_http_lunary_json_root(ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_whole(json_t *json, int rc);
static json_t *ngx_http_lunary_json_counters(ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_counter(ngx_http_lunary_metric_t *m,
    ngx_atomic_t *values);
static json_t *ngx_http_lunary_json_hosts(ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_histogram(ngx_http_lunary_histogram_t *h);
static ngx_buf_t *ngx_http_lunary_status_json(ngx_pool_t *pool, json_t *root);
static ngx_buf_t *ngx_http_lunary_status_text(ngx_pool_t *pool, json_t *root);
static void ngx_http_lunary_text_head(ngx_buf_t *b, char *name, char *type,
    char *help);
static void ngx_http_lunary_text_values(ngx_buf_t *b, char *name, char *type,
    char *help, char *label, json_t *json);
static void ngx_http_lunary_text_hosts(ngx_buf_t *b, char *name, char *type,
    char *help, json_t *hosts, char *key);
static void ngx_http_lunary_text_histogram(ngx_buf_t *b, char *name,
    char *help, json_t *json);


static ngx_http_lunary_metric_t  ngx_http_lunary_counters[] = {
    { "requests", "outcome",
      ngx_http_lunary_outcomes, NGX_HTTP_LUNARY_NOUTCOMES,
      offsetof(ngx_http_lunary_metrics_t, outcomes),
      "Requests by outcome." },
    { "credentials", "credential",
      ngx_http_lunary_credentials, NGX_HTTP_LUNARY_NCREDENTIALS,
      offsetof(ngx_http_lunary_metrics_t, credentials),
      "Requests by type of credential." },
    { "denied", "credential",
      ngx_http_lunary_credentials, NGX_HTTP_LUNARY_NCREDENTIALS,
      offsetof(ngx_http_lunary_metrics_t, denied),
      "Denied requests by type of credential." },
    { "key_cache", "status",
      ngx_http_lunary_caches, NGX_HTTP_LUNARY_NCACHES,
      offsetof(ngx_http_lunary_metrics_t, cache),
      "Look-ups in the key cache by result." },
    { "database_errors", "class",
      NULL, NGX_LUNARY_SQLSTATE_CLASSES,
      offsetof(ngx_http_lunary_metrics_t, counts.sqlstate),
      "Errors of the database by class of SQLSTATE." },

    { "runs", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, runs),
      "Runs generated in responses." },
    { "answer_bytes", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, bytes),
      "Bytes of JSON generated in responses, before any compression." },
    { "connects", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, counts.connects),
      "Sessions made with the database." },
    { "connect_failures", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, counts.connect_failures),
      "Failed attempts to connect to a host." },
    { "connections_lost", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, counts.lost),
      "Sessions that broke." },
    { "retries", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, counts.retries),
      "Requests sent to the database a second time." },
    { "cancels", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, counts.cancels),
      "Queries stopped for their client or their time." },
    { "unconfirmed", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, counts.unconfirmed),
      "Rows missing on a standby for which no primary could be asked." },

    { NULL, NULL, NULL, 0, 0, NULL }
};


static ngx_http_lunary_metric_t  ngx_http_lunary_histograms[] = {
    { "queue_seconds", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, queue),
      "Time that requests waited for a connection." },
    { "first_row_seconds", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, first_row),
      "Time from the query to its first row." },
    { "request_seconds", NULL, NULL, 1,
      offsetof(ngx_http_lunary_metrics_t, total),
      "Time from a request's first byte to the end of its response." },

    { NULL, NULL, NULL, 0, 0, NULL }
};


static ngx_str_t  ngx_http_lunary_text_type =
    ngx_string("text/plain; version=0.0.4; charset=utf-8");


ngx_int_t
ngx_http_lunary_status_handler(ngx_http_request_t *r)
{
    ngx_http_lunary_loc_conf_t  *llcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_lunary_response_error(r, NGX_HTTP_LUNARY_METHOD,
                                              NGX_HTTP_LUNARY_KEY_NONE);
    }

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_lunary_module);

    return llcf->status == 2 ? ngx_http_lunary_status_ready(r, llcf->pool)
                             : ngx_http_lunary_status_page(r);
}


static ngx_int_t
ngx_http_lunary_status_ready(ngx_http_request_t *r, ngx_lunary_pool_t *pool)
{
    ngx_buf_t   *b;
    ngx_uint_t   status;

    b = ngx_create_temp_buf(r->pool, 64);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    status = *pool->unreachable ? NGX_HTTP_SERVICE_UNAVAILABLE : NGX_HTTP_OK;

    if (ngx_http_lunary_response_intercepted(r, status)) {
        return (ngx_int_t) status;
    }

    if (status == NGX_HTTP_SERVICE_UNAVAILABLE
        && ngx_http_lunary_response_header(r, "Retry-After", "1") == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_slprintf(b->pos, b->end, "{\"status\": \"%s\"}",
                           status == NGX_HTTP_OK ? "ready" : "unreachable");

    return ngx_http_lunary_response_buffer(r, status, "no-store",
                                           &ngx_http_lunary_json_type, b);
}


static ngx_int_t
ngx_http_lunary_status_page(ngx_http_request_t *r)
{
    json_t                       *root;
    ngx_buf_t                    *b;
    ngx_str_t                     format;
    ngx_uint_t                    json;
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_lunary_module);

    root = ngx_http_lunary_json_root(lmcf->status->data);
    if (root == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    json = ngx_http_arg(r, (u_char *) "format", 6, &format) == NGX_OK
           && format.len == 4 && ngx_strncmp(format.data, "json", 4) == 0;

    b = json ? ngx_http_lunary_status_json(r->pool, root)
             : ngx_http_lunary_status_text(r->pool, root);

    json_decref(root);

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_lunary_response_buffer(r, NGX_HTTP_OK, "no-store",
                                           json ? &ngx_http_lunary_json_type
                                                : &ngx_http_lunary_text_type,
                                           b);
}


/*
 * What the page shows, read from the shared memory once.  Both forms are
 * written from it.  Returns NULL if there is no memory.
 */

static json_t *
ngx_http_lunary_json_root(ngx_http_lunary_metrics_t *sh)
{
    int                           rc;
    json_t                       *root;
    ngx_lunary_gauges_t           sum;
    ngx_http_lunary_metric_t     *m;
    ngx_http_lunary_histogram_t  *h;

    ngx_http_lunary_metrics_gauges(sh, &sum);

    /* the libpq that is loaded: 150008 is 15.8 */

    root = json_pack("{s:{s:s, s:s, s:o}, s:o, s:{s:I, s:I, s:I}, s:I, s:o}",
                     "build",
                     "version", NGINX_LUNARY_VERSION,
                     "nginx", NGINX_VERSION,
                     "libpq", json_sprintf("%d.%d", PQlibVersion() / 10000,
                                           PQlibVersion() % 10000),
                     "counters", ngx_http_lunary_json_counters(sh),
                     "connections",
                     "connecting", (json_int_t) sum.connecting,
                     "idle", (json_int_t) sum.idle,
                     "busy", (json_int_t) sum.busy,
                     "queue_length", (json_int_t) sum.waiting,
                     "hosts", ngx_http_lunary_json_hosts(sh));

    rc = 0;

    for (m = ngx_http_lunary_histograms; m->name; m++) {
        h = (ngx_http_lunary_histogram_t *) ((u_char *) sh + m->offset);

        rc |= json_object_set_new(root, m->name,
                                  ngx_http_lunary_json_histogram(h));
    }

    return ngx_http_lunary_json_whole(root, rc);
}


/* what lacks a part, for want of memory, is not shown: returns NULL then */

static json_t *
ngx_http_lunary_json_whole(json_t *json, int rc)
{
    if (rc == 0) {
        return json;
    }

    json_decref(json);

    return NULL;
}


static json_t *
ngx_http_lunary_json_counters(ngx_http_lunary_metrics_t *sh)
{
    int                        rc;
    json_t                    *root;
    ngx_atomic_t              *values;
    ngx_http_lunary_metric_t  *m;

    rc = 0;
    root = json_object();

    for (m = ngx_http_lunary_counters; m->name; m++) {
        values = (ngx_atomic_t *) ((u_char *) sh + m->offset);

        rc |= json_object_set_new(root, m->name,
                                  ngx_http_lunary_json_counter(m, values));
    }

    return ngx_http_lunary_json_whole(root, rc);
}


static json_t *
ngx_http_lunary_json_counter(ngx_http_lunary_metric_t *m,
    ngx_atomic_t *values)
{
    int          rc;
    char        *name, class[3];
    json_t      *root;
    ngx_uint_t   i;

    static const char  digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    if (m->label == NULL) {
        return json_integer((json_int_t) values[0]);
    }

    rc = 0;
    root = json_object();

    for (i = 0; i < m->n; i++) {

        if (m->names) {
            name = (char *) m->names[i].data;

        } else {
            class[0] = digits[i / 36];
            class[1] = digits[i % 36];
            class[2] = '\0';

            /* most of the classes never occur */

            name = values[i] ? class : NULL;
        }

        if (name) {
            rc |= json_object_set_new(root, name,
                                      json_integer((json_int_t) values[i]));
        }
    }

    return ngx_http_lunary_json_whole(root, rc);
}


static json_t *
ngx_http_lunary_json_hosts(ngx_http_lunary_metrics_t *sh)
{
    int                      rc;
    json_t                  *root;
    ngx_uint_t               i;
    ngx_http_lunary_host_t  *h;

    rc = 0;
    root = json_array();

    for (i = 0; i < sh->nhosts; i++) {
        h = &sh->hosts[i];

        rc |= json_array_append_new(root,
                   json_pack("{s:o, s:I, s:I, s:I}",
                             "host", json_stringn_nocheck((char *) h->label,
                                                          h->len),
                             "connects", (json_int_t) h->connects,
                             "connect_failures", (json_int_t) h->failures,
                             "sessions",
                             (json_int_t)
                             ngx_http_lunary_metrics_sessions(sh, h)));
    }

    return ngx_http_lunary_json_whole(root, rc);
}


static json_t *
ngx_http_lunary_json_histogram(ngx_http_lunary_histogram_t *h)
{
    int          rc;
    double       sum;
    json_t      *buckets, *le;
    json_int_t   n;
    ngx_uint_t   i;

    n = 0;
    rc = 0;
    sum = (double) h->sum / 1000;
    buckets = json_array();

    for (i = 0; i <= NGX_HTTP_LUNARY_BUCKETS; i++) {
        n += (json_int_t) h->buckets[i];

        le = (i == NGX_HTTP_LUNARY_BUCKETS)
             ? json_null()
             : json_real((double) ngx_http_lunary_bounds[i].ms / 1000);

        rc |= json_array_append_new(buckets, json_pack("{s:o, s:I}", "le", le,
                                                       "count", n));
    }

    return json_pack("{s:I, s:f, s:o}", "count", n, "sum", sum,
                     "buckets", ngx_http_lunary_json_whole(buckets, rc));
}


/* the document as JSON; NULL: no memory */

static ngx_buf_t *
ngx_http_lunary_status_json(ngx_pool_t *pool, json_t *root)
{
    char       *text;
    size_t      len;
    ngx_buf_t  *b;

    text = json_dumps(root, JSON_INDENT(2)|JSON_REAL_PRECISION(15));
    if (text == NULL) {
        return NULL;
    }

    len = ngx_strlen(text);
    b = ngx_create_temp_buf(pool, len + 1);

    if (b) {
        b->last = ngx_cpymem(b->pos, text, len);
        *b->last++ = LF;
    }

    free(text);

    return b;
}


/* the document as Prometheus' text; NULL: no memory */

static ngx_buf_t *
ngx_http_lunary_status_text(ngx_pool_t *pool, json_t *root)
{
    u_char                     name[64];
    json_t                    *json, *hosts, *counters;
    ngx_buf_t                 *b;
    ngx_http_lunary_metric_t  *m;

    hosts = json_object_get(root, "hosts");
    counters = json_object_get(root, "counters");
    json = json_object_get(counters, "database_errors");

    b = ngx_create_temp_buf(pool, 16 * 1024 + json_object_size(json) * 64
                                  + json_array_size(hosts) * 3
                                    * (2 * NGX_HTTP_LUNARY_LABEL_LEN + 64));
    if (b == NULL) {
        return NULL;
    }

    json = json_object_get(root, "build");

    ngx_http_lunary_text_head(b, "build_info", "gauge",
                              "Versions of the module, of nginx and of "
                              "libpq, always 1.");

    b->last = ngx_slprintf(b->last, b->end,
                           "lunary_build_info{version=\"%s\",nginx=\"%s\","
                           "libpq=\"%s\"} 1\n",
                           json_string_value(json_object_get(json, "version")),
                           json_string_value(json_object_get(json, "nginx")),
                           json_string_value(json_object_get(json, "libpq")));

    for (m = ngx_http_lunary_counters; m->name; m++) {
        (void) ngx_sprintf(name, "%s_total%Z", m->name);

        ngx_http_lunary_text_values(b, (char *) name, "counter", m->help,
                                    m->label,
                                    json_object_get(counters, m->name));
    }

    ngx_http_lunary_text_values(b, "connections", "gauge",
                                "Connections to the database by state.",
                                "state", json_object_get(root, "connections"));
    ngx_http_lunary_text_values(b, "queue_length", "gauge",
                                "Requests that wait for a connection.",
                                NULL, json_object_get(root, "queue_length"));

    ngx_http_lunary_text_hosts(b, "host_connects_total", "counter",
                               "Sessions made with a host.",
                               hosts, "connects");
    ngx_http_lunary_text_hosts(b, "host_connect_failures_total", "counter",
                               "Failed attempts to connect to a host.",
                               hosts, "connect_failures");
    ngx_http_lunary_text_hosts(b, "host_sessions", "gauge",
                               "Open sessions with a host.",
                               hosts, "sessions");

    for (m = ngx_http_lunary_histograms; m->name; m++) {
        ngx_http_lunary_text_histogram(b, m->name, m->help,
                                       json_object_get(root, m->name));
    }

    return b;
}


static void
ngx_http_lunary_text_head(ngx_buf_t *b, char *name, char *type, char *help)
{
    b->last = ngx_slprintf(b->last, b->end,
                           "# HELP lunary_%s %s\n# TYPE lunary_%s %s\n",
                           name, help, name, type);
}


/* a number, or an object with a number for each value of the label */

static void
ngx_http_lunary_text_values(ngx_buf_t *b, char *name, char *type, char *help,
    char *label, json_t *json)
{
    json_t      *value;
    const char  *key;

    ngx_http_lunary_text_head(b, name, type, help);

    if (label == NULL) {
        b->last = ngx_slprintf(b->last, b->end, "lunary_%s %L\n", name,
                               (int64_t) json_integer_value(json));
        return;
    }

    json_object_foreach(json, key, value) {
        b->last = ngx_slprintf(b->last, b->end, "lunary_%s{%s=\"%s\"} %L\n",
                               name, label, key,
                               (int64_t) json_integer_value(value));
    }
}


static void
ngx_http_lunary_text_hosts(ngx_buf_t *b, char *name, char *type, char *help,
    json_t *hosts, char *key)
{
    u_char      *p, label[2 * NGX_HTTP_LUNARY_LABEL_LEN];
    size_t       i;
    json_t      *host;
    const char  *s;

    ngx_http_lunary_text_head(b, name, type, help);

    json_array_foreach(hosts, i, host) {

        p = label;

        for (s = json_string_value(json_object_get(host, "host")); *s; s++) {

            if (*s == '\\' || *s == '"') {
                *p++ = '\\';
            }

            *p++ = (*s == LF) ? ' ' : *s;
        }

        b->last = ngx_slprintf(b->last, b->end,
                               "lunary_%s{host=\"%*s\"} %L\n",
                               name, (size_t) (p - label), label,
                               (int64_t) json_integer_value(
                                             json_object_get(host, key)));
    }
}


static void
ngx_http_lunary_text_histogram(ngx_buf_t *b, char *name, char *help,
    json_t *json)
{
    size_t   i;
    json_t  *bucket;

    ngx_http_lunary_text_head(b, name, "histogram", help);

    json_array_foreach(json_object_get(json, "buckets"), i, bucket) {
        b->last = ngx_slprintf(b->last, b->end,
                               "lunary_%s_bucket{le=\"%s\"} %L\n", name,
                               i == NGX_HTTP_LUNARY_BUCKETS
                               ? "+Inf" : ngx_http_lunary_bounds[i].le,
                               (int64_t) json_integer_value(
                                             json_object_get(bucket,
                                                             "count")));
    }

    b->last = ngx_slprintf(b->last, b->end,
                           "lunary_%s_sum %.3f\nlunary_%s_count %L\n", name,
                           json_real_value(json_object_get(json, "sum")), name,
                           (int64_t) json_integer_value(
                                         json_object_get(json, "count")));
}
