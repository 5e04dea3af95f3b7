
/* a secret that the configuration names by its file */


#ifndef _NGX_HTTP_LUNARY_SECRET_H_INCLUDED_
#define _NGX_HTTP_LUNARY_SECRET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_http_lunary_jwt.h"


/*
 * Reads the file of a secret while the configuration is read.  Returns the
 * key of it; NULL if the configuration is to be refused, with the reason
 * logged.  One newline at the end of the file is not part of the secret.  The
 * key belongs to the cycle, which overwrites it when its pool is destroyed,
 * and is made once for all who name the same path; the secret itself is
 * overwritten at once.
 */
ngx_http_lunary_jwt_key_t *ngx_http_lunary_secret(ngx_conf_t *cf,
    ngx_str_t *path);


#endif /* _NGX_HTTP_LUNARY_SECRET_H_INCLUDED_ */
