
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_refusal.h"
#include "ngx_http_lunary_auth.h"
#include "ngx_http_lunary_stream.h"


static ngx_int_t ngx_http_lunary_refusal_headers(ngx_http_request_t *r,
    ngx_uint_t status, ngx_http_lunary_key_e verdict);


typedef struct {
    ngx_uint_t   status;
    ngx_str_t    body;
} ngx_http_lunary_refusal_t;


#define ngx_http_lunary_refusal(status, message)                              \
    { status, ngx_string("{\"message\": \"" message "\"}") }


/* of the outcomes that are refusals; what DENIED says depends on the key */

static ngx_http_lunary_refusal_t
    ngx_http_lunary_refusals[NGX_HTTP_LUNARY_NOUTCOMES] = {

    [NGX_HTTP_LUNARY_METHOD] =
        ngx_http_lunary_refusal(405, "Method not allowed"),
    [NGX_HTTP_LUNARY_DENIED] = { 401, ngx_null_string },
    [NGX_HTTP_LUNARY_NOT_FOUND] =
        ngx_http_lunary_refusal(404, "Run not found"),
    [NGX_HTTP_LUNARY_QUEUE_FULL] =
        ngx_http_lunary_refusal(503, "Service unavailable"),
    [NGX_HTTP_LUNARY_QUEUE_TIMEOUT] =
        ngx_http_lunary_refusal(503, "Service unavailable"),
    [NGX_HTTP_LUNARY_UNAVAILABLE] =
        ngx_http_lunary_refusal(503, "Service unavailable"),
    [NGX_HTTP_LUNARY_TIMEOUT] =
        ngx_http_lunary_refusal(504, "Gateway timeout"),
    [NGX_HTTP_LUNARY_ERROR] =
        ngx_http_lunary_refusal(500, "Internal server error")
};


ngx_int_t
ngx_http_lunary_refusal_send(ngx_http_request_t *r,
    ngx_http_lunary_outcome_e outcome, ngx_http_lunary_key_e verdict)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_str_t     body;
    ngx_uint_t    status;
    ngx_chain_t   out;

    status = ngx_http_lunary_refusals[outcome].status;

    if (ngx_http_lunary_refusal_intercepted(r, status)) {
        return (ngx_int_t) status;
    }

    b = ngx_create_temp_buf(r->pool, 128);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body = ngx_http_lunary_refusals[outcome].body;

    if (outcome == NGX_HTTP_LUNARY_DENIED) {
        b->last = ngx_slprintf(b->pos, b->end, "{\"message\": \"%V\"}",
                               ngx_http_lunary_key_message(verdict));
    } else {
        b->last = ngx_cpymem(b->pos, body.data, body.len);
    }

    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    if (ngx_http_lunary_refusal_headers(r, status, verdict) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_lunary_send_header(r, status, b->last - b->pos);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


ngx_uint_t
ngx_http_lunary_refusal_intercepted(ngx_http_request_t *r, ngx_uint_t status)
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
ngx_http_lunary_refusal_headers(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_lunary_key_e verdict)
{
    ngx_table_elt_t  *h;

    switch (status) {

    case NGX_HTTP_UNAUTHORIZED:
        h = ngx_http_lunary_header(r, "WWW-Authenticate",
                                   ngx_http_lunary_challenge(verdict));
        r->headers_out.www_authenticate = h;
        break;

    case NGX_HTTP_NOT_ALLOWED:
        h = ngx_http_lunary_header(r, "Allow", "GET, HEAD");
        break;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        h = ngx_http_lunary_header(r, "Retry-After", "1");
        break;

    default:
        return NGX_OK;
    }

    return h ? NGX_OK : NGX_ERROR;
}
