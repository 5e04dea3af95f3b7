
/* a secret that the configuration names by its file */


#ifndef _NGX_HTTP_LUNARY_SECRET_H_INCLUDED_
#define _NGX_HTTP_LUNARY_SECRET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Reads the file of a secret while the configuration is read.  Returns the
 * secret, which is never empty, without one newline at its end; NULL if the
 * configuration is to be refused, with the reason logged.  It belongs to the
 * cycle, which overwrites it when its pool is destroyed, and is read once
 * for all who name the same path.
 */
ngx_str_t *ngx_http_lunary_secret(ngx_conf_t *cf, ngx_str_t *path);


#endif /* _NGX_HTTP_LUNARY_SECRET_H_INCLUDED_ */
