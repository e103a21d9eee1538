/* The maintenance thread is not started while the C library frees what ended threads left: it holds the lock then that starting a
   thread takes. So many stacks end at once that glibc keeps no more of them, and about as much is idle as the thread is started for.
   */
#include "check.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 1000, STACK = 512 << 10, SIZE = 1000 };

static pthread_t threads[THREADS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t go_on = PTHREAD_COND_INITIALIZER;
static int may_end;
static pthread_barrier_t barrier;

static void *wait_for_others(void *arg) {
    pthread_mutex_lock(&mutex);
    while (!may_end)
        pthread_cond_wait(&go_on, &mutex);
    pthread_mutex_unlock(&mutex);
    return arg;
}

/* What the loader allocates for the threads belongs to the heap of a thread that has ended. */
static void *start_them(void *arg) {
    pthread_attr_t attr;
    CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, STACK) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], &attr, wait_for_others, NULL) == 0);
    return arg;
}

static void *join_them(void *arg) {
    free(OPAQUE(malloc(100)));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return arg;
}

int main(int argc, char **argv) {
    check_library();
    CHECK(argc == 2);
    int blocks = atoi(argv[1]) * 1024 / SIZE;
    pthread_t starts, joins;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHECK(pthread_create(&joins, NULL, join_them, NULL) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_create(&starts, NULL, start_them, NULL) == 0);
    CHECK(pthread_join(starts, NULL) == 0);
    char **idle = malloc(blocks * sizeof *idle);
    CHECK(idle != NULL);
    for (int i = 0; i < blocks; i++) {
        idle[i] = malloc(SIZE);
        CHECK(idle[i] != NULL);
        memset(idle[i], 1, SIZE);
    }
    for (int i = 0; i < blocks; i++)
        free(idle[i]);
    pthread_mutex_lock(&mutex);
    may_end = 1;
    pthread_cond_broadcast(&go_on);
    pthread_mutex_unlock(&mutex);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(joins, NULL) == 0);
    puts("all joined");
}
