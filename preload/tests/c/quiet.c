/* What malloc and free may not do beside their work. Arguments: cancel, errno.
   - cancel: be a cancellation point. A thread with a cancellation pending grows and shrinks, and ends at a point of its
     own choosing;
   - errno: set errno, though the kernel refuses every advice. */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCKS = 20000 };
static char *blocks[BLOCKS];
static volatile int reached;

static size_t size_of(int i) { return 16 + (size_t)i * 7919 % 12000; }

static void *is_cancelled(void *x) {
    pthread_cancel(pthread_self());
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < BLOCKS; i++)
            blocks[i] = malloc(size_of(i));
        for (int i = 0; i < BLOCKS; i++)
            free(blocks[i]);
        free(malloc(5 << 20));
        malloc_trim(0);
    }
    reached = 1;
    pthread_testcancel();
    return x;
}

static void cancel(void) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, 0, is_cancelled, 0) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(reached);
}

static void refuse_advice(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fputs("no seccomp: the kernel's own refusals have to do\n", stdout);
}

static void untouched(const char *what, int i) {
    if (errno != 77) {
        fprintf(stderr, "%s %d set errno to %d\n", what, i, errno);
        _exit(1);
    }
}

static void keeps_errno(void) {
    refuse_advice();
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            errno = 77;
            switch (i % 8) {
            case 1: blocks[i] = calloc(1, size_of(i)); break;
            case 2: blocks[i] = memalign(64, size_of(i)); break;
            case 3: blocks[i] = realloc(malloc(20), size_of(i)); break;
            case 4: CHECK(posix_memalign((void **)&blocks[i], 256, size_of(i)) == 0); break;
            case 5: blocks[i] = i % 1000 == 5 ? malloc(3 << 20) : malloc(100); break;
            default: blocks[i] = malloc(size_of(i));
            }
            CHECK(blocks[i]);
            untouched("allocation", i);
        }
        for (int i = 0; i < BLOCKS; i++) {
            errno = 77;
            free(blocks[i * 7919L % BLOCKS]);
            untouched("free", i);
        }
        usleep(5000);
    }
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    alarm(240);
    if (arguments[1][0] == 'c')
        cancel();
    else
        keeps_errno();
    puts("quiet");
    return 0;
}
