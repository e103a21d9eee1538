/* What a heap has is taken by other threads once its own has ended: "first", the process's first thread, by pthread_exit; "trimmed",
   another one, and malloc_trim emptied what the heap had kept for a thread to come. */
#include "first.h"

#include <malloc.h>
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

static void *owner(void *arg) {
    for (int i = 0; i < BLOCKS; i++)
        fill(i);
    return arg;
}

static void take_again(void) {
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

static void *after_first(void *arg) {
    await_end_of_first();
    take_again();
    return arg;
}

int main(int argc, char **argv) {
    check_library();
    CHECK(argc == 2);
    pthread_t thread;
    if (strcmp(argv[1], "first") == 0) {
        owner(NULL);
        CHECK(pthread_create(&thread, NULL, after_first, NULL) == 0);
        pthread_exit(NULL);
    }
    CHECK(pthread_create(&thread, NULL, owner, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    malloc_trim(0);
    take_again();
}
