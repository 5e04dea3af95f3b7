
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_sha1.h>
#include <libpq-fe.h>
#include "ngx_lunary_conninfo.h"


/* what the module sets itself for each connection, see ngx_lunary_hosts.c */
#define NGX_LUNARY_CONNINFO_MAX  64


typedef struct {
    const char  *keyword;
    const char  *values;      /* each between bars, NULL: a number */
    char        *reason;
} ngx_lunary_conninfo_rule_t;


static char *ngx_lunary_conninfo_text_reason(const char *text);
static char *ngx_lunary_conninfo_options(ngx_pool_t *pool,
    PQconninfoOption *options, ngx_lunary_conninfo_t *ci);
static char *ngx_lunary_conninfo_check(const char *keyword, const char *value);
static ngx_uint_t ngx_lunary_conninfo_is_number(const char *value);
static char *ngx_lunary_conninfo_files(ngx_lunary_conninfo_t *ci);
static char *ngx_lunary_conninfo_hosts(ngx_pool_t *pool,
    PQconninfoOption *options, ngx_lunary_conninfo_t *ci);
static char *ngx_lunary_conninfo_host(ngx_pool_t *pool,
    ngx_lunary_host_t *host);
static char *ngx_lunary_conninfo_label(ngx_pool_t *pool,
    ngx_lunary_host_t *host);
static ngx_uint_t ngx_lunary_conninfo_count(const char *list);
static char *ngx_lunary_conninfo_item(ngx_pool_t *pool, const char *list,
    ngx_uint_t n, char **item);
static const char *ngx_lunary_conninfo_find(PQconninfoOption *options,
    const char *keyword);
static char *ngx_lunary_conninfo_copy(ngx_pool_t *pool, const char *value,
    size_t len);


/* libpq looks at these only when it connects */

static ngx_lunary_conninfo_rule_t  ngx_lunary_conninfo_rules[] = {

    { "sslmode", "|disable|allow|prefer|require|verify-ca|verify-full|",
      "\"sslmode\" must be disable, allow, prefer, require, verify-ca, "
      "or verify-full" },

    { "channel_binding", "|disable|prefer|require|",
      "\"channel_binding\" must be disable, prefer, or require" },

    { "target_session_attrs",
      "|any|read-write|read-only|primary|standby|prefer-standby|",
      "\"target_session_attrs\" must be any, read-write, read-only, "
      "primary, standby, or prefer-standby" },

    { "gssencmode", "|disable|prefer|",
      "\"gssencmode\" must be disable, as GSSAPI may block a worker" },

    { "client_encoding", "|UTF8|utf8|UTF-8|utf-8|",
      "\"client_encoding\" must be UTF8" },

    { "ssl_min_protocol_version", "|TLSv1|TLSv1.1|TLSv1.2|TLSv1.3|",
      "\"ssl_min_protocol_version\" must be TLSv1, TLSv1.1, TLSv1.2, "
      "or TLSv1.3" },

    { "ssl_max_protocol_version", "|TLSv1|TLSv1.1|TLSv1.2|TLSv1.3|",
      "\"ssl_max_protocol_version\" must be TLSv1, TLSv1.1, TLSv1.2, "
      "or TLSv1.3" },

    { "service", "||",
      "\"service\" is not supported, name the hosts" },

    { "replication", "|false|off|no|0|",
      "\"replication\" is not supported" },

    { "keepalives", "|0|1|", "\"keepalives\" must be 0 or 1" },
    { "sslcompression", "|0|1|", "\"sslcompression\" must be 0 or 1" },
    { "sslsni", "|0|1|", "\"sslsni\" must be 0 or 1" },

    { "keepalives_idle", NULL, "\"keepalives_idle\" must be a number" },
    { "keepalives_interval", NULL,
      "\"keepalives_interval\" must be a number" },
    { "keepalives_count", NULL, "\"keepalives_count\" must be a number" },
    { "tcp_user_timeout", NULL, "\"tcp_user_timeout\" must be a number" },
    { "connect_timeout", NULL, "\"connect_timeout\" must be a number" },

    { NULL, NULL, NULL }
};


/* libpq's own texts quote what they complain of, a password perhaps */

static ngx_lunary_conninfo_rule_t  ngx_lunary_conninfo_texts[] = {

    { "missing \"=\"", NULL, "a keyword has no \"=\" after it" },
    { "unterminated quoted", NULL, "a quoted value has no closing quote" },
    { "invalid connection option", NULL, "a keyword is unknown to libpq" },
    { "invalid URI query parameter", NULL,
      "a parameter of the URI is unknown to libpq" },
    { "invalid percent-encoded", NULL,
      "the URI has an invalid percent-encoding" },
    { "forbidden value", NULL, "the URI has an invalid percent-encoding" },
    { "missing key/value", NULL, "a parameter of the URI has no value" },
    { "extra key/value", NULL, "a parameter of the URI has two \"=\"" },
    { "end of string reached", NULL, "the URI has a \"[\" without a \"]\"" },
    { "IPv6 host address", NULL, "the URI has an empty IPv6 address" },
    { "unexpected character", NULL,
      "the URI has an unexpected character after the host" },

    { NULL, NULL, "it is neither a libpq connection string nor a URI" }
};


char *
ngx_lunary_conninfo_parse(ngx_pool_t *pool, ngx_str_t *text,
    ngx_lunary_conninfo_t *ci)
{
    char              *error, *reason, *str;
    PQconninfoOption  *options;

    if (text->len == 0) {
        return "it is empty";
    }

    str = ngx_lunary_conninfo_copy(pool, (char *) text->data, text->len);
    if (str == NULL) {
        return "no memory";
    }

    if (ngx_strlen(str) != text->len) {
        return "it holds a zero byte";
    }

    error = NULL;
    options = PQconninfoParse(str, &error);

    if (options == NULL) {
        reason = ngx_lunary_conninfo_text_reason(error);

        if (error) {
            PQfreemem(error);
        }

        return reason;
    }

    reason = ngx_lunary_conninfo_options(pool, options, ci);

    ci->database.data = (u_char *) ngx_lunary_conninfo_value(ci, "dbname");

    if (ci->database.data == NULL) {
        ci->database.data = (u_char *) ngx_lunary_conninfo_value(ci, "user");
    }

    if (ci->database.data) {
        ci->database.len = ngx_strlen(ci->database.data);
    }

    if (reason == NULL) {
        reason = ngx_lunary_conninfo_hosts(pool, options, ci);
    }

    PQconninfoFree(options);

    if (reason == NULL) {
        reason = ngx_lunary_conninfo_files(ci);
    }

    return reason;
}


static char *
ngx_lunary_conninfo_text_reason(const char *text)
{
    ngx_lunary_conninfo_rule_t  *rule;

    if (text == NULL) {
        return "no memory";
    }

    for (rule = ngx_lunary_conninfo_texts; rule->keyword; rule++) {
        if (ngx_strncmp(text, rule->keyword, ngx_strlen(rule->keyword)) == 0) {
            break;
        }
    }

    return rule->reason;
}


static char *
ngx_lunary_conninfo_options(ngx_pool_t *pool, PQconninfoOption *options,
    ngx_lunary_conninfo_t *ci)
{
    char              *reason;
    u_char             digest[20];
    ngx_sha1_t         sha1;
    PQconninfoOption  *o;

    ci->n = 0;
    ci->session = NULL;
    ci->tls = 0;

    ci->keywords = ngx_pcalloc(pool, NGX_LUNARY_CONNINFO_MAX * sizeof(char *));
    ci->values = ngx_pcalloc(pool, NGX_LUNARY_CONNINFO_MAX * sizeof(char *));

    if (ci->keywords == NULL || ci->values == NULL) {
        return "no memory";
    }

    ngx_sha1_init(&sha1);

    for (o = options; o->keyword; o++) {

        if (o->val == NULL) {
            continue;
        }

        reason = ngx_lunary_conninfo_check(o->keyword, o->val);
        if (reason) {
            return reason;
        }

        ngx_sha1_update(&sha1, o->keyword, ngx_strlen(o->keyword) + 1);
        ngx_sha1_update(&sha1, o->val, ngx_strlen(o->val) + 1);

        if (o->val[0] == '\0'
            || ngx_strcmp(o->keyword, "host") == 0
            || ngx_strcmp(o->keyword, "hostaddr") == 0
            || ngx_strcmp(o->keyword, "port") == 0
            || ngx_strcmp(o->keyword, "gssencmode") == 0
            || ngx_strcmp(o->keyword, "client_encoding") == 0
            || ngx_strcmp(o->keyword, "connect_timeout") == 0)
        {
            continue;
        }

        if (ci->n == NGX_LUNARY_CONNINFO_MAX) {
            return "it has too many parameters";
        }

        ci->keywords[ci->n] = ngx_lunary_conninfo_copy(pool, o->keyword,
                                                   ngx_strlen(o->keyword));
        ci->values[ci->n] = ngx_lunary_conninfo_copy(pool, o->val,
                                                     ngx_strlen(o->val));

        if (ci->keywords[ci->n] == NULL || ci->values[ci->n] == NULL) {
            return "no memory";
        }

        if (ngx_strcmp(o->keyword, "target_session_attrs") == 0) {
            ci->session = ci->values[ci->n];
            continue;
        }

        if (ngx_strcmp(o->keyword, "sslmode") == 0
            && (o->val[0] == 'r' || o->val[0] == 'v'))
        {
            ci->tls = 1;
        }

        ci->n++;
    }

    ngx_sha1_final(digest, &sha1);
    ngx_memcpy(ci->hash, digest, sizeof(ci->hash));

    return NULL;
}


static char *
ngx_lunary_conninfo_check(const char *keyword, const char *value)
{
    size_t                       len;
    const char                  *p;
    ngx_lunary_conninfo_rule_t  *rule;

    if (value[0] == '\0') {
        return NULL;
    }

    for (rule = ngx_lunary_conninfo_rules; rule->keyword; rule++) {

        if (ngx_strcmp(keyword, rule->keyword) != 0) {
            continue;
        }

        if (rule->values == NULL) {
            return ngx_lunary_conninfo_is_number(value) ? NULL : rule->reason;
        }

        /* the bars are the rule's: none is before the first */

        if (ngx_strchr(value, '|')) {
            return rule->reason;
        }

        len = ngx_strlen(value);

        for (p = rule->values; (p = ngx_strstr(p, value)) != NULL; p++) {
            if (p[-1] == '|' && p[len] == '|') {
                return NULL;
            }
        }

        return rule->reason;
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


/* a file that is named must be there: libpq would tell at each connection */

static char *
ngx_lunary_conninfo_files(ngx_lunary_conninfo_t *ci)
{
    char             *file;
    ngx_uint_t        i;
    ngx_file_info_t   fi;

    static const char  *keywords[] = { "sslrootcert", "sslcert", "sslkey",
                                       "sslcrl", "passfile", "sslcrldir",
                                       NULL };
    static char        *reasons[] = {
        "the file of \"sslrootcert\" cannot be found",
        "the file of \"sslcert\" cannot be found",
        "the file of \"sslkey\" cannot be found",
        "the file of \"sslcrl\" cannot be found",
        "the file of \"passfile\" cannot be found",
        "the directory of \"sslcrldir\" cannot be found"
    };

    for (i = 0; keywords[i]; i++) {
        file = ngx_lunary_conninfo_value(ci, keywords[i]);

        if (file == NULL || ngx_strcmp(file, "system") == 0) {
            continue;
        }

        if (ngx_file_info(file, &fi) == NGX_FILE_ERROR
            || (ngx_strcmp(keywords[i], "sslcrldir") == 0 && !ngx_is_dir(&fi)))
        {
            return reasons[i];
        }
    }

#if !(NGX_OPENSSL)
    if (ci->tls) {
        return "this nginx was built without TLS, "
               "\"sslmode\" can be disable only";
    }
#endif

    return NULL;
}


char *
ngx_lunary_conninfo_value(ngx_lunary_conninfo_t *ci, const char *keyword)
{
    ngx_uint_t  i;

    for (i = 0; i < ci->n; i++) {
        if (ngx_strcmp(ci->keywords[i], keyword) == 0) {
            return ci->values[i];
        }
    }

    return NULL;
}


static char *
ngx_lunary_conninfo_hosts(ngx_pool_t *pool, PQconninfoOption *options,
    ngx_lunary_conninfo_t *ci)
{
    char               *reason;
    ngx_uint_t          i, n, nhosts, naddrs, nports;
    const char         *hosts, *addrs, *ports;
    ngx_lunary_host_t  *host;

    hosts = ngx_lunary_conninfo_find(options, "host");
    addrs = ngx_lunary_conninfo_find(options, "hostaddr");
    ports = ngx_lunary_conninfo_find(options, "port");

    nhosts = ngx_lunary_conninfo_count(hosts);
    naddrs = ngx_lunary_conninfo_count(addrs);
    nports = ngx_lunary_conninfo_count(ports);

    if (nhosts && naddrs && nhosts != naddrs) {
        return "\"host\" and \"hostaddr\" differ in number";
    }

    n = ngx_max(ngx_max(nhosts, naddrs), 1);

    if (nports > 1 && nports != n) {
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

        reason = ngx_lunary_conninfo_item(pool, hosts, i, &host->host);

        if (reason == NULL) {
            reason = ngx_lunary_conninfo_item(pool, addrs, i, &host->hostaddr);
        }

        if (reason == NULL) {
            reason = ngx_lunary_conninfo_item(pool, ports,
                                              nports == 1 ? 0 : i,
                                              &host->port);
        }

        if (reason == NULL) {
            reason = ngx_lunary_conninfo_host(pool, host);
        }

        if (reason) {
            return reason;
        }
    }

    return NULL;
}


static char *
ngx_lunary_conninfo_host(ngx_pool_t *pool, ngx_lunary_host_t *host)
{
    ngx_int_t   port;
    ngx_addr_t  addr;

    if (host->port) {
        port = ngx_atoi((u_char *) host->port, ngx_strlen(host->port));

        if (port < 1 || port > 65535) {
            return "\"port\" must be between 1 and 65535";
        }
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

    return ngx_lunary_conninfo_label(pool, host);
}


static char *
ngx_lunary_conninfo_label(ngx_pool_t *pool, ngx_lunary_host_t *host)
{
    char    *name, *port;
    size_t   len;

    name = host->host ? host->host
                      : host->hostaddr ? host->hostaddr : "local socket";
    port = host->port ? host->port : "5432";

    len = ngx_strlen(name) + 1 + ngx_strlen(port);

    host->label.data = ngx_pnalloc(pool, len);
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
    ngx_sha1_update(&sha1, ci->hash, sizeof(ci->hash));

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


static ngx_uint_t
ngx_lunary_conninfo_count(const char *list)
{
    ngx_uint_t  n;

    if (list == NULL || *list == '\0') {
        return 0;
    }

    for (n = 1; *list; list++) {
        if (*list == ',') {
            n++;
        }
    }

    return n;
}


static char *
ngx_lunary_conninfo_item(ngx_pool_t *pool, const char *list, ngx_uint_t n,
    char **item)
{
    const char  *p;

    *item = NULL;

    if (list == NULL) {
        return NULL;
    }

    for ( /* void */ ; n; n--) {
        list = ngx_strchr(list, ',');

        if (list == NULL) {
            return NULL;
        }

        list++;
    }

    p = ngx_strchr(list, ',');

    if (p == NULL) {
        p = list + ngx_strlen(list);
    }

    if (p == list) {
        return NULL;
    }

    *item = ngx_lunary_conninfo_copy(pool, list, p - list);

    return *item ? NULL : "no memory";
}


static const char *
ngx_lunary_conninfo_find(PQconninfoOption *options, const char *keyword)
{
    PQconninfoOption  *o;

    for (o = options; o->keyword; o++) {
        if (ngx_strcmp(o->keyword, keyword) == 0) {
            return o->val;
        }
    }

    return NULL;
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
