
/*
 * The statements that the module sends, and what it asks of a new session.
 *
 * A result begins with the head: the verdict on the credential, whether the
 * run exists, and the versions of the rows.  The head is a separate row.  Only
 * MAIN and FULL by project have no such row: each row of a run begins with the
 * columns of the head, and a result without rows means that the run does not
 * exist.  A run has a column for each field of the table in
 * ngx_http_lunary_run.c.
 */


#ifndef _NGX_HTTP_LUNARY_SQL_H_INCLUDED_
#define _NGX_HTTP_LUNARY_SQL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_pool.h"


/* features of a session, as the probe finds them */

#define NGX_HTTP_LUNARY_SIBLING   0x02  /* run.sibling_run_id is there */
#define NGX_HTTP_LUNARY_PLAIN     0x04  /* heap tables, readable as a whole */
#define NGX_HTTP_LUNARY_VERSIONS  0x08  /* xmin tells versions of rows */
#define NGX_HTTP_LUNARY_SESSIONS  0x10  /* account tables can be read */
#define NGX_HTTP_LUNARY_ROW_SECURITY                                          \
                                  0x20  /* row security is active */


/* what is asked */

typedef enum {
    NGX_HTTP_LUNARY_MAIN = 0,       /* the runs, unless FULL is needed */
    NGX_HTTP_LUNARY_FULL,           /* also for a parent, and for threads */
    NGX_HTTP_LUNARY_TAG,            /* the versions of the rows alone */
    NGX_HTTP_LUNARY_EXISTS          /* whether the run is there */
} ngx_http_lunary_question_e;


/*
 * The columns of the head.  A column costs libpq with each row: those that a
 * statement does not need are left out.  Tagged statements have the versions
 * of the rows behind them, as text or null, and TAG when it was parsed and
 * the catalog
 */

enum {
    NGX_HTTP_LUNARY_HEAD_FULL = 0,  /* FULL has to be asked; null: no run */

    /* unless the project is known */
    NGX_HTTP_LUNARY_HEAD_KIND,      /* of the credential: "private" opens */
    NGX_HTTP_LUNARY_HEAD_PROJECT    /* that it opens, or null */
};

/*
 * what the probe leaves in the identity of a session: digests of the server,
 * of the catalog, and when the session last parsed TAG with that catalog
 */

typedef struct {
    u_char      server[20];
    u_char      catalog[20];
    u_char      parsed[8];
} ngx_http_lunary_identity_t;


/* how the project is known that a run has to belong to */

typedef enum {
    NGX_HTTP_LUNARY_BY_PROJECT = 0, /* $2: the project */
    NGX_HTTP_LUNARY_BY_KEY,         /* $2: the key */
    NGX_HTTP_LUNARY_BY_SESSION      /* $2: the user, $3: the project */
} ngx_http_lunary_by_e;


/* in memory of "pool", as are the texts; NULL: no memory */
ngx_lunary_sql_t *ngx_http_lunary_sql(ngx_pool_t *pool);

/*
 * the number of a statement.  "tagged": the head of MAIN and FULL tells the
 * versions of the rows, where the session can.  FULL is asked by project
 */
ngx_uint_t ngx_http_lunary_sql_statement(ngx_http_lunary_question_e question,
    ngx_http_lunary_by_e by, ngx_uint_t tagged);

/* how many columns of the head are in front of the versions */
ngx_uint_t ngx_http_lunary_sql_head(ngx_http_lunary_by_e by);


#endif /* _NGX_HTTP_LUNARY_SQL_H_INCLUDED_ */
