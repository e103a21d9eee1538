//! The numbers of the memory policy: value, unit, meaning, and the evidence or the word "guess".

use super::demand::Price;
use super::units::{SLOT, SLOTS, SUPERSLAB};

/// What stores of idle memory keep.
pub(crate) mod retention {
    use super::Price;

    /// Bytes that must come back within the purge delay before a dip is retained. Guess. With 64 MiB, the harness's `burst
    /// 10000 8` takes twice the faults it takes with 2 MiB.
    pub(crate) const WORTH: Price = Price(4 << 20);
    /// Bytes of freed large blocks that stay cached whatever is live, so that a buffer allocated and freed in a loop is not
    /// faulted in each time. With a small program's 2 MiB they make 8 MiB, the bound on a process at rest.
    pub(crate) const LARGE_LEAST: usize = 6 << 20;
    /// Divisor: this share of the live large blocks' bytes may stay cached besides. Guess.
    pub(crate) const LARGE_SHARE: usize = 2;
    /// Most bytes of freed large blocks that one call of the program unmaps if the maintenance thread may unmap the rest; or the
    /// share of the excess given by the divisor below, if that is more, so that programs that free block after block do not fall
    /// behind. Unmapping 60 MiB of OS pages takes 9 to 10 ms (AMD EPYC); most blocks are smaller than this. The share is a guess.
    pub(crate) const UNMAPPED_AT_ONCE: usize = 24 << 20;
    pub(crate) const UNMAPPED_SHARE: usize = 4;
    /// Bytes of addresses without memory that are kept of freed large blocks, or as many as are live in large blocks if that is
    /// more. Unmapping between two other mappings costs the process one mapping (`vm.max_map_count`). Guess.
    pub(crate) const ADDRESSES: usize = 64 << 20;
    /// Bytes behind the ends of all live large blocks together that may be resident; or the share of the live large blocks'
    /// bytes given by the divisor below, if that is more. With a thirty-second the harness's `huge 400` faults 3,511 times,
    /// with an eighth 1,116. Phases of large blocks of two sizes peak at 219 MiB with an eighth, and at 210 with a sixteenth (no
    /// command of the harness runs them).
    pub(crate) const TAILS: usize = 4 << 20;
    pub(crate) const TAILS_SHARE: usize = 16;
    /// If no thread sees time pass, a demand of up to this many bytes is retained in full, and stays if the process falls
    /// silent. It is as much as stays if the maintenance thread does not start. The usage of the harness's `burst 50000 10`
    /// rises and falls by 110 MiB in one thread: without the maintenance thread it faults 142,648 times, with it 9,861 (AMD
    /// EPYC, 2 runs).
    pub(crate) const UNSEEN_WHOLE: usize = super::helper::FROM_ALONE;
    /// Bytes of freed large blocks that stay cached if no thread sees time pass and the demand exceeds [`UNSEEN_WHOLE`]:
    /// [`LARGE_LEAST`].
    pub(crate) const LARGE_UNSEEN: usize = LARGE_LEAST;
    /// The same for free slots and stacks together. The bound on a process after a burst is 36 MiB: a small program has 2, the
    /// large cache may have 6, and bins hold up to 6.
    pub(crate) const SMALL_UNSEEN: usize = 22 << 20;
}

/// Checked blocks.
pub(crate) mod checked {
    use super::SLOT;

    /// Bytes of freed blocks of one kind that wait before one is given out again; or so many blocks; or the share of those
    /// that are allocated given by the divisor, if that is more. Guesses.
    pub(crate) const WAITING: usize = 8 << 10;
    pub(crate) const FEWEST: usize = 4;
    pub(crate) const SHARE: usize = 8;
    /// Bytes of freed blocks above 48 KiB that wait, of all sizes together: two of the largest. Guess.
    pub(crate) const RUNS: usize = 34 * SLOT;
    /// So many times as much waits in the hardened profile. Guess.
    pub(crate) const HARDENED: usize = 4;
    /// Bytes of fresh blocks of which the hardened profile gives one out by chance, and so many blocks at least. If these are all
    /// of a slab, a program with few blocks of many sizes touches most of each slab: `git log` has a peak of 19.5 MB then.
    /// Guesses.
    pub(crate) const WINDOW: usize = 8 << 10;
    pub(crate) const WINDOW_FEWEST: usize = 4;
    /// Divisor: a slab is passed over for others if no more than this share of its blocks waits. The second is how many slabs
    /// are examined. Guesses.
    pub(crate) const FEW_OF: usize = 8;
    pub(crate) const LOOKS: usize = 4;
    /// If one slab in N is checked: most bytes of all checked slabs and their descriptors. With the sites of calls and the table
    /// of slabs they are 256 KiB at most.
    pub(crate) const MOST: usize = (256 - 36) << 10;
    /// In that case, bytes of blocks ever handed out from which a slab may be checked. Finding out who asks for its blocks makes code
    /// and tables of the C library and the allocator resident: an idle backend of postgres, which hands out 1.5 MiB, has 1.1 MiB
    /// more than under glibc with 1 MiB, and 0.5 more with 2. The first backend after a start hands out more than 2. It has 0.9
    /// MiB more with 2, and 0.5 with 3, of which 0.17 are luck with addresses (postgres 15, means of six starts).
    pub(crate) const FROM: usize = 3 << 20;
    /// In that case, the share of those bytes that unwind tables may make resident, as a divisor: a part of 64 KiB for each 8 MiB.
    /// Where a table may not be read, the stack is searched for return addresses.
    pub(crate) const TABLES_SHARE: usize = 128;
    /// In that case, the most blocks of one slab that are used. Three slabs fit then.
    pub(crate) const BLOCKS: usize = 256;
    /// In that case, slow paths between two that get a checked block. Guess.
    pub(crate) const TURNS: u32 = 15;
    /// If all blocks are checked, calls for which the clock is read once. The report of one that follows a pause may say that it
    /// was as long ago as the one before the pause. Reading it takes 10 of the 150 ns of an allocation and its free (AMD EPYC).
    pub(crate) const CALLS: u32 = 16;
    /// Blocks of a slab from which the place of the first stays empty, so that a write in front of the second damages nothing.
    /// Slabs of fewer have a slot more. Guess: a sixteenth of a slab.
    pub(crate) const LEAD_FROM: usize = 16;
}

/// Guarded blocks.
pub(crate) mod guarded {
    /// If all blocks are checked, this many times as many allocations go by to the next guarded block: all of them count, and in
    /// other programs only those that find no block at hand. A guarded block costs about 15 us here: perl with 85,000
    /// allocations had 41 of them, which took 3 % of its time.
    pub(crate) const OF_ALL: u32 = 16;
}

/// The maintenance thread.
pub(crate) mod helper {
    use core::ops::RangeInclusive;

    /// Idle bytes from which a process of several threads starts the thread. The thread ends if fewer are left, or if nothing
    /// more can go. `tests/at_rest` ("hand-over 8") rests at 2.7 to 4.3 MiB with 2 MiB, and at 9.1 to 11.1 with 6.
    pub(crate) const FROM: usize = 2 << 20;
    /// The same for a process of one thread. A silent one keeps this much for ever; a lower value would start the thread in
    /// programs that need none. Guess, between what programs free and take again while they start (22 MiB for the harness's
    /// `burst 10000`) and the 36 MiB that a process may keep after bursts of 200 MiB.
    pub(crate) const FROM_ALONE: usize = 32 << 20;
    /// It ends after this many rounds in which it got nothing and nothing changed, or after the rounds of two purge delays if
    /// those are more. A round is half a delay, from 50 ms to a second. Guess.
    pub(crate) const ROUNDS_TO_LIVE: u64 = 8;
    /// Bytes of its stack, and of that of every other thread that the allocator starts. Guess: its deepest call chains use less
    /// than 32 KiB.
    pub(crate) const STACK: usize = 256 << 10;
    /// After the kernel refuses the thread, this many requests for it are dropped before it is tried again: at first the lower
    /// bound, doubled by each refusal up to the upper bound. A process that is refused a thread once is mostly refused for
    /// long, by a limit on threads or on address space. The bounds keep the cost of asking small. Guess.
    pub(crate) const TURNED_AWAY: RangeInclusive<u32> = 64..=64 << 10;
}

/// When OS pages of slabs in use go back.
pub(crate) mod holes {
    use super::SLOT;

    /// Nanoseconds after which one call of the program stops giving back OS pages of slabs in use. Guess: less than half of the
    /// worst pause a single call may have.
    pub(crate) const TICK_NS: u64 = 2_000_000;
    /// Bytes of a huge page that must be free before it is split, as for one whose slots are free. Guess.
    pub(crate) const SPLIT_FROM: usize = 12 * SLOT;
}

/// When fresh memory takes the place of idle memory.
pub(crate) mod ceiling {
    /// Idle bytes left alone when a process grows beyond its recent peak; or the share of the live bytes given by the divisor
    /// below, if that is more. Guess: the 2 MiB that a start of `python3` has idle are not worth giving back.
    pub(crate) const SPARED: usize = 2 << 20;
    pub(crate) const SPARED_SHARE: usize = 32;
    /// Divisor: after reclaiming got little, it is tried again once the idle bytes have grown by this share, or by [`SPARED`] if
    /// that is more. Guess.
    pub(crate) const STUCK_SHARE: usize = 8;
}

/// How much free memory a heap may hold: its budget.
pub(crate) mod heap_cache {
    /// KiB a heap may hold before any demand is known, if `HAKMEM_HEAP_CACHE_KB` gives no number. The second is for
    /// `HAKMEM_PROFILE=speed`. Guess.
    pub(crate) const AUTO_KB: u32 = 4096;
    pub(crate) const AUTO_SPEED_KB: u32 = 16384;
    /// Live heaps that may hold this much each. If there are more, they share the total. Guess.
    pub(crate) const SHARED_FROM: usize = 8;
    /// Bytes each heap may hold however many there are. Guess: two slabs.
    pub(crate) const SHARED_LEAST: usize = 128 << 10;
    /// Divisor: the share of the live bytes that a heap may hold in any case; also for a class of a heap over its budget.
    /// Guess.
    pub(crate) const LIVE_SHARE: usize = 8;
    /// Blocks that a class of a heap over its budget may keep in its bin, and on its stack, in any case, if as many are
    /// live. With 8 the harness's `random-mixed` of 1,024 and of 4,096 slots on an aged heap takes 78 and 105 instructions an
    /// operation, with 16 it takes 57 and 65, and 53 on a heap that holds little (callgrind).
    pub(crate) const FEW: u32 = 16;
    /// Blocks per millisecond that may be missed without raising the budget. Returning and refilling them, at 30 ns, takes a
    /// few hundredths of the time. Guess.
    pub(crate) const CHEAP_PER_MS: u64 = 2048;
    /// Bytes of a missed block that count as one block more: memory that returned may go on to the kernel, and an OS page given
    /// back and faulted in again costs 1.9 microseconds, as much as 64 blocks (AMD EPYC). A quarter of that, as some pages stay.
    /// The harness's `burst 50000` peaks at 107 MiB with 256, at 111 with 1024, and at 115 if bytes do not count, and faults
    /// 42,000, 42,700 and 44,000 times (medians of 5 to 7). Twenty rounds in which 3,000 blocks of 1 to 8 KiB are allocated and all
    /// freed fault 7,800 times with 256, 8,500 with 1024, and 12,000 if bytes do not count.
    pub(crate) const BYTES_AS_BLOCK: u64 = 256;
    /// Blocks missed at once that are tolerated before the budget is raised. Guess.
    pub(crate) const PATIENCE: u64 = 16384;
    /// Divisor: the share of the live bytes that is left when most has been freed. Guess.
    pub(crate) const LOW: usize = 4;
    /// Bytes of demand that are forgotten at once; a larger demand is halved. Guess: a slot.
    pub(crate) const LEAST: usize = 64 << 10;
    /// Milliseconds without a slow path after which a thread's heap is reclaimed for others: longer than a thread waits for its
    /// turn on a busy core. Guess.
    pub(crate) const STILL_MS: u64 = 10;
    /// Factor: the heap's other classes and other heaps reclaim this many times what a class takes anew. Their blocks lie
    /// scattered, and what returns may be part of a slab only. Guess.
    pub(crate) const ROOM_FOR: usize = 4;
    /// Bytes that hardly any machine can provide at once: nothing is reclaimed for such a request. Guess.
    pub(crate) const IMPOSSIBLE: usize = 1 << 42;
    /// Of so many refills that find blocks of another heap in an outbox, one leaves them there. User time of the harness's
    /// `hand-over`, with none and with 4: `2 1000 50000 60 --mode ring` aged 0.092 and 0.082 s, warm 0.065 and 0.049 s; `8 1000
    /// 50000 40` warm 0.227 and 0.174 s; `2 1000 100000 40 --mode larson --min-size 8 --max-size 1000` warm 0.087 and 0.078 s. If
    /// all leave them, these four take 0.096, 0.056, 0.158 and 0.082 s. The peak RSS of `keepers` is 45.8 MB with none, 46.7 with
    /// 4, and 48.1 if all do (AMD EPYC, medians of 5 to 7).
    pub(crate) const OUTBOX_SPARED: u32 = 4;
    /// Bytes of freed runs of one class that a heap keeps; a longer run returns to the pool. With one run of each class up to 256
    /// KiB, and more once they were missed, peaks are: two blocks of 400 to 800 KB in a loop 7.9 MiB instead of 3.2 (glibc 3.1);
    /// five of 200 to 400 KB 6.2 instead of 3.6 (2.9); a buffer grown to 2.4 MiB three times 6.5 instead of 4.6 (3.9); sqlite3 with
    /// a database of 200 MB 10.1 instead of 9.3 (8.1). A longer run allocated and freed takes 3,600 instructions instead of 790.
    pub(crate) const RUNS: usize = 128 << 10;
    /// Heaps examined for each slab that is opened. Guess.
    pub(crate) const OTHERS: usize = 4;
    /// Blocks of one owner in a row that find their outboxes another owner's before one is emptied for them; blocks in it that are
    /// worth a message; and most blocks more that may be asked for after it held fewer, each time as many as at first. One thread
    /// frees what four others allocated, in runs of one owner (sizes 16 to 511; instructions for each block, with its allocation
    /// and the program's own): runs of 1,000 take 421 without this and 226 with it, of 300 421 and 268, of 100 423 and 424, of 30
    /// 425 and 435, random order 457 and 460. With 8 for a message runs of 300 take 373. With 32 and 64 in a row, and no second
    /// bound, runs of 1,000 take 234 and 243 where 16 takes 230, and runs of 30 take 470 and 444 where 16 takes 508.
    pub(crate) const TURN_AFTER: u32 = 16;
    pub(crate) const TURN_WORTH: usize = 4;
    pub(crate) const TURN_LATEST: u32 = 15 * TURN_AFTER;
    /// Blocks that return to their slabs at once, about: half a millisecond's work. Guess.
    pub(crate) const AT_ONCE: u32 = 1 << 14;
    /// Most bytes of one class on its stack. Guess.
    pub(crate) const CLASS_MOST: usize = 64 << 20;
    /// Most slabs that one refill takes blocks from. Guess.
    pub(crate) const SLABS_PER_REFILL: usize = 4;
    /// Divisor: a refill takes this share of the blocks in the class's slabs if that is more than was wanted, as far as the bin
    /// has room. So a large class takes few slow paths to grow, and a program pays little for what it does not use. Guess.
    pub(crate) const GROWN_SHARE: usize = 32;
    /// Bytes that a copy to a smaller class has to save. Guess: below that the copy costs more than the bytes are worth.
    pub(crate) const WORTH_A_MOVE: usize = 128;
    /// Heaps left behind by a fork that one tick in the child empties. Guess.
    pub(crate) const RECOVERED: usize = 4;
}

/// Blocks of other heaps that a thread frees.
pub(crate) mod others_blocks {
    /// Bytes of such blocks between two ticks of the search for idle owners. Each block left at the end pins a slab at most, so
    /// they should be few. A visit to an owner costs more than a block, so they should not be too few. Guess.
    pub(crate) const SEARCH_EVERY: usize = 32 << 10;
    /// At most this many if the bins do not grow; at most the second if little returned. Guesses.
    pub(crate) const SEARCH_LESS: usize = 256 << 10;
    pub(crate) const SEARCH_SELDOM: usize = 512 << 10;
    /// Blocks of a class that a thread that only frees keeps for each of eight owners that take turns, until all return at once;
    /// and the bytes of the largest such block. As many larger ones would be too much to hold. Guesses.
    pub(crate) const GATHERED_EACH: usize = 20;
    pub(crate) const GATHERED_TO: usize = 1024;
    /// Blocks of one owner that make a full message, if the bin that they will fill has room for them. Guess.
    pub(crate) const FULL: usize = 32;
    /// Bytes in an inbox, about, from which the poster tries to drain it: its owner seems to sleep, or does not allocate. Guess.
    pub(crate) const LARGE_INBOX: usize = 512 << 10;
    /// Batches from the inbox that one slow path opens. Guess.
    pub(crate) const INBOX_PER_REFILL: usize = 16;
    /// Bytes of the smallest blocks that a thread takes back from its outbox: a cache line. Smaller ones share a line, and two
    /// threads would write to the same lines, at the batch's edges and wherever the user freed every other block. Guess.
    pub(crate) const RECYCLE_FROM: usize = 64;
}

/// What heaps keep whose threads have ended.
pub(crate) mod idle_heaps {
    /// Most bytes one idle heap keeps, and most that all of them keep together. Guess.
    pub(crate) const MOST_EACH: usize = 512 << 10;
    pub(crate) const MOST: usize = 2 << 20;
    /// Least bytes a heap is charged, so that few enough heaps keep something for all of them to be examined. Guess.
    pub(crate) const LEAST: usize = 16 << 10;
    /// Idle heaps examined at once: with the two above, at least a quarter of them. Guess.
    pub(crate) const PER_LOOK: usize = 32;
}

/// Slow operations of a heap between two reads of the clock. A read costs a tenth of a slow operation. Guess.
pub(crate) const LOOK_EVERY: u32 = 64;

/// Populating ahead of demand (`HAKMEM_SS_PREFAULT=async`).
pub(crate) mod ahead {
    /// A program grows if its pool ran dry this often, each time within so many milliseconds of the time before. Guess.
    pub(crate) const DRY_TO_START: u32 = 4;
    pub(crate) const QUICK_MS: u64 = 100;
    /// Mapped superslabs from which populating ahead may start. Guess.
    pub(crate) const FROM_SUPERSLABS: usize = 8;
    /// Microseconds between two checks of what the program took. Populating 2 MiB takes 100 to 700. Guess.
    pub(crate) const LOOK_US: u64 = 1000;
    /// Milliseconds before another attempt, after memory, a limit or a refused thread ended the last. Guess.
    pub(crate) const REFUSED_MS: u64 = 1000;
    /// Least microseconds between two superslabs. With 50, another thread's `mmap` waits 0.9 ms at worst; without a pause, 16
    /// ms (2 vCPU, 2 GiB populated in steps of 2 MiB).
    pub(crate) const PAUSE_US: u64 = 50;
    /// Checks without growth after which the thread ends. Guess.
    pub(crate) const LOOKS_TO_LIVE: u32 = 100;
    /// Fewest and most superslabs kept ready. Guess.
    pub(crate) const LEAST: usize = 2;
    pub(crate) const MOST: usize = 64;
}

/// Which free slots are claimed, and when they go back.
pub(crate) mod pool {
    /// Least bytes of free slots that stay resident; or the share of what is in use given by the divisor below, if that is
    /// more. Guess: a program that needs more shows it by taking them again.
    pub(crate) const RETAINED_LEAST: usize = 512 << 10;
    pub(crate) const IN_USE_SHARE: usize = 8;
    /// Divisor: the share of the demand by which more is retained, since a trim ends a quarter below the bound and pieces do not fit
    /// exactly. Page faults of 30 rounds in which all blocks are allocated, written and freed, without it, with 8 and with 4:
    /// 5,000 of 16 to 16,000 bytes 35,085, 24,877 and 24,579; 300 of 70,000 to 140,000 bytes 41,278, 18,573 and 18,574; 8 of 400
    /// to 800 KB (100 rounds) 15,439, 7,343 and 2,961. The peaks are within 1 % of each other but for the first (+5 %).
    pub(crate) const SPARE_SHARE: usize = 4;
    /// Superslabs of one list that are searched for a long enough run before the next list is tried. Guess.
    pub(crate) const LOOKS: usize = 8;
    /// Superslabs that are searched for a run that must be resident, or must not be. Guess.
    pub(crate) const LOOKS_CHOOSY: usize = 24;
    /// Retained bytes from which a claim searches for resident slots first. Guess: a slot.
    pub(crate) const WORTH_A_LOOK: usize = 64 << 10;
    /// A trim stops a quarter below the bound, but at most this many bytes below it. Guess.
    pub(crate) const TRIM_BELOW: usize = 8 << 20;
    /// Free slots, of 32, from which a partial purge splits a superslab on huge pages: first only wholly free ones, then sparse
    /// ones, then denser ones if that was not enough. What may still be free in the densest is less than the eighth of what is
    /// in use that may be retained. Guess.
    pub(crate) const SPLIT_FROM: [u32; 4] = [32, 24, 12, 4];
    /// The same for slots that stayed free for the whole delay. Guess.
    pub(crate) const SPLIT_AGED_FROM: u32 = 12;
    /// Wholly free, purged superslabs that stay mapped: this many, shared between the nodes, or half as many as the node's pool
    /// has in use if that is more. Guess.
    pub(crate) const KEEP_MAPPED: usize = 16;
    /// Superslabs on OS pages that are mapped by one call: one for each so many that are mapped, at most so many. They cost
    /// addresses until they are used. `faults/memory/sparse 1000 900` calls `mmap` 82 times with them and 522 times
    /// without. Guess.
    pub(crate) const TOGETHER_SHARE: usize = 8;
    pub(crate) const TOGETHER_MOST: usize = 16;
    /// Refusals after which a search for superslabs to unmap leaves a pool. The kernel may refuse one and accept its neighbour
    /// at the end of a mapping. Guess.
    pub(crate) const REFUSALS: u32 = 32;
}

/// Zeroing.
pub(crate) mod clear {
    /// Bytes of a block from which only its resident pages are zeroed.
    pub(crate) const LEAST: usize = 128 << 10;
    /// Least bytes that are left without memory in one piece. Guess.
    pub(crate) const RUN_LEAST: usize = 16 << 10;
    /// Blocks in succession about which the kernel is asked, and how many go by to the next question if they were filled. A
    /// question costs 20 ns for each OS page, a page of zeros in the cache 55 (AMD EPYC): with every block asked about, a loop
    /// of `calloc` and `free` of 128 KiB takes 1.5 times as long. The numbers are guesses.
    pub(crate) const ASK_FIRST: u32 = 4;
    pub(crate) const ASK_EACH: u32 = 16;
}

/// Large blocks.
pub(crate) mod large {
    /// Cache lines by which the start of a block may be moved, so that blocks do not all share a cache set. Guess: half a page.
    pub(crate) const COLOURS: usize = 32;
    /// Bytes of the longest cached mapping that is cleared for a zeroed request although nothing shows that such blocks are
    /// filled. Guess.
    pub(crate) const CLEARED_MOST: usize = 16 << 20;
    /// Most cached runs. Guess: searching them takes less time than the fault it saves.
    pub(crate) const CACHED_RUNS: usize = 96;
    /// Most parts of one run. Guess.
    pub(crate) const PARTS: usize = 16;
    /// Most parts beyond the first that all live blocks may have together. Each is one of the mappings of which a process may
    /// have some 65,000 (`vm.max_map_count`). Guess: a sixteenth of them.
    pub(crate) const EXTRA_PARTS: usize = 4096;
    /// If every block is checked, bytes behind a block and in front of it that are checked, as far as they are its mapping's. As
    /// many behind as of other checked blocks; what lies in front is on the block's first OS page. Guesses.
    pub(crate) const BEHIND: usize = 1024;
    pub(crate) const FRONT: usize = 64;
    /// In that case, most freed blocks whose addresses stay without access. Each costs mappings, and no memory. Guess.
    pub(crate) const CLOSED: usize = 8;
    /// Superslabs in front of an address that are searched for the block it lies in, for a report: 32 GiB. Guess.
    pub(crate) const SEARCHED: usize = 1 << 14;
    /// Divisor: a block that shrinks keeps this share of its new length behind its end. Guess.
    pub(crate) const TAIL_SHARE: usize = 16;
    /// Bytes copied before the pages copied from go back. Guess.
    pub(crate) const COPIED: usize = 16 << 20;
}

// Huge pages under `HAKMEM_THP=auto`. Below, *the rest* is memory that a huge page makes resident and nobody writes.

/// Bytes. Blocks up to this size are assumed to be written when they are used: an OS page and the header that a page cache puts
/// before it. Larger blocks are checked first. Guess.
pub(crate) const WRITTEN_TO: usize = 4608;
/// Slabs of one class that a heap must fill before its next ones may lie on huge pages. The rest is then at most one slab for
/// this many full ones. Guess: fewer faults while a program grows than with 4 (measured with other settings of the rest).
pub(crate) const FILLED_SLABS: usize = 2;
/// Slots that must be known as written, or be in use by larger blocks that are checked, before a superslab asks for a huge
/// page: the part of it that stays free is then at most an eighth of them. Guess.
pub(crate) const KNOWN_SLOTS: usize = 8 * SLOTS;
/// Sixteenths of what larger blocks have or leave free in a superslab that must be resident for it to count as dense: the rest
/// of others like it is at most a fifteenth. Guess: less memory than with 14 (measured with other settings of the rest).
pub(crate) const DENSE_SIXTEENTHS: usize = 15;
/// Superslabs begun for larger blocks between one and the check of it: time for its blocks to be written. Guess.
pub(crate) const LOOK_BEHIND: usize = 4;
/// Most superslabs for larger blocks that are begun between two checks, once one was not dense. The pause begins with 1 and
/// doubles. `faults/memory/sparse 1000 900` calls `mincore` 34 times with it and 495 times without. Guess.
pub(crate) const MOST_PAUSED: u32 = 15;
/// Most superslabs in a row that may be begun on huge pages for larger blocks. The next one lies on OS pages, so that its
/// residency can be checked. The second is a divisor: at most this share of what larger blocks have may be unchecked. Guess:
/// fewer faults while a program grows than with 16 and an eighth (measured with other settings of the rest).
pub(crate) const UNSEEN_SUPERSLABS: usize = 32;
pub(crate) const UNSEEN_SHARE: usize = 4;
/// Bytes. Large blocks from this size on may ask for huge pages: the unused end of the last one is at most a sixteenth.
pub(crate) const HUGE_PAGES_FROM: usize = 16 * SUPERSLAB;
/// Large blocks on huge pages that are not known to be filled: at most this many, with at most this share (a divisor) of the
/// bytes of those that are. One is allowed in any case. Guess.
pub(crate) const UNPROVEN_BLOCKS: usize = 4;
pub(crate) const UNPROVEN_SHARE: usize = 4;
