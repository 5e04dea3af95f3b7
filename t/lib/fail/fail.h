
/*
 * Makes a call fail, by its number.  The file named in LUNARY_ALLOC is shared
 * with the test:
 *
 *   pid     the process whose calls fail; 0: none, -n: all except n
 *   but     another excepted process
 *   kind    the kind of calls
 *   count   the number of calls since the test set it to 0
 *   fail    the first call that fails; 0: none
 *   last    the last call that fails
 *   failed  the number of calls that failed
 */


#ifndef _FAIL_H_INCLUDED_
#define _FAIL_H_INCLUDED_


#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>


#define FAIL_MEMORY  0      /* allocations of the C library */
#define FAIL_CALL    1      /* calls of the module to nginx and libraries */
#define FAIL_EPOLL   2
#define FAIL_SEND    3      /* EAGAIN of the socket to PostgreSQL */


typedef struct {
    volatile int64_t  pid;
    volatile int64_t  but;
    volatile int64_t  kind;
    volatile int64_t  count;
    volatile int64_t  fail;
    volatile int64_t  last;
    volatile int64_t  failed;
} fail_t;


static fail_t  *fail;


__attribute__((constructor)) static void
fail_init(void)
{
    int    fd;
    void  *p;
    char  *name;

    name = getenv("LUNARY_ALLOC");
    fd = name ? open(name, O_RDWR) : -1;

    if (fd == -1) {
        return;
    }

    p = mmap(NULL, sizeof(fail_t), PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    (void) close(fd);

    if (p != MAP_FAILED) {
        fail = p;
    }
}


static int
fails(int kind)
{
    int64_t  n, pid;

    if (fail == NULL || fail->pid == 0 || fail->kind != kind) {
        return 0;
    }

    pid = getpid();

    if ((fail->pid > 0 ? pid != fail->pid : pid == -fail->pid)
        || pid == fail->but)
    {
        return 0;
    }

    n = ++fail->count;

    if (fail->fail == 0 || n < fail->fail || n > fail->last) {
        return 0;
    }

    fail->failed++;
    errno = ENOMEM;

    return 1;
}


#endif /* _FAIL_H_INCLUDED_ */
