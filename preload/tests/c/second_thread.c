/* What one thread alone may retain is much for a process of several. It goes back though the second thread takes no more than two
   blocks, and nobody calls the allocator after that. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum { BYTES = 20 << 20, SIZE = 2000, BURSTS = 12 };

/* Without the C library's buffers, which it would allocate. */
static long resident_kib(void) {
    char text[200] = {0};
    long pages, resident;
    int statm = open("/proc/self/statm", O_RDONLY);
    CHECK(statm >= 0 && read(statm, text, sizeof text - 1) > 0);
    close(statm);
    CHECK(sscanf(text, "%ld %ld", &pages, &resident) == 2);
    return resident * (sysconf(_SC_PAGESIZE) >> 10);
}

static void *second(void *arg) {
    char *few = OPAQUE(malloc(100)), *more = OPAQUE(malloc(3000));
    CHECK(few != NULL && more != NULL);
    *few = *more = 1;
    pause();
    return arg;
}

int main(void) {
    check_library();
    long before = resident_kib();
    for (int burst = 0; burst < BURSTS; burst++) {
        static char *blocks[BYTES / SIZE];
        for (int i = 0; i < BYTES / SIZE; i++) {
            blocks[i] = malloc(SIZE);
            CHECK(blocks[i] != NULL);
            memset(blocks[i], 1, SIZE);
        }
        for (int i = 0; i < BYTES / SIZE; i++)
            free(blocks[i]);
    }
    long idle = resident_kib();
    CHECK(idle > before + (12 << 10));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, second, NULL) == 0);
    long left = idle;
    for (int tenths = 0; tenths < 150 && left > before + (8 << 10); tenths++) {
        usleep(100000);
        left = resident_kib();
    }
    if (left > before + (8 << 10))
        fprintf(stderr, "%ld KiB before, %ld idle, %ld left\n", before, idle, left);
    CHECK(left <= before + (8 << 10));
    puts("given back");
    return 0;
}
