
/*
 * For LD_AUDIT: makes calls of the module to nginx, libpq and the C library
 * fail.  Otherwise ngx_palloc() would never fail in a pool with free space.
 */


#define _GNU_SOURCE
#include <link.h>
#include <string.h>
#include "fail.h"


/* the name, and the return value of a failure */

#define CALLS(X)                                                              \
    X(ngx_palloc, 0)                                                          \
    X(ngx_pnalloc, 0)                                                         \
    X(ngx_pcalloc, 0)                                                         \
    X(ngx_pool_cleanup_add, 0)                                                \
    X(ngx_array_create, 0)                                                    \
    X(ngx_array_push, 0)                                                      \
    X(ngx_list_push, 0)                                                       \
    X(ngx_alloc_chain_link, 0)                                                \
    X(ngx_create_temp_buf, 0)                                                 \
    X(ngx_write_chain_to_temp_file, -1)                                       \
    X(ngx_slab_alloc_locked, 0)                                               \
    X(ngx_slab_calloc, 0)                                                     \
    X(ngx_shared_memory_add, 0)                                               \
    X(ngx_conf_merge_path_value, -1)                                          \
    X(ngx_get_connection, 0)                                                  \
    X(ngx_handle_read_event, -1)                                              \
    X(ngx_handle_write_event, -1)                                             \
    X(ngx_resolve_start, 0)                                                   \
    X(ngx_resolve_name, -1)                                                   \
    X(ngx_http_add_variable, 0)                                               \
    X(ngx_http_set_complex_value_slot, -1)                                    \
    X(ngx_http_complex_value, -1)                                             \
    X(ngx_http_cleanup_add, 0)                                                \
    X(ngx_http_discard_request_body, 500)                                     \
    X(ngx_http_send_header, -1)                                               \
    X(ngx_http_output_filter, -1)                                             \
    X(PQconninfoParse, 0)                                                     \
    X(PQconnectStartParams, 0)                                                \
    X(PQconnectPoll, 0)                                                       \
    X(PQsetnonblocking, -1)                                                   \
    X(PQenterPipelineMode, 0)                                                 \
    X(PQsendPrepare, 0)                                                       \
    X(PQsendQueryParams, 0)                                                   \
    X(PQsendQueryPrepared, 0)                                                 \
    X(PQpipelineSync, 0)                                                      \
    X(PQflush, -1)                                                            \
    X(PQconsumeInput, 0)                                                      \
    X(RAND_bytes, 0)                                                          \
    X(getpwuid, 0)                                                            \
    X(open64, -1)                                                             \
    X(read, -1)                                                               \
    X(setsockopt, -1)


typedef long (*call_pt)(long, long, long, long, long, long, long, long);


#define CALL(name, result)                                                    \
    static call_pt  real_ ## name;                                            \
                                                                              \
    static long                                                               \
    call_ ## name(long a, long b, long c, long d, long e, long f, long g,     \
        long h)                                                               \
    {                                                                         \
        return fails(FAIL_CALL) ? result                                      \
                                : real_ ## name(a, b, c, d, e, f, g, h);      \
    }

CALLS(CALL)


static const struct {
    const char  *name;
    call_pt     *real;
    call_pt      call;
} calls[] = {

#define ENTRY(name, result)  { #name, &real_ ## name, call_ ## name },

    CALLS(ENTRY)
    { NULL, NULL, NULL }
};


unsigned int
la_version(unsigned int version)
{
    return version;
}


unsigned int
la_objopen(struct link_map *map, Lmid_t lmid, uintptr_t *cookie)
{
    return strstr(map->l_name, "ngx_http_lunary_module")
           ? LA_FLG_BINDTO|LA_FLG_BINDFROM : LA_FLG_BINDTO;
}


uintptr_t
la_symbind64(Elf64_Sym *symbol, unsigned int ndx, uintptr_t *ref,
    uintptr_t *def, unsigned int *flags, const char *name)
{
    int  i;

    for (i = 0; calls[i].name; i++) {
        if (strcmp(name, calls[i].name) == 0) {
            *calls[i].real = (call_pt) symbol->st_value;
            return (uintptr_t) calls[i].call;
        }
    }

    return symbol->st_value;
}
