/* One mistake of a program, and then hard use of the heap: what becomes of it under an allocator. `misuse.sh` runs every mistake
 * under every library, and makes the table of docs/hardening.md.
 *
 *     misuse NAME     0 if nothing was noticed, 3 if live blocks overlap or lost their contents, 4 if memory was refused
 *     misuse          the names
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The compiler knows what malloc and free do, and what is undefined. */
static void *hide(void *block) {
    __asm__ volatile("" : "+r"(block));
    return block;
}
#define TAKE(size) ((char *)hide(malloc(size)))
#define GIVE(block) free(hide(block))
#define WRITE(block, at) (*(volatile char *)((char *)hide(block) + (at)) = 'X')

/* Takes and fills many blocks, three times, and looks whether each has what was written to it. */
static int use(size_t size) {
    enum { BLOCKS = 4000 };
    static char *blocks[BLOCKS];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            if (!(blocks[i] = TAKE(size)))
                return 4;
            memset(blocks[i], i & 255, size);
            memcpy(blocks[i], &i, sizeof i);
        }
        for (int i = 0; i < BLOCKS; i++) {
            if (memcmp(blocks[i], &i, sizeof i))
                return 3;
            for (size_t at = sizeof i; at < size; at++)
                if (blocks[i][at] != (char)(i & 255))
                    return 3;
        }
        for (int i = BLOCKS - 1; i >= 0; i--)
            GIVE(blocks[i]);
    }
    return 0;
}

static int twice(size_t size) {
    char *block = TAKE(size);
    GIVE(block);
    GIVE(block);
    return use(48);
}

static int twice_after(int others) {
    static char *blocks[1000];
    for (int i = 0; i < others; i++)
        blocks[i] = TAKE(48);
    for (int i = 0; i < others; i++)
        GIVE(blocks[i]);
    GIVE(blocks[others / 3]);
    return use(48);
}

static int at_once(void) { return twice(48); }
static int after_two(void) { return twice_after(3); }
static int after_a_thousand(void) { return twice_after(1000); }
static int medium(void) { return twice(100000); }
static int large(void) { return twice(4 << 20); }

static int late(void) {
    for (int i = 0; i < 200000; i++)
        GIVE(TAKE(48));
    return twice_after(3);
}

static void *both(void *block) {
    GIVE(block);
    GIVE(block);
    return NULL;
}

static int by_another(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, both, TAKE(48)))
        return 4;
    pthread_join(thread, NULL);
    return use(48);
}

static int after_reuse(void) {
    char *block = TAKE(48);
    GIVE(block);
    char *again = TAKE(48);
    memset(again, 7, 48);
    GIVE(block);
    char *third = TAKE(48);
    memset(third, 8, 48);
    return again == third || again[0] != 7 ? 3 : use(48);
}

static int inside(void) {
    GIVE(TAKE(200) + 16);
    return use(200);
}

static int inside_odd(void) {
    GIVE(TAKE(200) + 1);
    return use(200);
}

static int inside_large(void) {
    GIVE(TAKE(4 << 20) + 4096);
    return use(200);
}

static int of_the_stack(void) {
    char block[64] __attribute__((aligned(16)));
    memset(block, 0, sizeof block);
    GIVE(block + 16);
    return use(48);
}

static int realloc_freed(void) {
    char *block = TAKE(48);
    GIVE(block);
    hide(realloc(hide(block), 400));
    return use(48);
}

static int past_by_one(void) {
    char *block = TAKE(40), *next = TAKE(40);
    WRITE(block, 40);
    GIVE(block);
    GIVE(next);
    return use(40);
}

static int past_by_many(void) {
    char *block = TAKE(48), *next = TAKE(48);
    size_t size = malloc_usable_size(block);
    for (int i = 0; i < 16; i++)
        WRITE(block, size + i);
    GIVE(block);
    GIVE(next);
    return use(48);
}

static int in_front(void) {
    char *before = TAKE(48), *block = TAKE(48);
    WRITE(block, -1);
    GIVE(block);
    GIVE(before);
    return use(48);
}

static int in_front_of_large(void) {
    char *block = TAKE(4 << 20);
    WRITE(block, -1);
    GIVE(block);
    return use(48);
}

static int to_freed(void) {
    char *block = TAKE(48), *other = TAKE(48);
    GIVE(other);
    GIVE(block);
    for (int i = 0; i < 48; i++)
        WRITE(block, i);
    memset(TAKE(48), 1, 48);
    memset(TAKE(48), 2, 48);
    return use(48);
}

static int to_freed_large(void) {
    char *block = TAKE(4 << 20);
    GIVE(block);
    WRITE(block, 100000);
    return use(48);
}

static const struct {
    const char *name;
    int (*make)(void);
} MISTAKES[] = {
    {"second free at once", at_once},
    {"second free after two others", after_two},
    {"second free after a thousand others", after_a_thousand},
    {"second free after two others, late in the program", late},
    {"both frees by another thread", by_another},
    {"second free of 100,000 bytes", medium},
    {"second free of 4 MiB", large},
    {"second free once the block was given out again", after_reuse},
    {"free of the inside, a multiple of 16", inside},
    {"free of the inside, an odd address", inside_odd},
    {"free of the inside of 4 MiB", inside_large},
    {"free of an address of the stack", of_the_stack},
    {"realloc of a freed block", realloc_freed},
    {"a byte written past 40", past_by_one},
    {"16 bytes written past all that is usable", past_by_many},
    {"a byte written in front", in_front},
    {"a byte written in front of 4 MiB", in_front_of_large},
    {"a freed block written to", to_freed},
    {"a freed block of 4 MiB written to", to_freed_large},
};

int main(int count, char **words) {
    for (size_t i = 0; i < sizeof MISTAKES / sizeof *MISTAKES; i++) {
        if (count < 2)
            puts(MISTAKES[i].name);
        else if (!strcmp(words[1], MISTAKES[i].name))
            return MISTAKES[i].make();
    }
    return count < 2 ? 0 : 2;
}
