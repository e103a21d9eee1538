/* A host opens a library with RTLD_DEEPBIND and exchanges blocks with it; the library opens another that only its own
   RUNPATH finds. Runs with and without libhakmem.so. */
#include "check.h"

#ifdef LIBRARY

void *take(size_t size)
{
    return malloc(size);
}

char *copy(const char *text)
{
    return strdup(text);
}

void give(void *block)
{
    free(block);
}

void *which_malloc(void)
{
    return (void *)malloc;
}

void *open_inner(int flags)
{
    return dlopen("libinner.so", flags);
}

void *open_inner_here(int flags)
{
    return dlmopen(LM_ID_BASE, "libinner.so", flags);
}

#else

static void exchange(void *library)
{
    void *(*take)(size_t) = (void *(*)(size_t))dlsym(library, "take");
    char *(*copy)(const char *) = (char *(*)(const char *))dlsym(library, "copy");
    void (*give)(void *) = (void (*)(void *))dlsym(library, "give");
    void *(*which)(void) = (void *(*)(void))dlsym(library, "which_malloc");
    CHECK(take != NULL && copy != NULL && give != NULL && which != NULL);
    Dl_info info;
    CHECK(dladdr(which(), &info) != 0);
    const char *slash = strrchr(info.dli_fname, '/');
    const char *name = slash ? slash + 1 : info.dli_fname;
    if (strcmp(name, getenv("EXPECT_LIBRARY")) != 0) {
        fprintf(stderr, "malloc is of %s\n", name);
        exit(1);
    }
    for (size_t size = 1; size < 4 << 20; size = size * 3 + 1) {
        void *theirs = take(size), *mine = malloc(size);
        CHECK(theirs != NULL && mine != NULL);
        memset(theirs, 1, size);
        memset(mine, 2, size);
        give(mine);
        free(theirs);
    }
    free(copy("a block of the C library's, by the library's malloc"));
}

int main(int argc, char **argv)
{
    check_library();
    CHECK(argc == 2);
    const int flags = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
    CHECK(dlopen("libinner.so", flags) == NULL && dlerror() != NULL);
    void *outer = dlopen(argv[1], flags);
    if (outer == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(outer != NULL);
    exchange(outer);
    for (int here = 0; here < 2; here++) {
        void *(*open_inner)(int) =
            (void *(*)(int))dlsym(outer, here ? "open_inner_here" : "open_inner");
        CHECK(open_inner != NULL);
        void *inner = open_inner(flags);
        if (inner == NULL)
            fprintf(stderr, "%s\n", dlerror());
        CHECK(inner != NULL && inner != outer);
        exchange(inner);
        CHECK(dlclose(inner) == 0);
    }
    CHECK(dlclose(outer) == 0);
    /* A namespace of its own has a C library and a malloc of its own, whatever the flags. */
    void *apart = dlmopen(LM_ID_NEWLM, argv[1], flags);
    CHECK(apart != NULL);
    void *(*which)(void) = (void *(*)(void))dlsym(apart, "which_malloc");
    CHECK(which != NULL && which() != (void *)malloc);
    puts("exchanged");
    return 0;
}

#endif
