
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <jansson.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_metrics.h"
#include "ngx_http_lunary_response.h"
#include "ngx_http_lunary_status.h"
#include "ngx_http_lunary_variables.h"


/* Prometheus text being written */

typedef struct {
    u_char                       *last;
    u_char                       *end;
} ngx_http_lunary_page_t;


typedef struct {
    char                         *name;
    size_t                        offset;
    char                         *help;
} ngx_http_lunary_metric_t;


static ngx_int_t ngx_http_lunary_status_metrics(ngx_http_request_t *r);
static ngx_int_t ngx_http_lunary_status_ready(ngx_http_request_t *r,
    ngx_lunary_pool_t *pool);
static ngx_int_t ngx_http_lunary_status_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_buf_t *b, ngx_str_t *type);

static ngx_buf_t *ngx_http_lunary_status_text(ngx_http_request_t *r,
    ngx_http_lunary_metrics_t *sh);
static void ngx_http_lunary_text_head(ngx_http_lunary_page_t *page,
    char *name, char *type, char *help);
static void ngx_http_lunary_text_build(ngx_http_lunary_page_t *page);
static u_char *ngx_http_lunary_status_libpq(u_char *p, u_char *last);
static void ngx_http_lunary_text_labelled(ngx_http_lunary_page_t *page,
    char *name, char *label, ngx_str_t *names, ngx_atomic_t *values,
    ngx_uint_t n, ngx_uint_t first);
static void ngx_http_lunary_text_counters(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh);
static void ngx_http_lunary_text_errors(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh);
static void ngx_http_lunary_text_gauges(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh);
static void ngx_http_lunary_text_hosts(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh);
static void ngx_http_lunary_text_host(ngx_http_lunary_page_t *page,
    char *name, ngx_http_lunary_host_t *host, ngx_atomic_uint_t n);
static void ngx_http_lunary_text_histogram(ngx_http_lunary_page_t *page,
    ngx_http_lunary_histogram_t *h, char *name, char *help);

static ngx_buf_t *ngx_http_lunary_status_json(ngx_http_request_t *r,
    ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_root(ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_build(void);
static json_t *ngx_http_lunary_json_counters(ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_labelled(ngx_str_t *names,
    ngx_atomic_t *values, ngx_uint_t n, ngx_uint_t first);
static json_t *ngx_http_lunary_json_errors(ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_hosts(ngx_http_lunary_metrics_t *sh);
static json_t *ngx_http_lunary_json_histogram(ngx_http_lunary_histogram_t *h);


static ngx_str_t  ngx_http_lunary_text_type =
    ngx_string("text/plain; version=0.0.4; charset=utf-8");
static ngx_str_t  ngx_http_lunary_json_type =
    ngx_string("application/json; charset=utf-8");


static const char  ngx_http_lunary_digits[] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";


/* counters that are one number each */

static ngx_http_lunary_metric_t  ngx_http_lunary_totals[] = {
    { "runs", offsetof(ngx_http_lunary_metrics_t, runs),
      "Runs generated in responses." },
    { "answer_bytes", offsetof(ngx_http_lunary_metrics_t, bytes),
      "Bytes of JSON generated in responses, before any compression." },
    { "connects", offsetof(ngx_http_lunary_metrics_t, counts.connects),
      "Sessions made with the database." },
    { "connect_failures",
      offsetof(ngx_http_lunary_metrics_t, counts.connect_failures),
      "Failed attempts to connect to a host." },
    { "connections_lost", offsetof(ngx_http_lunary_metrics_t, counts.lost),
      "Sessions that broke." },
    { "retries", offsetof(ngx_http_lunary_metrics_t, counts.retries),
      "Requests sent to the database a second time." },
    { "cancels", offsetof(ngx_http_lunary_metrics_t, counts.cancels),
      "Queries stopped for their client or their time." },
    { "unconfirmed", offsetof(ngx_http_lunary_metrics_t, counts.unconfirmed),
      "Rows missing on a standby for which no primary could be asked." },
    { NULL, 0, NULL }
};


ngx_int_t
ngx_http_lunary_status_handler(ngx_http_request_t *r)
{
    ngx_http_lunary_loc_conf_t  *llcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_lunary_response_error(r, NGX_HTTP_LUNARY_METHOD,
                                              NGX_HTTP_LUNARY_KEY_NONE);
    }

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    llcf = ngx_http_get_module_loc_conf(r, ngx_http_lunary_module);

    return llcf->status == 2 ? ngx_http_lunary_status_ready(r, llcf->pool)
                             : ngx_http_lunary_status_metrics(r);
}


static ngx_int_t
ngx_http_lunary_status_metrics(ngx_http_request_t *r)
{
    ngx_buf_t                    *b;
    ngx_str_t                     format;
    ngx_uint_t                    json;
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_lunary_module);

    json = ngx_http_arg(r, (u_char *) "format", 6, &format) == NGX_OK
           && format.len == 4 && ngx_strncmp(format.data, "json", 4) == 0;

    b = json ? ngx_http_lunary_status_json(r, lmcf->status->data)
             : ngx_http_lunary_status_text(r, lmcf->status->data);

    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_lunary_status_send(r, NGX_HTTP_OK, b,
                                       json ? &ngx_http_lunary_json_type
                                            : &ngx_http_lunary_text_type);
}


static ngx_int_t
ngx_http_lunary_status_ready(ngx_http_request_t *r, ngx_lunary_pool_t *pool)
{
    char        *body;
    ngx_buf_t   *b;
    ngx_uint_t   status;

    b = ngx_create_temp_buf(r->pool, 64);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (*pool->unreachable) {
        status = NGX_HTTP_SERVICE_UNAVAILABLE;
        body = "{\"status\": \"unreachable\"}";

        if (ngx_http_lunary_response_intercepted(r, status)) {
            return (ngx_int_t) status;
        }

        if (ngx_http_lunary_response_header(r, "Retry-After", "1") == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

    } else {
        status = NGX_HTTP_OK;
        body = "{\"status\": \"ready\"}";
    }

    b->last = ngx_cpymem(b->pos, body, ngx_strlen(body));

    return ngx_http_lunary_status_send(r, status, b,
                                       &ngx_http_lunary_json_type);
}


static ngx_int_t
ngx_http_lunary_status_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_buf_t *b, ngx_str_t *type)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    if (ngx_http_lunary_response_cache_control(r, "no-store") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = (u_char *) ngx_strchr(type->data, ';')
                                      - type->data;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.status = status;
    r->headers_out.content_length_n = b->last - b->pos;

    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


static ngx_buf_t *
ngx_http_lunary_status_text(ngx_http_request_t *r,
    ngx_http_lunary_metrics_t *sh)
{
    ngx_buf_t               *b;
    ngx_http_lunary_page_t   page;

    b = ngx_create_temp_buf(r->pool, 16 * 1024
                            + NGX_LUNARY_SQLSTATE_CLASSES * 64
                            + sh->nhosts * 3
                              * (2 * NGX_HTTP_LUNARY_LABEL_LEN + 64));
    if (b == NULL) {
        return NULL;
    }

    page.last = b->pos;
    page.end = b->end;

    ngx_http_lunary_text_build(&page);
    ngx_http_lunary_text_counters(&page, sh);
    ngx_http_lunary_text_errors(&page, sh);
    ngx_http_lunary_text_gauges(&page, sh);
    ngx_http_lunary_text_hosts(&page, sh);

    ngx_http_lunary_text_histogram(&page, &sh->queue, "queue_seconds",
                                   "Time that requests waited for a "
                                   "connection.");
    ngx_http_lunary_text_histogram(&page, &sh->first_row, "first_row_seconds",
                                   "Time from the query to its first row.");
    ngx_http_lunary_text_histogram(&page, &sh->total, "request_seconds",
                                   "Time from a request's first byte to the "
                                   "end of its response.");

    b->last = page.last;

    return b;
}


static void
ngx_http_lunary_text_head(ngx_http_lunary_page_t *page, char *name,
    char *type, char *help)
{
    page->last = ngx_slprintf(page->last, page->end,
                              "# HELP lunary_%s %s\n# TYPE lunary_%s %s\n",
                              name, help, name, type);
}


static void
ngx_http_lunary_text_build(ngx_http_lunary_page_t *page)
{
    u_char  libpq[NGX_INT_T_LEN * 2];

    (void) ngx_http_lunary_status_libpq(libpq, libpq + sizeof(libpq));

    ngx_http_lunary_text_head(page, "build_info", "gauge",
                              "Versions of the module, of nginx and of "
                              "libpq, always 1.");

    page->last = ngx_slprintf(page->last, page->end,
                              "lunary_build_info{version=\"%s\",nginx=\"%s\","
                              "libpq=\"%s\"} 1\n",
                              NGINX_LUNARY_VERSION, NGINX_VERSION, libpq);
}


/* of the library that is loaded: 150008 is 15.8 */

static u_char *
ngx_http_lunary_status_libpq(u_char *p, u_char *last)
{
    int  version;

    version = PQlibVersion();

    return ngx_slprintf(p, last, "%d.%d%Z", version / 10000, version % 10000);
}


static void
ngx_http_lunary_text_labelled(ngx_http_lunary_page_t *page, char *name,
    char *label, ngx_str_t *names, ngx_atomic_t *values, ngx_uint_t n,
    ngx_uint_t first)
{
    ngx_uint_t  i;

    for (i = first; i < n; i++) {
        page->last = ngx_slprintf(page->last, page->end,
                                  "lunary_%s{%s=\"%V\"} %uA\n",
                                  name, label, &names[i], values[i]);
    }
}


static void
ngx_http_lunary_text_counters(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh)
{
    ngx_http_lunary_metric_t  *m;

    ngx_http_lunary_text_head(page, "requests_total", "counter",
                              "Requests by outcome.");
    ngx_http_lunary_text_labelled(page, "requests_total", "outcome",
                                  ngx_http_lunary_outcomes, sh->outcomes,
                                  NGX_HTTP_LUNARY_NOUTCOMES, 1);

    ngx_http_lunary_text_head(page, "credentials_total", "counter",
                              "Requests by type of credential.");
    ngx_http_lunary_text_labelled(page, "credentials_total", "credential",
                                  ngx_http_lunary_credentials,
                                  sh->credentials,
                                  NGX_HTTP_LUNARY_NCREDENTIALS, 0);

    ngx_http_lunary_text_head(page, "denied_total", "counter",
                              "Denied requests by type of credential.");
    ngx_http_lunary_text_labelled(page, "denied_total", "credential",
                                  ngx_http_lunary_credentials, sh->denied,
                                  NGX_HTTP_LUNARY_NCREDENTIALS, 0);

    ngx_http_lunary_text_head(page, "key_cache_total", "counter",
                              "Look-ups in the key cache by result.");
    ngx_http_lunary_text_labelled(page, "key_cache_total", "status",
                                  ngx_http_lunary_caches, sh->cache,
                                  NGX_HTTP_LUNARY_NCACHES, 1);

    for (m = ngx_http_lunary_totals; m->name; m++) {
        page->last = ngx_slprintf(page->last, page->end,
                                  "# HELP lunary_%s_total %s\n"
                                  "# TYPE lunary_%s_total counter\n"
                                  "lunary_%s_total %uA\n",
                                  m->name, m->help, m->name, m->name,
                                  *(ngx_atomic_t *) ((u_char *) sh
                                                     + m->offset));
    }
}


/* the classes that have occurred, for most never do */

static void
ngx_http_lunary_text_errors(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh)
{
    ngx_uint_t  i;

    ngx_http_lunary_text_head(page, "database_errors_total", "counter",
                              "Errors of the database by class of SQLSTATE.");

    for (i = 0; i < NGX_LUNARY_SQLSTATE_CLASSES; i++) {

        if (sh->counts.sqlstate[i] == 0) {
            continue;
        }

        page->last = ngx_slprintf(page->last, page->end,
                                  "lunary_database_errors_total"
                                  "{class=\"%c%c\"} %uA\n",
                                  ngx_http_lunary_digits[i / 36],
                                  ngx_http_lunary_digits[i % 36],
                                  sh->counts.sqlstate[i]);
    }
}


static void
ngx_http_lunary_text_gauges(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh)
{
    ngx_lunary_gauges_t  sum;

    ngx_http_lunary_metrics_gauges(sh, &sum);

    ngx_http_lunary_text_head(page, "connections", "gauge",
                              "Connections to the database by state.");

    page->last = ngx_slprintf(page->last, page->end,
                              "lunary_connections{state=\"connecting\"} %uA\n"
                              "lunary_connections{state=\"idle\"} %uA\n"
                              "lunary_connections{state=\"busy\"} %uA\n"
                              "lunary_connections{state=\"checking\"} %uA\n",
                              sum.connecting, sum.idle, sum.busy,
                              sum.checking);

    ngx_http_lunary_text_head(page, "queue_length", "gauge",
                              "Requests that wait for a connection.");

    page->last = ngx_slprintf(page->last, page->end,
                              "lunary_queue_length %uA\n", sum.waiting);
}


static void
ngx_http_lunary_text_hosts(ngx_http_lunary_page_t *page,
    ngx_http_lunary_metrics_t *sh)
{
    ngx_uint_t  i, n;

    n = sh->nhosts;

    ngx_http_lunary_text_head(page, "host_connects_total", "counter",
                              "Sessions made with a host.");

    for (i = 0; i < n; i++) {
        ngx_http_lunary_text_host(page, "host_connects_total", &sh->hosts[i],
                                  sh->hosts[i].connects);
    }

    ngx_http_lunary_text_head(page, "host_connect_failures_total", "counter",
                              "Failed attempts to connect to a host.");

    for (i = 0; i < n; i++) {
        ngx_http_lunary_text_host(page, "host_connect_failures_total",
                                  &sh->hosts[i], sh->hosts[i].failures);
    }

    ngx_http_lunary_text_head(page, "host_sessions", "gauge",
                              "Open sessions with a host.");

    for (i = 0; i < n; i++) {
        ngx_http_lunary_text_host(page, "host_sessions", &sh->hosts[i],
                                  ngx_http_lunary_metrics_sessions(sh, i));
    }
}


static void
ngx_http_lunary_text_host(ngx_http_lunary_page_t *page, char *name,
    ngx_http_lunary_host_t *host, ngx_atomic_uint_t n)
{
    u_char  *p, label[2 * NGX_HTTP_LUNARY_LABEL_LEN];
    size_t   i;

    p = label;

    for (i = 0; i < host->len; i++) {

        if (host->label[i] == '\\' || host->label[i] == '"') {
            *p++ = '\\';
        }

        *p++ = (host->label[i] == LF) ? ' ' : host->label[i];
    }

    page->last = ngx_slprintf(page->last, page->end,
                              "lunary_%s{host=\"%*s\"} %uA\n",
                              name, (size_t) (p - label), label, n);
}


static void
ngx_http_lunary_text_histogram(ngx_http_lunary_page_t *page,
    ngx_http_lunary_histogram_t *h, char *name, char *help)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  n, sum;

    ngx_http_lunary_text_head(page, name, "histogram", help);

    n = 0;
    sum = h->sum;

    for (i = 0; i < NGX_HTTP_LUNARY_BUCKETS; i++) {
        n += h->buckets[i];

        page->last = ngx_slprintf(page->last, page->end,
                                  "lunary_%s_bucket{le=\"%s\"} %uA\n",
                                  name, ngx_http_lunary_bounds[i].le, n);
    }

    n += h->buckets[i];

    page->last = ngx_slprintf(page->last, page->end,
                              "lunary_%s_bucket{le=\"+Inf\"} %uA\n"
                              "lunary_%s_sum %uA.%03uA\n"
                              "lunary_%s_count %uA\n",
                              name, n, name, sum / 1000, sum % 1000, name, n);
}


static ngx_buf_t *
ngx_http_lunary_status_json(ngx_http_request_t *r,
    ngx_http_lunary_metrics_t *sh)
{
    char       *text;
    size_t      len;
    json_t     *root;
    ngx_buf_t  *b;

    root = ngx_http_lunary_json_root(sh);
    if (root == NULL) {
        return NULL;
    }

    text = json_dumps(root, JSON_INDENT(2)|JSON_REAL_PRECISION(15));
    json_decref(root);

    if (text == NULL) {
        return NULL;
    }

    len = ngx_strlen(text);
    b = ngx_create_temp_buf(r->pool, len + 1);

    if (b) {
        b->last = ngx_cpymem(b->pos, text, len);
        *b->last++ = LF;
    }

    free(text);

    return b;
}


static json_t *
ngx_http_lunary_json_root(ngx_http_lunary_metrics_t *sh)
{
    ngx_lunary_gauges_t  sum;

    ngx_http_lunary_metrics_gauges(sh, &sum);

    return json_pack("{s:o, s:o, s:{s:I, s:I, s:I, s:I}, s:I, s:o, s:o, s:o, "
                     "s:o}",
                     "build", ngx_http_lunary_json_build(),
                     "counters", ngx_http_lunary_json_counters(sh),
                     "connections",
                     "connecting", (json_int_t) sum.connecting,
                     "idle", (json_int_t) sum.idle,
                     "busy", (json_int_t) sum.busy,
                     "checking", (json_int_t) sum.checking,
                     "queue_length", (json_int_t) sum.waiting,
                     "hosts", ngx_http_lunary_json_hosts(sh),
                     "queue_seconds",
                     ngx_http_lunary_json_histogram(&sh->queue),
                     "first_row_seconds",
                     ngx_http_lunary_json_histogram(&sh->first_row),
                     "request_seconds",
                     ngx_http_lunary_json_histogram(&sh->total));
}


static json_t *
ngx_http_lunary_json_build(void)
{
    u_char  libpq[NGX_INT_T_LEN * 2];

    (void) ngx_http_lunary_status_libpq(libpq, libpq + sizeof(libpq));

    return json_pack("{s:s, s:s, s:s}",
                     "version", NGINX_LUNARY_VERSION,
                     "nginx", NGINX_VERSION,
                     "libpq", (char *) libpq);
}


static json_t *
ngx_http_lunary_json_counters(ngx_http_lunary_metrics_t *sh)
{
    int                        rc;
    json_t                    *root;
    ngx_atomic_t              *value;
    ngx_http_lunary_metric_t  *m;

    root = json_pack("{s:o, s:o, s:o, s:o, s:o}",
                     "requests",
                     ngx_http_lunary_json_labelled(ngx_http_lunary_outcomes,
                                             sh->outcomes,
                                             NGX_HTTP_LUNARY_NOUTCOMES, 1),
                     "credentials",
                     ngx_http_lunary_json_labelled(ngx_http_lunary_credentials,
                                             sh->credentials,
                                             NGX_HTTP_LUNARY_NCREDENTIALS, 0),
                     "denied",
                     ngx_http_lunary_json_labelled(ngx_http_lunary_credentials,
                                             sh->denied,
                                             NGX_HTTP_LUNARY_NCREDENTIALS, 0),
                     "key_cache",
                     ngx_http_lunary_json_labelled(ngx_http_lunary_caches,
                                             sh->cache,
                                             NGX_HTTP_LUNARY_NCACHES, 1),
                     "database_errors", ngx_http_lunary_json_errors(sh));

    rc = root ? 0 : -1;

    for (m = ngx_http_lunary_totals; m->name; m++) {
        value = (ngx_atomic_t *) ((u_char *) sh + m->offset);
        rc |= json_object_set_new(root, m->name,
                                  json_integer((json_int_t) *value));
    }

    if (rc) {
        json_decref(root);
        return NULL;
    }

    return root;
}


static json_t *
ngx_http_lunary_json_labelled(ngx_str_t *names, ngx_atomic_t *values,
    ngx_uint_t n, ngx_uint_t first)
{
    int          rc;
    json_t      *root;
    ngx_uint_t   i;

    rc = 0;
    root = json_object();

    for (i = first; i < n; i++) {
        rc |= json_object_set_new(root, (char *) names[i].data,
                                  json_integer((json_int_t) values[i]));
    }

    if (rc) {
        json_decref(root);
        return NULL;
    }

    return root;
}


static json_t *
ngx_http_lunary_json_errors(ngx_http_lunary_metrics_t *sh)
{
    int          rc;
    char         class[3];
    json_t      *root;
    ngx_uint_t   i;

    rc = 0;
    root = json_object();

    for (i = 0; i < NGX_LUNARY_SQLSTATE_CLASSES; i++) {

        if (sh->counts.sqlstate[i] == 0) {
            continue;
        }

        class[0] = ngx_http_lunary_digits[i / 36];
        class[1] = ngx_http_lunary_digits[i % 36];
        class[2] = '\0';

        rc |= json_object_set_new(root, class,
                                  json_integer((json_int_t)
                                               sh->counts.sqlstate[i]));
    }

    if (rc) {
        json_decref(root);
        return NULL;
    }

    return root;
}


static json_t *
ngx_http_lunary_json_hosts(ngx_http_lunary_metrics_t *sh)
{
    int                      rc;
    json_t                  *root, *label;
    ngx_uint_t               i;
    ngx_http_lunary_host_t  *h;

    rc = 0;
    root = json_array();

    for (i = 0; i < sh->nhosts; i++) {
        h = &sh->hosts[i];
        label = json_stringn((char *) h->label, h->len);

        rc |= json_array_append_new(root,
                   json_pack("{s:o, s:I, s:I, s:I}",
                             "host", label,
                             "connects", (json_int_t) h->connects,
                             "connect_failures",
                             (json_int_t) h->failures,
                             "sessions",
                             (json_int_t)
                             ngx_http_lunary_metrics_sessions(sh, i)));
    }

    if (rc) {
        json_decref(root);
        return NULL;
    }

    return root;
}


static json_t *
ngx_http_lunary_json_histogram(ngx_http_lunary_histogram_t *h)
{
    int                 rc;
    double              sum;
    json_t             *buckets, *bucket;
    ngx_uint_t          i;
    ngx_atomic_uint_t   n;

    n = 0;
    rc = 0;
    sum = (double) h->sum / 1000;
    buckets = json_array();

    for (i = 0; i < NGX_HTTP_LUNARY_BUCKETS; i++) {
        n += h->buckets[i];

        bucket = json_pack("{s:f, s:I}",
                           "le", (double) ngx_http_lunary_bounds[i].ms / 1000,
                           "count", (json_int_t) n);

        rc |= json_array_append_new(buckets, bucket);
    }

    n += h->buckets[i];

    bucket = json_pack("{s:n, s:I}", "le", "count", (json_int_t) n);
    rc |= json_array_append_new(buckets, bucket);

    if (rc) {
        json_decref(buckets);
        return NULL;
    }

    return json_pack("{s:I, s:f, s:o}", "count", (json_int_t) n, "sum", sum,
                     "buckets", buckets);
}
