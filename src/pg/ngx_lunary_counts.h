
/*
 * What is counted below HTTP.  The structures live in shared memory (or are
 * zeroes of the worker's own where nobody asked for them); whoever hands
 * them to a pool owns them.
 */


#ifndef _NGX_LUNARY_COUNTS_H_INCLUDED_
#define _NGX_LUNARY_COUNTS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_sqlstate.h"


/* only ever grow; shared by all workers */

typedef struct {
    ngx_atomic_t  connects;             /* sessions made */
    ngx_atomic_t  connect_failures;     /* hosts tried in vain */
    ngx_atomic_t  lost;                 /* sessions that broke */
    ngx_atomic_t  retries;              /* requests sent a second time */
    ngx_atomic_t  cancels;              /* queries stopped for their client
                                           or their time */
    ngx_atomic_t  sqlstate[NGX_LUNARY_SQLSTATE_CLASSES];
} ngx_lunary_counts_t;


/* as things stand; of one worker, over all of its pools */

typedef struct {
    ngx_atomic_t  connecting;
    ngx_atomic_t  idle;
    ngx_atomic_t  busy;
    ngx_atomic_t  checking;
    ngx_atomic_t  waiting;              /* requests in the queues */
} ngx_lunary_gauges_t;


#endif /* _NGX_LUNARY_COUNTS_H_INCLUDED_ */
