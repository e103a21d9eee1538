/* Blocks read after main -> outer -> middle -> inner freed them, until one was a guarded one. Prints where the functions are. */
#include "calls.h"

static void *volatile kept;

FAR void outer(void) {
    middle();
    __asm__ volatile("");
}

int main(void) {
    printf("%p %p %p %p\n", (void *)inner, (void *)middle, (void *)outer, (void *)main);
    fflush(stdout);
    for (int i = 0; i < 1000000; i++) {
        kept = malloc(40); /* For good, so that the next one finds no block at hand now and then. */
        block = malloc(40);
        outer();
        (void)*(volatile char *)block;
    }
    puts("survived");
}
