/* fork in bad moments; every case ends at once or is ended by its alarm. Arguments: stdio, handlers, nested, beside,
   interrupted, maintained. Behaviours imitated:
   - stdio: one thread forks, one flushes all streams, others read lines (glibc bug 19431);
   - handlers: one thread forks, others register handlers of fork, for which the C library allocates under its own lock;
   - nested: a signal whose handler forks arrives while the same thread is inside fork;
   - beside: the same once so much was freed that the allocator has a thread of its own;
   - interrupted: a signal whose handler forks arrives while the only thread is inside malloc or free; the child goes on
     from there, too;
   - maintained: the same in a process that frees and takes so much that the allocator has a thread of its own. */
#include "check.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int stop;

static void fork_once(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        free(malloc(100000));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

static void *forks(void *x) {
    while (!stop)
        fork_once();
    return x;
}

static char path[] = "/tmp/hakmem-forks-XXXXXX";

static void *reads(void *x) {
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (!stop) {
        rewind(file);
        char *line = 0;
        size_t room = 0;
        CHECK(getline(&line, &room, file) > 0);
        free(line);
    }
    fclose(file);
    return x;
}

static void *flushes(void *x) {
    while (!stop)
        fflush(0);
    return x;
}

static void nothing(void) {}

static void *registers(void *x) {
    /* The list of handlers grows by doubling. In between, others keep the allocator busy. */
    for (int i = 0; i < 2000 && !stop; i++) {
        CHECK(pthread_atfork(nothing, nothing, nothing) == 0);
        for (int k = 0; k < 200; k++)
            free(malloc(20000 + k * 300));
    }
    return x;
}

static void run(void *(*body)(void *), int count, void *(*other)(void *)) {
    pthread_t threads[8], two[2];
    CHECK(pthread_create(&two[0], 0, forks, 0) == 0);
    CHECK(pthread_create(&two[1], 0, other, 0) == 0);
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], 0, body, 0) == 0);
    /* One who flushes can starve one who forks: nobody counts. */
    sleep(4);
    stop = 1;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(two[i], 0) == 0);
    for (int i = 0; i < count; i++)
        CHECK(pthread_join(threads[i], 0) == 0);
}

static void stdio(void) {
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    static char line[50001];
    memset(line, 'x', 50000);
    line[50000] = '\n';
    CHECK(write(fd, line, sizeof line) == sizeof line);
    close(fd);
    run(reads, 6, flushes);
    unlink(path);
}

static volatile int handled;

static void on_signal(int signal) {
    (void)signal;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    while (waitpid(child, 0, 0) < 0)
        ;
    handled++;
}

static void nested(void) {
    char *much = aligned_alloc(4096, 32 << 20);
    CHECK(much);
    CHECK(madvise(much, 32 << 20, MADV_NOHUGEPAGE) == 0 || errno == EINVAL) /* no such pages here */;
    memset(much, 1, 32 << 20); /* fork takes a while */
    signal(SIGUSR1, on_signal);
    for (int i = 0; i < 30; i++) {
        pid_t me = getpid(), child = fork();
        if (child == 0) {
            kill(me, SIGUSR1);
            _exit(0);
        }
        while (waitpid(child, 0, 0) < 0)
            ;
    }
    /* And at moments of all kinds. */
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    for (int i = 0; i < 300; i++) {
        struct itimerspec once = {.it_value = {0, 10000 + i * 3000}};
        CHECK(timer_settime(timer, 0, &once, 0) == 0);
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        while (waitpid(child, 0, 0) < 0)
            ;
    }
    timer_delete(timer);
    free(much);
}

static int threads(void) {
    int count = -2;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    while (readdir(tasks))
        count++;
    closedir(tasks);
    return count;
}

/* Under the library, which LD_PRELOAD names, its thread has to be there. */
static void beside(void) {
    do {
        for (int i = 0; i < 3; i++)
            free(memset(malloc(50 << 20), 1, 50 << 20));
        char *many[1000];
        for (int i = 0; i < 1000; i++)
            many[i] = memset(malloc(60000), 1, 60000);
        for (int i = 0; i < 1000; i++)
            free(many[i]);
    } while (getenv("LD_PRELOAD") && threads() < 2);
    nested();
    CHECK(!getenv("LD_PRELOAD") || threads() == 2);
}

static pid_t first;

static void on_time(int signal) {
    (void)signal;
    pid_t child = fork();
    if (child == 0) {
        if (handled % 16)
            _exit(0);
        /* Goes on with what was interrupted, and a little further. */
        alarm(60);
        handled = 1 << 20;
        return;
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        ;
    if (status != 0)
        _exit(1);
    handled++;
}

static void interrupted(void) {
    struct sigaction action = {.sa_handler = on_time, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 1000}, {0, 1000}};
    first = getpid();
    sigaction(SIGVTALRM, &action, 0);
    setitimer(ITIMER_VIRTUAL, &often, 0);
    static void *blocks[1009];
    unsigned random = 1;
    for (int left = 100000; handled < 200 || (getpid() != first && left > 0); left--) {
        random = random * 1103515245 + 12345;
        unsigned i = (random >> 8) % 1009;
        free(blocks[i]);
        blocks[i] = malloc((random >> 4) % 70000);
    }
    if (getpid() != first)
        _exit(0);
}

/* The same where so much comes and goes that the allocator has a thread, which is at work as often as not. */
static void maintained(void) {
    enum { COUNT = 4000, SIZE = 12000 };
    static void *many[COUNT];
    struct sigaction action = {.sa_handler = on_time, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 3000}, {0, 3000}};
    first = getpid();
    sigaction(SIGVTALRM, &action, 0);
    setitimer(ITIMER_VIRTUAL, &often, 0);
    for (int left = 30; handled < 300 || (getpid() != first && left > 0); left--) {
        for (int i = 0; i < COUNT; i++)
            many[i] = memset(malloc(SIZE), 1, SIZE);
        for (int i = 0; i < COUNT; i++)
            free(many[i]);
    }
    if (getpid() != first)
        _exit(0);
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    alarm(120);
    switch (arguments[1][0]) {
    case 's': stdio(); break;
    case 'h': run(registers, 3, registers); break;
    case 'n': nested(); break;
    case 'b': beside(); break;
    case 'i': interrupted(); break;
    case 'm': maintained(); break;
    }
    puts("forked");
    return 0;
}
