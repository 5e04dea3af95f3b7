
/*
 * The queries that wait for a connection.  One that waited too long hears
 * "done" from the event loop.
 */


#ifndef _NGX_LUNARY_WAITING_H_INCLUDED_
#define _NGX_LUNARY_WAITING_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_query.h"


struct ngx_lunary_waiting_s {
    ngx_queue_t               queries;
    ngx_uint_t                n;
    ngx_uint_t                nfresh;      /* of these, for new sessions */
    ngx_msec_t                timeout;
    ngx_atomic_t             *gauge;
    ngx_log_t                *log;
};


/* at the end, or in front; its time is to be set if it stays there */
void ngx_lunary_waiting_add(ngx_lunary_waiting_t *waiting,
    ngx_lunary_query_t *q, ngx_uint_t front);

void ngx_lunary_waiting_remove(ngx_lunary_waiting_t *waiting,
    ngx_lunary_query_t *q);

/* sets, once, how long it may stay */
void ngx_lunary_waiting_time(ngx_lunary_waiting_t *waiting,
    ngx_lunary_query_t *q);


#endif /* _NGX_LUNARY_WAITING_H_INCLUDED_ */
