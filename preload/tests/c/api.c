/* What hakmem.h offers, and mallinfo2, malloc_info and malloc_stats against blocks that the test holds. */
#include "check.h"
#include "../../hakmem.h"
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static struct hakmem_stats stats(void)
{
    struct hakmem_stats stats = {.struct_size = sizeof stats};
    CHECK(hakmem_stats_get(&stats) == 0);
    CHECK(stats.struct_size == sizeof stats);
    return stats;
}

static long resident(const char *from, size_t len)
{
    static unsigned char state[1 << 16];
    long count = 0;
    CHECK(len / 4096 <= sizeof state);
    CHECK(mincore((void *)from, len, state) == 0);
    for (size_t i = 0; i < len / 4096; i++)
        count += state[i] & 1;
    return count;
}

static void numbers(void)
{
    enum { COUNT = 10000, SIZE = 1000, LARGE_COUNT = 3, LARGE_SIZE = 10 << 20 };
    struct hakmem_stats before = stats();
    struct mallinfo2 info_before = mallinfo2();
    static char *blocks[COUNT];
    char *large[LARGE_COUNT];
    for (int i = 0; i < COUNT; i++)
        CHECK((blocks[i] = malloc(SIZE)) != NULL);
    for (int i = 0; i < LARGE_COUNT; i++)
        CHECK((large[i] = malloc(LARGE_SIZE)) != NULL);
    struct hakmem_stats full = stats();
    struct mallinfo2 info_full = mallinfo2();
    struct mallinfo small_info = mallinfo();
    /* Blocks of SIZE are served as multiples of 16. Stdio may have a few of its own. */
    size_t exact = (size_t)COUNT * ((SIZE + 15) / 16 * 16);
    size_t grown = info_full.uordblks - info_before.uordblks;
    CHECK(grown >= exact && grown < exact + 20000);
    CHECK(info_full.hblks - info_before.hblks == LARGE_COUNT);
    CHECK(info_full.hblkhd - info_before.hblkhd >= (size_t)LARGE_COUNT * LARGE_SIZE);
    CHECK(info_full.arena >= info_full.uordblks);
    CHECK(info_full.arena == info_full.uordblks + info_full.fordblks);
    CHECK((size_t)small_info.uordblks == info_full.uordblks && (size_t)small_info.arena == info_full.arena);
    CHECK(full.live_blocks - before.live_blocks >= COUNT + LARGE_COUNT);
    CHECK(full.live_blocks - before.live_blocks < COUNT + LARGE_COUNT + 20);
    CHECK(full.large_live_blocks - before.large_live_blocks == LARGE_COUNT);
    CHECK(full.live_bytes == info_full.uordblks + info_full.hblkhd);
    CHECK(full.heaps_live == 1);
    CHECK(full.metadata_bytes > 0 && full.peak_bytes >= full.held_bytes);
    CHECK(full.held_bytes >= exact + (size_t)LARGE_COUNT * LARGE_SIZE);
    CHECK(full.process_resident_bytes >= 1 << 20 && full.process_peak_bytes >= full.process_resident_bytes);
    CHECK(full.process_page_faults > 0 && full.process_page_faults < UINT64_MAX);
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    for (int i = 0; i < LARGE_COUNT; i++)
        free(large[i]);
    struct mallinfo2 info_after = mallinfo2();
    CHECK(info_after.uordblks <= info_before.uordblks + 20000);
    CHECK(info_after.hblks == info_before.hblks);

    struct hakmem_stats shorter = {.struct_size = sizeof shorter - 8};
    CHECK(hakmem_stats_get(&shorter) == EINVAL);
    CHECK(hakmem_stats_get(NULL) == EINVAL);
}

static void texts(void)
{
    char *kept[100];
    for (int i = 0; i < 100; i++)
        CHECK((kept[i] = malloc(777)) != NULL);
    for (int i = 0; i < 100; i += 2)
        free(kept[i]);
    char *xml = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&xml, &length);
    CHECK(out != NULL);
    CHECK(malloc_info(1, out) == EINVAL);
    CHECK(ftell(out) == 0);
    CHECK(malloc_info(0, out) == 0);
    fclose(out);
    CHECK(strncmp(xml, "<malloc version=\"1\">\n", 21) == 0);
    CHECK(strcmp(xml + length - 10, "</malloc>\n") == 0);
    /* 777 bytes are served by blocks of 784; a slab has 83 of them, 50 of ours are out. */
    char *line = strstr(xml, "<size from=\"784\" to=\"784\"");
    CHECK(line != NULL);
    size_t total = 0, count = 0;
    CHECK(sscanf(line, "<size from=\"784\" to=\"784\" total=\"%zu\" count=\"%zu\"/>", &total, &count) == 2);
    CHECK(count >= 50 && total == count * 784);
    free(xml);
    /* 45000 bytes are served by blocks of 49152, of which three slots have four. */
    char *wide = OPAQUE(malloc(45000));
    CHECK((out = open_memstream(&xml, &length)) != NULL);
    CHECK(malloc_info(0, out) == 0);
    fclose(out);
    CHECK((line = strstr(xml, "<size from=\"49152\" to=\"49152\"")) != NULL);
    CHECK(sscanf(line, "<size from=\"49152\" to=\"49152\" total=\"%zu\" count=\"%zu\"/>", &total, &count) == 2);
    CHECK(count % 4 == 3 && total == count * 49152);
    free(xml);
    free(wide);
    for (int i = 1; i < 100; i += 2)
        free(kept[i]);

    size_t needed = hakmem_stats_json(NULL, 0);
    CHECK(needed > 100);
    char *json = malloc(needed + 1000);
    size_t whole = hakmem_stats_json(json, needed + 1000);
    CHECK(whole < needed + 1000 && strlen(json) == whole);
    CHECK(json[0] == '{' && json[whole - 1] == '}');
    CHECK(strstr(json, "\"live_bytes\":") != NULL);
    char cut[11] = "..........";
    CHECK(hakmem_stats_json(cut, 10) > 100);
    CHECK(strncmp(cut, json, 9) == 0 && cut[9] == 0);
    free(json);
    CHECK(strcmp(hakmem_version(), HAKMEM_VERSION) == 0);
}

static void fill_and_free(int count, size_t size)
{
    static char *blocks[300];
    for (int i = 0; i < count; i++) {
        CHECK((blocks[i] = malloc(size)) != NULL);
        memset(blocks[i], 1, size);
    }
    for (int i = 0; i < count; i++)
        free(blocks[i]);
}

static void giving_back(void)
{
    enum { COUNT = 300, SIZE = 300000 };
    uint64_t before = stats().returned_bytes;
    fill_and_free(COUNT, SIZE);
    uint64_t freed = stats().returned_bytes;
    size_t returned = hakmem_purge();
    CHECK(stats().returned_bytes >= freed + returned);
    CHECK(stats().returned_bytes - before > (uint64_t)COUNT * SIZE / 2);
    CHECK(stats().retained_bytes < (uint64_t)COUNT * SIZE / 4);
    /* Little enough to be retained until somebody asks. */
    fill_and_free(5, SIZE);
    CHECK(malloc_trim(0) == 1);
    CHECK(malloc_trim(0) == 0);
    CHECK(hakmem_prewarm(3) == 3);
    CHECK(stats().superslabs_mapped >= 3);
}

static void prefaulting(void)
{
    size_t len = 32 << 20;
    char *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    madvise(memory, len, MADV_NOHUGEPAGE);
    CHECK(resident(memory, len) == 0);
    errno = 4711;
    CHECK(hakmem_prefault(memory + 100, len / 2 - 200) == 0 && errno == 4711);
    CHECK(resident(memory, len / 2) == (long)(len / 2 / 4096));
    CHECK(resident(memory + len / 2, len / 2) == 0);

    memory[len / 2] = 42;
    int fd = hakmem_prefault_start(memory + len / 2, len / 2);
    CHECK(fd >= 0);
    struct pollfd waits = {.fd = fd, .events = POLLIN};
    CHECK(poll(&waits, 1, 10000) == 1);
    uint64_t value = 0;
    CHECK(read(fd, &value, sizeof value) == sizeof value);
    CHECK(value == len / 2 + 1);
    close(fd);
    CHECK(resident(memory + len / 2, len / 2) == (long)(len / 2 / 4096));
    CHECK(memory[len / 2] == 42);

    /* What is not mapped is reported. */
    CHECK(munmap(memory + len / 2, len / 2) == 0);
    CHECK(hakmem_prefault(memory, len) == ENOMEM);
    fd = hakmem_prefault_start(memory, len);
    CHECK(fd >= 0);
    waits.fd = fd;
    CHECK(poll(&waits, 1, 10000) == 1);
    CHECK(read(fd, &value, sizeof value) == sizeof value);
    CHECK(value < len + 1);
    close(fd);
    CHECK(hakmem_prefault(NULL, 10) == EINVAL);
    CHECK(hakmem_prefault(memory, SIZE_MAX) == EINVAL);
    errno = 0;
    CHECK(hakmem_prefault_start(memory, SIZE_MAX - 5) == -1 && errno == EINVAL);
    /* No descriptor to be had. */
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct rlimit none = {.rlim_cur = 3, .rlim_max = limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    errno = 0;
    CHECK(hakmem_prefault_start(memory, 4096) == -1 && errno == EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    munmap(memory, len / 2);
}

int main(void)
{
    check_library();
    numbers();
    texts();
    giving_back();
    prefaulting();
    malloc_stats();
    puts("interface holds");
    return 0;
}
