//! Which large blocks lie on huge pages under `HAKMEM_THP=auto`, and whether they turned out to be filled.
//!
//! Memory that is not requested zeroed is nearly always filled from the front, but nobody can know when it is handed out. So a
//! block on huge pages is *unproven* until its OS pages are found resident. One block may always be unproven, and more in
//! proportion to what is proven: a program that touches only a few pages of its blocks pays for one of them.

use super::cache;
use crate::base::tuning::{DENSE_SIXTEENTHS, HUGE_PAGES_FROM, UNPROVEN_BLOCKS, UNPROVEN_SHARE};
use crate::base::units::SUPERSLAB;
use crate::knobs::{self, ThpPolicy};
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::{self, Mapping};
use crate::os::{huge, sys};
use core::sync::atomic::{AtomicBool, Ordering};

/// The live blocks on huge pages. `bytes` is the sum over all; `unproven` holds some of them.
struct Seen {
    bytes: usize,
    unproven: [Option<Mapping>; UNPROVEN_BLOCKS],
}

// The answers are used without the lock. If a block goes meanwhile and another takes its place, the guess is wrong at worst.
static SEEN: Locked<Seen> = Locked::new(Seen::NONE);

impl Seen {
    const NONE: Seen = Seen {
        bytes: 0,
        unproven: [None; UNPROVEN_BLOCKS],
    };

    /// Ends the block's being unproven: it was found filled, or has no huge pages. It may have been freed meanwhile.
    fn settle(&mut self, map: Mapping) {
        let _ = self.take(map);
    }

    /// Admits a block as unproven, if one more may be. If huge pages are granted, [`Seen::came`] follows.
    fn admit(&mut self, map: Mapping) -> bool {
        if map.len < HUGE_PAGES_FROM {
            return false;
        }
        let unproven: usize = self.unproven.iter().flatten().map(|map| map.len).sum();
        let proven = self.bytes.saturating_sub(unproven);
        let fits = unproven == 0 || unproven + map.len <= proven / UNPROVEN_SHARE;
        let free = self.unproven.iter().position(Option::is_none);
        let Some(place) = free.filter(|_| fits) else {
            return false;
        };
        self.unproven[place] = Some(map);
        true
    }

    /// Counts a block that lies on huge pages from now on.
    fn came(&mut self, map: Mapping) {
        self.bytes += map.len;
    }

    /// Removes a block on huge pages. Returns whether it was proven.
    fn went(&mut self, map: Mapping) -> bool {
        self.bytes -= map.len;
        !self.take(map)
    }

    /// Records the new address or length of a block on huge pages.
    fn moved(&mut self, from: Mapping, to: Mapping) {
        if let Some(place) = self.unproven.iter_mut().find(|at| **at == Some(from)) {
            *place = Some(to);
        }
        self.bytes = self.bytes - from.len + to.len;
    }

    fn take(&mut self, map: Mapping) -> bool {
        let mut unproven = self.unproven.iter_mut();
        unproven
            .find(|at| **at == Some(map))
            .and_then(Option::take)
            .is_some()
    }
}

/// For a fork: the lock of this record.
pub(crate) fn seen_lock() -> &'static Lock {
    SEEN.raw()
}

/// Requests huge pages for a new block, if the policy does. Returns whether the kernel accepted the request.
pub(super) fn ask_for_new(map: Mapping, zeroed: bool) -> bool {
    match knobs::get().thp {
        ThpPolicy::Always => ask(map),
        ThpPolicy::Auto => !zeroed && ask_unproven(map),
        ThpPolicy::Never => false,
    }
}

/// The same for a block that has grown. It was filled when it had `filled` bytes; at twice that it counts as proven.
pub(super) fn ask_for_grown(map: Mapping, filled: usize) -> bool {
    let asked = match knobs::get().thp {
        ThpPolicy::Always | ThpPolicy::Never => false,
        ThpPolicy::Auto if map.len <= 2 * filled => ask(map),
        ThpPolicy::Auto => ask_unproven(map),
    };
    if asked {
        came(map);
    }
    asked
}

fn ask_unproven(map: Mapping) -> bool {
    if map.len < HUGE_PAGES_FROM {
        return false;
    }
    let unproven = SEEN.lock().unproven;
    for block in unproven.into_iter().flatten() {
        if is_filled(block) {
            SEEN.lock().settle(block);
        }
    }
    let admitted = SEEN.lock().admit(map);
    let taken = admitted && ask(map);
    if admitted && !taken {
        SEEN.lock().settle(map);
    }
    taken
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

/// Counts a block on huge pages that is handed out.
pub(super) fn came(map: Mapping) {
    SEEN.lock().came(map);
}

/// Records the new address or length of a block on huge pages.
pub(super) fn moved(from: Mapping, to: Mapping) {
    SEEN.lock().moved(from, to);
}

/// Removes a freed block on huge pages. Returns whether its memory keeps them: a block that was never filled gives them up.
pub(super) fn went(map: Mapping) -> bool {
    let proven = SEEN.lock().went(map);
    if proven || is_filled(map) {
        return true;
    }
    // SAFETY: advice on a whole mapping of our own.
    let refused = unsafe { huge::refuse(map.addr, map.len) }.is_ok();
    if refused {
        cache::account_huge(-(map.len as isize));
    }
    !refused
}

/// Whether the last long zeroed block that was freed was filled. A guess about the next one: Relaxed.
static ZEROED_FILLED: AtomicBool = AtomicBool::new(false);

/// A long zeroed block in `map` is freed.
pub(super) fn zeroed_went(map: Mapping) {
    ZEROED_FILLED.store(is_filled(map), Ordering::Relaxed);
}

/// Whether long zeroed blocks are expected to be filled.
pub(super) fn zeroed_are_filled() -> bool {
    ZEROED_FILLED.load(Ordering::Relaxed)
}

/// How many OS pages of a block are sampled.
const SAMPLES: usize = 16;

/// Whether a block in `map` is filled, judging by an OS page in the middle of each sixteenth. The first page of all is resident
/// where the word in front of the block was written. Its end may lie anywhere in the last superslab.
#[inline(never)]
pub(super) fn is_filled(map: Mapping) -> bool {
    let page = sys::page_size();
    let len = map.len.saturating_sub(SUPERSLAB).max(page);
    let part = len / SAMPLES;
    let samples = (0..SAMPLES).map(|sample| (part * sample + part / 2) & !(page - 1));
    let resident = samples
        .filter(|offset| mapping::is_resident(map.addr + offset))
        .count();
    resident >= DENSE_SIXTEENTHS
}

const _: () = assert!(SAMPLES == 16, "samples are counted in sixteenths");

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::mapping::{map_aligned, unmap};

    fn block(index: usize, len: usize) -> Mapping {
        Mapping {
            addr: (1 + index) << 32,
            len,
        }
    }

    #[test]
    fn the_middle_of_each_sixteenth_is_looked_at() {
        let map = map_aligned(17 * SUPERSLAB, SUPERSLAB, None).expect("maps");
        // SAFETY: mapped here, and touched within.
        unsafe {
            huge::refuse(map.addr, map.len).expect("refused");
            let touch = |at: usize| ((map.addr + at) as *mut u8).write(1);
            // As by the word in front of a block.
            touch(0);
            (1..DENSE_SIXTEENTHS).for_each(|part| touch(part * SUPERSLAB + SUPERSLAB / 2));
            assert!(!is_filled(map));
            touch(SUPERSLAB / 2);
            assert!(is_filled(map));
            unmap(map).expect("unmaps");
        }
    }

    #[test]
    fn one_block_may_be_unproven_and_more_by_what_is_proven() {
        let least = HUGE_PAGES_FROM;
        let mut seen = Seen::NONE;
        let admit = |seen: &mut Seen, map| {
            let admitted = seen.admit(map);
            if admitted {
                seen.came(map);
            }
            admitted
        };
        assert!(!admit(&mut seen, block(0, least - SUPERSLAB)), "too short");
        assert!(admit(&mut seen, block(0, 100 * least)));
        assert!(!admit(&mut seen, block(1, least)), "one at a time");
        seen.settle(block(0, 100 * least));
        // A quarter of a hundred, and no more blocks than there are places.
        assert!(admit(&mut seen, block(1, 20 * least)));
        assert!(!admit(&mut seen, block(2, 6 * least)));
        for index in 2..UNPROVEN_BLOCKS + 1 {
            assert!(admit(&mut seen, block(index, least)));
        }
        assert!(!admit(&mut seen, block(9, least)), "no place");
        assert!(!seen.went(block(1, 20 * least)));
        seen.moved(block(2, least), block(20, 2 * least));
        assert!(!seen.went(block(20, 2 * least)), "still unproven");
        assert!(seen.went(block(0, 100 * least)));
        (3..UNPROVEN_BLOCKS + 1).for_each(|index| assert!(!seen.went(block(index, least))));
        assert_eq!(seen.bytes, 0);
        assert!(admit(&mut seen, block(1, least)), "as at first");
    }
}
