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
    /// Bytes behind the ends of live large blocks that may be resident, in all, and one part in so many of what is live in
    /// large blocks where that is more. With a thirty-second, the harness's `huge 400` faults 3,511 times against 1,116.
    pub(crate) const TAILS: usize = 4 << 20;
    pub(crate) const TAILS_SHARE: usize = 8;
    /// Where nobody sees time pass, a demand of so many bytes is served in full, and stays if the process falls silent.
    /// A compromise: the harness's `burst 50000 10` swings by 110 MiB in one thread and faults 142,648 times with 30 MiB
    /// here, against 9,861 where all of it is kept (AMD EPYC, 2 runs).
    pub(crate) const UNSEEN_WHOLE: usize = 128 << 20;
    /// Bytes of large blocks that stay cached where nobody sees time pass and the demand is more: [`LARGE_LEAST`].
    pub(crate) const LARGE_UNSEEN: usize = LARGE_LEAST;
    /// Bytes of free slots and stacks together, likewise. The bound this policy was given is 36 MiB, of which a small program
    /// has 2, the large cache may have 6, and what bins pin is up to 6.
    pub(crate) const SMALL_UNSEEN: usize = 22 << 20;
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
}

// Huge pages under `HAKMEM_THP=auto`. The rest is memory that a huge page makes resident and nobody writes.

/// Bytes. Blocks up to this size are written when they are used: a page, and the header of whoever allocates pages.
/// Larger ones are looked at first. Guess.
pub(crate) const WRITTEN_TO: usize = 4608;
/// Slabs of one class that a heap has filled before its next ones may lie in huge pages. The rest is then at most one slab
/// for as many full ones. Growth to 1 GiB in blocks of 16 to 1039 bytes on 1 and 4 threads takes 9,200 and 27,200 faults
/// with 2, 15,300 and 49,600 with 4.
pub(crate) const FILLED_SLABS: usize = 2;
/// Slots that have to be known as written, or to be in use by larger blocks that are looked at, before a superslab asks for
/// a huge page: the part of it that stays free is then at most an eighth of them. Guess.
pub(crate) const KNOWN_SLOTS: usize = 8 * SLOTS;
/// Parts in sixteen of what larger blocks have of a superslab, or leave free, that have to be resident for it to count as
/// dense: the rest of others like it is at most a fifteenth. `churn` with blocks of 460,000 bytes, 200 MiB live, ends at 226
/// MiB with 14 and at 203 with 15; blocks of 500 KB to 1 MB at 229 and 202.
pub(crate) const DENSE_SIXTEENTHS: usize = 15;
/// Superslabs begun for larger blocks after the one that is looked at: time for its blocks to be written. Guess.
pub(crate) const LOOK_BEHIND: usize = 4;
/// Most superslabs on huge pages that may be begun for larger blocks in a row; then comes one on OS pages, whose residency
/// can be looked at. No more than a quarter of what larger blocks have, as none of them was looked at. Growth to 1 GiB in
/// blocks of 900 KB to 1 MB takes 15,800 faults with 32 and a quarter, 25,800 with 16 and an eighth.
pub(crate) const UNSEEN_SUPERSLABS: usize = 32;
/// Bytes. Large blocks from here on may ask for huge pages: the unused end of the last one is at most a sixteenth.
pub(crate) const HUGE_BLOCK_FROM: usize = 16 * SUPERSLAB;
/// Large blocks in huge pages that nobody has found filled yet: most of them, and what they may have of the bytes of those
/// that were, one in so many. One may be unproven in any case. Guess.
pub(crate) const UNPROVEN_BLOCKS: usize = 4;
pub(crate) const UNPROVEN_SHARE: usize = 4;
