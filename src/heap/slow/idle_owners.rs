//! Blocks of heaps whose threads have ended, in the bins of a thread that lives.
//!
//! A thread keeps the blocks of others that it frees, for it may need some soon: where it takes as many as it frees, they
//! pass no other hand. One that only frees needs none, and few free blocks from each of hundreds of slabs keep all of
//! those resident: eight threads hand a thousand blocks each on, successor after successor, a ninth frees them all, and
//! held 1.6 of 2 MiB in bins and on stacks, which pinned 6. So a thread that frees blocks of others looks now and then
//! whether its bins grew by all that came and it took nothing; then those whose owner is idle go home, one visit to an
//! owner for blocks of all classes, and the thread's own among them. Blocks of owners that live stay: their owners use
//! the slabs, and get them back in full batches.

use crate::base::size_class::{self, CLASSES};
use crate::heap::data::bin::{Bin, room};
use crate::heap::data::heap::{Heap, lock, shared};
use crate::heap::data::state::Out;
use crate::heap::home::drain;
use crate::heap::slow::in_person::{Rows, is_idle};
use crate::os::sys::ErrnoGuard;
use crate::slab::directory::DIRECTORY;

/// Bytes of others' blocks between two looks. Each of those left at the end pins a slab at most, so few of them; a visit
/// to an owner is dearer than a block, so not too few.
const LOOK_EVERY: usize = 32 << 10;
/// Looks become rarer where the bins do not grow, and rarer still where little went home.
const LOOK_LESS: usize = 256 << 10;
const LOOK_SELDOM: usize = 512 << 10;
/// A thread which only frees keeps so many blocks of a class, up to this size, for each of eight owners that come by turns,
/// until all of them go home at once. Of larger ones as many would be too much to hold.
const GATHERED_EACH: usize = 20;
const GATHERED_TO: usize = 1024;
/// How many of one owner do not wait for more, where the bin they will fill has room for them.
const FULL: usize = 32;

/// Notes that a block of `class`, another heap's, comes into the bin.
///
/// # Safety
/// `heap` is the calling thread's, and no lock is held.
#[inline(always)]
pub(crate) unsafe fn came(heap: *mut Heap, class: usize) {
    // SAFETY: the thread's own.
    unsafe {
        let strays = &raw mut (*heap).strays;
        (*strays).left -= size_class::size(class) as isize;
        if (*strays).left < 0 {
            look(heap);
        }
    }
}

/// Notes that the thread needed blocks.
///
/// # Safety
/// `heap` is the calling thread's.
#[inline(always)]
pub(crate) unsafe fn took(heap: *mut Heap) {
    // SAFETY: the thread's own.
    unsafe {
        (*heap).strays.looks = 0;
        (*heap).strays.grew = false;
    }
}

/// Notes that `blocks` of `class` went home for want of room.
///
/// # Safety
/// `heap` is the calling thread's.
pub(crate) unsafe fn homed(heap: *mut Heap, class: usize, blocks: u32) {
    // SAFETY: the thread's own.
    unsafe { (*heap).strays.homed += blocks as usize * size_class::size(class) };
}

/// How many blocks of `class` a thread keeps until they go home all at once, sorted by owner; none where it needs some
/// itself.
///
/// # Safety
/// `heap` is the calling thread's.
pub(crate) unsafe fn gathers(heap: *mut Heap, class: usize) -> Option<u32> {
    // SAFETY: the thread's own.
    let only_frees = unsafe { (*heap).strays.grew };
    if !only_frees || size_class::size(class) > GATHERED_TO {
        return None;
    }
    // A row that had a block more than fits would make one full message and one of a block.
    let each = GATHERED_EACH.min(room(class) - 2);
    Some(8 * each as u32)
}

/// How many blocks of one owner make a message of those that were gathered.
pub(crate) fn full(class: usize) -> usize {
    FULL.min(room(class))
}

#[cold]
#[inline(never)]
unsafe fn look(heap: *mut Heap) {
    // SAFETY: the thread's own; the caller's promises.
    unsafe {
        let strays = &raw mut (*heap).strays;
        (*strays).looks = (*strays).looks.saturating_add(1);
        if (*strays).looks == 1 {
            // A thread that needs blocks as well is looked at less.
            (*strays).look_at = ((*strays).look_at * 2).clamp(LOOK_EVERY, LOOK_LESS);
        } else {
            look_closely(heap, (*strays).looks == 2);
        }
        (*strays).left = (*strays).look_at as isize;
    }
}

/// Sends strays home if the bins grew by what came since the last look; the `first` time there is nothing to compare with.
///
/// # Safety
/// As for [`came`].
unsafe fn look_closely(heap: *mut Heap, first: bool) {
    let _errno = ErrnoGuard::new();
    // SAFETY: the caller's promises. The lock is held to the end, so that no fork freezes the thread with blocks in its
    // hands; other heaps' are only tried (ranks).
    unsafe {
        let guard = lock(heap);
        let strays = &raw mut (*heap).strays;
        let (came, before) = ((*strays).look_at, (*strays).held);
        let homed = core::mem::take(&mut (*strays).homed);
        (*strays).held = held(heap);
        if first {
            return;
        }
        (*strays).grew = (*strays).held + homed >= before.saturating_add(came / 4 * 3);
        if !(*strays).grew {
            (*strays).look_at = if came > LOOK_LESS {
                came / 2
            } else {
                (came * 2).min(LOOK_LESS)
            };
            return;
        }
        let went = send_home(heap);
        (*strays).held -= went;
        (*strays).look_at = if went < came / 2 {
            (came * 2).min(LOOK_SELDOM)
        } else {
            LOOK_EVERY
        };
        drop(guard);
    }
    drain::catch_up();
}

/// Bytes in the bins, on the stacks, and in batches in the making, of the classes in which there were strays.
///
/// # Safety
/// The caller is the heap's thread and holds its lock.
unsafe fn held(heap: *mut Heap) -> usize {
    let mut bytes = 0;
    // SAFETY: the caller's promise.
    unsafe {
        for class in 1..CLASSES {
            if !(*heap).mixed.has(class) && !(*heap).gathered.has(class) {
                continue;
            }
            let stacked = (*shared(heap)).spare[class].blocks as usize;
            let blocks = Bin::count(heap, class) + Out::count(heap, class) + stacked;
            bytes += blocks * size_class::size(class);
        }
    }
    bytes
}

/// Sends home the blocks of idle heaps, and what lies among them of the heap's own; answers the bytes.
///
/// # Safety
/// The caller is the heap's thread and holds its lock.
unsafe fn send_home(heap: *mut Heap) -> usize {
    let mut rows = Rows::NONE;
    let mut went = 0;
    // SAFETY: the caller's promises.
    unsafe {
        for class in 1..CLASSES {
            if (*heap).gathered.has(class) && Out::owner(heap, class).is_some_and(is_idle) {
                let (gathered, count) = Out::take(heap, class);
                for i in 0..count {
                    let block = *gathered.add(i);
                    rows.add(DIRECTORY.tag(block as usize).owner(), block, heap);
                }
                went += count * size_class::size(class);
            }
            if (*heap).mixed.has(class) {
                went += rows.sift_class(heap, class) * size_class::size(class);
            }
        }
        rows.visit_all(heap);
    }
    went
}
