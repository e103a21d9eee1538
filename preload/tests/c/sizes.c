/* Blocks of 64 sizes, one of each, and how many of them are checked: of those the usable size is the size asked for. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    int checked = 0;
    for (size_t size = 17; size <= 1025; size += 16)
        checked += malloc_usable_size(malloc(size)) == size;
    printf("%d\n", checked);
    return 0;
}
