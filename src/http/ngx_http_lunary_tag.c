
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <ngx_sha1.h>
#include "ngx_http_lunary_tag.h"


/* digits of the digest in a tag */
#define NGX_HTTP_LUNARY_TAG_DIGITS  32


static ngx_uint_t ngx_http_lunary_tag_in_list(ngx_str_t *etag,
    ngx_str_t *list);
static u_char *ngx_http_lunary_tag_skip(u_char *p, u_char *last, u_char ch);


/*
 * The digest covers the server, its schema, the run, the versions of its rows
 * and the form of the response.  The credential is not in it: the response is
 * the same for all who may read it
 */

void
ngx_http_lunary_tag_set(ngx_http_lunary_ctx_t *ctx, u_char *versions,
    size_t len)
{
    u_char                      *p, digest[20];
    ngx_sha1_t                   sha1;
    ngx_http_lunary_identity_t  *identity;

    static const char  module[] = NGINX_LUNARY_VERSION;

    identity = (ngx_http_lunary_identity_t *) ctx->query.identity;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, module, sizeof(module));
    ngx_sha1_update(&sha1, &ctx->conf->null_fields, sizeof(ngx_uint_t));
    ngx_sha1_update(&sha1, identity->server, sizeof(identity->server));
    ngx_sha1_update(&sha1, identity->catalog, sizeof(identity->catalog));
    ngx_sha1_update(&sha1, ctx->run, NGX_LUNARY_UUID_LEN);
    ngx_sha1_update(&sha1, versions, len);
    ngx_sha1_final(digest, &sha1);

    p = ngx_cpymem(ctx->tag, "W/\"", 3);
    p = ngx_hex_dump(p, digest, NGX_HTTP_LUNARY_TAG_DIGITS / 2);
    *p++ = '"';

    ctx->etag.data = ctx->tag;
    ctx->etag.len = p - ctx->tag;
}


/*
 * After a schema change PostgreSQL parses TAG again, and the next result has
 * the versions of the catalog's rows.  If TAG was not parsed again, the schema
 * has not changed
 */

ngx_uint_t
ngx_http_lunary_tag_current(ngx_lunary_query_t *q, u_char *parsed,
    u_char *catalog, size_t len)
{
    u_char                       digest[20];
    ngx_sha1_t                   sha1;
    ngx_http_lunary_identity_t  *identity;

    identity = (ngx_http_lunary_identity_t *) q->identity;

    if (catalog) {
        ngx_sha1_init(&sha1);
        ngx_sha1_update(&sha1, catalog, len);
        ngx_sha1_final(digest, &sha1);

        if (ngx_memcmp(digest, identity->catalog, sizeof(digest)) != 0) {
            return 0;
        }

        ngx_memcpy(identity->parsed, parsed, sizeof(identity->parsed));
    }

    return ngx_memcmp(identity->parsed, parsed, sizeof(identity->parsed)) == 0;
}


ngx_uint_t
ngx_http_lunary_tag_matches(ngx_http_lunary_ctx_t *ctx)
{
    ngx_table_elt_t  *h;

    h = ctx->request->headers_in.if_none_match;

#if (nginx_version >= 1023000)

    for ( /* void */ ; h; h = h->next) {
        if (ngx_http_lunary_tag_in_list(&ctx->etag, &h->value)) {
            return 1;
        }
    }

    return 0;

#else

    return h && ngx_http_lunary_tag_in_list(&ctx->etag, &h->value);

#endif
}


/* a list of tags, weak or strong; anything else ends it */

static ngx_uint_t
ngx_http_lunary_tag_in_list(ngx_str_t *etag, ngx_str_t *list)
{
    size_t       len;
    u_char      *p, *end, *last, *opaque;
    ngx_uint_t   found;

    p = list->data;
    last = p + list->len;

    opaque = etag->data + 2;
    len = etag->len - 2;

    if (list->len == 1 && *p == '*') {
        return 1;
    }

    for ( ;; ) {
        p = ngx_http_lunary_tag_skip(p, last, ',');

        if (last - p > 2 && p[0] == 'W' && p[1] == '/') {
            p += 2;
        }

        if (p == last || *p != '"') {
            return 0;
        }

        end = ngx_strlchr(p + 1, last, '"');
        if (end == NULL) {
            return 0;
        }

        end++;

        found = ((size_t) (end - p) == len && ngx_memcmp(p, opaque, len) == 0);

        p = ngx_http_lunary_tag_skip(end, last, ' ');

        if (p < last && *p != ',') {
            return 0;
        }

        if (found || p == last) {
            return found;
        }
    }
}


/* skips white space, and "ch" */

static u_char *
ngx_http_lunary_tag_skip(u_char *p, u_char *last, u_char ch)
{
    while (p < last && (*p == ' ' || *p == '\t' || *p == ch)) {
        p++;
    }

    return p;
}
