
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_sha1.h>
#include "ngx_lunary_conninfo.h"


typedef struct {
    const char  *keyword;
    const char  *values;      /* NULL: a number; "": none is accepted */
} ngx_lunary_conninfo_rule_t;


static void ngx_lunary_conninfo_cleanup(void *data);
static char *ngx_lunary_conninfo_text_reason(const char *text);
static char *ngx_lunary_conninfo_check(ngx_pool_t *pool,
    ngx_lunary_conninfo_t *ci);
static ngx_uint_t ngx_lunary_conninfo_is_number(const char *value);
static ngx_uint_t ngx_lunary_conninfo_is_listed(const char *value,
    const char *list);
static char *ngx_lunary_conninfo_files(ngx_pool_t *pool,
    ngx_lunary_conninfo_t *ci);
static char *ngx_lunary_conninfo_reason(ngx_pool_t *pool, const char *format,
    const char *keyword, const char *values);
static char *ngx_lunary_conninfo_hosts(ngx_pool_t *pool,
    ngx_lunary_conninfo_t *ci);
static char *ngx_lunary_conninfo_host(ngx_pool_t *pool,
    ngx_lunary_host_t *host);
static ngx_int_t ngx_lunary_conninfo_list(ngx_pool_t *pool,
    ngx_lunary_conninfo_t *ci, const char *keyword, ngx_array_t *list);
static char *ngx_lunary_conninfo_item(ngx_array_t *list, ngx_uint_t i);
static char *ngx_lunary_conninfo_copy(ngx_pool_t *pool, const char *value,
    size_t len);


/* libpq looks at these only when it connects */

static const ngx_lunary_conninfo_rule_t  ngx_lunary_conninfo_rules[] = {
    { "sslmode", "disable allow prefer require verify-ca verify-full" },
    { "channel_binding", "disable prefer require" },
    { "target_session_attrs",
      "any read-write read-only primary standby prefer-standby" },
    { "ssl_min_protocol_version", "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3" },
    { "ssl_max_protocol_version", "TLSv1 TLSv1.1 TLSv1.2 TLSv1.3" },
    { "keepalives", "0 1" },
    { "sslcompression", "0 1" },
    { "sslsni", "0 1" },
    { "keepalives_idle", NULL },
    { "keepalives_interval", NULL },
    { "keepalives_count", NULL },
    { "tcp_user_timeout", NULL },
    { "connect_timeout", NULL },

    /* GSSAPI may block a worker */
    { "gssencmode", "disable prefer" },

    { "client_encoding", "UTF8 utf8 UTF-8 utf-8" },
    { "replication", "" },
    { "service", "" },
    { NULL, NULL }
};


/*
 * How libpq's texts on a string begin; what follows quotes the string, a
 * password perhaps
 */

static char  *ngx_lunary_conninfo_texts[] = {
    "missing \"=\"",
    "unterminated quoted string",
    "invalid connection option",
    "invalid URI query parameter",
    "invalid percent-encoded token",
    "forbidden value %00 in percent-encoded value",
    "missing key/value separator \"=\" in URI query parameter",
    "extra key/value separator \"=\" in URI query parameter",
    "end of string reached when looking for matching \"]\"",
    "IPv6 host address may not be empty",
    "unexpected character",
    NULL
};


char *
ngx_lunary_conninfo_parse(ngx_pool_t *pool, ngx_str_t *text,
    ngx_lunary_conninfo_t *ci)
{
    char                *error, *reason, *name;
    ngx_pool_cleanup_t  *cln;

    if (text->len == 0) {
        return "it is empty";
    }

    if (ngx_strlen(text->data) != text->len) {
        return "it holds a zero byte";
    }

    cln = ngx_pool_cleanup_add(pool, 0);
    if (cln == NULL) {
        return "no memory";
    }

    error = NULL;

    ci->text = *text;
    ci->options = PQconninfoParse((char *) text->data, &error);

    if (ci->options == NULL) {
        reason = ngx_lunary_conninfo_text_reason(error);
        PQfreemem(error);

        return reason;
    }

    cln->handler = ngx_lunary_conninfo_cleanup;
    cln->data = ci->options;

    reason = ngx_lunary_conninfo_check(pool, ci);

    if (reason == NULL) {
        reason = ngx_lunary_conninfo_hosts(pool, ci);
    }

    if (reason == NULL) {
        reason = ngx_lunary_conninfo_files(pool, ci);
    }

    name = ngx_lunary_conninfo_value(ci, "dbname");

    if (name == NULL) {
        name = ngx_lunary_conninfo_value(ci, "user");
    }

    if (name) {
        ci->database.data = (u_char *) name;
        ci->database.len = ngx_strlen(name);
    }

    return reason;
}


static void
ngx_lunary_conninfo_cleanup(void *data)
{
    PQconninfoFree(data);
}


static char *
ngx_lunary_conninfo_text_reason(const char *text)
{
    char  **t;

    if (text == NULL) {
        return "no memory";
    }

    for (t = ngx_lunary_conninfo_texts; *t; t++) {
        if (ngx_strncmp(text, *t, ngx_strlen(*t)) == 0) {
            return *t;
        }
    }

    return "it is neither a libpq connection string nor a URI";
}


static char *
ngx_lunary_conninfo_check(ngx_pool_t *pool, ngx_lunary_conninfo_t *ci)
{
    char                              *value;
    const ngx_lunary_conninfo_rule_t  *rule;

    for (rule = ngx_lunary_conninfo_rules; rule->keyword; rule++) {

        value = ngx_lunary_conninfo_value(ci, rule->keyword);

        if (value == NULL) {
            continue;
        }

        if (rule->values == NULL) {

            if (!ngx_lunary_conninfo_is_number(value)) {
                return ngx_lunary_conninfo_reason(pool,
                                       "\"%s\" must be a number%Z",
                                       rule->keyword, "");
            }

        } else if (!ngx_lunary_conninfo_is_listed(value, rule->values)) {
            return ngx_lunary_conninfo_reason(pool, *rule->values
                                       ? "\"%s\" must be one of: %s%Z"
                                       : "\"%s\" is not supported%s%Z",
                                       rule->keyword, rule->values);
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_lunary_conninfo_is_number(const char *value)
{
    if (*value == '-') {
        value++;
    }

    return *value && ngx_atoi((u_char *) value, ngx_strlen(value)) != NGX_ERROR;
}


static ngx_uint_t
ngx_lunary_conninfo_is_listed(const char *value, const char *list)
{
    size_t       len;
    const char  *p;

    if (ngx_strchr(value, ' ')) {
        return 0;
    }

    len = ngx_strlen(value);

    for (p = list; (p = ngx_strstr(p, value)) != NULL; p++) {
        if ((p == list || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0')) {
            return 1;
        }
    }

    return 0;
}


/* a file that is named must be there: libpq would tell at each connection */

static char *
ngx_lunary_conninfo_files(ngx_pool_t *pool, ngx_lunary_conninfo_t *ci)
{
    char             *file;
    ngx_uint_t        i, dir;
    ngx_file_info_t   fi;

    static const char  *keywords[] = { "sslrootcert", "sslcert", "sslkey",
                                       "sslcrl", "passfile", "sslcrldir",
                                       NULL };

    for (i = 0; keywords[i]; i++) {
        file = ngx_lunary_conninfo_value(ci, keywords[i]);

        if (file == NULL || ngx_strcmp(file, "system") == 0) {
            continue;
        }

        dir = (ngx_strcmp(keywords[i], "sslcrldir") == 0);

        if (ngx_file_info(file, &fi) == NGX_FILE_ERROR
            || (dir && !ngx_is_dir(&fi)))
        {
            return ngx_lunary_conninfo_reason(pool, dir
                                ? "the directory of \"%s\" cannot be found%Z"
                                : "the file of \"%s\" cannot be found%Z",
                                keywords[i], "");
        }
    }

#if !(NGX_OPENSSL)
    file = ngx_lunary_conninfo_value(ci, "sslmode");

    if (file && (*file == 'r' || *file == 'v')) {
        return "this nginx was built without TLS, "
               "\"sslmode\" can be disable only";
    }
#endif

    return NULL;
}


static char *
ngx_lunary_conninfo_reason(ngx_pool_t *pool, const char *format,
    const char *keyword, const char *values)
{
    u_char  *p;

    p = ngx_pnalloc(pool, ngx_strlen(format) + ngx_strlen(keyword)
                          + ngx_strlen(values));
    if (p == NULL) {
        return "no memory";
    }

    (void) ngx_sprintf(p, format, keyword, values);

    return (char *) p;
}


char *
ngx_lunary_conninfo_value(ngx_lunary_conninfo_t *ci, const char *keyword)
{
    PQconninfoOption  *o;

    for (o = ci->options; o->keyword; o++) {
        if (ngx_strcmp(o->keyword, keyword) == 0) {
            return (o->val && *o->val) ? o->val : NULL;
        }
    }

    return NULL;
}


static char *
ngx_lunary_conninfo_hosts(ngx_pool_t *pool, ngx_lunary_conninfo_t *ci)
{
    char               *reason;
    ngx_uint_t          i, n;
    ngx_array_t         hosts, addrs, ports;
    ngx_lunary_host_t  *host;

    if (ngx_lunary_conninfo_list(pool, ci, "host", &hosts) != NGX_OK
        || ngx_lunary_conninfo_list(pool, ci, "hostaddr", &addrs) != NGX_OK
        || ngx_lunary_conninfo_list(pool, ci, "port", &ports) != NGX_OK)
    {
        return "no memory";
    }

    if (hosts.nelts && addrs.nelts && hosts.nelts != addrs.nelts) {
        return "\"host\" and \"hostaddr\" differ in number";
    }

    n = ngx_max(ngx_max(hosts.nelts, addrs.nelts), 1);

    if (ports.nelts > 1 && ports.nelts != n) {
        return "\"port\" must be one, or as many as there are hosts";
    }

    if (ngx_array_init(&ci->hosts, pool, n, sizeof(ngx_lunary_host_t))
        != NGX_OK)
    {
        return "no memory";
    }

    for (i = 0; i < n; i++) {
        host = ngx_array_push(&ci->hosts);
        if (host == NULL) {
            return "no memory";
        }

        ngx_memzero(host, sizeof(ngx_lunary_host_t));

        host->host = ngx_lunary_conninfo_item(&hosts, i);
        host->hostaddr = ngx_lunary_conninfo_item(&addrs, i);
        host->port = ngx_lunary_conninfo_item(&ports,
                                              ports.nelts == 1 ? 0 : i);

        reason = ngx_lunary_conninfo_host(pool, host);

        if (reason) {
            return reason;
        }
    }

    return NULL;
}


static char *
ngx_lunary_conninfo_host(ngx_pool_t *pool, ngx_lunary_host_t *host)
{
    char        *name, *port;
    ngx_int_t    n;
    ngx_addr_t   addr;

    port = host->port ? host->port : "5432";
    n = ngx_atoi((u_char *) port, ngx_strlen(port));

    if (n < 1 || n > 65535) {
        return "\"port\" must be between 1 and 65535";
    }

    if (host->hostaddr
        && ngx_parse_addr(pool, &addr, (u_char *) host->hostaddr,
                          ngx_strlen(host->hostaddr))
           != NGX_OK)
    {
        return "\"hostaddr\" must be an IPv4 or IPv6 address";
    }

    if (host->host && host->hostaddr == NULL
        && host->host[0] != '/' && host->host[0] != '@')
    {
        if (ngx_parse_addr(pool, &addr, (u_char *) host->host,
                           ngx_strlen(host->host))
            == NGX_OK)
        {
            /* spares libpq the look at it */
            host->hostaddr = host->host;

        } else {
            /* one of its own: nginx's resolver lower-cases it in place */

            host->name.len = ngx_strlen(host->host);
            host->name.data = (u_char *) ngx_lunary_conninfo_copy(pool,
                                             host->host, host->name.len);

            if (host->name.data == NULL) {
                return "no memory";
            }
        }
    }

    name = host->host ? host->host
                      : host->hostaddr ? host->hostaddr : "local socket";

    host->label.data = ngx_pnalloc(pool, ngx_strlen(name) + 1
                                         + ngx_strlen(port));
    if (host->label.data == NULL) {
        return "no memory";
    }

    host->label.len = ngx_sprintf(host->label.data, "%s:%s", name, port)
                      - host->label.data;

    return NULL;
}


char *
ngx_lunary_conninfo_resolve(ngx_conf_t *cf, ngx_lunary_conninfo_t *ci,
    ngx_str_t *failed)
{
    char               **addr;
    u_char               text[NGX_SOCKADDR_STRLEN];
    size_t               len;
    ngx_url_t            u;
    ngx_uint_t           i, k;
    ngx_lunary_host_t   *host;

    host = ci->hosts.elts;

    for (i = 0; i < ci->hosts.nelts; i++) {

        if (host[i].name.len == 0 || host[i].addrs) {
            continue;
        }

        *failed = host[i].label;

        ngx_memzero(&u, sizeof(ngx_url_t));
        u.host = host[i].name;
        u.default_port = 5432;

        if (ngx_inet_resolve_host(cf->pool, &u) != NGX_OK) {
            return u.err ? u.err : "host not found";
        }

        host[i].addrs = ngx_array_create(cf->pool, u.naddrs, sizeof(char *));
        if (host[i].addrs == NULL) {
            return "no memory";
        }

        for (k = 0; k < u.naddrs; k++) {
            len = ngx_sock_ntop(u.addrs[k].sockaddr, u.addrs[k].socklen, text,
                                NGX_SOCKADDR_STRLEN, 0);

            addr = ngx_array_push(host[i].addrs);
            if (addr == NULL) {
                return "no memory";
            }

            *addr = ngx_lunary_conninfo_copy(cf->pool, (char *) text, len);

            if (*addr == NULL) {
                return "no memory";
            }
        }
    }

    return NULL;
}


void
ngx_lunary_conninfo_database(ngx_lunary_conninfo_t *ci,
    ngx_resolver_t *resolver, uint64_t *database)
{
    u_char                      digest[20];
    ngx_uint_t                  i;
    ngx_sha1_t                  sha1;
    ngx_lunary_host_t          *host;
    ngx_resolver_connection_t  *server;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, ci->text.data, ci->text.len);

    host = ci->hosts.elts;

    for (i = 0; i < ci->hosts.nelts; i++) {
        if (host[i].name.len) {
            break;
        }
    }

    if (resolver && i < ci->hosts.nelts) {

#if (angie_version >= 1012000)

        for (server = resolver->connections; server; server = server->next) {
            ngx_sha1_update(&sha1, server->sockaddr, server->socklen);
        }

#else

        server = resolver->connections.elts;

        for (i = 0; i < resolver->connections.nelts; i++) {
            ngx_sha1_update(&sha1, server[i].sockaddr, server[i].socklen);
        }

#endif
    }

    ngx_sha1_final(digest, &sha1);
    ngx_memcpy(database, digest, 2 * sizeof(uint64_t));
}


ngx_uint_t
ngx_lunary_conninfo_is_multiple(ngx_lunary_conninfo_t *ci)
{
    ngx_lunary_host_t  *host;

    host = ci->hosts.elts;

    /* a name may have several addresses, now or later */

    return ci->hosts.nelts > 1 || host->name.len;
}


/* the items of a list between commas, an empty one is NULL */

static ngx_int_t
ngx_lunary_conninfo_list(ngx_pool_t *pool, ngx_lunary_conninfo_t *ci,
    const char *keyword, ngx_array_t *list)
{
    char    **item, *p;
    size_t    len;

    if (ngx_array_init(list, pool, 4, sizeof(char *)) != NGX_OK) {
        return NGX_ERROR;
    }

    p = ngx_lunary_conninfo_value(ci, keyword);

    while (p) {
        item = ngx_array_push(list);
        if (item == NULL) {
            return NGX_ERROR;
        }

        len = strcspn(p, ",");
        *item = NULL;

        if (len) {
            *item = ngx_lunary_conninfo_copy(pool, p, len);
            if (*item == NULL) {
                return NGX_ERROR;
            }
        }

        p = p[len] ? p + len + 1 : NULL;
    }

    return NGX_OK;
}


static char *
ngx_lunary_conninfo_item(ngx_array_t *list, ngx_uint_t i)
{
    char  **items;

    items = list->elts;

    return (i < list->nelts) ? items[i] : NULL;
}


static char *
ngx_lunary_conninfo_copy(ngx_pool_t *pool, const char *value, size_t len)
{
    char  *copy;

    copy = ngx_pnalloc(pool, len + 1);

    if (copy) {
        ngx_memcpy(copy, value, len);
        copy[len] = '\0';
    }

    return copy;
}
