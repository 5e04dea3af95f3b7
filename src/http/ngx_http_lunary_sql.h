
/*
 * The statements that the module sends, and what their rows hold.
 */


#ifndef _NGX_HTTP_LUNARY_SQL_H_INCLUDED_
#define _NGX_HTTP_LUNARY_SQL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_query.h"


typedef enum {
    NGX_HTTP_LUNARY_MAIN = 0,
    NGX_HTTP_LUNARY_KEY_MAIN,
    NGX_HTTP_LUNARY_FULL,
    NGX_HTTP_LUNARY_HEAD,
    NGX_HTTP_LUNARY_KEY_HEAD,
    NGX_HTTP_LUNARY_NSTATEMENTS
} ngx_http_lunary_statement_e;


/* the columns of a run */

enum {
    NGX_HTTP_LUNARY_NEED = 0,
    NGX_HTTP_LUNARY_ID,
    NGX_HTTP_LUNARY_IS_PUBLIC,
    NGX_HTTP_LUNARY_FEEDBACK,
    NGX_HTTP_LUNARY_PARENT_FEEDBACK,
    NGX_HTTP_LUNARY_TYPE,
    NGX_HTTP_LUNARY_NAME,
    NGX_HTTP_LUNARY_CREATED_AT,
    NGX_HTTP_LUNARY_ENDED_AT,
    NGX_HTTP_LUNARY_TEMPLATE_VERSION_ID,
    NGX_HTTP_LUNARY_TEMPLATE_SLUG,
    NGX_HTTP_LUNARY_COST,
    NGX_HTTP_LUNARY_PROMPT_TOKENS,
    NGX_HTTP_LUNARY_COMPLETION_TOKENS,
    NGX_HTTP_LUNARY_TAGS,
    NGX_HTTP_LUNARY_INPUT,
    NGX_HTTP_LUNARY_OUTPUT,
    NGX_HTTP_LUNARY_ERROR_COLUMN,
    NGX_HTTP_LUNARY_STATUS,
    NGX_HTTP_LUNARY_SIBLING_RUN_ID,
    NGX_HTTP_LUNARY_PARAMS,
    NGX_HTTP_LUNARY_METADATA,
    NGX_HTTP_LUNARY_PARENT_RUN_ID,
    NGX_HTTP_LUNARY_USER_ID,
    NGX_HTTP_LUNARY_EXTERNAL_ID,
    NGX_HTTP_LUNARY_USER_CREATED_AT,
    NGX_HTTP_LUNARY_LAST_SEEN,
    NGX_HTTP_LUNARY_PROPS,

    /* of "full" */
    NGX_HTTP_LUNARY_TRACE_ID,
    NGX_HTTP_LUNARY_FIRST_MESSAGE,
    NGX_HTTP_LUNARY_MESSAGES_COUNT,

    /* of "key_main" and "key_head" */
    NGX_HTTP_LUNARY_MAIN_KEY_TYPE = 28,
    NGX_HTTP_LUNARY_HEAD_KEY_TYPE = 1
};


/* puts the statements' texts together, in memory of "pool", or NULL */
ngx_lunary_sql_t *ngx_http_lunary_sql(ngx_pool_t *pool);

/* how many columns the rows of a statement have */
int ngx_http_lunary_sql_columns(ngx_uint_t statement);


#endif /* _NGX_HTTP_LUNARY_SQL_H_INCLUDED_ */
