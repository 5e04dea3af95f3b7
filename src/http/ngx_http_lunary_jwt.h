
/* sessions of Lunary's dashboard: the check of a token */


#ifndef _NGX_HTTP_LUNARY_JWT_H_INCLUDED_
#define _NGX_HTTP_LUNARY_JWT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* what a token is worth */

typedef enum {
    NGX_HTTP_LUNARY_JWT_VALID = 0,
    NGX_HTTP_LUNARY_JWT_INVALID,    /* malformed, not signed, not yet valid */
    NGX_HTTP_LUNARY_JWT_EXPIRED     /* valid until some time before now */
} ngx_http_lunary_jwt_e;


/*
 * Checks a token: JWS in its compact form, HS256 under "secret".  "now" is in
 * seconds since the epoch.  Where the token is VALID, "user" is the 16 bytes
 * of its user's UUID; else it is undefined.  A lack of memory is INVALID.
 */
ngx_http_lunary_jwt_e ngx_http_lunary_jwt_verify(ngx_str_t *secret,
    ngx_str_t *token, time_t now, u_char *user);


#endif /* _NGX_HTTP_LUNARY_JWT_H_INCLUDED_ */
