/* Rules that newer C libraries have and the installed one may not: with libhakmem.so only. */
#include "check.h"

int main(void)
{
    check_library();
    static size_t refused[] = {0, 3, 24, 48, 100, SIZE_MAX};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        errno = 0;
        CHECK(aligned_alloc(OPAQUE(refused[i]), 96) == NULL);
        CHECK(errno == EINVAL);
    }
    void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    void (*cfree)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    CHECK(free_sized && free_aligned_sized && cfree);
    free_sized(NULL, 0);
    free_aligned_sized(NULL, 0, 0);
    cfree(NULL);
    /* Each gives its block back: a leak of one of them would not fit the limit. */
    for (int i = 0; i < 3000; i++) {
        char *block = malloc(1 << 20);
        CHECK(block != NULL);
        block[i] = 1;
        free_sized(block, 1 << 20);
        block = aligned_alloc(4096, 1 << 20);
        CHECK(block != NULL && (uintptr_t)block % 4096 == 0);
        block[i] = 1;
        free_aligned_sized(block, 4096, 1 << 20);
        block = malloc(1 << 20);
        CHECK(block != NULL);
        block[i] = 1;
        cfree(block);
    }
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    char line[256];
    long mapped_kib = 0, resident_kib = 0;
    while (fgets(line, sizeof line, status)) {
        sscanf(line, "VmPeak: %ld kB", &mapped_kib);
        sscanf(line, "VmHWM: %ld kB", &resident_kib);
    }
    fclose(status);
    CHECK(resident_kib > 0 && resident_kib < 100 << 10);
    CHECK(mapped_kib > 0 && mapped_kib < 2L << 20);
    puts("stricter rules hold");
    return 0;
}
