
/*
 * JSON tokens, appended to an output that makes room as it goes.
 *
 * Every function returns NGX_OK, NGX_ERROR when the output could not make
 * room (memory or client are gone: the answer cannot go on), or, where its
 * comment says so, NGX_DECLINED for input that is not what it should be.
 * After anything but NGX_OK a part of the token may already be written.
 * Nothing is ever read or written out of bounds, whatever the input.
 */


#ifndef _NGX_LUNARY_JSON_H_INCLUDED_
#define _NGX_LUNARY_JSON_H_INCLUDED_


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


/* "len" bytes as they are */
ngx_int_t ngx_lunary_json_raw(ngx_lunary_out_t *out, u_char *p, size_t len);

/* a string: quoted, with what JSON demands escaped; "p" is UTF-8 */
ngx_int_t ngx_lunary_json_string(ngx_lunary_out_t *out, u_char *p, size_t len);

/*
 * a JSON value in the text that PostgreSQL gives for jsonb, passed through
 * to the letter but for the object keys, which are camel-cased; at any depth
 * without recursion.  NGX_DECLINED: the text is no such value
 */
ngx_int_t ngx_lunary_json_camel(ngx_lunary_out_t *out, u_char *p, size_t len);

ngx_int_t ngx_lunary_json_integer(ngx_lunary_out_t *out, int64_t n);

/* the shortest text that reads back as the same double; "d" is finite */
ngx_int_t ngx_lunary_json_double(ngx_lunary_out_t *out, double d);


#endif /* _NGX_LUNARY_JSON_H_INCLUDED_ */
