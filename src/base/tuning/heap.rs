//! Heaps: what each may hold, blocks of other heaps, and heaps whose threads have ended.

/// Slow operations of a heap between two reads of the clock. A read costs a tenth of a slow operation. Guess.
pub(crate) const LOOK_EVERY: u32 = 64;

/// Blocks that a thread frees, after its heap was given up, before it gets a heap again: the C library frees a few of its own last
/// of all. Guess.
pub(crate) const LATE_FREES: usize = 3;

/// Bins, and what fills them.
pub(crate) mod bins {
    /// Bytes of blocks in a bin outside a magazine, and most blocks. Batches of 240 blocks of each of many sizes in two threads take
    /// 0.75 of the processor time of 16 KiB, and 0.70 with 64 KiB; larson's loop in two threads takes 0.86 and holds 53 MiB instead of
    /// 55, with 64 KiB 61 (Intel Xeon, medians of 7). The second is a guess.
    pub(crate) const BYTES: usize = 32 << 10;
    pub(crate) const MOST: usize = 256;
    /// Divisor: the share of those that a class's first refill brings, and that its bin holds in any case from then on. Guess.
    pub(crate) const FIRST_SHARE: usize = 8;
    /// Larger blocks in such a bin, as far as so many bytes hold them: not every second free takes the slow path then. Guesses.
    pub(crate) const FEW: usize = 8;
    pub(crate) const FEW_BYTES: usize = 64 << 10;
    /// Least room of a slab class's bin: a thread that frees what others allocate gathers so many. Guess.
    pub(crate) const ROOM_LEAST: usize = 16;
    /// Bytes of blocks carved at once: of blocks up to so many bytes, and of larger ones. They are few enough that a program pays
    /// only for what it is about to use. Guesses.
    pub(crate) const CARVED: usize = 4 << 10;
    pub(crate) const CARVED_TO: usize = 1024;
    pub(crate) const CARVED_LARGER: usize = 8 << 10;
    /// Fewest blocks for which carving stops at the end of a page. A class that gets fewer asks again soon. Guess.
    pub(crate) const CARVED_LEAST: usize = 8;
}

/// Magazines.
pub(crate) mod magazines {
    /// Bytes of the largest block whose bin may lie in a magazine, which halves the slow paths and copies no address. Guess.
    pub(crate) const BIN_TO: usize = 64;
    /// Bytes of the largest block whose address may be kept in a magazine on a stack. A batch of larger ones is short: one or two
    /// blocks name all of it. Guess.
    pub(crate) const STACK_TO: usize = 256;
    /// Larger blocks whose addresses a heap keeps on a class's shelf, which are neither written into blocks nor read from them. Guess.
    pub(crate) const SHELF: usize = 32;
    /// Magazines that must be missed after a refused mapping before the next try. Guess.
    pub(crate) const TRY_AGAIN: u32 = 64;
}

/// The first frees of a heap, which are looked at one by one.
pub(crate) mod watch {
    /// What all looks of one heap may cost, in comparisons of [`TOGETHER`] blocks: about 35,000 instructions. Guess.
    pub(crate) const BUDGET: usize = 12 << 10;
    /// What one look costs beside comparisons, and how many blocks one comparison looks at. Guesses.
    pub(crate) const EACH: usize = 100;
    pub(crate) const TOGETHER: usize = 4;
    /// What it costs to read one address of a batch. Guess.
    pub(crate) const OPENED: usize = 4;
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
    /// Bytes by which what the account was told of a heap may be off between two looks at the clock, or the share of what the heap
    /// may hold free, as a divisor, if that is more. Two threads that told it at every slow path waited 13 % of their time for each
    /// other's cache line (Intel Xeon). A thread that falls silent leaves as much untold, so there is a most: in several heaps it must
    /// not add up to what the maintenance thread is started for. Guesses.
    pub(crate) const SHOWN_WITHIN: usize = 16 << 10;
    pub(crate) const SHOWN_MOST: usize = 128 << 10;
    pub(crate) const SHOWN_SHARE: usize = 16;
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
    /// Bytes that a copy to a smaller class has to save, and the share of the larger block, as a divisor. Guesses: below that the
    /// copy costs more than the bytes are worth.
    pub(crate) const WORTH_A_MOVE: usize = 128;
    pub(crate) const WORTH_A_MOVE_SHARE: usize = 4;
    /// Divisor: the share of a slab's blocks that must be free for it to be listed. Guess.
    pub(crate) const LISTED_SHARE: usize = 32;
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
    /// Bytes in an inbox, about, from which the poster tries to drain it: its owner seems to sleep, or does not allocate. Guess.
    pub(crate) const LARGE_INBOX: usize = 512 << 10;
    /// Batches from the inbox that one slow path opens. Guess.
    pub(crate) const INBOX_PER_REFILL: usize = 16;
    /// Bytes of the smallest blocks that a thread takes back from its outbox: a cache line. Smaller ones share a line, and two
    /// threads would write to the same lines, at the batch's edges and wherever the user freed every other block. Guess.
    pub(crate) const RECYCLE_FROM: usize = 64;
    /// Bytes of blocks in a batch for another heap, and most blocks. Guesses.
    pub(crate) const BATCH_BYTES: usize = 8 << 10;
    pub(crate) const MOST_BATCHED: usize = 64;
    /// Owners, of one class each, whose blocks are told apart on their way back. Guess.
    pub(crate) const OWNERS: usize = 8;
    /// Idle owners that are told apart when blocks are returned to them in person, and blocks that return to their slabs together
    /// then. Guesses.
    pub(crate) const IDLE_OWNERS: usize = 32;
    pub(crate) const IN_PERSON: usize = 32;
}

/// What heaps keep whose threads have ended.
pub(crate) mod idle_heaps {
    /// Most bytes one idle heap keeps besides blocks in use, and most that all of them keep together. A program with a thread for
    /// each request, two at a time with 300 blocks of 16 to 1,500 bytes each, takes 0.87 of the processor time of 2 MiB, and 2 MiB
    /// with bins of 16 KiB took 0.66 of that of 512 KiB (Intel Xeon, medians of 5 to 11). The total is a guess.
    pub(crate) const MOST_EACH: usize = 3 << 20;
    pub(crate) const MOST: usize = 6 << 20;
    /// Least bytes a heap is charged, so that few enough heaps keep something for all of them to be examined. Guess.
    pub(crate) const LEAST: usize = 32 << 10;
    /// Idle heaps examined at once: with the two above, at least a quarter of them. Guess.
    pub(crate) const PER_LOOK: usize = 32;
    /// Heaps whose threads seem to be ending that a thread in need of a heap examines. Guess.
    pub(crate) const ENDING_LOOKS: usize = 4;
    /// Idle heaps that are examined for a slab with room to take over. Guess.
    pub(crate) const TAKE_OVER_LOOKS: usize = 4;
}
