/* Calls that lead to a free: inner, called by middle. */
#include <stdio.h>
#include <stdlib.h>

#define FAR __attribute__((noinline, noclone))

static void *block;

FAR void inner(void) {
    free(block);
    __asm__ volatile("");
}

FAR void middle(void) {
    inner();
    __asm__ volatile("");
}
