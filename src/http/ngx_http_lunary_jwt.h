
/* sessions of Lunary's dashboard: the check of a token */


#ifndef _NGX_HTTP_LUNARY_JWT_H_INCLUDED_
#define _NGX_HTTP_LUNARY_JWT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <openssl/evp.h>


/* a secret as HMAC-SHA256 uses it: its two hashes, begun with the secret */

typedef struct {
    EVP_MD_CTX  *inner;
    EVP_MD_CTX  *outer;
    EVP_MD_CTX  *hash;          /* a copy of one of these, while it is used */
} ngx_http_lunary_jwt_key_t;


/* what a token is worth */

typedef enum {
    NGX_HTTP_LUNARY_JWT_VALID = 0,
    NGX_HTTP_LUNARY_JWT_INVALID,    /* malformed, not signed, not yet valid */
    NGX_HTTP_LUNARY_JWT_EXPIRED     /* valid until some time before now */
} ngx_http_lunary_jwt_e;


/*
 * Makes the key of a secret, which is not needed afterwards.  NGX_OK, or
 * NGX_ERROR: no memory, or no SHA-256 in OpenSSL.  Either way the key is to be
 * freed, which overwrites it.
 */
ngx_int_t ngx_http_lunary_jwt_key(ngx_http_lunary_jwt_key_t *key,
    ngx_str_t *secret);
void ngx_http_lunary_jwt_key_free(ngx_http_lunary_jwt_key_t *key);

/*
 * Checks a token: JWS in its compact form, HS256 under "key".  "now" is in
 * seconds since the epoch.  Where the token is VALID, "user" is the 16 bytes
 * of its user's UUID; else it is undefined.  A lack of memory is INVALID.
 */
ngx_http_lunary_jwt_e ngx_http_lunary_jwt_verify(
    ngx_http_lunary_jwt_key_t *key, ngx_str_t *token, time_t now,
    u_char *user);


#endif /* _NGX_HTTP_LUNARY_JWT_H_INCLUDED_ */
