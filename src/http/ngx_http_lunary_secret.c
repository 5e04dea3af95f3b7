
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_http_lunary_secret.h"


#define NGX_HTTP_LUNARY_SECRET_MIN  32      /* RFC 7518, 3.2 */
#define NGX_HTTP_LUNARY_SECRET_MAX  (64 * 1024)


typedef struct {
    ngx_str_t                   path;
    ngx_http_lunary_jwt_key_t   key;
} ngx_http_lunary_secret_t;


static ngx_http_lunary_jwt_key_t *ngx_http_lunary_secret_find(
    ngx_pool_t *pool, ngx_str_t *path);
static ngx_int_t ngx_http_lunary_secret_file(ngx_conf_t *cf, ngx_str_t *path,
    ngx_http_lunary_jwt_key_t *key);
static ngx_int_t ngx_http_lunary_secret_info(ngx_conf_t *cf, ngx_str_t *path,
    ngx_fd_t fd, ngx_str_t *text);
static ngx_int_t ngx_http_lunary_secret_read(ngx_conf_t *cf, ngx_str_t *path,
    ngx_fd_t fd, ngx_str_t *text);
static ngx_int_t ngx_http_lunary_secret_key(ngx_conf_t *cf, ngx_str_t *path,
    ngx_str_t *text, ngx_http_lunary_jwt_key_t *key);
static void ngx_http_lunary_secret_cleanup(void *data);


ngx_http_lunary_jwt_key_t *
ngx_http_lunary_secret(ngx_conf_t *cf, ngx_str_t *path)
{
    ngx_str_t                   name;
    ngx_pool_cleanup_t         *cln;
    ngx_http_lunary_secret_t   *secret;
    ngx_http_lunary_jwt_key_t  *key;

    name = *path;

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return NULL;
    }

    key = ngx_http_lunary_secret_find(cf->pool, &name);
    if (key) {
        return key;
    }

    cln = ngx_pool_cleanup_add(cf->pool, sizeof(ngx_http_lunary_secret_t));
    if (cln == NULL) {
        return NULL;
    }

    secret = cln->data;
    ngx_memzero(secret, sizeof(ngx_http_lunary_secret_t));
    secret->path = name;

    cln->handler = ngx_http_lunary_secret_cleanup;

    if (ngx_http_lunary_secret_file(cf, &name, &secret->key) != NGX_OK) {
        return NULL;
    }

    return &secret->key;
}


/* the cleanups of a cycle's pool hold its keys */

static ngx_http_lunary_jwt_key_t *
ngx_http_lunary_secret_find(ngx_pool_t *pool, ngx_str_t *path)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_lunary_secret_t  *secret;

    for (cln = pool->cleanup; cln; cln = cln->next) {

        if (cln->handler != ngx_http_lunary_secret_cleanup) {
            continue;
        }

        secret = cln->data;

        if (secret->path.len == path->len
            && ngx_strncmp(secret->path.data, path->data, path->len) == 0)
        {
            return &secret->key;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_lunary_secret_file(ngx_conf_t *cf, ngx_str_t *path,
    ngx_http_lunary_jwt_key_t *key)
{
    ngx_fd_t   fd;
    ngx_int_t  rc;
    ngx_str_t  text;

    /* a FIFO without a writer would block */

    fd = ngx_open_file(path->data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", path);
        return NGX_ERROR;
    }

    rc = ngx_http_lunary_secret_info(cf, path, fd, &text);

    if (rc == NGX_OK) {
        rc = ngx_http_lunary_secret_read(cf, path, fd, &text);

        if (rc == NGX_OK) {
            rc = ngx_http_lunary_secret_key(cf, path, &text, key);
        }

        ngx_explicit_memzero(text.data, text.len);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", path);
    }

    return rc;
}


/* looks at the file, and gives memory for all of it */

static ngx_int_t
ngx_http_lunary_secret_info(ngx_conf_t *cf, ngx_str_t *path, ngx_fd_t fd,
    ngx_str_t *text)
{
    off_t            size;
    ngx_file_info_t  fi;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%V\" failed", path);
        return NGX_ERROR;
    }

    if (!ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not a regular file", path);
        return NGX_ERROR;
    }

    if (ngx_file_access(&fi) & 07) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"%V\" can be accessed by any user, "
                           "expected permissions like 0600", path);
    }

    size = ngx_file_size(&fi);

    if (size > NGX_HTTP_LUNARY_SECRET_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is too large for a secret, "
                           "expected at most %uz bytes", path,
                           (size_t) NGX_HTTP_LUNARY_SECRET_MAX);
        return NGX_ERROR;
    }

    text->len = size;
    text->data = ngx_pcalloc(cf->pool, size + 1);

    return text->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_lunary_secret_read(ngx_conf_t *cf, ngx_str_t *path, ngx_fd_t fd,
    ngx_str_t *text)
{
    ssize_t  n;

    n = ngx_read_fd(fd, text->data, text->len);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_read_fd_n " \"%V\" failed", path);
        return NGX_ERROR;
    }

    if ((size_t) n != text->len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           ngx_read_fd_n " \"%V\" returned only %z bytes "
                           "instead of %uz", path, n, text->len);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* one newline at the end is not part of the secret */

static ngx_int_t
ngx_http_lunary_secret_key(ngx_conf_t *cf, ngx_str_t *path, ngx_str_t *text,
    ngx_http_lunary_jwt_key_t *key)
{
    ngx_str_t  value;

    value = *text;

    if (value.len && value.data[value.len - 1] == LF) {
        value.len--;

        if (value.len && value.data[value.len - 1] == CR) {
            value.len--;
        }
    }

    if (value.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "there is no secret in \"%V\"", path);
        return NGX_ERROR;
    }

    if (value.len < NGX_HTTP_LUNARY_SECRET_MIN) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the secret in \"%V\" is too short, "
                           "expected at least %d bytes", path,
                           NGX_HTTP_LUNARY_SECRET_MIN);
    }

    if (ngx_http_lunary_jwt_key(key, &value) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no key can be made of the secret in \"%V\"", path);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_lunary_secret_cleanup(void *data)
{
    ngx_http_lunary_secret_t *secret = data;

    ngx_http_lunary_jwt_key_free(&secret->key);
}
