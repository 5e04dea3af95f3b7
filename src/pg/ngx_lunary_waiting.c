
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_waiting.h"


static void ngx_lunary_waiting_handler(ngx_event_t *ev);


void
ngx_lunary_waiting_add(ngx_lunary_waiting_t *waiting, ngx_lunary_query_t *q,
    ngx_uint_t front)
{
    q->state = NGX_LUNARY_QUERY_WAITING;
    q->queued = ngx_current_msec;

    q->timer.handler = ngx_lunary_waiting_handler;
    q->timer.data = q;
    q->timer.log = waiting->log;

    if (front) {
        ngx_queue_insert_head(&waiting->queries, &q->queue);

    } else {
        ngx_queue_insert_tail(&waiting->queries, &q->queue);
    }

    q->waiting = waiting;

    waiting->n++;
    waiting->nfresh += (q->fresh != 0);
    (void) ngx_atomic_fetch_add(waiting->gauge, 1);
}


void
ngx_lunary_waiting_remove(ngx_lunary_waiting_t *waiting, ngx_lunary_query_t *q)
{
    if (q->timer.timer_set) {
        ngx_del_timer(&q->timer);
    }

    ngx_queue_remove(&q->queue);

    q->waited += ngx_current_msec - q->queued;

    waiting->n--;
    waiting->nfresh -= (q->fresh != 0);
    (void) ngx_atomic_fetch_add(waiting->gauge, -1);
}


/* the time in the queue is one for all that a request waits */

void
ngx_lunary_waiting_time(ngx_lunary_waiting_t *waiting, ngx_lunary_query_t *q)
{
    if (!q->timer.timer_set) {
        ngx_add_timer(&q->timer, q->waited < waiting->timeout
                                 ? waiting->timeout - q->waited : 1);
    }
}


static void
ngx_lunary_waiting_handler(ngx_event_t *ev)
{
    ngx_lunary_query_t *q = ev->data;

    ngx_lunary_waiting_remove(q->waiting, q);
    ngx_lunary_query_done(q, NGX_LUNARY_QUEUE_TIMEOUT);
}
