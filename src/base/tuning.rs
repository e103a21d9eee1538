//! The numbers of the memory policy: value, unit, meaning, and the evidence for each, or the word "guess".

use super::demand::Price;
use super::units::{SLOT, SLOTS, SUPERSLAB};

/// What stores of idle memory keep.
pub(crate) mod retention {
    use super::Price;

    /// Bytes that have to come back within the purge delay before a dip is retained. Guess. With 64 MiB, the
    /// harness's `burst 10000 8` took twice the faults of a policy that is patient for 2 MiB.
    pub(crate) const WORTH: Price = Price(4 << 20);
    /// Bytes of freed large blocks that stay cached whatever is live, so that a buffer taken and freed in a loop is not
    /// faulted in each time. With a small program's 2 MiB it makes 8 MiB, which is the bound this policy was given.
    pub(crate) const LARGE_LEAST: usize = 6 << 20;
    /// One part in so many of what is live in large blocks may stay cached besides. Guess.
    pub(crate) const LARGE_SHARE: usize = 2;
    /// Bytes of freed large blocks that one call of the program unmaps, and one part in so many of what is too much where that
    /// is more. 60 MiB of OS pages take 9 to 10 ms (AMD EPYC). More than most blocks have,
    /// so that programs which free one after the other do not fall behind. The share is a guess.
    pub(crate) const UNMAPPED_AT_ONCE: usize = 24 << 20;
    pub(crate) const UNMAPPED_SHARE: usize = 4;
    /// Bytes of addresses without memory that are kept of freed large blocks, or as many as are live in large blocks where that
    /// is more: a mapping that is freed from between two others costs the process one mapping (`vm.max_map_count`). Guess.
    pub(crate) const ADDRESSES: usize = 64 << 20;
    /// Bytes behind the ends of live large blocks that may be resident, in all, and one part in so many of what is live in
    /// large blocks where that is more. With a thirty-second, the harness's `huge 400` faults 3,511
    /// times, with an eighth 1,116; with an eighth `phases 200 Hh 4` peaks at 219 MiB, with a sixteenth at 210.
    pub(crate) const TAILS: usize = 4 << 20;
    pub(crate) const TAILS_SHARE: usize = 16;
    /// Where nobody sees time pass, a demand of so many bytes is served in full, and stays if the process falls silent: as
    /// much as stays where the maintenance thread does not find it worth coming. The harness's `burst 50000 10` swings by
    /// 110 MiB in one thread: without that thread it faults 142,648 times, against 9,861 (AMD EPYC, 2 runs).
    pub(crate) const UNSEEN_WHOLE: usize = super::helper::FROM_ALONE;
    /// Bytes of large blocks that stay cached where nobody sees time pass and the demand is more: [`LARGE_LEAST`].
    pub(crate) const LARGE_UNSEEN: usize = LARGE_LEAST;
    /// Bytes of free slots and stacks together, likewise. The bound this policy was given is 36 MiB, of which a small program
    /// has 2, the large cache may have 6, and what bins pin is up to 6.
    pub(crate) const SMALL_UNSEEN: usize = 22 << 20;
}

/// The maintenance thread.
pub(crate) mod helper {
    use core::ops::RangeInclusive;

    /// Idle bytes from which a process of several threads has it. It ends when less is left, or when nothing more can go.
    /// `tests/at_rest` ("hand-over 8") rests at 2.7 to 4.3 MiB with 2 MiB, and at 9.1 to 11.1 with 6.
    pub(crate) const FROM: usize = 2 << 20;
    /// The same for a process of one thread, which should be left alone for less: a silent one keeps as much for ever. Guess,
    /// between what programs shed and take again while they start (22 MiB for the harness's `burst 10000`), and the 36 MiB
    /// that a process may have kept after bursts of 200 MiB.
    pub(crate) const FROM_ALONE: usize = 32 << 20;
    /// Rounds in which it got nothing and nothing changed, after which it ends, or those of two purge delays where they are more:
    /// a round is half a delay, and a second at most. Guess.
    pub(crate) const ROUNDS_TO_LIVE: u64 = 8;
    /// Bytes of its stack. Guess: its deepest calls take less than 32 KiB.
    pub(crate) const STACK: usize = 256 << 10;
    /// Who wants the thread after one was refused is turned away so often: at least, doubled by each refusal, and at most.
    /// A process that is refused a thread once is mostly refused for long: by a limit on threads, or on address space. What
    /// is paid for asking is to stay little beside what else those who ask have done. Guess.
    pub(crate) const TURNED_AWAY: RangeInclusive<u32> = 64..=64 << 10;
}

/// When OS pages of slabs in use go back.
pub(crate) mod holes {
    use super::SLOT;

    /// Nanoseconds that one call gives at most to what it does for the sake of time. Guess: less than half of the worst pause
    /// that a single call may have.
    pub(crate) const TICK_NS: u64 = 2_000_000;
    /// Bytes of a huge page that have to be free before it is split, as for one whose slots are free. Guess.
    pub(crate) const SPLIT_FROM: usize = 12 * SLOT;
}

/// When fresh memory takes the place of idle memory.
pub(crate) mod ceiling {
    /// Idle bytes that are left alone when a process grows beyond its recent peak, and one part in so many of what is live
    /// where that is more. Guess: what a start of `python3` has idle (2 MiB) is not worth giving back.
    pub(crate) const SPARED: usize = 2 << 20;
    pub(crate) const SPARED_SHARE: usize = 32;
    /// One part in so many of what is idle by which it has to grow before it is tried again, where reclaiming got little.
    /// Guess.
    pub(crate) const STUCK_SHARE: usize = 8;
}

/// How much free memory a heap may hold ("slack").
pub(crate) mod heap_cache {
    /// KiB that a heap may hold before anything was learnt, where `HAKMEM_HEAP_CACHE_KB` names no number; the second under
    /// `HAKMEM_PROFILE=speed`. Guess.
    pub(crate) const AUTO_KB: u32 = 4096;
    pub(crate) const AUTO_SPEED_KB: u32 = 16384;
    /// Live heaps that may hold as much each; more share what these may. Guess.
    pub(crate) const SHARED_FROM: usize = 8;
    /// Bytes that each may hold however many there are. Guess: two slabs.
    pub(crate) const SHARED_LEAST: usize = 128 << 10;
    /// One part in so many of what is live that a heap may hold in any case, and a class of a heap that holds too much. Guess.
    pub(crate) const LIVE_SHARE: usize = 8;
    /// Blocks that a class of a heap that holds too much may keep in its bin, and on its stack, in any case, if as many are
    /// live. With 8 the harness's `random-mixed` of 1,024 and of 4,096 slots on an aged heap takes 78 and 105 instructions an
    /// operation, with 16 it takes 57 and 65, and 53 on a heap that holds little (callgrind).
    pub(crate) const FEW: u32 = 16;
    /// Blocks per millisecond that may be missed without anything coming of it: their way home and back, at 30 ns, takes some
    /// hundredths of the time. Guess.
    pub(crate) const CHEAP_PER_MS: u64 = 2048;
    /// Blocks missed at once that are put up with before anything is learnt. Guess.
    pub(crate) const PATIENCE: u64 = 16384;
    /// One part in so many of the live bytes is left when most has gone. Guess.
    pub(crate) const LOW: usize = 4;
    /// Bytes learnt that are forgotten at once. Guess: a slot.
    pub(crate) const LEAST: usize = 64 << 10;
    /// Milliseconds without a slow path after which a thread makes room for others: longer than one waits for its turn on a
    /// busy core. Guess.
    pub(crate) const STILL_MS: u64 = 10;
    /// How many times as much as a class takes anew the others make room for. Their blocks lie scattered, and what goes home
    /// may be a part of a slab only. Guess.
    pub(crate) const ROOM_FOR: usize = 4;
    /// Bytes that are hardly ever to be had at once: nothing is given up for such a request. Guess.
    pub(crate) const IMPOSSIBLE: usize = 1 << 42;
    /// Heaps that are looked at for each slab that is opened. Guess.
    pub(crate) const OTHERS: usize = 4;
}

/// What heaps keep whose threads have ended.
pub(crate) mod idle_heaps {
    /// Most bytes one idle heap keeps, and all of them together. Guess.
    pub(crate) const MOST_EACH: usize = 512 << 10;
    pub(crate) const MOST: usize = 2 << 20;
    /// Bytes that a heap is charged at least, so that the heaps that keep something are few enough to be looked at. Guess.
    pub(crate) const LEAST: usize = 16 << 10;
    /// Idle heaps that one look sees to: with the two above, a quarter of them at least. Guess.
    pub(crate) const PER_LOOK: usize = 32;
}

/// Slow operations of a heap between its looks at the clock: the clock costs a tenth of one of them. Guess.
pub(crate) const LOOK_EVERY: u32 = 64;

/// Populating ahead of demand (`HAKMEM_SS_PREFAULT=async`).
pub(crate) mod ahead {
    /// The pool ran dry this often, each time within so many milliseconds of the one before: the program grows. Guess.
    pub(crate) const DRY_TO_START: u32 = 4;
    pub(crate) const QUICK_MS: u64 = 100;
    /// Superslabs in use from which a program may be kept ahead of. Guess.
    pub(crate) const FROM_SUPERSLABS: usize = 8;
    /// Microseconds between two looks at what the program took: populating 2 MiB takes 100 to 700. Guess.
    pub(crate) const LOOK_US: u64 = 1000;
    /// Milliseconds for which it is not tried again after memory, a limit or the want of a thread ended it. Guess.
    pub(crate) const REFUSED_MS: u64 = 1000;
    /// Least microseconds between two superslabs. With 50 another thread's `mmap` waits 0.9 ms at worst, without a pause 16
    /// ms (2 vCPU, 2 GiB populated in steps of 2 MiB).
    pub(crate) const PAUSE_US: u64 = 50;
    /// Looks without growth after which the thread ends. Guess.
    pub(crate) const LOOKS_TO_LIVE: u32 = 100;
    /// Fewest and most superslabs that are kept ready. Guess.
    pub(crate) const LEAST: usize = 2;
    pub(crate) const MOST: usize = 64;
}

/// Which free slots are claimed, and when they go back.
pub(crate) mod pool {
    /// Bytes of free slots that stay resident at least, and one part in so many of what is in use where that is more. Guess:
    /// a program that needs more shows it by coming back for it.
    pub(crate) const RETAINED_LEAST: usize = 512 << 10;
    pub(crate) const IN_USE_SHARE: usize = 8;
    /// Superslabs of one list that are looked at for a long enough run before the next list is tried. Guess.
    pub(crate) const LOOKS: usize = 8;
    /// Superslabs that are looked at for a run that is resident, or that is not. Guess.
    pub(crate) const LOOKS_CHOOSY: usize = 24;
    /// Retained bytes from which a claim looks for slots that are resident first. Guess: a slot.
    pub(crate) const WORTH_A_LOOK: usize = 64 << 10;
    /// Most bytes below the bound that one trim makes room for. Guess.
    pub(crate) const TRIM_BELOW: usize = 8 << 20;
    /// Free slots, of 32, with which a superslab of huge pages is split by a partial purge: none at first, then sparse ones,
    /// denser ones where that was not enough. What can then still be free in the densest is less than the eighth of what is
    /// in use that may be retained. Guess.
    pub(crate) const SPLIT_FROM: [u32; 4] = [32, 24, 12, 4];
    /// The same for what nobody needed for the whole delay. Guess.
    pub(crate) const SPLIT_AGED_FROM: u32 = 12;
    /// Wholly free, purged superslabs kept mapped: at least this many, a node's share of them each, or half of those in use.
    /// Guess.
    pub(crate) const KEEP_MAPPED: usize = 16;
    /// Refusals after which a search for superslabs to unmap leaves a pool: one may be refused where its neighbour, at the end
    /// of a mapping, is not. Guess.
    pub(crate) const REFUSALS: u32 = 32;
}

/// Large blocks.
pub(crate) mod large {
    /// Cache lines the start of a block may be moved by, so that many do not share a cache set. Guess: half a page.
    pub(crate) const COLOURS: usize = 32;
    /// Bytes of the longest mapping from the cache that is cleared for a zeroed request. Guess.
    pub(crate) const CLEARED_MOST: usize = 16 << 20;
    /// Runs that may be cached. Guess: a search through them takes less than the fault it saves.
    pub(crate) const CACHED_RUNS: usize = 96;
    /// Most parts of one run. Guess.
    pub(crate) const PARTS: usize = 16;
    /// Where all live blocks together have so many parts beyond the first, no more are put together: each is one of the
    /// mappings of which a process may have some 65,000 (`vm.max_map_count`). Guess: a sixteenth.
    pub(crate) const EXTRA_PARTS: usize = 4096;
    /// Bytes behind its new end that stay with a block that shrinks, as one part in so many of what it keeps. Guess.
    pub(crate) const TAIL_SHARE: usize = 16;
    /// Bytes that are copied before what was copied goes back. Guess.
    pub(crate) const COPIED: usize = 16 << 20;
}

// Huge pages under `HAKMEM_THP=auto`. The rest is memory that a huge page makes resident and nobody writes.

/// Bytes. Blocks up to this size are written when they are used: a page, and the header of whoever allocates pages.
/// Larger ones are looked at first. Guess.
pub(crate) const WRITTEN_TO: usize = 4608;
/// Slabs of one class that a heap has filled before its next ones may lie in huge pages. The rest is then at most one slab
/// for as many full ones. Guess: fewer faults while a program grows than with 4 (seen with other settings of the rest).
pub(crate) const FILLED_SLABS: usize = 2;
/// Slots that have to be known as written, or to be in use by larger blocks that are looked at, before a superslab asks for
/// a huge page: the part of it that stays free is then at most an eighth of them. Guess.
pub(crate) const KNOWN_SLOTS: usize = 8 * SLOTS;
/// Parts in sixteen of what larger blocks have of a superslab, or leave free, that have to be resident for it to count as
/// dense: the rest of others like it is at most a fifteenth. Guess: less memory than with 14 (seen with
/// other settings of the rest).
pub(crate) const DENSE_SIXTEENTHS: usize = 15;
/// Superslabs begun for larger blocks after the one that is looked at: time for its blocks to be written. Guess.
pub(crate) const LOOK_BEHIND: usize = 4;
/// Most superslabs on huge pages that may be begun for larger blocks in a row; then comes one on OS pages, whose residency
/// can be looked at; and one part in so many of what larger blocks have, as none of them was looked at. Guess: fewer faults
/// while a program grows than with 16 and an eighth (seen with other settings of the rest).
pub(crate) const UNSEEN_SUPERSLABS: usize = 32;
pub(crate) const UNSEEN_SHARE: usize = 4;
/// Bytes. Large blocks from here on may ask for huge pages: the unused end of the last one is at most a sixteenth.
pub(crate) const HUGE_BLOCK_FROM: usize = 16 * SUPERSLAB;
/// Large blocks in huge pages that nobody has found filled yet: most of them, and what they may have of the bytes of those
/// that were, one in so many. One may be unproven in any case. Guess.
pub(crate) const UNPROVEN_BLOCKS: usize = 4;
pub(crate) const UNPROVEN_SHARE: usize = 4;
