//! The numbers of the memory policy: value, unit, meaning, and the evidence or the word "guess".

use super::units::{SLOTS, SUPERSLAB};

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
