/* What the first thread's heap has is taken by the others once main has ended by pthread_exit. */
#include "first.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCKS = 200000, SIZE = 200 };
static char *blocks[BLOCKS];

static void fill(int i) {
    blocks[i] = malloc(SIZE);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], 1, SIZE);
}

static long resident_mib(void) {
    long pages, resident;
    FILE *statm = fopen("/proc/thread-self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%ld %ld", &pages, &resident) == 2);
    fclose(statm);
    return resident * (sysconf(_SC_PAGESIZE) >> 10) >> 10;
}

static void *worker(void *arg) {
    (void)arg;
    await_end_of_first();
    long before = resident_mib();
    for (int i = 0; i < BLOCKS; i++)
        if (i % 16)
            free(blocks[i]);
    for (int i = 0; i < BLOCKS; i++)
        if (i % 16)
            fill(i);
    long grown = resident_mib() - before;
    if (grown >= 20)
        fprintf(stderr, "%ld MiB more\n", grown);
    CHECK(grown < 20);
    puts("taken again");
    exit(0);
}

int main(void) {
    check_library();
    for (int i = 0; i < BLOCKS; i++)
        fill(i);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, worker, NULL) == 0);
    pthread_exit(NULL);
}
