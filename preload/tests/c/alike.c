/* Two blocks freed by the same four calls, main -> first or second -> same -> outer -> middle -> inner; the latter is freed again. Prints
   where inner, middle, first and main are. */
#include "calls.h"

FAR void outer(void) {
    middle();
    __asm__ volatile("");
}

FAR void same(void) {
    outer();
    __asm__ volatile("");
}

FAR void first(void) {
    same();
    __asm__ volatile("");
}

FAR void second(void) {
    same();
    __asm__ volatile("");
}

int main(void) {
    printf("%p %p %p %p\n", (void *)inner, (void *)middle, (void *)first, (void *)main);
    fflush(stdout);
    block = malloc(40);
    first();
    block = malloc(40);
    second();
    free(block);
    puts("survived");
}
