/* A process that makes no thread, and swings by so much that the allocator has one. */
#include "check.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>
#include <unistd.h>

static int threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    int count = 0;
    for (struct dirent *one; (one = readdir(tasks));)
        count += one->d_name[0] != '.';
    closedir(tasks);
    return count;
}

static void swing(size_t mib) {
    static char *blocks[100000];
    size_t count = mib << 9;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(2000);
        memset(blocks[i], 1, 2000);
    }
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
}

static void swing_until_two(void) {
    for (int i = 0; i < 100 && threads() < 2; i++)
        swing(100);
    CHECK(threads() == 2);
    CHECK(!__libc_single_threaded);
}

static void in_child(void (*body)(void)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(threads() == 1);
        body();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void unshares(void) {
    swing_until_two();
    /* EINVAL is what a process of several threads gets; a sandbox may say anything else. */
    CHECK(unshare(CLONE_NEWUSER) == 0 || errno != EINVAL);
}

static void joins(void) {
    swing_until_two();
    malloc_trim(0);
    CHECK(setns(-1, 0) == -1 && errno == EBADF);
    CHECK(threads() == 1);
    int own = open("/proc/self/ns/mnt", O_RDONLY);
    CHECK(own >= 0);
    swing_until_two();
    CHECK(setns(own, 0) == 0 || errno != EINVAL);
}

static void small(void) {
    for (int i = 0; i < 20; i++)
        swing(20);
    CHECK(threads() == 1);
    /* The C library goes on without atomics and locks. */
    CHECK(__libc_single_threaded);
}

int main(void) {
    alarm(120);
    in_child(small);
    in_child(unshares);
    in_child(joins);
    swing_until_two();
    in_child(swing_until_two);
    puts("alone");
    return 0;
}
