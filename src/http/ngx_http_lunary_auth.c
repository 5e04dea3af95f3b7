
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary_auth.h"
#include "ngx_http_lunary_jwt.h"
#include "ngx_http_lunary_key_cache.h"
#include "ngx_http_lunary_variables.h"


static ngx_http_lunary_key_e ngx_http_lunary_x_api_key(
    ngx_http_lunary_ctx_t *ctx);
static ngx_http_lunary_key_e ngx_http_lunary_key(ngx_http_lunary_ctx_t *ctx,
    ngx_str_t *text);
static ngx_int_t ngx_http_lunary_bearer(ngx_str_t *value, ngx_str_t *token);
static ngx_http_lunary_key_e ngx_http_lunary_session(
    ngx_http_lunary_ctx_t *ctx, ngx_str_t *token);
static ngx_int_t ngx_http_lunary_session_project(ngx_str_t *args,
    u_char *project);
static size_t ngx_http_lunary_unescape(u_char *p, u_char *last, u_char *dst,
    size_t size);
static void ngx_http_lunary_cache_id(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_key_cache_id_t *id);


static ngx_str_t  ngx_http_lunary_key_messages[] = {
    ngx_null_string,
    ngx_string("Missing API key"),
    ngx_string("Invalid access token"),
    ngx_string("Invalid API key"),
    ngx_string("This route requires a private API key"),
    ngx_string("Org API key cannot access this route"),
    ngx_string("Session expired"),
    ngx_string("Unauthorized access to project")
};


#if (NGX_DEBUG)

/* names of ngx_http_lunary_jwt_e, for the log */

static ngx_str_t  ngx_http_lunary_tokens[] = {
    ngx_string("valid"),
    ngx_string("invalid"),
    ngx_string("expired")
};

#endif


ngx_http_lunary_key_e
ngx_http_lunary_credential(ngx_http_lunary_ctx_t *ctx)
{
    ngx_str_t               token;
    ngx_table_elt_t        *h;
    ngx_http_lunary_key_e   verdict;

    h = ctx->request->headers_in.authorization;

    if (h == NULL) {
        return ngx_http_lunary_x_api_key(ctx);
    }

    if (ngx_http_lunary_bearer(&h->value, &token) != NGX_OK) {
        return NGX_HTTP_LUNARY_KEY_INVALID;
    }

    verdict = ngx_http_lunary_key(ctx, &token);

    if (verdict == NGX_HTTP_LUNARY_KEY_INVALID && ctx->conf->jwt_key) {
        return ngx_http_lunary_session(ctx, &token);
    }

    return verdict;
}


static ngx_http_lunary_key_e
ngx_http_lunary_x_api_key(ngx_http_lunary_ctx_t *ctx)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *found;

    static const ngx_str_t  name = ngx_string("x-api-key");

    found = NULL;
    part = &ctx->request->headers_in.headers.part;
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

    return ngx_http_lunary_key(ctx, &found->value);
}


static ngx_http_lunary_key_e
ngx_http_lunary_key(ngx_http_lunary_ctx_t *ctx, ngx_str_t *text)
{
    if (ngx_lunary_uuid_parse(text->data, text->len, ctx->key) != NGX_OK) {
        return NGX_HTTP_LUNARY_KEY_INVALID;
    }

    ctx->credential = NGX_HTTP_LUNARY_CREDENTIAL_KEY;

    return NGX_HTTP_LUNARY_KEY_PRIVATE;
}


/* the scheme in any case, and at least one space */

static ngx_int_t
ngx_http_lunary_bearer(ngx_str_t *value, ngx_str_t *token)
{
    size_t  n;

    n = sizeof("Bearer ") - 1;

    if (value->len < n
        || ngx_strncasecmp(value->data, (u_char *) "Bearer ", n) != 0)
    {
        return NGX_DECLINED;
    }

    while (n < value->len && value->data[n] == ' ') {
        n++;
    }

    token->data = value->data + n;
    token->len = value->len - n;

    return NGX_OK;
}


static ngx_http_lunary_key_e
ngx_http_lunary_session(ngx_http_lunary_ctx_t *ctx, ngx_str_t *token)
{
    ngx_http_request_t     *r;
    ngx_http_lunary_jwt_e   result;

    r = ctx->request;

    result = ngx_http_lunary_jwt_verify(ctx->conf->jwt_key, token, ngx_time(),
                                        ctx->session.user);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "lunary session: %V", &ngx_http_lunary_tokens[result]);

    if (result == NGX_HTTP_LUNARY_JWT_INVALID) {
        return NGX_HTTP_LUNARY_KEY_INVALID;
    }

    ctx->credential = NGX_HTTP_LUNARY_CREDENTIAL_SESSION;

    if (result == NGX_HTTP_LUNARY_JWT_EXPIRED) {
        return NGX_HTTP_LUNARY_KEY_EXPIRED;
    }

    if (ngx_http_lunary_session_project(&r->args, ctx->session.project)
        != NGX_OK)
    {
        return NGX_HTTP_LUNARY_KEY_NO_PROJECT;
    }

    return NGX_HTTP_LUNARY_KEY_PRIVATE;
}


/* "projectId" of the query string: there once, and a UUID */

static ngx_int_t
ngx_http_lunary_session_project(ngx_str_t *args, u_char *project)
{
    size_t             len;
    u_char            *p, *last, *end, *equals;
    u_char             text[NGX_LUNARY_UUID_TEXT_LEN + 1];
    ngx_uint_t         found;

    static ngx_str_t   name = ngx_string("projectId");

    found = 0;
    last = args->data + args->len;

    for (p = args->data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');
        if (end == NULL) {
            end = last;
        }

        equals = ngx_strlchr(p, end, '=');
        if (equals == NULL) {
            equals = end;
        }

        len = ngx_http_lunary_unescape(p, equals, text, sizeof(text));

        if (len != name.len || ngx_memcmp(text, name.data, len) != 0) {
            continue;
        }

        if (found || equals == end) {
            return NGX_DECLINED;
        }

        found = 1;
        len = ngx_http_lunary_unescape(equals + 1, end, text, sizeof(text));

        if (ngx_lunary_uuid_parse(text, len, project) != NGX_OK) {
            return NGX_DECLINED;
        }
    }

    return found ? NGX_OK : NGX_DECLINED;
}


/*
 * Decodes "%XX".  A percent sign without two hexadecimal digits stays, where
 * ngx_unescape_uri() would drop it.  At most "size" bytes are written
 */

static size_t
ngx_http_lunary_unescape(u_char *p, u_char *last, u_char *dst, size_t size)
{
    size_t     n;
    ngx_int_t  ch;

    for (n = 0; p < last && n < size; n++) {

        ch = (*p == '%' && last - p > 2) ? ngx_hextoi(p + 1, 2) : NGX_ERROR;

        if (ch == NGX_ERROR) {
            dst[n] = *p++;
            continue;
        }

        dst[n] = (u_char) ch;
        p += 3;
    }

    return n;
}


void
ngx_http_lunary_verdict_cached(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_lunary_loc_conf_t      *llcf;
    ngx_http_lunary_key_cache_id_t   id;

    llcf = ctx->conf;
    ctx->verdict = NGX_HTTP_LUNARY_KEY_UNASKED;

    if (llcf->key_cache == NULL) {
        ctx->cache = NGX_HTTP_LUNARY_CACHE_BYPASS;
        return;
    }

    ngx_http_lunary_cache_id(ctx, &id);

    ctx->cache = ngx_http_lunary_key_cache_find(llcf->key_cache, &id,
                                                llcf->key_valid,
                                                ctx->project);

    if (ctx->cache == NGX_HTTP_LUNARY_CACHE_HIT) {
        ctx->verdict = NGX_HTTP_LUNARY_KEY_PRIVATE;
        ctx->has_project = 1;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "lunary key cache: %V",
                   &ngx_http_lunary_caches[ctx->cache]);
}


static void
ngx_http_lunary_cache_id(ngx_http_lunary_ctx_t *ctx,
    ngx_http_lunary_key_cache_id_t *id)
{
    id->type = ctx->credential;
    id->database = ctx->conf->pool->conf.database;

    if (ctx->credential == NGX_HTTP_LUNARY_CREDENTIAL_KEY) {
        id->data = ctx->key;
        id->len = NGX_LUNARY_UUID_LEN;

    } else {
        id->data = (u_char *) &ctx->session;
        id->len = sizeof(ngx_http_lunary_session_t);
    }
}


/* one line until a session is served again */

void
ngx_http_lunary_verdict_session(ngx_http_lunary_ctx_t *ctx)
{
    if (ctx->by != NGX_HTTP_LUNARY_BY_SESSION) {
        return;
    }

    if (ctx->verdict != NGX_HTTP_LUNARY_KEY_UNSUPPORTED) {
        ctx->conf->sessions_refused = 0;
        return;
    }

    ctx->verdict = NGX_HTTP_LUNARY_KEY_INVALID;

    if (ctx->conf->sessions_refused) {
        return;
    }

    ctx->conf->sessions_refused = 1;

    ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                  "sessions are refused: the database role cannot read who "
                  "is a member, \"grant select (id, role) on account\" and "
                  "\"grant select on account_project\" to it");
}


void
ngx_http_lunary_verdict_keep(ngx_http_lunary_ctx_t *ctx)
{
    ngx_http_lunary_loc_conf_t      *llcf;
    ngx_http_lunary_key_cache_id_t   id;

    llcf = ctx->conf;

    if (llcf->key_cache && ctx->by != NGX_HTTP_LUNARY_BY_PROJECT
        && ctx->has_project)
    {
        ngx_http_lunary_cache_id(ctx, &id);
        ngx_http_lunary_key_cache_keep(llcf->key_cache, &id, ctx->project,
                                       ctx->query.sent);
    }
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
