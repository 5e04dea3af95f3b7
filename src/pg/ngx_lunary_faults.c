
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_lunary_faults.h"
#include "ngx_lunary_sqlstate.h"


/* a line is repeated no more often */
#define NGX_LUNARY_FAULT_PACE  10000


/*
 * one line a fault; the same again within a while is counted, not told.  The
 * server's words are passed on only where they can't quote a value
 */

void
ngx_lunary_faults_log(ngx_lunary_faults_t *faults, ngx_lunary_conn_t *c,
    const char *sqlstate, const char *what)
{
    u_char       counted[64], *p;
    ngx_uint_t   told;

    if (faults->time && ngx_strcmp(faults->sqlstate, sqlstate) == 0
        && faults->what == what
        && ngx_current_msec - faults->time < NGX_LUNARY_FAULT_PACE)
    {
        faults->again++;
        return;
    }

    p = counted;

    if (faults->again) {
        p = ngx_snprintf(p, sizeof(counted) - 1, ", %ui more before",
                         faults->again);
    }

    *p = '\0';

    told = ngx_lunary_sqlstate_is_told(sqlstate) && c->pg.reason[0];

    ngx_log_error(NGX_LOG_ERR, faults->log, 0,
                  "database \"%V\" %s (SQLSTATE %s%s%s)%s",
                  ngx_lunary_walk_label(&c->walk), what,
                  *sqlstate ? sqlstate : "-",
                  told ? ": " : "", told ? c->pg.reason : (u_char *) "",
                  counted);

    ngx_cpystrn((u_char *) faults->sqlstate, (u_char *) sqlstate,
                NGX_LUNARY_SQLSTATE_LEN);

    faults->what = what;
    faults->time = ngx_current_msec;
    faults->again = 0;
}


void
ngx_lunary_faults_count(ngx_lunary_counts_t *counts, const char *sqlstate)
{
    if (*sqlstate) {
        (void) ngx_atomic_fetch_add(
                   &counts->sqlstate[ngx_lunary_sqlstate_class(sqlstate)],
                   1);
    }
}
