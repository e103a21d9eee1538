//! Which large blocks lie on huge pages under `HAKMEM_THP=auto`, and whether they turned out to be filled.
//!
//! Memory that is not requested zeroed is nearly always filled from the front, and zeroed memory often is not; nobody can know when
//! it is handed out. So of each kind blocks on OS pages are looked at. Once one is found filled, huge pages follow for blocks not
//! much longer. A block on huge pages is *unproven* until its contents show that it is filled. So is a long one that has them
//! without evidence. One block may always be unproven, and more while what is missing of them is little beside what is live: a
//! program that touches only a few pages of its blocks pays for a few of them.

use super::cache;
use super::evidence::{Extent, Seen, Shows, is_watched};
use crate::base::account::{self, Kind};
use crate::base::size_class::LARGE;
use crate::base::tuning::{DENSE_SIXTEENTHS, ENDS_SHARE};
use crate::knobs::{self, ThpPolicy};
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::Mapping;
use crate::os::{huge, written};
use crate::slab::directory::DIRECTORY;
use core::sync::atomic::{AtomicBool, Ordering};

// The answers are used without the lock. If a block goes meanwhile and another takes its place, the guess is wrong at worst.
static SEEN: Locked<Seen> = Locked::new(Seen::NONE);

/// For a fork: the lock of this record.
pub(crate) fn seen_lock() -> &'static Lock {
    SEEN.raw()
}

/// In the child of a fork: a thread that is gone may have been about to hand out a block, or had freed it but for this record.
pub(crate) fn after_fork() {
    SEEN.lock()
        .retain(|addr| DIRECTORY.tag(addr).class() == LARGE);
}

/// Requests huge pages for a new block, if the policy does. Returns whether the kernel accepted the request. `fresh`: all of its
/// memory is, so that it will show whether such blocks are filled.
pub(super) fn ask_for_new(map: Mapping, block: Extent, fresh: bool) -> bool {
    let asked = match knobs::get().thp {
        ThpPolicy::Always => return ask(map),
        ThpPolicy::Never => return false,
        ThpPolicy::Auto => ask_unproven(map, block, 0),
    };
    if !asked && fresh && block.ends_well() {
        SEEN.lock().watch(block);
    }
    asked
}

/// A block is about to grow. Returns whether it is filled, if anybody wants to know. `fresh`: its memory was when it was handed out,
/// so that it was filled since.
pub(super) fn grows_filled(block: Extent, fresh: bool) -> bool {
    let filled = knobs::get().thp == ThpPolicy::Auto && is_filled(block);
    if filled && fresh {
        SEEN.lock().kind(block).found(block.len, Shows::Filled);
    }
    filled
}

/// As [`ask_for_new`], for a block that has grown and of which `filled` bytes are filled.
pub(super) fn ask_for_grown(map: Mapping, block: Extent, filled: usize) -> bool {
    knobs::get().thp == ThpPolicy::Auto && ask_unproven(map, block, filled)
}

/// Whether a block may be on huge pages, judging by its end: what they make resident behind that, and behind the ends of all large
/// blocks, stays small.
pub(super) fn end_fits(block: Extent) -> bool {
    if knobs::get().thp == ThpPolicy::Always {
        return true;
    }
    let most = (account::resident() + block.len) / ENDS_SHARE;
    block.ends_well() && account::of(Kind::Ends) + block.end() <= most
}

/// Makes a block unproven, if it may be on huge pages. `filled`: bytes of it that are filled.
fn admitted(block: Extent, filled: usize) -> bool {
    let live = account::of(Kind::Large);
    let admit = || SEEN.lock().admit(block, filled, live);
    let admit_now = || {
        // A look makes room for the next block to be watched, too.
        look();
        admit()
    };
    end_fits(block) && (admit() || admit_now())
}

fn ask_unproven(map: Mapping, block: Extent, filled: usize) -> bool {
    if !admitted(block, filled) {
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
        let shows = what_shows(block);
        SEEN.lock().settle(block, shows, last);
    }
}

/// Whether a block stays on huge pages that cached memory brought, or that it had when it was of another length. `unseen`: some of
/// its memory is new, and needs evidence as any other; so many bytes of it are filled. If it may not stay, it refuses them. What is
/// on one stays there, but its end may go back alone.
pub(super) fn stays(map: Mapping, block: Extent, unseen: Option<usize>) -> bool {
    if knobs::get().thp != ThpPolicy::Auto {
        return true;
    }
    let may = match unseen {
        Some(filled) => admitted(block, filled),
        None => end_fits(block),
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
    forget(addr, huge) && huge
}

/// Ends a block's being unproven or watched, and returns whether it was.
fn forget(addr: usize, huge: bool) -> bool {
    match huge {
        true => SEEN.lock().take(addr),
        false => is_watched(addr) && SEEN.lock().unwatch(addr),
    }
}

/// An unproven block has changed its length or address.
pub(super) fn changed(block: Extent) {
    let _ = SEEN.lock().put(block, 0);
}

/// Removes a freed block. Returns whether its memory keeps its huge pages, if it has them: a block that stayed sparse gives them up.
pub(super) fn went(map: Mapping, block: Extent, huge: bool) -> bool {
    if !forget(block.addr, huge) {
        return huge;
    }
    let shows = what_shows(block);
    SEEN.lock().kind(block).found(block.len, shows);
    huge && (shows != Shows::Sparse || !refuse(map))
}

/// Whether a block that has grown leaves huge pages, because it was not filled.
pub(super) fn leaves(map: Mapping) -> bool {
    knobs::get().thp == ThpPolicy::Auto && refuse(map)
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

/// How many samples of a block are taken.
const SAMPLES: usize = 16;

/// What a block shows, judging by a sample of each sixteenth.
fn what_shows(block: Extent) -> Shows {
    let most = SAMPLES / 2 + 1;
    match missing(block, most) {
        few if few <= SAMPLES - DENSE_SIXTEENTHS => Shows::Filled,
        missing if missing < most => Shows::Partly(block.len / SAMPLES * missing),
        _ => Shows::Sparse,
    }
}

pub(super) fn is_filled(block: Extent) -> bool {
    let few = SAMPLES - DENSE_SIXTEENTHS;
    missing(block, few + 1) <= few
}

/// How many samples of a block's sixteenths were not written, up to `most`.
fn missing(block: Extent, most: usize) -> usize {
    let part = block.len / SAMPLES;
    if part < written::SAMPLE {
        return most;
    }
    let parts = (0..SAMPLES).map(|index| block.addr + part * index);
    written::missing(most, parts, part)
}

const _: () = assert!(SAMPLES == 16, "samples are counted in sixteenths");

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::evidence::Asked;
    use super::*;
    use crate::base::units::SUPERSLAB;
    use crate::os::mapping::{map_aligned, unmap};

    #[test]
    fn a_block_is_filled_if_its_contents_show_it() {
        let map = map_aligned(16 * SUPERSLAB, SUPERSLAB, None).expect("maps");
        let all = Extent {
            addr: map.addr,
            len: map.len,
            asked: Asked::Plain,
        };
        // SAFETY: mapped here, and touched within.
        unsafe {
            huge::refuse(map.addr, map.len).expect("refused");
            let part = |index: usize| (map.addr + index * SUPERSLAB) as *mut u8;
            // As by the word in front of a block.
            part(0).write(1);
            (2..16).for_each(|index| part(index).write_bytes(1, SUPERSLAB));
            assert!(!is_filled(all));
            // Read, it is resident: the kernel's page of zeros is.
            let sum =
                (0..SUPERSLAB).fold(0, |sum, at| sum + part(1).add(at).read_volatile() as usize);
            assert_eq!(sum, 0);
            assert!(!is_filled(all));
            part(1).write_bytes(0, SUPERSLAB);
            assert!(!is_filled(all), "zeros tell nothing");
            part(1).write_bytes(1, SUPERSLAB);
            assert_eq!(is_filled(all), written::is_told(), "one may be missing");
            unmap(map).expect("unmaps");
        }
    }
}
