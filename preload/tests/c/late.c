// Threads whose last destructors allocate, when no destructor of the allocator runs any more. "vfork": a child that shares the
// memory takes nothing from them. "generations": processes of one thread fork out of each other, after such a thread has ended
// in each.
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 4, BLOCKS = 512, CHILDREN = 50, GENERATIONS = 12 };

static pthread_key_t key;
static __thread int rounds;
static int busy;
static int stop;

static void use_blocks(void) {
    unsigned char *blocks[BLOCKS] = {0};
    unsigned random = 1;
    do {
        for (int n = 0; n < 4 * BLOCKS; n++) {
            random = random * 1103515245 + 12345;
            int i = random >> 8 & (BLOCKS - 1);
            if (blocks[i])
                CHECK(blocks[i][0] == (i & 255) && blocks[i][63] == (i & 255));
            free(blocks[i]);
            blocks[i] = malloc(64);
            CHECK(blocks[i] != NULL);
            memset(blocks[i], i, 64);
        }
        __atomic_store_n(&busy, 1, __ATOMIC_RELEASE);
    } while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE));
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void ends(void *value) {
    if (++rounds < ROUNDS)
        pthread_setspecific(key, value);
    else
        use_blocks();
}

static void *thread(void *unused) {
    free(malloc(100));
    pthread_setspecific(key, "value");
    return unused;
}

static void beside_vfork(void) {
    static void *mine[20000];
    pthread_t other;
    CHECK(pthread_create(&other, NULL, thread, NULL) == 0);
    while (!__atomic_load_n(&busy, __ATOMIC_ACQUIRE))
        usleep(1000);
    for (int n = 0; n < CHILDREN; n++) {
        pid_t child = vfork();
        if (child == 0) {
            for (int i = 0; i < 20000; i++)
                memset(mine[i] = malloc(64), 0xEE, 64);
            for (int i = 0; i < 20000; i++)
                free(mine[i]);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(other, NULL);
}

static void generations(void) {
    stop = 1;
    for (int n = 0; n < GENERATIONS; n++) {
        pthread_t other;
        CHECK(pthread_create(&other, NULL, thread, NULL) == 0);
        pthread_join(other, NULL);
        pid_t child = fork();
        if (child != 0) {
            int status;
            CHECK(waitpid(child, &status, 0) == child);
            _exit(WEXITSTATUS(status));
        }
    }
}

int main(int count, char **arguments) {
    check_library();
    CHECK(count == 2);
    CHECK(pthread_key_create(&key, ends) == 0);
    if (strcmp(arguments[1], "vfork") == 0)
        beside_vfork();
    else
        generations();
    puts("all is apart");
    return 0;
}
