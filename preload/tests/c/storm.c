/* Ten thousand forks out of a process whose other threads allocate all the while. Every child allocates, frees blocks of
   its parent's threads, and every hundredth starts a thread and forks again. */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKS = 10000, THREADS = 4, PLACES = 256 };

static void *places[PLACES];
static int stop;

static void *churn(void *arg)
{
    uint64_t state = (uintptr_t)arg * 0x9E3779B97F4A7C15u + 1;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        for (int i = 0; i < 2000; i++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            size_t size = state % 50 == 0 ? state % 70000 : state % 700;
            void *block = malloc(size + 1);
            if (block == NULL)
                _exit(9);
            *(char *)block = 1;
            free(__atomic_exchange_n(&places[state % PLACES], block, __ATOMIC_ACQ_REL));
        }
        /* One processor is enough for all of this. */
        usleep(200);
    }
    return NULL;
}

static void *in_child(void *block)
{
    free(block);
    return malloc(3000);
}

static int child(int number)
{
    void *blocks[100];
    for (int i = 0; i < 100; i++) {
        if ((blocks[i] = malloc((size_t)i * 20 + 1)) == NULL)
            return 2;
        memset(blocks[i], 1, (size_t)i * 20 + 1);
    }
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    for (int i = 0; i < PLACES; i += 16)
        free(__atomic_exchange_n(&places[i], NULL, __ATOMIC_ACQ_REL));
    if (number % 100 == 0) {
        pthread_t id;
        void *result;
        if (pthread_create(&id, NULL, in_child, malloc(100)) != 0 || pthread_join(id, &result) != 0)
            return 3;
        free(result);
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(malloc(100) == NULL);
        int status;
        if (waitpid(grandchild, &status, 0) != grandchild || status != 0)
            return 4;
    }
    return 0;
}

int main(void)
{
    check_library();
    pthread_t ids[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&ids[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(1200);
            _exit(child(i));
        }
        int status = -1;
        CHECK(waitpid(pid, &status, 0) == pid);
        if (status != 0)
            fprintf(stderr, "child %d ended with status %#x\n", i, status);
        CHECK(status == 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(ids[i], NULL) == 0);
    puts("the storm is over");
    return 0;
}
