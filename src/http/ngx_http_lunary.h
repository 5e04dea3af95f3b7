
#ifndef _NGX_HTTP_LUNARY_H_INCLUDED_
#define _NGX_HTTP_LUNARY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_lunary_pool.h"
#include "ngx_lunary_value.h"
#include "ngx_http_lunary_key_cache.h"
#include "ngx_http_lunary_sql.h"
#include "ngx_http_lunary_jwt.h"
#include "ngx_http_lunary_stream.h"


/* debian/changelog has the same */
#define NGINX_LUNARY_VERSION  "1.0.0"


/* what became of a request: $lunary_outcome and the metrics */

typedef enum {
    NGX_HTTP_LUNARY_UNFINISHED = 0,
    NGX_HTTP_LUNARY_OK,                 /* 200, sent whole */
    NGX_HTTP_LUNARY_NOT_MODIFIED,       /* 304 */
    NGX_HTTP_LUNARY_METHOD,             /* 405 */
    NGX_HTTP_LUNARY_DENIED,             /* 401 */
    NGX_HTTP_LUNARY_NOT_FOUND,          /* 404 */
    NGX_HTTP_LUNARY_QUEUE_FULL,         /* 503 */
    NGX_HTTP_LUNARY_QUEUE_TIMEOUT,      /* 503 */
    NGX_HTTP_LUNARY_UNAVAILABLE,        /* 503 */
    NGX_HTTP_LUNARY_TIMEOUT,            /* 504 */
    NGX_HTTP_LUNARY_ERROR,              /* 500 */
    NGX_HTTP_LUNARY_CUT,                /* a part of a 200 was sent */
    NGX_HTTP_LUNARY_CLIENT_LEFT,        /* the client left, or did not read */
    NGX_HTTP_LUNARY_NOUTCOMES
} ngx_http_lunary_outcome_e;


/* what a request shows, as $lunary_credential_type tells */

typedef enum {
    NGX_HTTP_LUNARY_CREDENTIAL_NONE = 0,    /* nothing that can be read */
    NGX_HTTP_LUNARY_CREDENTIAL_KEY,         /* a UUID: in "key" */
    NGX_HTTP_LUNARY_CREDENTIAL_SESSION,     /* a token: in "session" */
    NGX_HTTP_LUNARY_NCREDENTIALS
} ngx_http_lunary_credential_e;


/* what a key or a session is worth */

typedef enum {
    NGX_HTTP_LUNARY_KEY_PRIVATE = 0,    /* opens its project */
    NGX_HTTP_LUNARY_KEY_NONE,           /* no credential in the request */
    NGX_HTTP_LUNARY_KEY_INVALID,        /* neither key nor valid session */
    NGX_HTTP_LUNARY_KEY_UNKNOWN,        /* in no row of api_key */
    NGX_HTTP_LUNARY_KEY_PUBLIC,
    NGX_HTTP_LUNARY_KEY_ORG,
    NGX_HTTP_LUNARY_KEY_EXPIRED,        /* a session whose time is over */
    NGX_HTTP_LUNARY_KEY_NO_PROJECT,     /* a session, not for this project */
    NGX_HTTP_LUNARY_KEY_UNSUPPORTED,    /* no session can be looked up */
    NGX_HTTP_LUNARY_KEY_UNASKED         /* the database has not spoken */
} ngx_http_lunary_key_e;


typedef struct {
    ngx_array_t                 pools;      /* of ngx_lunary_pool_t * */
    ngx_shm_zone_t             *status;     /* counters */
    ngx_lunary_sql_t           *sql;
} ngx_http_lunary_main_conf_t;


typedef struct {
    ngx_http_complex_value_t   *id;         /* lunary_related_runs */

    ngx_lunary_pool_conf_t      db;         /* lunary_database, and how it is
                                               used */
    ngx_uint_t                  prepare;

    ngx_shm_zone_t             *key_cache;
    ngx_msec_t                  key_valid;

    ngx_http_lunary_jwt_key_t  *jwt_key;    /* NULL: no sessions */
    ngx_uint_t                  sessions_refused;   /* as logged, a worker */

    size_t                      buffer_size;    /* lunary_buffers */
    size_t                      buffers_max;
    off_t                       max_temp_file_size;
    ngx_path_t                 *temp_path;

    ngx_uint_t                  null_fields;    /* 1: written as null */

    ngx_flag_t                  etag;
    ngx_uint_t                  untagged;       /* the last session of this
                                                   worker knew no versions */

    ngx_uint_t                  status;         /* lunary_status: 1, ready: 2 */

    ngx_lunary_pool_t          *pool;

    /* the directive that serves the location, for messages about it */
    ngx_http_handler_pt         handler;    /* NULL: there is none */
    ngx_str_t                   directive;
    u_char                     *file;
    ngx_uint_t                  line;
} ngx_http_lunary_loc_conf_t;


typedef enum {
    NGX_HTTP_LUNARY_STATE_START = 0,    /* there is no query yet */
    NGX_HTTP_LUNARY_STATE_QUERY,        /* a query waits or runs */
    NGX_HTTP_LUNARY_STATE_PAUSED,       /* the query waits for the client */
    NGX_HTTP_LUNARY_STATE_SENDING,      /* all rows are read, not all sent */
    NGX_HTTP_LUNARY_STATE_DONE          /* the request is finalized */
} ngx_http_lunary_state_e;


/* who asks, and for what; the database says whether they belong together */

typedef struct {
    u_char                      user[NGX_LUNARY_UUID_LEN];
    u_char                      project[NGX_LUNARY_UUID_LEN];
} ngx_http_lunary_session_t;


typedef struct {
    ngx_http_request_t         *request;
    ngx_http_lunary_state_e     state;
    ngx_http_lunary_loc_conf_t *conf;   /* of the location it began in */

    ngx_lunary_query_t          query;
    ngx_http_lunary_stream_t    stream;

    u_char                      run[NGX_LUNARY_UUID_LEN];
    u_char                      key[NGX_LUNARY_UUID_LEN];
    ngx_http_lunary_session_t   session;
    u_char                      project[NGX_LUNARY_UUID_LEN];

    ngx_http_lunary_question_e  question;
    ngx_http_lunary_by_e        by;

    ngx_str_t                   etag;           /* empty: there is none */
    u_char                      tag[sizeof("W/\"\"") - 1 + 32];

    ngx_uint_t                  nruns;
    ngx_http_lunary_credential_e credential;
    ngx_http_lunary_key_e       verdict;
    ngx_http_lunary_key_e       absent;         /* of the standby, while the
                                                   primary is asked */
    ngx_http_lunary_cache_e     cache;
    ngx_http_lunary_outcome_e   outcome;

    /*
     * in milliseconds, summed over the queries of the request;
     * NGX_CONF_UNSET_MSEC: the request did not get so far
     */
    ngx_msec_t                  queue_time;
    ngx_msec_t                  connect_time;
    ngx_msec_t                  first_row_time;
    ngx_msec_t                  query_time;

    unsigned                    header_only:1;
    unsigned                    has_project:1;
    unsigned                    has_head:1;     /* the head was read */
    unsigned                    found:1;
    unsigned                    confirming:1;   /* the primary is asked */
    unsigned                    needs_full:1;   /* a second query is needed */
} ngx_http_lunary_ctx_t;


extern ngx_module_t  ngx_http_lunary_module;


/*
 * the context of a request, also after an internal redirect; NULL where the
 * request never came to the module
 */
ngx_http_lunary_ctx_t *ngx_http_lunary_get_ctx(ngx_http_request_t *r);

/* the content handler of lunary_related_runs */
ngx_int_t ngx_http_lunary_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LUNARY_H_INCLUDED_ */
