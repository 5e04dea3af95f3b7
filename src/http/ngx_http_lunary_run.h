
/*
 * A row of a result as JSON: the fields of a run, in the order in which they
 * are written.
 */


#ifndef _NGX_HTTP_LUNARY_RUN_H_INCLUDED_
#define _NGX_HTTP_LUNARY_RUN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_json.h"
#include "ngx_lunary_pg.h"


typedef struct {
    PGresult          *res;
    int                row;
    int                first;       /* column of a run, in "res" */
    ngx_uint_t         full;        /* it has all columns */
    ngx_lunary_out_t  *out;
    u_char            *root;        /* the id asked for, 16 bytes */
    u_char            *project;     /* that all runs are of, 16 bytes */
    ngx_uint_t         nulls;       /* lunary_null_fields include */
    const char        *column;      /* set where the row is declined */
    int64_t            times[2];    /* the last two, infinite: no value */
} ngx_http_lunary_run_t;


/*
 * how many columns a run has, all of them or those of a run that has no parent
 * and is no thread.  "columns", unless NULL, is set to the SQL of each, with
 * the placeholders of ngx_http_lunary_sql.c.  The first call numbers them
 */
ngx_uint_t ngx_http_lunary_run_columns(ngx_uint_t full,
    const char ***columns);

/*
 * writes a run as an object.  NGX_OK; NGX_ERROR: "out" has failed;
 * NGX_DECLINED: a value is none of its type, "column" names it
 */
ngx_int_t ngx_http_lunary_run_write(ngx_http_lunary_run_t *run);


#endif /* _NGX_HTTP_LUNARY_RUN_H_INCLUDED_ */
