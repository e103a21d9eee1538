/* Threads that allocate, resize, hand blocks on to each other and end, while signals interrupt them: 24 at a time,
   whatever the machine has. Every block carries a pattern that its last owner checks. Ours and glibc's. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

enum { THREADS = 24, GENERATIONS = 3, ROUNDS = 12000, OWN = 200, SHARED = 512 };

struct block {
    size_t size;
    uint64_t seed;
    unsigned char bytes[];
};

static struct block *shared[SHARED];
static unsigned long signals, handed;

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t some_size(uint64_t *state)
{
    uint64_t n = next(state);
    if (n % 1000 == 0)
        return (n >> 20) % (3 << 20);
    if (n % 30 == 0)
        return (n >> 20) % (100 << 10);
    return (n >> 20) % 1200;
}

static unsigned char at(const struct block *block, size_t i)
{
    return (unsigned char)(block->seed + i * 31);
}

static void fill(struct block *block, size_t from)
{
    size_t step = block->size > 4096 ? 97 : 1;
    for (size_t i = (from + step - 1) / step * step; i < block->size; i += step)
        block->bytes[i] = at(block, i);
    if (block->size > 0)
        block->bytes[block->size - 1] = at(block, block->size - 1);
}

static struct block *make(uint64_t *state)
{
    size_t size = some_size(state);
    uint64_t how = next(state) % 16;
    struct block *block = NULL;
    if (how == 0) {
        size_t align = (size_t)16 << next(state) % 9;
        CHECK(posix_memalign((void **)&block, align, sizeof *block + size) == 0);
        CHECK((uintptr_t)block % align == 0);
    } else if (how < 4) {
        CHECK((block = calloc(1, sizeof *block + size)) != NULL);
        size_t step = size > 4096 ? 97 : 1;
        for (size_t i = 0; i < size; i += step)
            CHECK(block->bytes[i] == 0);
    } else {
        CHECK((block = malloc(sizeof *block + size)) != NULL);
    }
    block->size = size;
    block->seed = next(state);
    fill(block, 0);
    return block;
}

static void check(const struct block *block)
{
    size_t step = block->size > 4096 ? 97 : 1;
    for (size_t i = 0; i < block->size; i += step)
        CHECK(block->bytes[i] == at(block, i));
    CHECK(block->size == 0 || block->bytes[block->size - 1] == at(block, block->size - 1));
}

static struct block *resize(struct block *block, uint64_t *state)
{
    size_t size = some_size(state), before = block->size;
    check(block);
    CHECK((block = realloc(block, sizeof *block + size)) != NULL);
    size_t kept = before < size ? before : size;
    size_t step = before > 4096 ? 97 : 1;
    for (size_t i = 0; i < kept; i += step)
        CHECK(block->bytes[i] == at(block, i));
    block->size = size;
    fill(block, 0);
    return block;
}

static void *work(void *arg)
{
    uint64_t state = (uintptr_t)arg * 0x9E3779B97F4A7C15u + 1;
    struct block *own[OWN] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        struct block **place = &own[next(&state) % OWN];
        if (*place == NULL) {
            *place = make(&state);
        } else if (next(&state) % 4 == 0) {
            *place = resize(*place, &state);
        } else if (next(&state) % 3 == 0) {
            /* What comes back is some other thread's. */
            struct block **there = &shared[next(&state) % SHARED];
            *place = __atomic_exchange_n(there, *place, __ATOMIC_ACQ_REL);
            __atomic_add_fetch(&handed, 1, __ATOMIC_RELAXED);
        } else {
            check(*place);
            free(*place);
            *place = NULL;
        }
    }
    for (int i = 0; i < OWN; i++)
        if (own[i] != NULL) {
            check(own[i]);
            free(own[i]);
        }
    return NULL;
}

static void on_signal(int number)
{
    (void)number;
    __atomic_add_fetch(&signals, 1, __ATOMIC_RELAXED);
}

int main(void)
{
    check_library();
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int generation = 0; generation < GENERATIONS; generation++) {
        pthread_t ids[THREADS];
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)(generation * THREADS + i + 1)) == 0);
        for (int i = 0; i < 400; i++) {
            CHECK(pthread_kill(ids[i % THREADS], SIGUSR1) == 0);
            usleep(500);
        }
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(ids[i], NULL) == 0);
    }
    for (int i = 0; i < SHARED; i++)
        if (shared[i] != NULL) {
            check(shared[i]);
            free(shared[i]);
        }
    CHECK(signals > 0 && handed > 1000);
    puts("no block was lost");
    return 0;
}
