
/* preloaded into nginx: failures of allocations, events and send() */


#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "fail.h"


extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);


void *
malloc(size_t size)
{
    return fails(FAIL_MEMORY) ? NULL : __libc_malloc(size);
}


void *
calloc(size_t n, size_t size)
{
    return fails(FAIL_MEMORY) ? NULL : __libc_calloc(n, size);
}


void *
realloc(void *p, size_t size)
{
    return fails(FAIL_MEMORY) ? NULL : __libc_realloc(p, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    if (fails(FAIL_MEMORY)) {
        return ENOMEM;
    }

    *p = __libc_memalign(alignment, size);

    return *p ? 0 : ENOMEM;
}


/* removing an event never fails */

int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op != EPOLL_CTL_DEL && fails(FAIL_EPOLL)) {
        return -1;
    }

    return syscall(SYS_epoll_ctl, epfd, op, fd, event);
}


ssize_t
send(int fd, const void *data, size_t len, int flags)
{
    socklen_t        size;
    struct sockaddr  name;

    size = sizeof(name);

    if (getsockname(fd, &name, &size) == 0 && name.sa_family == AF_UNIX
        && fails(FAIL_SEND))
    {
        errno = EAGAIN;
        return -1;
    }

    return sendto(fd, data, len, flags, NULL, 0);
}
