
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_flights.h"


/* what an abandoned query may still take before its connection is closed */
#define NGX_LUNARY_GRACE     100

/* and one that went elsewhere meanwhile: it is cheaper than a new session */
#define NGX_LUNARY_RECALLED  1000


ngx_lunary_flight_t *
ngx_lunary_flights_push(ngx_lunary_conn_t *c, ngx_lunary_flight_e kind)
{
    ngx_lunary_flight_t  *f;

    f = ngx_lunary_flights_at(c, c->nflights++);

    ngx_memzero(f, sizeof(ngx_lunary_flight_t));
    f->kind = kind;

    if (c->nflights == 1) {
        c->head_since = ngx_current_msec;
    }

    return f;
}


ngx_lunary_flight_t *
ngx_lunary_flights_at(ngx_lunary_conn_t *c, ngx_uint_t i)
{
    return &c->flights[(c->first + i) % NGX_LUNARY_FLIGHTS];
}


/* one behind another waits for its turn no longer than in the queue */

void
ngx_lunary_flights_deadline(ngx_lunary_conn_t *c, ngx_lunary_flight_t *f,
    ngx_uint_t head)
{
    ngx_msec_t  left;

    if (head && (f->query || f->kind != NGX_LUNARY_FLIGHT_QUERY)) {
        left = c->owner->query_timeout;

    } else if (f->query == NULL) {
        left = f->recalled ? NGX_LUNARY_RECALLED : NGX_LUNARY_GRACE;

    } else {
        left = f->query->waited < c->owner->queue_timeout
               ? c->owner->queue_timeout - f->query->waited : 0;
    }

    f->deadline = ngx_current_msec + left;
}


/* the next moment at which something is due */

void
ngx_lunary_flights_schedule(ngx_lunary_conn_t *c)
{
    ngx_uint_t            i, cancelable;
    ngx_msec_t            due, slow;
    ngx_lunary_flight_t  *f;

    if (c->pg.paused) {

        if (c->timer.timer_set) {
            ngx_del_timer(&c->timer);
        }

        return;
    }

    if (c->nflights == 0) {
        due = c->expires - ngx_current_msec;

        ngx_lunary_flights_wake(c, ngx_min(c->owner->idle, due), 1);
        return;
    }

    f = ngx_lunary_flights_at(c, 0);
    due = f->deadline;
    cancelable = (f->query == NULL);

    for (i = 1; i < c->nflights; i++) {
        if (ngx_lunary_flights_at(c, i)->query) {
            cancelable = 0;
        }
    }

    /* there may be those who wait for room behind, even if nobody is there */

    if (c->nflights > 1) {
        slow = c->head_since + NGX_LUNARY_SLOW;

        if (ngx_lunary_passed(slow)) {
            slow = ngx_current_msec + NGX_LUNARY_SLOW;
        }

        if ((ngx_msec_int_t) (slow - due) < 0) {
            due = slow;
        }
    }

    ngx_lunary_flights_wake(c, ngx_lunary_passed(due) ? 1
                            : due - ngx_current_msec, cancelable);
}


/* nginx leaves a timer that is a little late as it is: too late for a tick */

void
ngx_lunary_flights_wake(ngx_lunary_conn_t *c, ngx_msec_t delay,
    ngx_uint_t cancelable)
{
    ngx_msec_t  key;

    key = ngx_current_msec + delay;

    if (c->timer.timer_set && (ngx_msec_int_t) (key - c->timer.timer.key) < 0) {
        ngx_del_timer(&c->timer);
    }

    ngx_add_timer(&c->timer, delay);
    c->timer.cancelable = cancelable;
}
