/* Everything that looks at the whole allocator, on a thread with the smallest stack there is. */
#include "check.h"
#include <limits.h>
#include <pthread.h>

static FILE *nowhere;

static void *ask(void *unused) {
    (void)unused;
    void *kept = malloc(100);
    struct mallinfo2 info = mallinfo2();
    CHECK(info.uordblks >= 100 && info.arena >= info.uordblks);
    CHECK(malloc_info(0, nowhere) == 0);
    malloc_stats();
    malloc_trim(0);
    void *large = realloc(malloc(3 << 20), 40 << 20);
    CHECK(large != NULL);
    free(large);
    /* Refused, which is looked into. */
    volatile size_t absurd = (size_t)1 << 62;
    CHECK(malloc(absurd) == NULL);
    free(kept);
    return NULL;
}

static void *leave(void *unused) {
    (void)unused;
    exit(0);
}

static void on_small_stack(void *(*what)(void *)) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN) == 0);
    CHECK(pthread_create(&thread, &attributes, what, NULL) == 0);
    pthread_join(thread, NULL);
}

int main(void) {
    nowhere = fopen("/dev/null", "w");
    CHECK(nowhere != NULL);
    on_small_stack(ask);
    puts("small stacks will do");
    fflush(stdout);
    /* Statistics at exit, if they are asked for, from such a thread as well. */
    on_small_stack(leave);
    return 1;
}
