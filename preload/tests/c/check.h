/* What every test program shares: CHECK, and the proof that the expected library serves malloc. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            int error = errno;                                                                     \
            fprintf(stderr, "%s:%d: CHECK(%s) failed, errno %d\n", __FILE__, __LINE__, #condition, \
                    error);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Keeps the compiler from knowing where a value came from: it would leave out pairs of malloc and free, and warn of
   what a test does on purpose. */
#define OPAQUE(value)                         \
    ({                                        \
        __typeof__(value) opaque_ = (value);  \
        __asm__ volatile("" : "+r"(opaque_)); \
        opaque_;                              \
    })

/* EXPECT_LIBRARY names the file that must define malloc, new and delete for this process. */
static inline void check_library(void)
{
    const char *expected = getenv("EXPECT_LIBRARY");
    CHECK(expected != NULL);
    Dl_info info;
    void *function = dlsym(RTLD_DEFAULT, "malloc");
    CHECK(function != NULL && dladdr(function, &info) != 0);
    const char *slash = strrchr(info.dli_fname, '/');
    const char *name = slash ? slash + 1 : info.dli_fname;
    if (strcmp(name, expected) != 0) {
        fprintf(stderr, "malloc is of %s, expected %s\n", name, expected);
        exit(1);
    }
}
