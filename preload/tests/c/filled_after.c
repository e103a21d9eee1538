/* Large blocks that are all filled come to lie on huge pages, also once main has ended by pthread_exit. */
#include "first.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCKS = 12, SIZE = 8 << 20 };

/* Whether the mapping that holds the address asks for huge pages. */
static int asks(const char *at) {
    FILE *smaps = fopen("/proc/thread-self/smaps", "r");
    CHECK(smaps != NULL);
    char line[512];
    unsigned long from, to;
    int here = 0, found = 0;
    while (fgets(line, sizeof line, smaps) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = from <= (unsigned long)at && (unsigned long)at < to;
        if (here && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, " hg") != NULL;
    }
    fclose(smaps);
    return found;
}

static void *worker(void *arg) {
    (void)arg;
    await_end_of_first();
    char *blocks[BLOCKS];
    int count = 0;
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(SIZE - 4096);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, SIZE - 4096);
        count += asks(blocks[i] + (4 << 20));
    }
    char read;
    struct iovec to = {&read, 1}, from = {blocks[0], 1};
    int none = access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) != 0
        || process_vm_readv(syscall(SYS_gettid), &to, 1, &from, 1, 0) != 1;
    if (none)
        fputs("no huge pages here, or no process_vm_readv\n", stderr);
    CHECK(none || count > BLOCKS / 2);
    puts("most ask for huge pages");
    exit(0);
}

int main(void) {
    check_library();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, worker, NULL) == 0);
    pthread_exit(NULL);
}
