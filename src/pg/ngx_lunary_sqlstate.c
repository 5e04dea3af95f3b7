
#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_lunary_sqlstate.h"


ngx_lunary_error_e
ngx_lunary_sqlstate_error(const char *sqlstate)
{
    static const char  *unavailable[] = {
        "08", "28", "53", "3D000", "57P01", "57P02", "57P03", "57P04", "57P05",
        "40001", "40P01", NULL
    };

    ngx_uint_t  i;

    for (i = 0; unavailable[i]; i++) {
        if (ngx_strncmp(sqlstate, unavailable[i], ngx_strlen(unavailable[i]))
            == 0)
        {
            return NGX_LUNARY_ERROR_UNAVAILABLE;
        }
    }

    if (ngx_strcmp(sqlstate, "26000") == 0
        || ngx_strcmp(sqlstate, "42P05") == 0
        || ngx_strcmp(sqlstate, "0A000") == 0)
    {
        return NGX_LUNARY_ERROR_PREPARE;
    }

    if (ngx_strcmp(sqlstate, "57014") == 0
        || ngx_strcmp(sqlstate, "55P03") == 0)
    {
        return NGX_LUNARY_ERROR_TIMEOUT;
    }

    if (ngx_strncmp(sqlstate, "42", 2) == 0) {
        return NGX_LUNARY_ERROR_SCHEMA;
    }

    return NGX_LUNARY_ERROR_FAILED;
}


ngx_uint_t
ngx_lunary_sqlstate_is_loggable(const char *sqlstate)
{
    ngx_uint_t  i;

    static const char  *loggable[] = { "08", "0A", "25", "26", "28", "3D", "40",
                                   "42", "53", "55", "57", NULL };

    if (*sqlstate == '\0') {
        return 1;
    }

    for (i = 0; loggable[i]; i++) {
        if (ngx_strncmp(sqlstate, loggable[i], 2) == 0) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_lunary_sqlstate_class(const char *sqlstate)
{
    ngx_uint_t  i, n, d;

    n = 0;

    for (i = 0; i < 2; i++) {

        if (sqlstate[i] >= '0' && sqlstate[i] <= '9') {
            d = sqlstate[i] - '0';

        } else if (sqlstate[i] >= 'A' && sqlstate[i] <= 'Z') {
            d = sqlstate[i] - 'A' + 10;

        } else {
            return 0;
        }

        n = n * 36 + d;
    }

    return n;
}


/* 'connection to server ... failed: FATAL:  53300: sorry, too many ...' */

void
ngx_lunary_sqlstate_find(const char *text, char *sqlstate)
{
    ngx_uint_t   i;
    const char  *p;

    for (p = text; *p; p++) {

        p = ngx_strstr(p, ":  ");
        if (p == NULL) {
            return;
        }

        for (i = 3; i < 8; i++) {
            if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'A' && p[i] <= 'Z')))
            {
                break;
            }
        }

        if (i == 8 && p[8] == ':') {
            ngx_cpystrn((u_char *) sqlstate, (u_char *) p + 3,
                        NGX_LUNARY_SQLSTATE_LEN);
            return;
        }
    }
}
