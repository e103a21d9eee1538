//! Huge pages under `HAKMEM_THP=auto`. *The rest* is memory that a huge page makes resident and nobody writes.

use crate::base::units::{SLOTS, SUPERSLAB, Slots};

/// Bytes. Blocks up to this size are assumed to be written when they are used: an OS page and the header that a page cache puts
/// before it. Larger blocks are checked first. Guess.
pub(crate) const WRITTEN_TO: usize = 4608;
/// Slots that must be known as written, or be in use by larger blocks that are checked, before a superslab asks for a huge page.
/// With eight superslabs' worth, and for a heap's third slab of a class and not its second, `program-store` faults 13,200 times
/// instead of 9,700, `medium` 16,200 instead of 9,900 and `histogram` 7,700 instead of 3,700; `keepers` and `program-server` peak
/// 2 MiB lower, and the other programs within 1 MiB.
pub(crate) const KNOWN_SLOTS: Slots = Slots::new(SLOTS);
/// Divisor: slots of heaps' first slabs of a class may lie on huge pages once they are at most this share of those that are known as
/// written. Where they never may, `program-index` faults 7,800 times instead of 4,200, because each superslab begun for one on OS
/// pages then fills with others. Guess: shares from a half to a sixteenth differ by less than runs do.
pub(crate) const FIRST_SHARE: usize = 8;
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
/// Bytes. One large block from this size on may be on huge pages without any evidence. Guess.
pub(crate) const UNSEEN_BLOCK: usize = 16 * SUPERSLAB;
/// Large blocks up to so many times as long as what was found filled are expected to be. A table that doubles when it is full has
/// a few bytes more than twice.
pub(crate) const EXPECTED: usize = 3;
/// Requests for a look after which a block on OS pages is watched no more, filled or not: a sparse one counts as one that will stay
/// so. Guess.
pub(crate) const LAST_LOOK: u32 = 8;
/// Divisors: what a huge page makes resident behind the end of a large block is at most this share of the block, and behind those
/// of all together the second of what the process holds. With a twenty-fourth for all, `program-regex` faults 14,100 times instead
/// of 12,800; with no bound for each, phases of 200 MiB in blocks of 4 MiB peak at 214 MiB instead of 202. Both were measured with
/// other rules of evidence.
pub(crate) const END_SHARE: usize = 4;
pub(crate) const ENDS_SHARE: usize = 20;
/// Large blocks on huge pages that are not known to be filled: at most so many. One more may be while what is missing of them is at
/// most this share (a divisor) of the bytes of live ones. Guess.
pub(crate) const UNPROVEN_BLOCKS: usize = 16;
pub(crate) const UNPROVEN_SHARE: usize = 16;
