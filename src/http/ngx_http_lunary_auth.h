
/*
 * Who may read: from the headers to a credential, and what an error response
 * says of it.
 */


#ifndef _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_
#define _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_


#include "ngx_http_lunary.h"


/* the credential of a request, in "key" if it is KEY_PRIVATE (or might be) */
ngx_http_lunary_key_e ngx_http_lunary_credential(ngx_http_request_t *r,
    u_char *key);

/* what to tell whoever holds such a key: the message of a 401 */
ngx_str_t *ngx_http_lunary_key_message(ngx_http_lunary_key_e verdict);

/* and the value of the WWW-Authenticate that goes with it */
char *ngx_http_lunary_challenge(ngx_http_lunary_key_e verdict);


#endif /* _NGX_HTTP_LUNARY_AUTH_H_INCLUDED_ */
