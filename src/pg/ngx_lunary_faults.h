
/*
 * What goes wrong with a database, in the error log and in the counters.
 */


#ifndef _NGX_LUNARY_FAULTS_H_INCLUDED_
#define _NGX_LUNARY_FAULTS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_counts.h"
#include "ngx_lunary_flights.h"


/* what was logged last, and how often it came again since */

typedef struct {
    char                      sqlstate[NGX_LUNARY_SQLSTATE_LEN];
    const char               *what;
    ngx_msec_t                time;        /* 0: nothing, or it is over */
    ngx_uint_t                again;
    ngx_log_t                *log;
} ngx_lunary_faults_t;


/*
 * what happened to a connection, and what is done about it; "what" is one of
 * a few constants.  The server's own words are those in "pg.reason"
 */
void ngx_lunary_faults_log(ngx_lunary_faults_t *faults, ngx_lunary_conn_t *c,
    const char *sqlstate, const char *what);

/* counts its class, if it has one */
void ngx_lunary_faults_count(ngx_lunary_counts_t *counts,
    const char *sqlstate);


#endif /* _NGX_LUNARY_FAULTS_H_INCLUDED_ */
