/* Blocks that are none of ours: the dynamic loader's early ones are forgotten, all others are an error. `foreign loader`
   and `foreign stack`, `foreign middle`, `foreign twice`. With libhakmem.so only. */
#include "check.h"
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

static int find_end(struct dl_phdr_info *info, size_t size, void *end)
{
    (void)size;
    if (info->dlpi_addr != getauxval(AT_BASE))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t last = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && last > *(uintptr_t *)end)
            *(uintptr_t *)end = last;
    }
    return 1;
}

int main(int argc, char **argv)
{
    check_library();
    CHECK(argc == 2);
    char *block = NULL;
    char local[64];
    if (strcmp(argv[1], "loader") == 0) {
        uintptr_t end = 0;
        CHECK(dl_iterate_phdr(find_end, &end) == 1 && end != 0);
        /* Where the loader's own allocator begins. */
        uintptr_t first = (end + 15) & ~(uintptr_t)15;
        CHECK(first % sysconf(_SC_PAGESIZE) != 0);
        errno = 4711;
        free((void *)first);
        CHECK(errno == 4711);
        free((void *)(first | (sysconf(_SC_PAGESIZE) - 16)));
        puts("forgotten");
        return 0;
    }
    if (strcmp(argv[1], "stack") == 0) {
        block = local;
    } else if (strcmp(argv[1], "twice") == 0) {
        block = malloc((size_t)5 << 20);
        free(OPAQUE(block));
    } else if (strcmp(argv[1], "middle") == 0) {
        block = (char *)malloc((size_t)5 << 20) + (4 << 20);
    }
    free(OPAQUE(block));
    puts("went unnoticed");
    return 0;
}
