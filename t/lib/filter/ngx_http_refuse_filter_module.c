
/*
 * A filter for tests that refuses responses, like a web application firewall:
 *
 *     refuse_filter header    sends a 403 instead of the header
 *     refuse_filter error     fails at the last buffer of the body
 *     refuse_filter finalize  finalizes the request with 403 when the last
 *                             buffer of the body arrives
 *     refuse_filter clear     clears Cache-Control, as header filters do
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


typedef struct {
    ngx_str_t  how;
} ngx_http_refuse_conf_t;


static ngx_int_t ngx_http_refuse_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_refuse_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_uint_t ngx_http_refuse_is(ngx_http_request_t *r, char *how);
static void ngx_http_refuse_clear(ngx_http_request_t *r);
static void *ngx_http_refuse_create_loc_conf(ngx_conf_t *cf);
static ngx_int_t ngx_http_refuse_init(ngx_conf_t *cf);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static ngx_command_t  ngx_http_refuse_commands[] = {

    { ngx_string("refuse_filter"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_refuse_conf_t, how),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_refuse_filter_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_refuse_init,                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_refuse_create_loc_conf,       /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_refuse_filter_module = {
    NGX_MODULE_V1,
    &ngx_http_refuse_filter_module_ctx,    /* module context */
    ngx_http_refuse_commands,              /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* the symbols that nginx looks up in a dynamic module */

ngx_module_t  *ngx_modules[] = { &ngx_http_refuse_filter_module, NULL };
char          *ngx_module_names[] = { "ngx_http_refuse_filter_module", NULL };
char          *ngx_module_order[] = {
    "ngx_http_refuse_filter_module", "ngx_http_copy_filter_module", NULL
};


static ngx_int_t
ngx_http_refuse_header_filter(ngx_http_request_t *r)
{
    if (!r->filter_finalize && ngx_http_refuse_is(r, "header")) {
        return ngx_http_filter_finalize_request(r,
                                                &ngx_http_refuse_filter_module,
                                                NGX_HTTP_FORBIDDEN);
    }

    if (ngx_http_refuse_is(r, "clear")) {
        ngx_http_refuse_clear(r);
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_refuse_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t  *cl;

    if (r->filter_finalize) {
        return ngx_http_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {

        if (!cl->buf->last_buf && !cl->buf->last_in_chain) {
            continue;
        }

        if (ngx_http_refuse_is(r, "error")) {
            return NGX_ERROR;
        }

        if (ngx_http_refuse_is(r, "finalize")) {
            return ngx_http_filter_finalize_request(r,
                                                &ngx_http_refuse_filter_module,
                                                NGX_HTTP_FORBIDDEN);
        }
    }

    return ngx_http_next_body_filter(r, in);
}


static ngx_uint_t
ngx_http_refuse_is(ngx_http_request_t *r, char *how)
{
    ngx_http_refuse_conf_t  *conf;

    conf = ngx_http_get_module_loc_conf(r, ngx_http_refuse_filter_module);

    return conf->how.len && ngx_strcmp(conf->how.data, how) == 0;
}


static void
ngx_http_refuse_clear(ngx_http_request_t *r)
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
#endif
}


static void *
ngx_http_refuse_create_loc_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_refuse_conf_t));
}


static ngx_int_t
ngx_http_refuse_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_refuse_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_refuse_body_filter;

    return NGX_OK;
}
