
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_http_lunary_secret.h"


#define NGX_HTTP_LUNARY_SECRET_MIN  32      /* RFC 7518, 3.2 */
#define NGX_HTTP_LUNARY_SECRET_MAX  (64 * 1024)


typedef struct {
    ngx_str_t  path;
    ngx_str_t  value;
} ngx_http_lunary_secret_t;


static ngx_str_t *ngx_http_lunary_secret_find(ngx_pool_t *pool,
    ngx_str_t *path);
static ngx_int_t ngx_http_lunary_secret_read(ngx_conf_t *cf,
    ngx_http_lunary_secret_t *secret, ngx_fd_t fd);
static ngx_int_t ngx_http_lunary_secret_check(ngx_conf_t *cf,
    ngx_http_lunary_secret_t *secret);
static void ngx_http_lunary_secret_cleanup(void *data);


ngx_str_t *
ngx_http_lunary_secret(ngx_conf_t *cf, ngx_str_t *path)
{
    ngx_fd_t                   fd;
    ngx_int_t                  rc;
    ngx_str_t                  name, *value;
    ngx_pool_cleanup_t        *cln;
    ngx_http_lunary_secret_t  *secret;

    name = *path;

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return NULL;
    }

    value = ngx_http_lunary_secret_find(cf->pool, &name);
    if (value) {
        return value;
    }

    cln = ngx_pool_cleanup_add(cf->pool, sizeof(ngx_http_lunary_secret_t));
    if (cln == NULL) {
        return NULL;
    }

    secret = cln->data;
    secret->path = name;
    ngx_str_null(&secret->value);

    cln->handler = ngx_http_lunary_secret_cleanup;

    /* a FIFO without a writer would block */

    fd = ngx_open_file(name.data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", &name);
        return NULL;
    }

    rc = ngx_http_lunary_secret_read(cf, secret, fd);

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", &name);
    }

    if (rc != NGX_OK || ngx_http_lunary_secret_check(cf, secret) != NGX_OK) {
        return NULL;
    }

    return &secret->value;
}


/* the cleanups of a cycle's pool hold its secrets */

static ngx_str_t *
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
            return &secret->value;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_lunary_secret_read(ngx_conf_t *cf, ngx_http_lunary_secret_t *secret,
    ngx_fd_t fd)
{
    off_t            size;
    ssize_t          n;
    ngx_file_info_t  fi;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%V\" failed", &secret->path);
        return NGX_ERROR;
    }

    if (!ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not a regular file", &secret->path);
        return NGX_ERROR;
    }

    if (ngx_file_access(&fi) & 07) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"%V\" can be accessed by any user, "
                           "expected permissions like 0600", &secret->path);
    }

    size = ngx_file_size(&fi);

    if (size > NGX_HTTP_LUNARY_SECRET_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is too large for a secret, "
                           "expected at most %uz bytes", &secret->path,
                           (size_t) NGX_HTTP_LUNARY_SECRET_MAX);
        return NGX_ERROR;
    }

    secret->value.data = ngx_pnalloc(cf->pool, size + 1);
    if (secret->value.data == NULL) {
        return NGX_ERROR;
    }

    secret->value.len = size;

    n = ngx_read_fd(fd, secret->value.data, size);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_read_fd_n " \"%V\" failed", &secret->path);
        return NGX_ERROR;
    }

    if (n != size) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           ngx_read_fd_n " \"%V\" returned only %z bytes "
                           "instead of %O", &secret->path, n, size);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* takes one newline off the end, and looks at what is left */

static ngx_int_t
ngx_http_lunary_secret_check(ngx_conf_t *cf,
    ngx_http_lunary_secret_t *secret)
{
    ngx_str_t  *value;

    value = &secret->value;

    if (value->len && value->data[value->len - 1] == LF) {
        value->len--;

        if (value->len && value->data[value->len - 1] == CR) {
            value->len--;
        }
    }

    if (value->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "there is no secret in \"%V\"", &secret->path);
        return NGX_ERROR;
    }

    if (value->len < NGX_HTTP_LUNARY_SECRET_MIN) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "the secret in \"%V\" is too short, "
                           "expected at least %d bytes", &secret->path,
                           NGX_HTTP_LUNARY_SECRET_MIN);
    }

    return NGX_OK;
}


static void
ngx_http_lunary_secret_cleanup(void *data)
{
    ngx_http_lunary_secret_t *secret = data;

    if (secret->value.len) {
        ngx_explicit_memzero(secret->value.data, secret->value.len);
    }
}
