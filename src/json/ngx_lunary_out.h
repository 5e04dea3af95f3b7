
/*
 * Where tokens are written to: a buffer that makes room as it goes.
 */


#ifndef _NGX_LUNARY_OUT_H_INCLUDED_
#define _NGX_LUNARY_OUT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* the room that more() guarantees: no scalar token is longer */
#define NGX_LUNARY_OUT_ROOM  64


typedef struct ngx_lunary_out_s  ngx_lunary_out_t;

struct ngx_lunary_out_s {
    u_char               *pos;      /* the next byte goes here */
    u_char               *end;      /* and none here or beyond */

    /*
     * takes what is written up to pos and sets pos and end anew, with at
     * least NGX_LUNARY_OUT_ROOM bytes between them; NGX_OK or NGX_ERROR
     */
    ngx_int_t           (*more)(ngx_lunary_out_t *out);
    void                 *data;     /* the owner's, for more() */
};


/* room for a scalar token, which is then written at pos */
static ngx_inline ngx_int_t
ngx_lunary_out_room(ngx_lunary_out_t *out)
{
    if (out->end - out->pos >= NGX_LUNARY_OUT_ROOM) {
        return NGX_OK;
    }

    return out->more(out);
}


/* one byte, for which there need not be room yet */
static ngx_inline ngx_int_t
ngx_lunary_out_byte(ngx_lunary_out_t *out, u_char c)
{
    if (out->pos == out->end && out->more(out) != NGX_OK) {
        return NGX_ERROR;
    }

    *out->pos++ = c;

    return NGX_OK;
}


#endif /* _NGX_LUNARY_OUT_H_INCLUDED_ */
