// Processes of one thread that fork out of each other, in each after a thread has ended whose last destructors allocated, when
// no destructor of the allocator ran any more.
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 4, BLOCKS = 4000, GENERATIONS = 12 };

static pthread_key_t key;
static __thread int rounds;

static void use_blocks(void) {
    unsigned char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        CHECK((blocks[i] = malloc(1000 + i % 3 * 16)) != NULL);
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

static void generations(void) {
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

int main(void) {
    check_library();
    CHECK(pthread_key_create(&key, ends) == 0);
    generations();
    puts("nothing is lost");
    return 0;
}
