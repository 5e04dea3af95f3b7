
/*
 * What PostgreSQL's error codes mean here.  A SQLSTATE is five characters of
 * 0-9 and A-Z, the first two of them its class; "" stands where the server
 * gave none: for a connection that was lost, a time that was up, a row that
 * was no good.
 */


#ifndef _NGX_LUNARY_SQLSTATE_H_INCLUDED_
#define _NGX_LUNARY_SQLSTATE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* with its terminating zero */
#define NGX_LUNARY_SQLSTATE_LEN      6

#define NGX_LUNARY_SQLSTATE_CLASSES  (36 * 36)


/* what becomes of a query that failed with it */

typedef enum {
    NGX_LUNARY_ERROR_UNAVAILABLE = 0,  /* again; then 503 */
    NGX_LUNARY_ERROR_PREPARE,          /* again, prepared anew; then 500 */
    NGX_LUNARY_ERROR_TIMEOUT,          /* 504 */
    NGX_LUNARY_ERROR_SCHEMA,           /* 500, all sessions look anew */
    NGX_LUNARY_ERROR_FAILED            /* 500 */
} ngx_lunary_error_e;


ngx_lunary_error_e ngx_lunary_sqlstate_error(const char *sqlstate);

/* 1: the server's text speaks of the server, and quotes no value; else 0 */
ngx_uint_t ngx_lunary_sqlstate_is_loggable(const char *sqlstate);

/*
 * the place of its class among NGX_LUNARY_SQLSTATE_CLASSES counters: "57P01"
 * and "57014" share one.  0, the place of class 00, where it is none
 */
ngx_uint_t ngx_lunary_sqlstate_class(const char *sqlstate);

/*
 * the one that libpq gives in a text alone, for a connection that was refused,
 * goes to the NGX_LUNARY_SQLSTATE_LEN bytes at "sqlstate", which stay as they
 * are where there is none
 */
void ngx_lunary_sqlstate_find(const char *text, char *sqlstate);


#endif /* _NGX_LUNARY_SQLSTATE_H_INCLUDED_ */
