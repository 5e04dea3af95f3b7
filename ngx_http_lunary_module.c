
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "ngx_http_lunary.h"
#include "ngx_http_lunary_auth.h"
#include "ngx_http_lunary_metrics.h"
#include "ngx_http_lunary_secret.h"
#include "ngx_http_lunary_sql.h"
#include "ngx_http_lunary_status.h"
#include "ngx_http_lunary_variables.h"


static void *ngx_http_lunary_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_lunary_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_lunary_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static void ngx_http_lunary_inherit(ngx_http_core_loc_conf_t *clcf,
    ngx_http_lunary_loc_conf_t *prev, ngx_http_lunary_loc_conf_t *conf);
static char *ngx_http_lunary_merge_pool(ngx_conf_t *cf,
    ngx_http_lunary_loc_conf_t *conf);
static ngx_int_t ngx_http_lunary_init_process(ngx_cycle_t *cycle);
static void ngx_http_lunary_exit_process(ngx_cycle_t *cycle);
static ngx_http_lunary_main_conf_t *ngx_http_lunary_worker_conf(
    ngx_cycle_t *cycle);

static char *ngx_http_lunary_related_runs(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_lunary_database(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_lunary_pool(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_lunary_queue(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_lunary_key_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_lunary_answer_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_lunary_jwt_secret_file(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static char *ngx_http_lunary_buffers(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_lunary_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

static char *ngx_http_lunary_handle(ngx_conf_t *cf,
    ngx_http_lunary_loc_conf_t *llcf, ngx_http_handler_pt handler);
static char *ngx_http_lunary_invalid(ngx_conf_t *cf, ngx_str_t *arg,
    const char *expected);
static ngx_uint_t ngx_http_lunary_param(ngx_str_t *arg, const char *name,
    ngx_str_t *value);
static char *ngx_http_lunary_number(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_str_t *value, ngx_uint_t *n);
static char *ngx_http_lunary_time(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_str_t *value, ngx_msec_t *time);
static char *ngx_http_lunary_positive_time(ngx_conf_t *cf, void *post,
    void *data);


static ngx_conf_post_t  ngx_http_lunary_time_post = {
    ngx_http_lunary_positive_time
};


static ngx_conf_enum_t  ngx_http_lunary_prepare[] = {
    { ngx_string("auto"), NGX_LUNARY_PREPARE_AUTO },
    { ngx_string("on"), NGX_LUNARY_PREPARE_ON },
    { ngx_string("off"), NGX_LUNARY_PREPARE_OFF },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_lunary_null_fields[] = {
    { ngx_string("omit"), 0 },
    { ngx_string("include"), 1 },
    { ngx_null_string, 0 }
};


/* beside proxy's: two modules can't have one path with different levels */

static ngx_path_init_t  ngx_http_lunary_temp_path = {
    ngx_string(NGX_HTTP_PROXY_TEMP_PATH "_lunary"), { 1, 2, 0 }
};


#define NGX_HTTP_LUNARY_CONF                                                  \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static ngx_command_t  ngx_http_lunary_commands[] = {

    { ngx_string("lunary_related_runs"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_lunary_related_runs,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, id),
      NULL },

    { ngx_string("lunary_database"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE12,
      ngx_http_lunary_database,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("lunary_pool"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_1MORE,
      ngx_http_lunary_pool,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("lunary_queue"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE12,
      ngx_http_lunary_queue,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("lunary_connect_timeout"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, db.connect_timeout),
      &ngx_http_lunary_time_post },

    { ngx_string("lunary_query_timeout"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, db.query_timeout),
      &ngx_http_lunary_time_post },

    { ngx_string("lunary_prepare"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, prepare),
      &ngx_http_lunary_prepare },

    { ngx_string("lunary_key_cache"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE12,
      ngx_http_lunary_key_cache,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("lunary_answer_cache"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_lunary_answer_cache,
      0,
      0,
      NULL },

    { ngx_string("lunary_jwt_secret_file"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE1,
      ngx_http_lunary_jwt_secret_file,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("lunary_buffers"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE12,
      ngx_http_lunary_buffers,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("lunary_max_temp_file_size"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_off_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, max_temp_file_size),
      NULL },

    { ngx_string("lunary_temp_path"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE1234,
      ngx_conf_set_path_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, temp_path),
      NULL },

    { ngx_string("lunary_null_fields"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, null_fields),
      &ngx_http_lunary_null_fields },

    { ngx_string("lunary_etag"),
      NGX_HTTP_LUNARY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_lunary_loc_conf_t, etag),
      NULL },

    { ngx_string("lunary_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_lunary_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_lunary_module_ctx = {
    ngx_http_lunary_variables,             /* preconfiguration */
    ngx_http_lunary_metrics_zone,          /* postconfiguration */

    ngx_http_lunary_create_main_conf,      /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_lunary_create_loc_conf,       /* create location configuration */
    ngx_http_lunary_merge_loc_conf         /* merge location configuration */
};


ngx_module_t  ngx_http_lunary_module = {
    NGX_MODULE_V1,
    &ngx_http_lunary_module_ctx,           /* module context */
    ngx_http_lunary_commands,              /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_lunary_init_process,          /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_lunary_exit_process,          /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_http_lunary_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_lunary_main_conf_t));
    if (lmcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&lmcf->pools, cf->pool, 4, sizeof(ngx_lunary_pool_t *))
        != NGX_OK)
    {
        return NULL;
    }

    lmcf->sql = ngx_http_lunary_sql(cf->pool);
    if (lmcf->sql == NULL) {
        return NULL;
    }

    return lmcf;
}


static void *
ngx_http_lunary_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_lunary_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_lunary_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->id = NULL;
     *     conf->status = 0;
     *     conf->pool = NULL;
     *     conf->temp_path = NULL;
     *     conf->handler = NULL;
     *     conf->directive = { 0, NULL };
     */

    conf->db.conninfo = NGX_CONF_UNSET_PTR;
    conf->db.random = NGX_CONF_UNSET_UINT;
    conf->db.max = NGX_CONF_UNSET_UINT;
    conf->db.connecting = NGX_CONF_UNSET_UINT;
    conf->db.idle = NGX_CONF_UNSET_MSEC;
    conf->db.lifetime = NGX_CONF_UNSET_MSEC;
    conf->db.queue = NGX_CONF_UNSET_UINT;
    conf->db.queue_timeout = NGX_CONF_UNSET_MSEC;
    conf->db.connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->db.query_timeout = NGX_CONF_UNSET_MSEC;
    conf->prepare = NGX_CONF_UNSET_UINT;
    conf->key_cache = NGX_CONF_UNSET_PTR;
    conf->key_valid = NGX_CONF_UNSET_MSEC;
    conf->jwt_key = NGX_CONF_UNSET_PTR;
    conf->buffer_size = NGX_CONF_UNSET_SIZE;
    conf->buffers_max = NGX_CONF_UNSET_SIZE;
    conf->max_temp_file_size = NGX_CONF_UNSET;
    conf->null_fields = NGX_CONF_UNSET_UINT;
    conf->etag = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_http_lunary_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_lunary_loc_conf_t *prev = parent;
    ngx_http_lunary_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_ptr_value(conf->db.conninfo, prev->db.conninfo, NULL);
    ngx_conf_merge_uint_value(conf->db.random, prev->db.random, 0);

    ngx_conf_merge_uint_value(conf->db.max, prev->db.max, 8);
    ngx_conf_merge_uint_value(conf->db.connecting, prev->db.connecting,
                              ngx_min(2, conf->db.max));
    ngx_conf_merge_msec_value(conf->db.idle, prev->db.idle, 60000);
    ngx_conf_merge_msec_value(conf->db.lifetime, prev->db.lifetime, 3600000);

    ngx_conf_merge_uint_value(conf->db.queue, prev->db.queue, 256);
    ngx_conf_merge_msec_value(conf->db.queue_timeout, prev->db.queue_timeout,
                              2000);

    ngx_conf_merge_msec_value(conf->db.connect_timeout,
                              prev->db.connect_timeout, 5000);
    ngx_conf_merge_msec_value(conf->db.query_timeout, prev->db.query_timeout,
                              10000);
    ngx_conf_merge_uint_value(conf->prepare, prev->prepare,
                              NGX_LUNARY_PREPARE_AUTO);

    ngx_conf_merge_ptr_value(conf->key_cache, prev->key_cache, NULL);
    ngx_conf_merge_msec_value(conf->key_valid, prev->key_valid, 10000);

    ngx_conf_merge_ptr_value(conf->jwt_key, prev->jwt_key, NULL);

    ngx_conf_merge_size_value(conf->buffer_size, prev->buffer_size,
                              64 * 1024);
    ngx_conf_merge_size_value(conf->buffers_max, prev->buffers_max,
                              1024 * 1024);
    ngx_conf_merge_off_value(conf->max_temp_file_size,
                             prev->max_temp_file_size,
                             (off_t) 1024 * 1024 * 1024);

    ngx_conf_merge_uint_value(conf->null_fields, prev->null_fields, 0);
    ngx_conf_merge_value(conf->etag, prev->etag, 0);

    if (ngx_conf_merge_path_value(cf, &conf->temp_path, prev->temp_path,
                                  &ngx_http_lunary_temp_path)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname) {
        ngx_http_lunary_inherit(clcf, prev, conf);
        return NGX_CONF_OK;
    }

    if (conf->handler == NULL) {
        return NGX_CONF_OK;
    }

    if (clcf->handler != conf->handler) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "the \"%V\" directive in %s:%ui is in a location that "
                      "a later directive, such as \"proxy_pass\", serves too",
                      &conf->directive, conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    if (conf->status == 1) {
        return NGX_CONF_OK;
    }

    return ngx_http_lunary_merge_pool(cf, conf);
}


/* "if" and "limit_except" blocks are of the location that they are in */

static void
ngx_http_lunary_inherit(ngx_http_core_loc_conf_t *clcf,
    ngx_http_lunary_loc_conf_t *prev, ngx_http_lunary_loc_conf_t *conf)
{
    conf->id = prev->id;
    conf->status = prev->status;
    conf->pool = prev->pool;
    conf->handler = prev->handler;
    conf->directive = prev->directive;
    conf->file = prev->file;
    conf->line = prev->line;

    if (clcf->lmt_excpt && clcf->handler == NULL) {
        clcf->handler = conf->handler;
    }
}


/* gives a location that asks the database its pool */

static char *
ngx_http_lunary_merge_pool(ngx_conf_t *cf, ngx_http_lunary_loc_conf_t *conf)
{
    char                         *reason;
    ngx_str_t                     host;
    ngx_lunary_pool_conf_t       *db;
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_lunary_main_conf_t  *lmcf;

    db = &conf->db;

    if (db->conninfo == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "no \"lunary_database\" is defined for "
                      "the \"%V\" directive in %s:%ui",
                      &conf->directive, conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    lmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_lunary_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    db->sql = lmcf->sql;
    db->prepare = conf->prepare;
    db->session = ngx_lunary_conninfo_value(db->conninfo,
                                            "target_session_attrs");

    /* without a resolver, names are resolved now, and never again */

    if (clcf->resolver && ngx_lunary_resolver_is_configured(clcf->resolver)) {
        db->resolver = clcf->resolver;
        db->resolver_timeout = clcf->resolver_timeout;

    } else {
        reason = ngx_lunary_conninfo_resolve(cf, db->conninfo, &host);

        if (reason) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "%s: \"%V\" of the \"lunary_database\" for "
                          "the \"%V\" directive in %s:%ui",
                          reason, &host, &conf->directive, conf->file,
                          conf->line);
            return NGX_CONF_ERROR;
        }
    }

    ngx_lunary_conninfo_database(db->conninfo, db->resolver, db->database);

    conf->pool = ngx_lunary_pool_get(&lmcf->pools, db, cf->pool);

    return conf->pool ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_lunary_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                    i;
    ngx_lunary_pool_t           **pools;
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = ngx_http_lunary_worker_conf(cycle);

    if (lmcf == NULL) {
        return NGX_OK;
    }

    ngx_http_lunary_metrics_attach(lmcf);

    pools = lmcf->pools.elts;

    for (i = 0; i < lmcf->pools.nelts; i++) {
        if (ngx_lunary_pool_start(pools[i], cycle) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_lunary_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                    i;
    ngx_lunary_pool_t           **pools;
    ngx_http_lunary_main_conf_t  *lmcf;

    lmcf = ngx_http_lunary_worker_conf(cycle);

    if (lmcf == NULL) {
        return;
    }

    pools = lmcf->pools.elts;

    for (i = 0; i < lmcf->pools.nelts; i++) {
        ngx_lunary_pool_stop(pools[i]);
    }

    ngx_http_lunary_metrics_detach(lmcf);
}


/* NULL without pools, and in the cache manager, which serves no requests */

static ngx_http_lunary_main_conf_t *
ngx_http_lunary_worker_conf(ngx_cycle_t *cycle)
{
    ngx_http_lunary_main_conf_t  *lmcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NULL;
    }

    lmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_lunary_module);

    return (lmcf && lmcf->pools.nelts) ? lmcf : NULL;
}


static char *
ngx_http_lunary_related_runs(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *rv;

    rv = ngx_http_lunary_handle(cf, conf, ngx_http_lunary_handler);

    return rv == NGX_CONF_OK ? ngx_http_set_complex_value_slot(cf, cmd, conf)
                             : rv;
}


/* sets the content handler of a location, and keeps where that is written */

static char *
ngx_http_lunary_handle(ngx_conf_t *cf, ngx_http_lunary_loc_conf_t *llcf,
    ngx_http_handler_pt handler)
{
    ngx_str_t                 *value;
    ngx_http_core_loc_conf_t  *clcf;

    if (llcf->handler) {
        return "is duplicate, or beside another that serves the location";
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "is in a location that another directive, such as "
               "\"proxy_pass\", serves already";
    }

    clcf->handler = handler;
    llcf->handler = handler;

    value = cf->args->elts;
    llcf->directive = value[0];
    llcf->file = cf->conf_file->file.name.data;
    llcf->line = cf->conf_file->line;

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_database(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_lunary_loc_conf_t *llcf = conf;

    char       *reason;
    ngx_str_t  *value, balance;

    if (llcf->db.conninfo != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;
    llcf->db.random = 0;

    if (cf->args->nelts == 3) {

        /* not quoted: it may be a part of the connection string */

        if (!ngx_http_lunary_param(&value[2], "balance=", &balance)) {
            return "has an invalid second parameter, expected "
                   "\"balance=ordered\" or \"balance=random\" "
                   "(is the connection string quoted?)";
        }

        if (ngx_strcmp(balance.data, "random") == 0) {
            llcf->db.random = 1;

        } else if (ngx_strcmp(balance.data, "ordered") != 0) {
            return "has an invalid \"balance\", expected \"ordered\" "
                   "or \"random\"";
        }
    }

    llcf->db.conninfo = ngx_pcalloc(cf->pool, sizeof(ngx_lunary_conninfo_t));
    if (llcf->db.conninfo == NULL) {
        return NGX_CONF_ERROR;
    }

    reason = ngx_lunary_conninfo_parse(cf->pool, &value[1], llcf->db.conninfo);

    if (reason) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid connection string in "
                           "\"lunary_database\": %s", reason);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_pool(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_lunary_loc_conf_t *llcf = conf;

    char        *rv;
    ngx_str_t   *arg, value;
    ngx_uint_t   i;

    if (llcf->db.max != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    llcf->db.max = 8;
    llcf->db.idle = 60000;
    llcf->db.lifetime = 3600000;

    arg = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_lunary_param(&arg[i], "max=", &value)) {
            rv = ngx_http_lunary_number(cf, &arg[i], &value, &llcf->db.max);

        } else if (ngx_http_lunary_param(&arg[i], "connecting=", &value)) {
            rv = ngx_http_lunary_number(cf, &arg[i], &value,
                                        &llcf->db.connecting);

        } else if (ngx_http_lunary_param(&arg[i], "idle=", &value)) {
            rv = ngx_http_lunary_time(cf, &arg[i], &value, &llcf->db.idle);

        } else if (ngx_http_lunary_param(&arg[i], "lifetime=", &value)) {
            rv = ngx_http_lunary_time(cf, &arg[i], &value, &llcf->db.lifetime);

        } else {
            return ngx_http_lunary_invalid(cf, &arg[i], "\"max=\", \"idle=\", "
                                           "\"lifetime=\", or "
                                           "\"connecting=\"");
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (llcf->db.connecting == NGX_CONF_UNSET_UINT) {
        llcf->db.connecting = ngx_min(2, llcf->db.max);
    }

    if (llcf->db.connecting > llcf->db.max) {
        return "has a \"connecting\" that is greater than its \"max\"";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_queue(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_lunary_loc_conf_t *llcf = conf;

    char       *rv;
    ngx_str_t  *arg, value;

    if (llcf->db.queue != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    arg = cf->args->elts;

    rv = ngx_http_lunary_number(cf, &arg[1], &arg[1], &llcf->db.queue);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    llcf->db.queue_timeout = 2000;

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (!ngx_http_lunary_param(&arg[2], "timeout=", &value)) {
        return ngx_http_lunary_invalid(cf, &arg[2], "\"timeout=\"");
    }

    return ngx_http_lunary_time(cf, &arg[2], &value, &llcf->db.queue_timeout);
}


static char *
ngx_http_lunary_key_cache(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_lunary_loc_conf_t *llcf = conf;

    u_char     *p;
    ssize_t     size;
    ngx_str_t  *arg, name, number, value;

    if (llcf->key_cache != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    arg = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(arg[1].data, "off") == 0) {
        llcf->key_cache = NULL;
        return NGX_CONF_OK;
    }

    p = ngx_http_lunary_param(&arg[1], "zone=", &name)
        ? (u_char *) ngx_strchr(name.data, ':') : NULL;

    if (p == NULL || p == name.data) {
        return ngx_http_lunary_invalid(cf, &arg[1],
                                       "\"off\" or \"zone=name:size\"");
    }

    number.data = p + 1;
    number.len = name.data + name.len - number.data;
    name.len = p - name.data;

    /* nginx would take it for the same zone: it has the same tag */

    if (name.len == sizeof(NGX_HTTP_LUNARY_METRICS_ZONE) - 1
        && ngx_strncmp(name.data, NGX_HTTP_LUNARY_METRICS_ZONE, name.len) == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the zone name \"%V\" in "
                           "\"lunary_key_cache\" is the module's own", &name);
        return NGX_CONF_ERROR;
    }

    size = ngx_parse_size(&number);

    if (size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone size \"%V\" in "
                           "\"lunary_key_cache\"", &number);
        return NGX_CONF_ERROR;
    }

    if (size < (ssize_t) (8 * ngx_pagesize)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" in \"lunary_key_cache\" is too "
                           "small, expected at least %uzk", &name,
                           8 * ngx_pagesize / 1024);
        return NGX_CONF_ERROR;
    }

    llcf->key_valid = 10000;

    if (cf->args->nelts == 3) {

        if (!ngx_http_lunary_param(&arg[2], "valid=", &value)) {
            return ngx_http_lunary_invalid(cf, &arg[2], "\"valid=\"");
        }

        if (ngx_http_lunary_time(cf, &arg[2], &value, &llcf->key_valid)
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    llcf->key_cache = ngx_shared_memory_add(cf, &name, size,
                                            &ngx_http_lunary_module);
    if (llcf->key_cache == NULL) {
        return NGX_CONF_ERROR;
    }

    llcf->key_cache->init = ngx_http_lunary_key_cache_init;

    return NGX_CONF_OK;
}


/* a configuration of the release before keeps working */

static char *
ngx_http_lunary_answer_cache(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                       "\"lunary_answer_cache\" is ignored, responses are "
                       "no longer cached; see \"lunary_etag\"");

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_jwt_secret_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_lunary_loc_conf_t *llcf = conf;

    ngx_str_t  *value;

    if (llcf->jwt_key != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        llcf->jwt_key = NULL;
        return NGX_CONF_OK;
    }

    llcf->jwt_key = ngx_http_lunary_secret(cf, &value[1]);

    return llcf->jwt_key ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_lunary_buffers(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_lunary_loc_conf_t *llcf = conf;

    ssize_t     size;
    ngx_str_t  *arg, value;

    if (llcf->buffer_size != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    arg = cf->args->elts;
    size = ngx_parse_size(&arg[1]);

    if (size == NGX_ERROR || size < 1024) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\" in \"lunary_buffers\", "
                           "expected at least 1k", &arg[1]);
        return NGX_CONF_ERROR;
    }

    llcf->buffer_size = size;
    llcf->buffers_max = ngx_max(size, 1024 * 1024);

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    if (!ngx_http_lunary_param(&arg[2], "max=", &value)) {
        return ngx_http_lunary_invalid(cf, &arg[2], "\"max=\"");
    }

    size = ngx_parse_size(&value);

    if (size == NGX_ERROR || (size_t) size < llcf->buffer_size) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size in \"%V\" of \"lunary_buffers\", "
                           "expected no less than the first size", &arg[2]);
        return NGX_CONF_ERROR;
    }

    llcf->buffers_max = size;

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_lunary_loc_conf_t *llcf = conf;

    char       *rv;
    ngx_str_t  *value;

    rv = ngx_http_lunary_handle(cf, llcf, ngx_http_lunary_status_handler);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "ready") != 0) {
        return ngx_http_lunary_invalid(cf, &value[1], "\"ready\"");
    }

    llcf->status = cf->args->nelts;

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_invalid(ngx_conf_t *cf, ngx_str_t *arg, const char *expected)
{
    ngx_str_t *directive = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\" in \"%V\", expected %s",
                       arg, directive, expected);

    return NGX_CONF_ERROR;
}


static ngx_uint_t
ngx_http_lunary_param(ngx_str_t *arg, const char *name, ngx_str_t *value)
{
    size_t  len;

    len = ngx_strlen(name);

    if (arg->len < len || ngx_strncmp(arg->data, name, len) != 0) {
        return 0;
    }

    value->data = arg->data + len;
    value->len = arg->len - len;

    return 1;
}


static char *
ngx_http_lunary_number(ngx_conf_t *cf, ngx_str_t *arg, ngx_str_t *value,
    ngx_uint_t *n)
{
    ngx_int_t  rc;

    rc = ngx_atoi(value->data, value->len);

    if (rc < 1 || rc > 65535) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number in \"%V\", expected 1 to 65535",
                           arg);
        return NGX_CONF_ERROR;
    }

    *n = rc;

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_time(ngx_conf_t *cf, ngx_str_t *arg, ngx_str_t *value,
    ngx_msec_t *time)
{
    ngx_int_t  rc;

    rc = ngx_parse_time(value, 0);

    if (rc == NGX_ERROR || rc == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time in \"%V\", expected a time "
                           "greater than zero", arg);
        return NGX_CONF_ERROR;
    }

    *time = rc;

    return NGX_CONF_OK;
}


static char *
ngx_http_lunary_positive_time(ngx_conf_t *cf, void *post, void *data)
{
    ngx_msec_t *time = data;

    return *time ? NGX_CONF_OK : "must be greater than zero";
}
