
/*
 * Preloaded into nginx: lets one allocation fail, by its number.  The file
 * named in LUNARY_ALLOC is shared with the test:
 *
 *   pid     the process that is meant; 0: none
 *   count   its allocations since this was set to 0
 *   fail    the one that fails; 0: none
 *   last    the one after which all is well again: fail..last fail
 *   failed  how many did
 */


#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>


typedef struct {
    volatile int64_t  pid;
    volatile int64_t  count;
    volatile int64_t  fail;
    volatile int64_t  last;
    volatile int64_t  failed;
} alloc_t;


extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);


static alloc_t  *alloc;


__attribute__((constructor)) static void
alloc_init(void)
{
    int    fd;
    void  *p;
    char  *name;

    name = getenv("LUNARY_ALLOC");
    fd = name ? open(name, O_RDWR) : -1;

    if (fd == -1) {
        return;
    }

    p = mmap(NULL, sizeof(alloc_t), PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    (void) close(fd);

    if (p != MAP_FAILED) {
        alloc = p;
    }
}


static int
alloc_fails(void)
{
    int64_t  n;

    if (alloc == NULL || alloc->pid == 0 || alloc->pid != getpid()) {
        return 0;
    }

    n = ++alloc->count;

    if (alloc->fail == 0 || n < alloc->fail || n > alloc->last) {
        return 0;
    }

    alloc->failed++;
    errno = ENOMEM;

    return 1;
}


void *
malloc(size_t size)
{
    return alloc_fails() ? NULL : __libc_malloc(size);
}


void *
calloc(size_t n, size_t size)
{
    return alloc_fails() ? NULL : __libc_calloc(n, size);
}


void *
realloc(void *p, size_t size)
{
    return alloc_fails() ? NULL : __libc_realloc(p, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    if (alloc_fails()) {
        return ENOMEM;
    }

    *p = __libc_memalign(alignment, size);

    return *p ? 0 : ENOMEM;
}
