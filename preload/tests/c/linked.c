/* A program that is linked with the library: its blocks, the C library's and its threads' are the allocator's. */
#include <hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 1000, THREADS = 4 };

static void *work(void *unused)
{
    for (int i = 0; i < 100000; i++) {
        char *block = malloc(i % 3000);
        if (block == NULL)
            abort();
        free(block);
    }
    return unused;
}

int main(void)
{
    static char *blocks[BLOCKS];
    struct hakmem_stats before = {.struct_size = sizeof before}, after = before;
    if (hakmem_stats_get(&before) != 0)
        return 1;
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = strdup("a block that the C library makes");
    if (hakmem_stats_get(&after) != 0)
        return 2;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0)
            return 3;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    printf("%lld blocks, %d threads\n", (long long)(after.live_blocks - before.live_blocks), THREADS);
    return 0;
}
