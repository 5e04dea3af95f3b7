
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_response.h"
#include "ngx_http_lunary_auth.h"


static ngx_int_t ngx_http_lunary_response_send(ngx_http_request_t *r,
    ngx_uint_t status, off_t length);
static ngx_int_t ngx_http_lunary_response_validator(ngx_http_request_t *r,
    ngx_str_t *etag);
static ngx_table_elt_t *ngx_http_lunary_response_cache_controls(
    ngx_http_request_t *r);
static void ngx_http_lunary_response_clear(ngx_http_request_t *r);
static ngx_int_t ngx_http_lunary_response_error_headers(
    ngx_http_request_t *r, ngx_uint_t status, ngx_http_lunary_key_e verdict);


typedef struct {
    ngx_uint_t   status;
    ngx_str_t    body;
} ngx_http_lunary_error_t;


#define ngx_http_lunary_error(status, message)                                \
    { status, ngx_string("{\"message\": \"" message "\"}") }


/* the message of a 401 depends on the key */

static ngx_http_lunary_error_t
    ngx_http_lunary_errors[NGX_HTTP_LUNARY_NOUTCOMES] = {

    [NGX_HTTP_LUNARY_METHOD] =
        ngx_http_lunary_error(405, "Method not allowed"),
    [NGX_HTTP_LUNARY_DENIED] = { 401, ngx_null_string },
    [NGX_HTTP_LUNARY_NOT_FOUND] =
        ngx_http_lunary_error(404, "Run not found"),
    [NGX_HTTP_LUNARY_QUEUE_FULL] =
        ngx_http_lunary_error(503, "Service unavailable"),
    [NGX_HTTP_LUNARY_QUEUE_TIMEOUT] =
        ngx_http_lunary_error(503, "Service unavailable"),
    [NGX_HTTP_LUNARY_UNAVAILABLE] =
        ngx_http_lunary_error(503, "Service unavailable"),
    [NGX_HTTP_LUNARY_TIMEOUT] =
        ngx_http_lunary_error(504, "Gateway timeout"),
    [NGX_HTTP_LUNARY_ERROR] =
        ngx_http_lunary_error(500, "Internal server error")
};


ngx_int_t
ngx_http_lunary_response_ok(ngx_http_request_t *r, ngx_str_t *etag,
    off_t length)
{
    ngx_int_t  rc;

    rc = etag ? ngx_http_lunary_response_validator(r, etag)
              : ngx_http_lunary_response_cache_control(r, "private, no-store");

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_lunary_response_send(r, NGX_HTTP_OK, length);
}


ngx_int_t
ngx_http_lunary_response_not_modified(ngx_http_request_t *r, ngx_str_t *etag)
{
    ngx_int_t  rc;

    if (ngx_http_lunary_response_validator(r, etag) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_lunary_response_send(r, NGX_HTTP_NOT_MODIFIED, -1);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    /* a filter has changed the status, or the request is a subrequest */

    return ngx_http_send_special(r, NGX_HTTP_LAST);
}


static ngx_int_t
ngx_http_lunary_response_send(ngx_http_request_t *r, ngx_uint_t status,
    off_t length)
{
    r->headers_out.status = status;
    r->headers_out.content_type_lowcase = NULL;

    if (status == NGX_HTTP_NOT_MODIFIED) {
        ngx_str_null(&r->headers_out.content_type);
        r->headers_out.content_type_len = 0;

    } else {
        ngx_str_set(&r->headers_out.content_type,
                    "application/json; charset=utf-8");
        r->headers_out.content_type_len = sizeof("application/json") - 1;
    }

    if (length == -1) {
        ngx_http_clear_content_length(r);

    } else {
        r->headers_out.content_length_n = length;
    }

    /* conditions are evaluated by the module, not by nginx's filter */

    r->disable_not_modified = 1;

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        r->keepalive = 0;
    }

    return ngx_http_send_header(r);
}


static ngx_int_t
ngx_http_lunary_response_validator(ngx_http_request_t *r, ngx_str_t *etag)
{
    ngx_table_elt_t  *h;

    if (ngx_http_lunary_response_cache_control(r, "private, no-cache")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_lunary_response_header(r, "Vary", "Authorization, X-API-Key")
        == NULL)
    {
        return NGX_ERROR;
    }

    h = ngx_http_lunary_response_header(r, "ETag", "");
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->value = *etag;
    r->headers_out.etag = h;

    return NGX_OK;
}


ngx_int_t
ngx_http_lunary_response_cache_control(ngx_http_request_t *r, char *value)
{
    ngx_table_elt_t  *h;

    ngx_http_lunary_response_clear(r);

    h = ngx_http_lunary_response_cache_controls(r);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

    return NGX_OK;
}


/* adds an empty Cache-Control; it is the only one that is not cleared */

static ngx_table_elt_t *
ngx_http_lunary_response_cache_controls(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

#if (nginx_version < 1023000)
    ngx_table_elt_t  **cc;

    if (r->headers_out.cache_control.elts == NULL
        && ngx_array_init(&r->headers_out.cache_control, r->pool, 1,
                          sizeof(ngx_table_elt_t *))
           != NGX_OK)
    {
        return NULL;
    }

    cc = ngx_array_push(&r->headers_out.cache_control);
    if (cc == NULL) {
        return NULL;
    }
#endif

    h = ngx_http_lunary_response_header(r, "Cache-Control", "");
    if (h == NULL) {
        return NULL;
    }

#if (nginx_version < 1023000)
    *cc = h;
#else
    r->headers_out.cache_control = h;
#endif

    return h;
}


/* clears what an upstream sent with X-Accel-Redirect on how to cache */

static void
ngx_http_lunary_response_clear(ngx_http_request_t *r)
{
#if (nginx_version >= 1023000)
    ngx_table_elt_t  *h;

    for (h = r->headers_out.cache_control; h; h = h->next) {
        h->hash = 0;
    }

    r->headers_out.cache_control = NULL;

#else
    ngx_uint_t         i;
    ngx_table_elt_t  **cc;

    cc = r->headers_out.cache_control.elts;

    for (i = 0; i < r->headers_out.cache_control.nelts; i++) {
        cc[i]->hash = 0;
    }

    r->headers_out.cache_control.nelts = 0;
#endif

    if (r->headers_out.expires) {
        r->headers_out.expires->hash = 0;
        r->headers_out.expires = NULL;
    }

    ngx_http_clear_accept_ranges(r);
}


ngx_int_t
ngx_http_lunary_response_error(ngx_http_request_t *r,
    ngx_http_lunary_outcome_e outcome, ngx_http_lunary_key_e verdict)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_str_t     body;
    ngx_uint_t    status;
    ngx_chain_t   out;

    status = ngx_http_lunary_errors[outcome].status;

    if (ngx_http_lunary_response_intercepted(r, status)) {
        return (ngx_int_t) status;
    }

    b = ngx_create_temp_buf(r->pool, 128);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body = ngx_http_lunary_errors[outcome].body;

    if (outcome == NGX_HTTP_LUNARY_DENIED) {
        b->last = ngx_slprintf(b->pos, b->end, "{\"message\": \"%V\"}",
                               ngx_http_lunary_key_message(verdict));
    } else {
        b->last = ngx_cpymem(b->pos, body.data, body.len);
    }

    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    if (ngx_http_lunary_response_error_headers(r, status, verdict)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_lunary_response_send(r, status, b->last - b->pos);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_uint_t
ngx_http_lunary_response_intercepted(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                 i;
    ngx_http_err_page_t       *page;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->error_pages == NULL || r->error_page || r->uri_changes == 0) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {
        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_lunary_response_error_headers(ngx_http_request_t *r,
    ngx_uint_t status, ngx_http_lunary_key_e verdict)
{
    ngx_table_elt_t  *h;

    if (ngx_http_lunary_response_cache_control(r, "private, no-store")
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    switch (status) {

    case NGX_HTTP_UNAUTHORIZED:
        h = ngx_http_lunary_response_header(r, "WWW-Authenticate",
                                           ngx_http_lunary_challenge(verdict));
        r->headers_out.www_authenticate = h;
        break;

    case NGX_HTTP_NOT_ALLOWED:
        h = ngx_http_lunary_response_header(r, "Allow", "GET, HEAD");
        break;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        h = ngx_http_lunary_response_header(r, "Retry-After", "1");
        break;

    default:
        return NGX_OK;
    }

    return h ? NGX_OK : NGX_ERROR;
}


ngx_table_elt_t *
ngx_http_lunary_response_header(ngx_http_request_t *r, char *key, char *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    h->key.data = (u_char *) key;
    h->key.len = ngx_strlen(key);
    h->value.data = (u_char *) value;
    h->value.len = ngx_strlen(value);

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return h;
}
