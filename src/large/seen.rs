//! Which large blocks lie on huge pages under `HAKMEM_THP=auto`, and whether they turned out to be filled.
//!
//! Memory that is not requested zeroed is nearly always filled from the front, and zeroed memory often is not; nobody can know when
//! it is handed out. So of each kind blocks on OS pages are looked at. Huge pages follow in proportion to those found filled, for
//! blocks not much longer than these. A block on huge pages is *unproven* until its OS pages are found resident. So is a long one
//! that has them without evidence. One block may always be unproven, and more in proportion to what is live: a program that touches
//! only a few pages of its blocks pays for a part of them.

use super::cache;
use super::evidence::{Extent, Seen, is_watched};
use crate::base::account::{self, Kind};
use crate::base::tuning::{DENSE_SIXTEENTHS, END_SHARE, ENDS_SHARE, EXPECTED};
use crate::knobs::{self, ThpPolicy};
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::{self, Mapping};
use crate::os::{huge, sys};
use core::sync::atomic::{AtomicBool, Ordering};

// The answers are used without the lock. If a block goes meanwhile and another takes its place, the guess is wrong at worst.
static SEEN: Locked<Seen> = Locked::new(Seen::NONE);

/// For a fork: the lock of this record.
pub(crate) fn seen_lock() -> &'static Lock {
    SEEN.raw()
}

/// Requests huge pages for a new block, if the policy does. Returns whether the kernel accepted the request. `fresh`: all of its
/// memory is, so that it will show whether such blocks are filled.
pub(super) fn ask_for_new(map: Mapping, block: Extent, fresh: bool) -> bool {
    let asked = match knobs::get().thp {
        ThpPolicy::Always => return ask(map),
        ThpPolicy::Never => return false,
        ThpPolicy::Auto => ask_unproven(map, block),
    };
    if !asked && fresh {
        SEEN.lock().watch(block);
    }
    asked
}

/// The same for a block that has grown. It was filled when it was `filled`; not much longer than that it counts as proven. `fresh`:
/// its memory was when it was handed out, so that it was filled since.
pub(super) fn ask_for_grown(map: Mapping, block: Extent, filled: Extent, fresh: bool) -> bool {
    if knobs::get().thp != ThpPolicy::Auto {
        return false;
    }
    if fresh {
        SEEN.lock().kind(filled).grew(filled.len);
    }
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
    block.end() <= block.len / END_SHARE && account::of(Kind::Ends) + block.end() <= most
}

/// Makes a block unproven, if it may be on huge pages.
fn admitted(block: Extent) -> bool {
    let live = account::of(Kind::Large);
    let admit = || end_fits(block) && SEEN.lock().admit(block, live);
    // A look makes room for the next block to be watched, too.
    admit() || {
        look();
        admit()
    }
}

fn ask_unproven(map: Mapping, block: Extent) -> bool {
    if !admitted(block) {
        return false;
    }
    let taken = ask(map);
    if !taken {
        SEEN.lock().take(block.addr);
    }
    taken
}

/// Looks whether blocks were filled.
fn look() {
    let due = SEEN.lock().due();
    for (block, last) in due.into_iter().flatten() {
        let filled = is_filled(block);
        if filled || last {
            SEEN.lock().settle(block, filled);
        }
    }
}

/// Whether a block stays on huge pages that cached memory brought, or that it had when it was of another length. `unseen`: some of
/// its memory is new, and needs evidence as any other. If it may not stay, it refuses them. What is on one stays there, but its end
/// may go back alone.
pub(super) fn stays(map: Mapping, block: Extent, unseen: bool) -> bool {
    if knobs::get().thp != ThpPolicy::Auto {
        return true;
    }
    let may = match unseen {
        true => admitted(block),
        false => end_fits(block),
    };
    let stays = may || !refuse(map);
    if !stays {
        SEEN.lock().take(block.addr);
    }
    stays
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

/// A block is about to change its length and address, as long as it still has both. Returns whether it is unproven; if so,
/// [`changed`] follows.
pub(super) fn changes(addr: usize, huge: bool) -> bool {
    if huge {
        return SEEN.lock().take(addr);
    }
    if is_watched(addr) {
        let _ = SEEN.lock().unwatch(addr);
    }
    false
}

/// An unproven block has changed its length or address.
pub(super) fn changed(block: Extent) {
    let _ = SEEN.lock().put(block);
}

/// Removes a freed block. Returns whether its memory keeps its huge pages, if it has them: a block that was never filled gives
/// them up.
pub(super) fn went(map: Mapping, block: Extent, huge: bool) -> bool {
    if !huge {
        if is_watched(block.addr) {
            let filled = is_filled(block);
            SEEN.lock().settle(block, filled);
        }
        return false;
    }
    if !SEEN.lock().take(block.addr) || is_filled(block) {
        return true;
    }
    SEEN.lock().kind(block).found(block.len, false);
    !refuse(map)
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
    use super::super::evidence::Asked;
    use super::*;
    use crate::base::units::SUPERSLAB;
    use crate::os::mapping::{map_aligned, unmap};

    #[test]
    fn the_middle_of_each_sixteenth_is_looked_at() {
        let map = map_aligned(16 * SUPERSLAB, SUPERSLAB, None).expect("maps");
        let all = Extent {
            addr: map.addr,
            len: map.len,
            asked: Asked::Plain,
        };
        // SAFETY: mapped here, and touched within.
        unsafe {
            huge::refuse(map.addr, map.len).expect("refused");
            let touch = |at: usize| ((map.addr + at) as *mut u8).write(1);
            // As by the word in front of a block.
            touch(0);
            (2..16).for_each(|part| touch(part * SUPERSLAB + SUPERSLAB / 2));
            assert!(!is_filled(all));
            touch(SUPERSLAB / 2);
            assert!(is_filled(all), "one may be missing");
            unmap(map).expect("unmaps");
        }
    }
}
