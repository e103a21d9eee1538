/* The rules of the malloc family that hold with glibc's own malloc as well: the test runs this with and without
   libhakmem.so. */
#include "check.h"
#include <limits.h>
#include <unistd.h>

#define TOO_MUCH OPAQUE((size_t)PTRDIFF_MAX + 1)
#define UNTOUCHED 4711

static int is_aligned(const void *block, size_t align)
{
    return ((uintptr_t)block & (align - 1)) == 0;
}

/* Writes all that may be used of a block and reads it back. */
static void use(void *block, size_t at_least)
{
    size_t usable = malloc_usable_size(block);
    CHECK(usable >= at_least);
    unsigned char *bytes = OPAQUE((unsigned char *)block);
    memset(bytes, 0xA5, usable);
    for (size_t i = 0; i < usable; i += usable < 4096 ? 1 : 509)
        CHECK(bytes[i] == 0xA5);
    CHECK(usable == 0 || bytes[usable - 1] == 0xA5);
}

/* `call` must answer null and set errno to `error`. */
#define FAILS(call, error)       \
    do {                         \
        errno = UNTOUCHED;       \
        CHECK((call) == NULL);   \
        CHECK(errno == (error)); \
    } while (0)

/* `call` must answer a block aligned to `align` and leave errno alone; it is filled and freed. */
#define SERVES(call, align, size)               \
    do {                                        \
        errno = UNTOUCHED;                      \
        void *block_ = (call);                  \
        CHECK(block_ != NULL);                  \
        CHECK(errno == UNTOUCHED);              \
        CHECK(is_aligned(block_, align));       \
        use(block_, size);                      \
        errno = UNTOUCHED;                      \
        free(block_);                           \
        CHECK(errno == UNTOUCHED);              \
    } while (0)

static void malloc_rules(void)
{
    void *first = malloc(OPAQUE((size_t)0)), *second = malloc(OPAQUE((size_t)0));
    CHECK(first != NULL && second != NULL && first != second);
    free(first);
    free(second);
    for (size_t size = 1; size <= 3000; size++)
        SERVES(malloc(size), 16, size);
    for (size_t size = 1; size < (size_t)64 << 20; size = size * 3 / 2 + 1)
        SERVES(malloc(size), 16, size);
    FAILS(malloc(TOO_MUCH), ENOMEM);
    FAILS(malloc(OPAQUE(SIZE_MAX)), ENOMEM);
    for (size_t below = 0; below < 70; below++)
        FAILS(malloc(OPAQUE(SIZE_MAX - below)), ENOMEM);
    /* Within the limit, but more than any address space. */
    FAILS(malloc(OPAQUE((size_t)PTRDIFF_MAX)), ENOMEM);
    FAILS(malloc(OPAQUE((size_t)1 << 62)), ENOMEM);
    errno = UNTOUCHED;
    free(NULL);
    CHECK(errno == UNTOUCHED);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void calloc_rules(void)
{
    FAILS(calloc(OPAQUE(SIZE_MAX), 2), ENOMEM);
    FAILS(calloc(2, OPAQUE(SIZE_MAX)), ENOMEM);
    FAILS(calloc(OPAQUE((size_t)1 << 32), OPAQUE((size_t)1 << 32)), ENOMEM);
    FAILS(calloc(OPAQUE(((size_t)1 << 32) + 1), OPAQUE((size_t)1 << 32)), ENOMEM);
    FAILS(calloc(TOO_MUCH, 1), ENOMEM);
    SERVES(calloc(OPAQUE((size_t)0), OPAQUE(SIZE_MAX)), 16, 0);
    SERVES(calloc(OPAQUE(SIZE_MAX), OPAQUE((size_t)0)), 16, 0);
    /* Zero also where the block was used before. */
    for (size_t size = 1; size < (size_t)8 << 20; size = size * 2 + 1)
        for (int again = 0; again < 3; again++) {
            unsigned char *block = calloc(1, size);
            CHECK(block != NULL && is_aligned(block, 16));
            for (size_t i = 0; i < size; i++)
                CHECK(OPAQUE(block[i]) == 0);
            use(block, size);
            free(block);
        }
}

static void realloc_rules(void)
{
    SERVES(realloc(NULL, 100), 16, 100);
    SERVES(realloc(NULL, OPAQUE((size_t)0)), 16, 0);

    void *block = malloc(100);
    errno = UNTOUCHED;
    CHECK(realloc(block, OPAQUE((size_t)0)) == NULL);
    CHECK(errno == UNTOUCHED);

    /* On failure the block stays. */
    char *kept = malloc(100);
    strcpy(kept, "kept");
    FAILS(realloc(OPAQUE((void *)kept), TOO_MUCH), ENOMEM);
    FAILS(realloc(OPAQUE((void *)kept), OPAQUE(SIZE_MAX)), ENOMEM);
    FAILS(realloc(OPAQUE((void *)kept), OPAQUE((size_t)1 << 62)), ENOMEM);
    FAILS(reallocarray(OPAQUE((void *)kept), OPAQUE(SIZE_MAX), 2), ENOMEM);
    FAILS(reallocarray(OPAQUE((void *)kept), OPAQUE((size_t)1 << 32), OPAQUE((size_t)1 << 32)), ENOMEM);
    CHECK(strcmp(kept, "kept") == 0);
    errno = UNTOUCHED;
    CHECK(reallocarray(kept, 5, OPAQUE((size_t)0)) == NULL);
    CHECK(errno == UNTOUCHED);
    SERVES(reallocarray(NULL, 10, 10), 16, 100);
    FAILS(reallocarray(NULL, OPAQUE(SIZE_MAX), OPAQUE(SIZE_MAX)), ENOMEM);

    /* Huge as well. */
    kept = malloc((size_t)5 << 20);
    strcpy(kept, "kept");
    FAILS(realloc(OPAQUE((void *)kept), OPAQUE(SIZE_MAX)), ENOMEM);
    FAILS(realloc(OPAQUE((void *)kept), OPAQUE((size_t)1 << 62)), ENOMEM);
    CHECK(strcmp(kept, "kept") == 0);
    errno = UNTOUCHED;
    CHECK(realloc(kept, OPAQUE((size_t)0)) == NULL);
    CHECK(errno == UNTOUCHED);

    /* Contents follow up and down, errno stays. */
    size_t length = 1;
    unsigned char *bytes = malloc(length);
    bytes[0] = 7;
    for (int step = 0; step < 60; step++) {
        size_t next = step < 30 ? length * 2 - length / 4 + 1 : length - length / 2 + (length > 3 ? length / 9 : 0);
        if (next == 0)
            next = 1;
        errno = UNTOUCHED;
        bytes = realloc(bytes, next);
        CHECK(bytes != NULL && errno == UNTOUCHED && is_aligned(bytes, 16));
        size_t common = next < length ? next : length;
        for (size_t i = 0; i < common; i++)
            CHECK(bytes[i] == (unsigned char)(i * 7 + 7));
        for (size_t i = common; i < next; i++)
            bytes[i] = (unsigned char)(i * 7 + 7);
        length = next;
    }
    free(bytes);

    /* Of an aligned block. */
    for (size_t align = 16; align <= (size_t)4 << 20; align *= 4) {
        char *aligned = memalign(align, 200);
        CHECK(aligned != NULL && is_aligned(aligned, align));
        strcpy(aligned, "contents");
        aligned = realloc(aligned, 300000);
        CHECK(strcmp(aligned, "contents") == 0);
        aligned = realloc(aligned, 50);
        CHECK(strcmp(aligned, "contents") == 0);
        free(aligned);
    }
}

static void alignment_rules(void)
{
    void *const marker = (void *)0x1234;
    static size_t refused[] = {0, 1, 2, 4, 3, 12, 24, 48, 100, SIZE_MAX, SIZE_MAX - 7};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        void *out = marker;
        errno = UNTOUCHED;
        CHECK(posix_memalign(&out, OPAQUE(refused[i]), 8) == EINVAL);
        CHECK(out == marker && errno == UNTOUCHED);
    }
    static size_t too_much[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 4096, (size_t)1 << 62};
    for (size_t i = 0; i < sizeof too_much / sizeof *too_much; i++) {
        size_t size = OPAQUE(too_much[i]);
        for (size_t align = 8; align <= (size_t)1 << 40; align *= 2) {
            void *out = marker;
            CHECK(posix_memalign(&out, align, size) == ENOMEM);
            CHECK(out == marker);
            FAILS(memalign(align, size), ENOMEM);
            FAILS(aligned_alloc(align, size), ENOMEM);
        }
        FAILS(valloc(size), ENOMEM);
        FAILS(pvalloc(size), ENOMEM);
    }
    FAILS(pvalloc(OPAQUE(SIZE_MAX)), ENOMEM);
    FAILS(memalign(OPAQUE((size_t)1 << 63), 1), ENOMEM);
    FAILS(memalign(OPAQUE((size_t)1 << 62), 1), ENOMEM);
    FAILS(memalign(OPAQUE(((size_t)1 << 63) + 1), 1), EINVAL);
    FAILS(memalign(OPAQUE(SIZE_MAX), 1), EINVAL);

    static const size_t sizes[] = {0, 1, 17, 100, 1000, 1025, 5000, 40000, 70000, 1 << 20, 3 << 20};
    for (size_t align = sizeof(void *); align <= (size_t)16 << 20; align *= 2)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            void *out = NULL;
            errno = UNTOUCHED;
            CHECK(posix_memalign(&out, align, sizes[i]) == 0);
            CHECK(out != NULL && is_aligned(out, align) && errno == UNTOUCHED);
            use(out, sizes[i]);
            free(out);
            SERVES(memalign(align, sizes[i]), align, sizes[i]);
            SERVES(aligned_alloc(align, sizes[i]), align, sizes[i]);
        }
    /* Raised to the next power of two. */
    SERVES(memalign(OPAQUE((size_t)0), 100), 16, 100);
    SERVES(memalign(OPAQUE((size_t)3), 100), 16, 100);
    SERVES(memalign(OPAQUE((size_t)24), 100), 32, 100);
    SERVES(memalign(OPAQUE((size_t)4097), 100), 8192, 100);

    size_t page = sysconf(_SC_PAGESIZE);
    for (size_t size = 0; size < 3 * page; size += 511) {
        SERVES(valloc(size), page, size);
        SERVES(pvalloc(size), page, (size + page - 1) / page * page);
    }
}

static void tuning_rules(void)
{
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(M_MMAP_THRESHOLD, INT_MAX) == 1);
    CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(M_ARENA_MAX, 2) == 1);
    CHECK(mallopt(M_MXFAST, 64) == 1);
    CHECK(mallopt(M_MXFAST, 161) == 0);
    void *blocks[64];
    for (int i = 0; i < 64; i++)
        memset(blocks[i] = malloc(500000), 1, 500000);
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    int trimmed = malloc_trim(0);
    CHECK(trimmed == 0 || trimmed == 1);
}

int main(void)
{
    check_library();
    malloc_rules();
    calloc_rules();
    realloc_rules();
    alignment_rules();
    tuning_rules();
    puts("rules hold");
    return 0;
}
