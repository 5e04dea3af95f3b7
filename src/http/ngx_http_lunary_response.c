
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_response.h"
#include "ngx_http_lunary_auth.h"


static ngx_int_t ngx_http_lunary_response_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, off_t length);
static ngx_int_t ngx_http_lunary_response_validator(ngx_http_request_t *r,
    ngx_str_t *etag);
static ngx_int_t ngx_http_lunary_response_cache_control(ngx_http_request_t *r,
    char *value);


/* the error response of an outcome */

typedef struct {
    ngx_uint_t   status;
    ngx_str_t    message;       /* empty: that of the verdict on the key */
    char        *header;        /* or NULL */
    char        *value;         /* NULL: the challenge of the verdict */
} ngx_http_lunary_error_t;


static ngx_http_lunary_error_t
    ngx_http_lunary_errors[NGX_HTTP_LUNARY_NOUTCOMES] = {

    [NGX_HTTP_LUNARY_METHOD] =
        { 405, ngx_string("Method not allowed"), "Allow", "GET, HEAD" },
    [NGX_HTTP_LUNARY_DENIED] =
        { 401, ngx_null_string, "WWW-Authenticate", NULL },
    [NGX_HTTP_LUNARY_NOT_FOUND] =
        { 404, ngx_string("Run not found"), NULL, NULL },
    [NGX_HTTP_LUNARY_QUEUE_FULL] =
        { 503, ngx_string("Service unavailable"), "Retry-After", "1" },
    [NGX_HTTP_LUNARY_QUEUE_TIMEOUT] =
        { 503, ngx_string("Service unavailable"), "Retry-After", "1" },
    [NGX_HTTP_LUNARY_UNAVAILABLE] =
        { 503, ngx_string("Service unavailable"), "Retry-After", "1" },
    [NGX_HTTP_LUNARY_TIMEOUT] =
        { 504, ngx_string("Gateway timeout"), NULL, NULL },
    [NGX_HTTP_LUNARY_ERROR] =
        { 500, ngx_string("Internal server error"), NULL, NULL }
};


ngx_str_t  ngx_http_lunary_json_type =
    ngx_string("application/json; charset=utf-8");


ngx_int_t
ngx_http_lunary_response_ok(ngx_http_request_t *r, ngx_str_t *etag,
    off_t length)
{
    ngx_int_t  rc;

    rc = etag->len
              ? ngx_http_lunary_response_validator(r, etag)
              : ngx_http_lunary_response_cache_control(r, "private, no-store");

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_lunary_response_send(r, NGX_HTTP_OK,
                                         &ngx_http_lunary_json_type, length);
}


ngx_int_t
ngx_http_lunary_response_not_modified(ngx_http_request_t *r, ngx_str_t *etag)
{
    ngx_int_t  rc;

    if (ngx_http_lunary_response_validator(r, etag) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_lunary_response_send(r, NGX_HTTP_NOT_MODIFIED, NULL, -1);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    /* a filter has changed the status, or the request is a subrequest */

    return ngx_http_send_special(r, NGX_HTTP_LAST);
}


/* sends the header; "type" is NULL where there is no body */

static ngx_int_t
ngx_http_lunary_response_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, off_t length)
{
    r->headers_out.status = status;
    r->headers_out.content_type_lowcase = NULL;

    if (type) {
        r->headers_out.content_type = *type;
        r->headers_out.content_type_len =
                          (u_char *) ngx_strchr(type->data, ';') - type->data;

    } else {
        ngx_str_null(&r->headers_out.content_type);
        r->headers_out.content_type_len = 0;
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


/*
 * Makes "value" the only Cache-Control, where nginx's variables and filters
 * look for it; clears what an upstream sent with X-Accel-Redirect on how to
 * cache
 */

static ngx_int_t
ngx_http_lunary_response_cache_control(ngx_http_request_t *r, char *value)
{
    ngx_table_elt_t  *h;

#if (nginx_version >= 1023000)

    for (h = r->headers_out.cache_control; h; h = h->next) {
        h->hash = 0;
    }

    h = ngx_http_lunary_response_header(r, "Cache-Control", value);
    r->headers_out.cache_control = h;

    if (h == NULL) {
        return NGX_ERROR;
    }

#else

    ngx_uint_t         i;
    ngx_table_elt_t  **cc;

    cc = r->headers_out.cache_control.elts;

    for (i = 0; i < r->headers_out.cache_control.nelts; i++) {
        cc[i]->hash = 0;
    }

    if (ngx_array_init(&r->headers_out.cache_control, r->pool, 1,
                       sizeof(ngx_table_elt_t *))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = ngx_http_lunary_response_header(r, "Cache-Control", value);
    if (h == NULL) {
        return NGX_ERROR;
    }

    cc = ngx_array_push(&r->headers_out.cache_control);
    if (cc == NULL) {
        return NGX_ERROR;
    }

    *cc = h;

#endif

    if (r->headers_out.expires) {
        r->headers_out.expires->hash = 0;
        r->headers_out.expires = NULL;
    }

    ngx_http_clear_accept_ranges(r);

    return NGX_OK;
}


ngx_int_t
ngx_http_lunary_response_error(ngx_http_request_t *r,
    ngx_http_lunary_outcome_e outcome, ngx_http_lunary_key_e verdict)
{
    char                     *value;
    ngx_buf_t                *b;
    ngx_str_t                *message;
    ngx_table_elt_t          *h;
    ngx_http_lunary_error_t  *error;

    error = &ngx_http_lunary_errors[outcome];

    if (ngx_http_lunary_response_intercepted(r, error->status)) {
        return (ngx_int_t) error->status;
    }

    b = ngx_create_temp_buf(r->pool, 128);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    message = error->message.len ? &error->message
                                 : ngx_http_lunary_key_message(verdict);

    b->last = ngx_slprintf(b->pos, b->end, "{\"message\": \"%V\"}", message);

    if (error->header) {
        value = error->value ? error->value
                             : ngx_http_lunary_challenge(verdict);

        h = ngx_http_lunary_response_header(r, error->header, value);
        if (h == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (outcome == NGX_HTTP_LUNARY_DENIED) {
            r->headers_out.www_authenticate = h;
        }
    }

    return ngx_http_lunary_response_buffer(r, error->status,
                                           "private, no-store",
                                           &ngx_http_lunary_json_type, b);
}


ngx_int_t
ngx_http_lunary_response_buffer(ngx_http_request_t *r, ngx_uint_t status,
    char *cache_control, ngx_str_t *type, ngx_buf_t *b)
{
    ngx_int_t    rc;
    ngx_chain_t  out;

    if (ngx_http_lunary_response_cache_control(r, cache_control) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    rc = ngx_http_lunary_response_send(r, status, type, b->last - b->pos);

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
