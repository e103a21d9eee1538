/* hakmem.h: what libhakmem.so offers beyond the malloc family.
 *
 * The malloc family itself is declared by <stdlib.h> and <malloc.h> and needs no header of ours. Every function here may
 * be called from any thread, none from a signal handler. A program that wants to run without the library as well looks
 * the names up by dlsym(RTLD_DEFAULT, "hakmem_..."). */
#ifndef HAKMEM_H
#define HAKMEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAKMEM_VERSION_MAJOR 0
#define HAKMEM_VERSION_MINOR 1
#define HAKMEM_VERSION_PATCH 0
#define HAKMEM_VERSION "0.1.0"

/* What the allocator holds. Later versions may add fields at the end. Sizes are bytes; counts marked "so far" are since
 * the process began. */
struct hakmem_stats {
    uint64_t struct_size;               /* set by the caller: sizeof(struct hakmem_stats) */
    uint64_t live_blocks;               /* blocks the program holds */
    uint64_t live_bytes;                /* and their bytes, counted in whole blocks */
    uint64_t mapped_bytes;              /* address space mapped */
    uint64_t retained_bytes;            /* resident and free, or cached */
    uint64_t returned_bytes;            /* given back to the system so far */
    uint64_t superslabs_mapped;         /* superslabs, 2 MiB each */
    uint64_t superslabs_in_use;
    uint64_t superslabs_retained;       /* empty, at least a part of it resident */
    uint64_t superslabs_purged;         /* empty and given back */
    uint64_t slabs;
    uint64_t large_live_blocks;         /* large blocks: above 1 MiB */
    uint64_t large_live_bytes;
    uint64_t large_cached_bytes;        /* freed, kept for the next one */
    uint64_t heaps_live;                /* one per thread that allocates */
    uint64_t heaps_idle;                /* whose thread has ended */
    uint64_t batches_posted;            /* blocks freed by other threads, in batches, so far */
    uint64_t batches_drained;
    uint64_t huge_page_requested_bytes; /* mapped with huge pages asked for */
    uint64_t huge_page_achieved_bytes;  /* given, by the kernel's account; UINT64_MAX if it gave no account */
    uint64_t prefault_calls;            /* made resident ahead of use, so far */
    uint64_t prefault_bytes;
    uint64_t failures;                  /* system calls that failed, so far */
    uint64_t metadata_bytes;            /* mapped for the allocator's own tables, not in mapped_bytes */
    uint64_t held_bytes;                /* that may be resident for blocks, live, free or cached */
    uint64_t peak_bytes;                /* the most held_bytes was */
    uint64_t process_resident_bytes;    /* the whole process, by the kernel's account; these three are UINT64_MAX */
    uint64_t process_peak_bytes;        /* if it gave none */
    uint64_t process_page_faults;       /* so far */
};

/* Fills in *stats. Returns 0, or EINVAL if stats is null or its struct_size is less than this header's. Takes milliseconds
 * in a large process: it asks the kernel for its account of huge pages. */
int hakmem_stats_get(struct hakmem_stats *stats);

/* The statistics as one JSON object, size classes included, by the rules of snprintf: at most size bytes with the NUL
 * are written, and the length of the whole text without it is returned. */
size_t hakmem_stats_json(char *buffer, size_t size);

/* Gives back to the system what can be given back now. Returns the bytes. */
size_t hakmem_purge(void);

/* Maps and populates superslabs (2 MiB each) ahead of their use. Returns how many were populated. */
size_t hakmem_prewarm(size_t superslabs);

/* Makes memory resident that is mapped for writing, whoever mapped it: whole OS pages around the range. Works in steps of
 * 2 MiB with short pauses, so that mmap and munmap of other threads go on. Returns 0 or an error number: ENOMEM if part of
 * the range is not mapped or memory ran out, EINVAL if it is no range. The contents do not change. Before Linux 5.14 each OS
 * page is written to without a pause, and one that is not mapped faults. */
int hakmem_prefault(void *addr, size_t len);

/* The same on a thread of its own. Returns an eventfd (close-on-exec, non-blocking) that the caller closes, or -1 with
 * errno set. It becomes readable when the work has ended; the number read is one more than the bytes brought in, so that
 * less than the range says that something ended it early. The range must stay mapped until then. */
int hakmem_prefault_start(void *addr, size_t len);

/* The version of the library that is loaded, as "0.1.0". */
const char *hakmem_version(void);

#ifdef __cplusplus
}
#endif
#endif
