
#ifndef _NGX_LUNARY_UUID_H_INCLUDED_
#define _NGX_LUNARY_UUID_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_LUNARY_UUID_LEN       16
#define NGX_LUNARY_UUID_TEXT_LEN  36


/*
 * reads 8-4-4-4-12 hexadecimal digits of either case into 16 bytes.
 * NGX_OK, or NGX_DECLINED for any other text; "uuid" is undefined then
 */
ngx_int_t ngx_lunary_uuid_parse(u_char *p, size_t len, u_char *uuid);

/* writes 36 bytes in lower case, returns the end of them */
u_char *ngx_lunary_uuid_text(u_char *p, u_char *uuid);


#endif /* _NGX_LUNARY_UUID_H_INCLUDED_ */
