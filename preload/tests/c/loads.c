/* A library that holds the allocator is loaded and unloaded again and again by a program that has another malloc, while
   threads that used it live on and end afterwards. */
#include "check.h"
#include <pthread.h>

enum { ROUNDS = 200, THREADS = 2, BLOCKS = 500 };

static void *(*take)(size_t);
static void (*give)(void *);
static pthread_barrier_t used, gone;

static void *use(void *left_behind)
{
    void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = take((size_t)i * 7 + 1)) != NULL);
        memset(blocks[i], i, (size_t)i * 7 + 1);
    }
    *(void **)left_behind = take(100);
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(*(unsigned char *)blocks[i] == (unsigned char)i);
        give(blocks[i]);
    }
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&gone);
    return NULL;
}

static long mapped_kib(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    char line[200];
    long kib = -1;
    while (fgets(line, sizeof line, status) != NULL)
        sscanf(line, "VmSize: %ld", &kib);
    fclose(status);
    CHECK(kib > 0);
    return kib;
}

int main(int argc, char **argv)
{
    check_library();
    CHECK(argc == 2);
    CHECK(pthread_barrier_init(&used, NULL, THREADS + 1) == 0);
    CHECK(pthread_barrier_init(&gone, NULL, THREADS + 1) == 0);
    long early = 0;
    for (int round = 0; round < ROUNDS; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            fprintf(stderr, "%s\n", dlerror());
        CHECK(library != NULL);
        take = (void *(*)(size_t))dlsym(library, "malloc");
        give = (void (*)(void *))dlsym(library, "free");
        CHECK(take != NULL && give != NULL && (void *)take != (void *)malloc);
        pthread_t ids[THREADS];
        void *left_behind[THREADS];
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&ids[i], NULL, use, &left_behind[i]) == 0);
        pthread_barrier_wait(&used);
        for (int i = 0; i < THREADS; i++)
            give(left_behind[i]);
        CHECK(dlclose(library) == 0);
        pthread_barrier_wait(&gone);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(ids[i], NULL) == 0);
        if (round == 10)
            early = mapped_kib();
    }
    if (mapped_kib() > early + 64 * 1024)
        fprintf(stderr, "%ld KiB of addresses after 10 rounds, %ld after %d\n", early, mapped_kib(), ROUNDS);
    CHECK(mapped_kib() <= early + 64 * 1024);
    puts("loaded and gone");
    return 0;
}
