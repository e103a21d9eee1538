/* fork in bad moments; every case ends at once or is ended by its alarm. Arguments: stdio, handlers, nested, interrupted,
   maintained. Behaviours imitated:
   - stdio: one thread forks, one flushes all streams, others read lines (glibc bug 19431);
   - handlers: one thread forks, others register handlers of fork, for which the C library allocates under its own lock;
   - nested: a signal whose handler forks arrives while the same thread is inside fork;
   - interrupted: a signal whose handler forks arrives while the only thread is inside malloc or free; the child goes on
     from there, too;
   - maintained: the same in a process that frees and takes so much that the allocator has a thread of its own. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
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
    char *much = malloc(32 << 20);
    CHECK(much);
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
    free(much);
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
    case 'i': interrupted(); break;
    case 'm': maintained(); break;
    }
    puts("forked");
    return 0;
}
