//! Which large blocks lie on huge pages under `HAKMEM_THP=auto`, and whether they turned out to be filled.
//!
//! Memory that is not requested zeroed is nearly always filled from the front, and zeroed memory often is not; nobody can know when
//! it is handed out. So of each kind a block on OS pages is looked at first, and huge pages follow for blocks not much longer than
//! what was found filled. A block on huge pages is *unproven* until its OS pages are found resident. That holds for a long one that
//! has them without evidence, too. One block may always be unproven, and more in proportion to what was found filled: a program
//! that touches only a few pages of its blocks pays for one of them.

use super::cache;
use crate::base::account::{self, Kind};
use crate::base::tuning::{
    DENSE_SIXTEENTHS, END_SHARE, ENDS_SHARE, EXPECTED, UNPROVEN_BLOCKS, UNPROVEN_SHARE,
    UNSEEN_BLOCK,
};
use crate::base::units::SUPERSLAB;
use crate::knobs::{self, ThpPolicy};
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::{self, Mapping};
use crate::os::{huge, sys};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A live block: from the beginning of its mapping to its own end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) addr: usize,
    pub(super) len: usize,
    pub(super) zeroed: bool,
}

impl Extent {
    /// Bytes of its last huge page behind its end.
    fn end(self) -> usize {
        self.len.next_multiple_of(SUPERSLAB) - self.len
    }
}

/// What is known. Of two elements the second is of zeroed blocks.
struct Seen {
    /// Bytes of blocks found filled, since one was found that was not.
    filled: [usize; 2],
    /// Live blocks on huge pages that were not found filled.
    unproven: [Option<Extent>; UNPROVEN_BLOCKS],
    /// A live block on OS pages, which was not found filled. They are those at [`WATCHED`].
    watched: [Option<Extent>; 2],
}

// The answers are used without the lock. If a block goes meanwhile and another takes its place, the guess is wrong at worst.
static SEEN: Locked<Seen> = Locked::new(Seen::NONE);

/// The addresses of the blocks on OS pages that are watched, or 0. A block's owner compares them with its own, which it wrote
/// itself if it is there: Relaxed.
static WATCHED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

impl Seen {
    const NONE: Seen = Seen {
        filled: [0; 2],
        unproven: [None; UNPROVEN_BLOCKS],
        watched: [None; 2],
    };

    /// Admits a block as unproven, if one more may be. `live`: bytes of large blocks.
    fn admit(&mut self, block: Extent, live: usize) -> bool {
        let unproven: usize = self.unproven.iter().flatten().map(|block| block.len).sum();
        let filled = self.filled[usize::from(block.zeroed)];
        let unseen = block.len >= UNSEEN_BLOCK && !block.zeroed;
        let expected = unseen || block.len <= EXPECTED * filled;
        let most = filled.min(live) / UNPROVEN_SHARE;
        let fits = unproven == 0 && expected || unproven + block.len <= most;
        let free = self.unproven.iter().position(Option::is_none);
        let Some(place) = free.filter(|_| fits) else {
            return false;
        };
        self.unproven[place] = Some(block);
        true
    }

    /// Ends a block's being unproven or watched, and returns it if it was.
    fn take(&mut self, addr: usize) -> Option<Extent> {
        let blocks = self.unproven.iter_mut().chain(&mut self.watched);
        let mut taken = blocks.filter(|at| at.is_some_and(|block| block.addr == addr));
        taken.next()?.take()
    }

    /// Records the new address and length of a block.
    fn moved(&mut self, addr: usize, to: Extent) {
        let mut blocks = self.unproven.iter_mut();
        if let Some(block) = blocks.find(|at| at.is_some_and(|block| block.addr == addr)) {
            *block = Some(to);
        }
    }

    /// Notes whether a block that was unproven or watched, or grew, was found `filled`.
    fn found(&mut self, block: Extent, filled: bool) {
        let sum = &mut self.filled[usize::from(block.zeroed)];
        *sum = match filled {
            true => sum.saturating_add(block.len),
            false => 0,
        };
    }
}

/// For a fork: the lock of this record.
pub(crate) fn seen_lock() -> &'static Lock {
    SEEN.raw()
}

/// Requests huge pages for a new block in fresh memory, if the policy does. Returns whether the kernel accepted the request.
pub(super) fn ask_for_new(map: Mapping, block: Extent) -> bool {
    match knobs::get().thp {
        ThpPolicy::Always => ask(map),
        ThpPolicy::Auto => ask_unproven(map, block),
        ThpPolicy::Never => false,
    }
}

/// The same for a block that has grown. It was filled when it was `filled`; not much longer than that it counts as proven.
pub(super) fn ask_for_grown(map: Mapping, block: Extent, filled: Extent) -> bool {
    if knobs::get().thp != ThpPolicy::Auto {
        return false;
    }
    SEEN.lock().found(filled, true);
    if block.len > EXPECTED * filled.len {
        return ask_unproven(map, block);
    }
    end_fits(block) && ask(map)
}

/// Whether a block may be on huge pages, judging by its end: what they make resident behind that, and behind the ends of all large
/// blocks, stays small.
pub(super) fn end_fits(block: Extent) -> bool {
    if knobs::get().thp == ThpPolicy::Always {
        return true;
    }
    let most = (account::resident() + block.len) / ENDS_SHARE;
    block.end() <= block.len / END_SHARE && account::of(Kind::Tails) + block.end() <= most
}

fn ask_unproven(map: Mapping, block: Extent) -> bool {
    let (unproven, watched) = {
        let seen = SEEN.lock();
        (seen.unproven, seen.watched)
    };
    for block in unproven.into_iter().chain(watched).flatten() {
        if is_filled(block) {
            settle(block.addr, true);
        }
    }
    let admitted = end_fits(block) && SEEN.lock().admit(block, account::of(Kind::Large));
    let taken = admitted && ask(map);
    if admitted && !taken {
        SEEN.lock().take(block.addr);
    }
    if !taken {
        let kind = usize::from(block.zeroed);
        let mut seen = SEEN.lock();
        if seen.watched[kind].is_none() {
            seen.watched[kind] = Some(block);
            WATCHED[kind].store(block.addr, Ordering::Relaxed);
        }
    }
    taken
}

/// Ends a block's being unproven or watched, and notes what was found. It may have been freed meanwhile.
fn settle(addr: usize, filled: bool) {
    let mut seen = SEEN.lock();
    if let Some(block) = seen.take(addr) {
        seen.found(block, filled);
    }
    forget(addr);
}

/// The block is watched no more. The caller holds the lock of [`SEEN`].
fn forget(addr: usize) {
    let watched = WATCHED
        .iter()
        .filter(|at| at.load(Ordering::Relaxed) == addr);
    watched.for_each(|at| at.store(0, Ordering::Relaxed));
}

/// Refuses huge pages for a block if it may not be on them for its end. What is on one stays, but its end may go back alone.
/// Returns whether the kernel accepted the refusal.
pub(super) fn leaves(map: Mapping, block: Extent) -> bool {
    !end_fits(block) && refuse(map)
}

fn refuse(map: Mapping) -> bool {
    // SAFETY: advice on a whole mapping of our own.
    let refused = unsafe { huge::refuse(map.addr, map.len) }.is_ok();
    if refused {
        cache::account_huge(-(map.len as isize));
    }
    refused
}

/// Requests huge pages. Returns whether the kernel accepted the request.
fn ask(map: Mapping) -> bool {
    // SAFETY: advice on a whole mapping of our own. A refusal leaves OS pages.
    let taken = unsafe { huge::advise(map.addr, map.len) }.is_ok();
    if taken {
        cache::account_huge(map.len as isize);
    }
    taken
}

/// Records that a block from `addr` on has moved or changed its length.
pub(super) fn moved(addr: usize, to: Extent, huge: bool) {
    if huge {
        SEEN.lock().moved(addr, to);
    } else if is_watched(addr) {
        let _ = SEEN.lock().take(addr);
        forget(addr);
    }
}

fn is_watched(addr: usize) -> bool {
    WATCHED.iter().any(|at| at.load(Ordering::Relaxed) == addr)
}

/// Removes a freed block. Returns whether its memory keeps its huge pages, if it has them: a block that was never filled gives
/// them up.
pub(super) fn went(map: Mapping, block: Extent, huge: bool) -> bool {
    if !huge {
        if is_watched(block.addr) {
            settle(block.addr, is_filled(block));
        }
        return false;
    }
    let unproven = SEEN
        .lock()
        .unproven
        .iter()
        .flatten()
        .any(|at| at.addr == block.addr);
    if !unproven {
        return true;
    }
    let filled = is_filled(block);
    settle(block.addr, filled);
    filled || !refuse(map)
}

/// Whether the last long zeroed block that was freed was filled. A guess about the next one: Relaxed.
static ZEROED_FILLED: AtomicBool = AtomicBool::new(false);

/// A long zeroed block is freed.
pub(super) fn zeroed_went(block: Extent) {
    ZEROED_FILLED.store(is_filled(block), Ordering::Relaxed);
}

/// Whether long zeroed blocks are expected to be filled.
pub(super) fn zeroed_are_filled() -> bool {
    ZEROED_FILLED.load(Ordering::Relaxed)
}

/// How many OS pages of a block are sampled.
const SAMPLES: usize = 16;

/// Whether a block is filled, judging by an OS page in the middle of each sixteenth. The first page of all is resident where the
/// word in front of the block was written.
#[inline(never)]
pub(super) fn is_filled(block: Extent) -> bool {
    let page = sys::page_size();
    let part = block.len / SAMPLES;
    let samples = (0..SAMPLES).map(|sample| (part * sample + part / 2) & !(page - 1));
    let mut missing = samples.filter(|offset| !mapping::is_resident(block.addr + offset));
    missing.nth(SAMPLES - DENSE_SIXTEENTHS).is_none()
}

const _: () = assert!(SAMPLES == 16, "samples are counted in sixteenths");

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::mapping::{map_aligned, unmap};

    fn block(index: usize, len: usize) -> Extent {
        Extent {
            addr: (1 + index) << 32,
            len,
            zeroed: false,
        }
    }

    #[test]
    fn the_middle_of_each_sixteenth_is_looked_at() {
        let map = map_aligned(16 * SUPERSLAB, SUPERSLAB, None).expect("maps");
        let Mapping { addr, len } = map;
        let zeroed = false;
        // SAFETY: mapped here, and touched within.
        unsafe {
            huge::refuse(addr, len).expect("refused");
            let touch = |at: usize| ((addr + at) as *mut u8).write(1);
            // As by the word in front of a block.
            touch(0);
            (2..16).for_each(|part| touch(part * SUPERSLAB + SUPERSLAB / 2));
            assert!(!is_filled(Extent { addr, len, zeroed }));
            touch(SUPERSLAB / 2);
            assert!(
                is_filled(Extent { addr, len, zeroed }),
                "one may be missing"
            );
            unmap(map).expect("unmaps");
        }
    }

    #[test]
    fn one_block_may_be_unproven_and_more_by_what_was_found_filled() {
        let least = UNSEEN_BLOCK;
        let mut seen = Seen::NONE;
        let admit = |seen: &mut Seen, block| seen.admit(block, usize::MAX);
        assert!(!admit(&mut seen, block(0, least - 1)), "nothing was found");
        assert!(admit(&mut seen, block(0, 100 * least)), "long");
        assert!(!admit(&mut seen, block(1, least)), "one at a time");
        let long = block(0, 100 * least);
        assert_eq!(seen.take(long.addr), Some(long));
        seen.found(long, true);
        // A quarter of a hundred, and no more blocks than there are places.
        assert!(admit(&mut seen, block(1, 20 * least)));
        assert!(!admit(&mut seen, block(2, 6 * least)));
        for index in 2..UNPROVEN_BLOCKS + 1 {
            assert!(admit(&mut seen, block(index, least)));
        }
        assert!(!admit(&mut seen, block(9, least)), "no place");
        seen.moved(block(2, least).addr, block(20, 2 * least));
        assert_eq!(seen.take(block(2, least).addr), None, "it is elsewhere");
        for index in [20, 1].into_iter().chain(3..UNPROVEN_BLOCKS + 1) {
            assert!(seen.take(block(index, 1).addr).is_some());
        }
        seen.found(block(1, 1), false);
        assert!(!admit(&mut seen, block(1, least - 1)), "one was not filled");
        seen.found(block(1, 1000), true);
        assert!(!admit(&mut seen, block(1, EXPECTED * 1000 + 1)));
        let zeroed = |len| Extent {
            zeroed: true,
            ..block(2, len)
        };
        assert!(
            !admit(&mut seen, zeroed(least)),
            "nothing was found of these"
        );
        seen.found(zeroed(least), true);
        assert!(admit(&mut seen, zeroed(least)));
        assert!(seen.take(zeroed(least).addr).is_some());
        assert!(
            admit(&mut seen, block(1, EXPECTED * 1000)),
            "a table that doubles"
        );
    }
}
