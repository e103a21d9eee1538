/* A block freed twice by main -> outer -> middle -> inner, each in code with or without tables and frame pointers as it is
   compiled. Prints where the functions are. With an argument, the last two calls go through qsort of the C library. */
#include "calls.h"

static int compare(const void *a, const void *b) {
    (void)a;
    (void)b;
    middle();
    return 0;
}

FAR void outer(int through) {
    int two[2] = {1, 2};
    if (through)
        qsort(two, 2, sizeof *two, compare);
    else
        middle();
    __asm__ volatile("");
}

int main(int argc, char **argv) {
    (void)argv;
    printf("%p %p %p %p\n", (void *)inner, (void *)middle, (void *)outer, (void *)main);
    fflush(stdout);
    block = malloc(40);
    free(block);
    outer(argc > 1);
    puts("survived");
}
