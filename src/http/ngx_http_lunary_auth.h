
/*
 * Who may read: from the headers to a credential, and what an error response
 * says of it.
 */


#ifndef _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_
#define _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_


#include "ngx_http_lunary.h"


/*
 * Reads the credential of a request and stores it in the context: the key, or
 * the user and the project of a session, and which of the two it is.  Returns
 * NGX_HTTP_LUNARY_KEY_PRIVATE if the database has to check the credential.
 * With any other return value the request is denied.
 */
ngx_http_lunary_key_e ngx_http_lunary_credential(ngx_http_lunary_ctx_t *ctx);

/* looks the credential up in the key cache, and sets the verdict on a hit */
void ngx_http_lunary_verdict_cached(ngx_http_lunary_ctx_t *ctx);

/*
 * After the database has answered: a session that it cannot judge is invalid.
 * Logs once what to grant.
 */
void ngx_http_lunary_verdict_session(ngx_http_lunary_ctx_t *ctx);

/* keeps in the key cache what the database has just said of the credential */
void ngx_http_lunary_verdict_keep(ngx_http_lunary_ctx_t *ctx);

/* the message of the 401 for a verdict; empty where there is none */
ngx_str_t *ngx_http_lunary_key_message(ngx_http_lunary_key_e verdict);

/* the WWW-Authenticate of the 401 for a verdict */
char *ngx_http_lunary_challenge(ngx_http_lunary_key_e verdict);


#endif /* _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_ */
