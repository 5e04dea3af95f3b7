
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_auth.h"


static ngx_http_lunary_key_e ngx_http_lunary_x_api_key(ngx_http_request_t *r,
    u_char *key);


static ngx_str_t  ngx_http_lunary_key_messages[] = {
    ngx_null_string,
    ngx_string("Missing API key"),
    ngx_string("Invalid access token"),
    ngx_string("Invalid API key"),
    ngx_string("This route requires a private API key"),
    ngx_string("Org API key cannot access this route")
};


ngx_http_lunary_key_e
ngx_http_lunary_credential(ngx_http_request_t *r, u_char *key)
{
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h == NULL) {
        return ngx_http_lunary_x_api_key(r, key);
    }

    return ngx_lunary_uuid_bearer(h->value.data, h->value.len, key) == NGX_OK
           ? NGX_HTTP_LUNARY_KEY_PRIVATE : NGX_HTTP_LUNARY_KEY_INVALID;
}


static ngx_http_lunary_key_e
ngx_http_lunary_x_api_key(ngx_http_request_t *r, u_char *key)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    static const ngx_str_t  name = ngx_string("x-api-key");

    found = NULL;
    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len != name.len
            || ngx_strncasecmp(h[i].key.data, name.data, name.len) != 0)
        {
            continue;
        }

        if (found) {
            return NGX_HTTP_LUNARY_KEY_INVALID;
        }

        found = &h[i];
    }

    if (found == NULL) {
        return NGX_HTTP_LUNARY_KEY_NONE;
    }

    return ngx_lunary_uuid_parse(found->value.data, found->value.len, key)
           == NGX_OK
           ? NGX_HTTP_LUNARY_KEY_PRIVATE : NGX_HTTP_LUNARY_KEY_INVALID;
}


ngx_str_t *
ngx_http_lunary_key_message(ngx_http_lunary_key_e verdict)
{
    return &ngx_http_lunary_key_messages[verdict];
}


char *
ngx_http_lunary_challenge(ngx_http_lunary_key_e verdict)
{
    return verdict == NGX_HTTP_LUNARY_KEY_NONE
           ? "Bearer realm=\"lunary\""
           : "Bearer realm=\"lunary\", error=\"invalid_token\"";
}
