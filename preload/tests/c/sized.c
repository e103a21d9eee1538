/* free_sized and free_aligned_sized of C23: every block that one of them may be given, whatever became of it by realloc. With an
 * argument: a block that only the other may be given. With libhakmem.so only, as older C libraries have neither. */
#include "check.h"

static void (*free_sized)(void *, size_t);
static void (*free_aligned_sized)(void *, size_t, size_t);

static size_t sizes[] = {0, 1, 16, 17, 100, 1025, 2100, 5000, 20000, 33000, 65537, 300000, (1 << 20) + 1, 3 << 20};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void *got(void *block)
{
    CHECK(block != NULL);
    return OPAQUE(block);
}

/* Smaller in two steps, of which some stay in place. */
static void grown_and_cut(void *block, size_t size)
{
    size_t less = size - size / 4, least = size / 2 + 1;
    block = got(realloc(got(realloc(got(realloc(block, size)), less)), least));
    free_sized(block, least);
}

static void legal(size_t size)
{
    free_sized(got(malloc(size)), size);
    free_sized(got(calloc(1, size)), size);
    for (int i = 1; i < SIZES; i++) {
        grown_and_cut(got(malloc(size)), sizes[i]);
        grown_and_cut(got(aligned_alloc(4096, size)), sizes[i]);
        grown_and_cut(got(aligned_alloc(2 << 20, size)), sizes[i]);
    }
    for (size_t align = 1; align <= 8 << 20; align *= 2) {
        free_aligned_sized(got(aligned_alloc(align, size)), align, size);
        free_aligned_sized(got(memalign(align, size)), align, size);
        void *block = NULL;
        if (align >= sizeof(void *)) {
            CHECK(posix_memalign(&block, align, size) == 0);
            free_aligned_sized(block, align, size);
        }
    }
}

int main(int argc, char **argv)
{
    (void)argv;
    check_library();
    free_sized = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    free_aligned_sized = (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    CHECK(free_sized && free_aligned_sized);
    if (argc > 1) {
        free_sized(got(aligned_alloc(4096, 100)), 100);
    }
    for (int i = 0; i < SIZES; i++) {
        legal(sizes[i]);
    }
    puts("sizes agree");
    return 0;
}
