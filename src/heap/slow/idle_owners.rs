//! Blocks of other heaps in the bins of a thread, and when those of idle heaps return to their owners.
//!
//! A thread keeps the blocks of others that it frees, since it may need some soon: if it takes as many as it frees, no other
//! thread has to handle them. A thread that only frees needs none, and a few free blocks from each of hundreds of slabs keep all
//! of those resident. A ninth thread that freed all that eight others handed on, a thousand blocks each, successor after
//! successor, held 1.6 of 2 MiB in bins and on stacks, which pinned 6.
//!
//! So a thread that frees blocks of others looks now and then whether its bins grew by what came while it took nothing. If so,
//! the blocks whose owner is idle return to their slabs, in one visit to an owner for all classes, and with them the
//! thread's own. Blocks of live owners stay: their owners use the slabs, and get the blocks back in full batches.

use crate::base::size_class::{self, Class};
use crate::base::tuning::others_blocks::{SEARCH_EVERY, SEARCH_LESS, SEARCH_SELDOM};
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::state::Outbox;
use crate::heap::slow::in_person::{Rows, is_idle};
use crate::heap::upkeep::maintain;
use crate::os::sys::ErrnoGuard;
use crate::slab::directory::DIRECTORY;

/// Notes that a block of another heap, of `class`, comes into the bin.
///
/// # Safety
/// `heap` is the calling thread's, and no lock is held.
#[inline(always)]
pub(crate) unsafe fn came(heap: HeapRef, class: Class) {
    // SAFETY: the thread's own.
    unsafe {
        let known = &raw mut (*heap.ptr()).idle_owners;
        (*known).left -= size_class::size(class) as isize;
        if (*known).left < 0 {
            look(heap);
        }
    }
}

/// Notes that the thread needed blocks.
///
/// # Safety
/// `heap` is the calling thread's.
#[inline(always)]
pub(crate) unsafe fn took(heap: HeapRef) {
    // SAFETY: the thread's own.
    unsafe {
        (*heap.ptr()).idle_owners.looks = 0;
    }
}

/// Notes that `blocks` of `class` returned for lack of room.
///
/// # Safety
/// `heap` is the calling thread's.
pub(crate) unsafe fn returned(heap: HeapRef, class: Class, blocks: u32) {
    // SAFETY: the thread's own.
    unsafe { (*heap.ptr()).idle_owners.returned += blocks as usize * size_class::size(class) };
}

#[cold]
#[inline(never)]
unsafe fn look(heap: HeapRef) {
    // SAFETY: the thread's own; the caller's promises.
    unsafe {
        let known = &raw mut (*heap.ptr()).idle_owners;
        (*known).looks = (*known).looks.saturating_add(1);
        if (*known).looks == 1 {
            // A thread that also needs blocks is looked at less often.
            (*known).look_at = ((*known).look_at * 2).clamp(SEARCH_EVERY, SEARCH_LESS);
        } else {
            look_closely(heap, (*known).looks == 2);
        }
        (*known).left = (*known).look_at as isize;
    }
}

/// Returns foreign blocks if the bins grew by most of what came since the last look. The `first` look has nothing to compare.
///
/// # Safety
/// As for [`came`].
unsafe fn look_closely(heap: HeapRef, first: bool) {
    let _errno = ErrnoGuard::new();
    // The lock is held to the end, so that no fork freezes the thread with blocks in its hands; other heaps' locks are only tried
    // (ranks).
    let mut held = heap.lock();
    // SAFETY: the caller's promises.
    unsafe {
        let known = &raw mut (*heap.ptr()).idle_owners;
        let (came, before) = ((*known).look_at, (*known).held);
        let returned = core::mem::take(&mut (*known).returned);
        (*known).held = bytes_held(&mut held);
        if first {
            return;
        }
        let grew = (*known).held + returned >= before.saturating_add(came / 4 * 3);
        if !grew {
            (*known).look_at = if came > SEARCH_LESS {
                came / 2
            } else {
                (came * 2).min(SEARCH_LESS)
            };
            return;
        }
        let went = return_blocks(&mut held);
        (*known).held -= went;
        (*known).look_at = if went < came / 2 {
            (came * 2).min(SEARCH_SELDOM)
        } else {
            SEARCH_EVERY
        };
    }
    held.unlock().run();
    maintain::wake_if_noted();
}

/// Bytes in the bins, stacks and outboxes of the classes in which there were foreign blocks.
///
/// # Safety
/// The caller is the heap's thread.
unsafe fn bytes_held(heap: &mut HeldHeap) -> usize {
    let mut bytes = 0;
    // SAFETY: the caller's promise.
    unsafe {
        for class in Class::all() {
            if !heap.heap().mixed.has(class) && !heap.heap().gathered.has(class) {
                continue;
            }
            let stacked = heap.stacks[class].blocks as usize;
            let blocks =
                Bin::count(heap.heap(), class) + Outbox::count(heap.heap(), class) + stacked;
            bytes += blocks * size_class::size(class);
        }
    }
    bytes
}

/// Returns the blocks of idle heaps to their slabs, and the heap's own among them. The result is their bytes.
///
/// # Safety
/// The caller is the heap's thread.
unsafe fn return_blocks(heap: &mut HeldHeap) -> usize {
    let mut rows = Rows::NONE;
    let mut went = 0;
    // SAFETY: the caller's promises.
    unsafe {
        for class in Class::all() {
            if heap.heap().gathered.has(class)
                && Outbox::owner(heap.heap(), class).is_some_and(is_idle)
            {
                let (gathered, count) = Outbox::take(heap.heap(), class, usize::MAX);
                for i in 0..count {
                    let block = *gathered.add(i);
                    rows.add(DIRECTORY.tag(block as usize).owner(), block, heap);
                }
                went += count * size_class::size(class);
            }
            if heap.heap().mixed.has(class) {
                went += rows.sift_class(heap, class) * size_class::size(class);
            }
        }
        rows.visit_all(heap);
    }
    went
}
