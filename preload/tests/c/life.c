/* The allocator at every moment of a process: constructors and destructors, atexit, ends of threads, fork, vfork, exec,
   posix_spawn, dlopen and dlclose, mlockall, a late RLIMIT_AS, a closed stderr. Runs with and without libhakmem.so. */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char *from_constructor, *from_main;
static const char *self;

static void exercise(void)
{
    void *blocks[200];
    for (int i = 0; i < 200; i++) {
        size_t size = (size_t)i * i * 7 + 1;
        CHECK((blocks[i] = malloc(size)) != NULL);
        memset(blocks[i], i, size);
    }
    for (int i = 0; i < 200; i += 2)
        CHECK((blocks[i] = realloc(blocks[i], (size_t)i * 100 + 5)) != NULL);
    for (int i = 0; i < 200; i++) {
        CHECK(*(unsigned char *)blocks[i] == i);
        free(blocks[i]);
    }
}

__attribute__((constructor(101))) static void begin(void)
{
    from_constructor = strdup("constructor");
    exercise();
}

__attribute__((destructor(101))) static void end(void)
{
    exercise();
    CHECK(strcmp(from_main, "main") == 0);
    free(from_main);
    if (write(1, "destructor\n", 11) != 11)
        _exit(1);
}

static void at_exit(void)
{
    exercise();
    if (write(1, "atexit\n", 7) != 7)
        _exit(1);
}

static pthread_key_t key;
static int keys_ended;

static void key_ends(void *block)
{
    exercise();
    free(block);
    /* Set again: glibc goes round several times, the last ones behind the allocator's own destructor. */
    if (__atomic_add_fetch(&keys_ended, 1, __ATOMIC_RELAXED) % 3 != 0)
        CHECK(pthread_setspecific(key, malloc(100)) == 0);
    free(malloc(50));
}

static void *thread(void *arg)
{
    CHECK(pthread_setspecific(key, malloc(100)) == 0);
    exercise();
    CHECK(strerror(12345) != NULL); /* glibc frees this buffer behind all destructors */
    free(arg);
    return strdup("from a thread");
}

static void threads(void)
{
    CHECK(pthread_key_create(&key, key_ends) == 0);
    for (int i = 0; i < 300; i++) {
        pthread_t id;
        void *result;
        CHECK(pthread_create(&id, NULL, thread, malloc(300)) == 0);
        CHECK(pthread_join(id, &result) == 0);
        CHECK(strcmp(result, "from a thread") == 0);
        free(result);
    }
    CHECK(keys_ended == 900);
}

static void ended_well(pid_t child)
{
    int status = -1;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void *churn(void *stop)
{
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED)) {
        exercise();
        usleep(500);
    }
    return NULL;
}

static void children(void)
{
    int stop = 0;
    pthread_t ids[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&ids[i], NULL, churn, &stop) == 0);
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) {
            exercise();
            pthread_t id;
            void *result;
            if (pthread_create(&id, NULL, thread, malloc(300)) != 0 || pthread_join(id, &result) != 0)
                _exit(1);
            free(result);
            _exit(0);
        }
        ended_well(child);
    }
    char *args[] = {(char *)self, "child", NULL};
    pid_t child = vfork();
    if (child == 0) {
        execv(self, args);
        _exit(1);
    }
    ended_well(child);
    CHECK(posix_spawn(&child, self, NULL, NULL, args, environ) == 0);
    ended_well(child);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(ids[i], NULL) == 0);
}

static void libraries(void)
{
    static const char *names[] = {"libm.so.6",      "libresolv.so.2", "libstdc++.so.6", "libgcc_s.so.1", "libutil.so.1",
                                  "libnss_files.so.2", "libBrokenLocale.so.1", "libanl.so.1",    "librt.so.1"};
    int opened = 0;
    for (int round = 0; round < 50; round++) {
        void *handles[sizeof names / sizeof *names];
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            handles[i] = dlopen(names[i], RTLD_NOW);
            opened += handles[i] != NULL;
        }
        CHECK(dlopen("/no/such/library.so", RTLD_NOW) == NULL && dlerror() != NULL);
        CHECK(dlsym(RTLD_DEFAULT, "no_such_symbol") == NULL && dlerror() != NULL);
        exercise();
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            CHECK(handles[i] == NULL || dlclose(handles[i]) == 0);
    }
    CHECK(opened >= 50);
}

/* Whoever has closed its descriptors may have a file of its own as number 2. */
static void closed_stderr(void)
{
    pid_t child = fork();
    if (child == 0) {
        char name[] = "/tmp/hakmem-test-XXXXXX";
        int file = mkstemp(name);
        if (file < 0 || dup2(file, 2) != 2)
            _exit(1);
        unlink(name);
        for (int fd = 3; fd < 100; fd++)
            if (fd != file)
                close(fd);
        exercise();
        struct rlimit none = {1, 1};
        if (setrlimit(RLIMIT_AS, &none) != 0)
            _exit(2);
        for (int i = 0; i < 100; i++)
            free(malloc(OPAQUE((size_t)1 << 24)));
        struct stat state;
        _exit(fstat(2, &state) == 0 && state.st_size == 0 ? 0 : 3);
    }
    ended_well(child);
}

static void limits(void)
{
    pid_t child = fork();
    if (child == 0) {
        /* Out of memory is an answer, not an end; what is given back can be had again. */
        struct rlimit little = {512 << 20, 512 << 20};
        if (setrlimit(RLIMIT_AS, &little) != 0)
            _exit(1);
        static void *blocks[1000];
        int count = 0;
        exercise();
        while (count < 1000 && (blocks[count] = malloc(3 << 20)) != NULL)
            count++;
        if (count == 1000 || errno != ENOMEM)
            _exit(2);
        while (count > 0)
            free(blocks[--count]);
        exercise();
        _exit(0);
    }
    ended_well(child);
    child = fork();
    if (child == 0) {
        /* Refused for want of privilege it is no test, but it must not be an end either. */
        int locked = mlockall(MCL_CURRENT | MCL_FUTURE);
        exercise();
        void *block = locked == 0 ? malloc(1 << 20) : NULL;
        free(block);
        exercise();
        _exit(0);
    }
    ended_well(child);
}

int main(int argc, char **argv)
{
    self = "/proc/self/exe";
    check_library();
    exercise();
    from_main = strdup("main");
    CHECK(strcmp(from_constructor, "constructor") == 0);
    free(from_constructor);
    if (argc > 1) {
        free(from_main);
        _exit(argv[1][0] == 'c' ? 0 : 1);
    }
    CHECK(atexit(at_exit) == 0);
    threads();
    children();
    libraries();
    closed_stderr();
    limits();
    puts("life goes on");
    return 0;
}
