//! Free memory: what stays, what goes back, and which slots are claimed.

/// What stores of idle memory keep.
pub(crate) mod retention {
    use crate::base::demand::Price;
    use crate::base::tuning::helper;

    /// Bytes that must come back within the purge delay before a dip is retained. Guess. With 64 MiB, the harness's `burst
    /// 10000 8` takes twice the faults it takes with 2 MiB.
    pub(crate) const WORTH: Price = Price(4 << 20);
    /// Bytes of freed large blocks that stay cached whatever is live, so that a buffer allocated and freed in a loop is not
    /// faulted in each time. With a small program's 2 MiB they make 8 MiB, the bound on a process at rest.
    pub(crate) const LARGE_LEAST: usize = 6 << 20;
    /// Divisor: this share of the live large blocks' bytes may stay cached besides. Guess.
    pub(crate) const LARGE_SHARE: usize = 2;
    /// Most bytes of freed large blocks that one call of the program gives back, and of free slots that one tick does, if the
    /// maintenance thread may give back the rest; or, of large blocks, the share of what is due given by the divisor below, if that
    /// is more, so that programs that free block after block do not fall behind. Unmapping 60 MiB of OS pages takes 9 to 10 ms
    /// (AMD EPYC); most blocks are smaller than this. The share is a guess.
    pub(crate) const UNMAPPED_AT_ONCE: usize = 24 << 20;
    pub(crate) const UNMAPPED_SHARE: usize = 4;
    /// Bytes of addresses without memory that are kept of freed large blocks, or as many as are live in large blocks if that is
    /// more. Unmapping between two other mappings costs the process one mapping (`vm.max_map_count`). Guess.
    pub(crate) const ADDRESSES: usize = 64 << 20;
    /// Bytes that a store keeps of what fell while the maintenance thread is not there: twice what it comes for once something fell.
    pub(crate) const FALL_UNSEEN: usize = 2 * helper::FROM;
    /// Bytes behind the ends of all live large blocks together that may be resident; or the share of the live large blocks'
    /// bytes given by the divisor below, if that is more. The harness's `huge 1000` faults 10,600 times, and 8,800 with a
    /// sixteenth; `huge 400` faults 3,511 times with a thirty-second and 1,116 with an eighth. Phases of 200 MiB in blocks of two
    /// sizes peak at 211 MiB in 8 runs, and at 213 in half of them with a sixteenth or an eighteenth.
    pub(crate) const TAILS: usize = 4 << 20;
    pub(crate) const TAILS_SHARE: usize = 20;
    /// If no thread sees time pass, a demand of up to this many bytes is retained in full, and stays if the process falls
    /// silent. It is as much as stays if the maintenance thread does not start. The usage of the harness's `burst 50000 10`
    /// rises and falls by 110 MiB in one thread: without the maintenance thread it faults 142,648 times, with it 9,861 (AMD
    /// EPYC, 2 runs).
    pub(crate) const UNSEEN_WHOLE: usize = helper::FROM_ALONE;
    /// Bytes of freed large blocks that stay cached if no thread sees time pass and the demand exceeds [`UNSEEN_WHOLE`]:
    /// [`LARGE_LEAST`].
    pub(crate) const LARGE_UNSEEN: usize = LARGE_LEAST;
    /// The same for free slots and stacks together. The bound on a process after a burst is 36 MiB: a small program has 2, the
    /// large cache may have 6, and bins hold up to 6.
    pub(crate) const SMALL_UNSEEN: usize = 22 << 20;
}

/// When fresh memory takes the place of idle memory.
pub(crate) mod ceiling {
    /// Idle bytes left alone when a process grows beyond its recent peak; or the share of the live bytes given by the divisor
    /// below, if that is more. The bytes are a guess: the 2 MiB that a start of `python3` has idle are not worth giving back. With a
    /// thirty-second, phases of large blocks of two sizes (200 MiB) peak at 216 MiB instead of 212, with as many faults.
    pub(crate) const SPARED: usize = 2 << 20;
    pub(crate) const SPARED_SHARE: usize = 64;
    /// Divisor: after reclaiming got little, it is tried again once the idle bytes have grown by this share, or by [`SPARED`] if
    /// that is more. Guess.
    pub(crate) const STUCK_SHARE: usize = 8;
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
    /// Sixteenths of a superslab that hold memory, at least, where it changes between the pool and large blocks; and as many units of
    /// 4 KiB. Guess: the rest counts as resident too.
    pub(crate) const LENDING_SIXTEENTHS: usize = 12;
    pub(crate) const WORTH_LENDING: u16 = 32 * LENDING_SIXTEENTHS as u16;
    /// Bytes that one trim gives back if the maintenance thread may give back the rest. Guess: 2 to 3 ms.
    pub(crate) const TRIM_AT_ONCE: usize = 16 << 20;
    /// Retained bytes from which a claim searches for resident slots first. Guess: a slot.
    pub(crate) const WORTH_A_LOOK: usize = 64 << 10;
    /// A trim stops below the bound, by the share of it given by the divisor, but at most by so many bytes. Guesses.
    pub(crate) const TRIM_SHARE: usize = 4;
    pub(crate) const TRIM_BELOW: usize = 8 << 20;
    /// After a trim that gave back nothing, the next one waits until more is retained than was left: by this share of it (a
    /// divisor), or by the share of the bound above, up to so many bytes, if that is more. It waits no longer than the last share,
    /// a divisor, of the purge delay. Guesses.
    pub(crate) const BARREN_SHARE: usize = 8;
    pub(crate) const BARREN_MOST: usize = TRIM_BELOW / 4;
    pub(crate) const BARREN_DELAY_SHARE: u64 = 4;
    /// Free slots, of 32, from which a partial purge splits a superslab on huge pages: first only wholly free ones, then sparse
    /// ones, then denser ones if that was not enough. What may still be free in the densest is less than the eighth of what is
    /// in use that may be retained. Guess.
    pub(crate) const SPLIT_FROM: [u32; 4] = [32, 24, 12, 4];
    /// The same for slots that stayed free for the whole delay. Guess.
    pub(crate) const SPLIT_AGED_FROM: u32 = 12;
    /// Most superslabs that refuse huge pages since a purge split them, shared between the nodes. Each may cost two of the mappings
    /// of which a process may have some 65,000 (`vm.max_map_count`). Guess: a quarter of them.
    pub(crate) const LEFT_MOST: usize = 8192;
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
    /// A slab is *light* if at most so many units of 4 KiB of it were handed out: a class of which a program has a few blocks takes
    /// a page or two of its slot. Guess.
    pub(crate) const LIGHT: u8 = 3;
}

/// When OS pages of slabs in use go back.
pub(crate) mod holes {
    use crate::base::units::SLOT;

    /// Nanoseconds after which one call of the program stops giving back OS pages of slabs in use. Guess: less than half of the
    /// worst pause a single call may have.
    pub(crate) const TICK_NS: u64 = 2_000_000;
    /// Bytes of a huge page that must be free before it is split, as for one whose slots are free. Guess.
    pub(crate) const SPLIT_FROM: usize = 12 * SLOT;
    /// Heaps that one tick examines. Guess.
    pub(crate) const PER_TICK: usize = 64;
    /// Slabs examined under one hold of a heap's lock. Guess.
    pub(crate) const LOOKS: usize = 256;
    /// Slabs whose pages go at a time. Guess.
    pub(crate) const TOGETHER: usize = 16;
    /// Bytes by which what the account was told of a heap may be off. Guess.
    pub(crate) const SHOWN_WITHIN: usize = 16 << 10;
}

/// Large blocks.
pub(crate) mod large {
    /// Cache lines by which the start of a block may be moved, so that blocks do not all share a cache set. Guess: half a page. One
    /// of whole superslabs is not moved: phases of 200 MiB in blocks of 20 and 4 MiB take 0.1 s instead of 0.4, and peak at 202 MiB
    /// instead of 212 (AMD EPYC).
    pub(crate) const COLOURS: usize = 32;
    /// Bytes of the longest cached mapping that is cleared for a zeroed request although nothing shows that such blocks are
    /// filled. Guess.
    pub(crate) const CLEARED_MOST: usize = 16 << 20;
    /// Most cached runs. Guess: searching them takes less time than the fault it saves.
    pub(crate) const CACHED_RUNS: usize = 96;
    /// Cached pieces of a superslab's length that are looked at until one is resident, which the pool then gets. Guess.
    pub(crate) const LOOKS: usize = 8;
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

/// Zeroing.
pub(crate) mod clear {
    /// Bytes of a block from which only its resident pages are zeroed. Guess.
    pub(crate) const LEAST: usize = 128 << 10;
    /// Least bytes that are left without memory in one piece. Guess.
    pub(crate) const RUN_LEAST: usize = 16 << 10;
    /// Blocks in succession about which the kernel is asked, and how many go by to the next question if they were filled. A
    /// question costs 20 ns for each OS page, a page of zeros in the cache 55 (AMD EPYC): with every block asked about, a loop
    /// of `calloc` and `free` of 128 KiB takes 1.5 times as long. The numbers are guesses.
    pub(crate) const ASK_FIRST: u32 = 4;
    pub(crate) const ASK_EACH: u32 = 16;
    /// Bytes about which the kernel is asked in one call. Guess: it fills one byte for each page, on the stack.
    pub(crate) const AT_ONCE: usize = 1 << 20;
}

/// Addresses.
pub(crate) mod addresses {
    use crate::base::units::SUPERSLAB;

    /// Bytes that are mapped at a time for descriptors and tables, of which only what is used becomes resident; and if addresses
    /// are limited or so many are refused. Guesses.
    pub(crate) const META: usize = SUPERSLAB;
    pub(crate) const META_SMALL: usize = 128 << 10;
    /// Bytes of addresses that prewarming leaves if they are limited. Guess: what a program asks for next needs some, the
    /// allocator's own metadata first of all.
    pub(crate) const PREWARM_SPARES: usize = 2 * SUPERSLAB;
    /// Bytes of addresses that failed moves of mappings may lose. Beyond it each move is refused beforehand, and the caller copies.
    /// Guess.
    pub(crate) const STRANDED: usize = 64 << 30;
    /// Bytes mapped from which a refused mapping is put down to a want of addresses. Guess: half of what a process has on x86_64
    /// (2^47 bytes).
    pub(crate) const SCARCE_FROM: usize = 1 << 46;
    /// Tries to map a file at an address that was free a moment before: another thread may take it meanwhile. Guess.
    pub(crate) const TRIES: usize = 16;
}
