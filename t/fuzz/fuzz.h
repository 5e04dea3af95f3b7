
/*
 * A harness is LLVMFuzzerTestOneInput().  It asserts with fuzz_must(), which
 * aborts the program.
 */


#ifndef _FUZZ_H_INCLUDED_
#define _FUZZ_H_INCLUDED_


#include "unit.h"


#define fuzz_must(x)                                                          \
    if (!(x)) {                                                               \
        (void) fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x); \
        abort();                                                              \
    }


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


#endif /* _FUZZ_H_INCLUDED_ */
