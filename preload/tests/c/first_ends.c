/* main ends by pthread_exit, with much to give back. The process ends with its last thread, which runs what was registered for that.
   The allocator's own thread is none of the program's. */
#include "first.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t last;

static void at_end(void) {
    CHECK(syscall(SYS_gettid) == last);
    puts("the last thread ends the process");
}

static void burst(void) {
    // Small ones too: a large block goes back at once if every block is checked.
    enum { COUNT = 400000 };
    static char *small[COUNT];
    for (int i = 0; i < COUNT; i++)
        small[i] = malloc(100);
    for (int i = 0; i < COUNT; i++)
        free(small[i]);
    size_t size = 100 << 20;
    char *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 1, size);
    free(block);
}

static void *worker(void *arg) {
    (void)arg;
    await_end_of_first();
    burst();
    last = syscall(SYS_gettid);
    return NULL;
}

int main(void) {
    check_library();
    CHECK(atexit(at_end) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, worker, NULL) == 0);
    CHECK(pthread_detach(thread) == 0);
    burst();
    pthread_exit(NULL);
}
