//! Emptying inboxes, also those that nobody else empties.

use crate::heap::data::heap::{Heap, attended, shared};
use crate::heap::data::registry;
use crate::heap::home::sorter::Sorter;
use crate::heap::home::{open, post};
use crate::heap::slabs::{holes, slabs};
use crate::os::lock::Guard;
use crate::pool;
use crate::slab::depot::DEPOT;
use core::sync::atomic::{AtomicBool, Ordering};

/// Posts everything that `sorter` gathered, and drains the inboxes that nobody else drains.
///
/// # Safety
/// The caller holds the lock of the sorter's heap, has held it since the first block was added, and holds no other.
pub(crate) unsafe fn post_all(sorter: &mut Sorter) {
    // SAFETY: the caller's promises.
    unsafe {
        sorter.post_all();
        for heap in sorter.take_unattended() {
            try_drain(heap);
        }
    }
}

/// Drains a heap's inbox on its behalf, unless its lock is held. Does not recurse: blocks that turn out to be foreign are
/// posted onward and left there.
///
/// # Safety
/// The caller holds at most one other heap's lock.
pub(crate) unsafe fn try_drain(heap: *mut Heap) {
    // SAFETY: heaps live for ever; the guard is of this one's lock.
    unsafe { attended(heap).try_drain(|guard| drain_and_unlock(heap, guard)) };
}

/// Sends home what is in an inbox, and releases the lock.
///
/// # Safety
/// `guard` is of `heap`'s lock.
pub(crate) unsafe fn drain_and_unlock(heap: *mut Heap, guard: Guard<'_>) {
    // SAFETY: the lock is held until the guard goes.
    let over = unsafe {
        drain_locked(heap);
        if attended(heap).is_idle() {
            slabs::note_idle_classes(heap);
        }
        holes::show(shared(heap));
        core::mem::take(&mut (*shared(heap)).over_bound)
    };
    drop(guard);
    if over {
        // The caller may hold a lock of its own, so `catch_up` does the trimming.
        OVER.store(true, Ordering::Relaxed);
    }
}

/// To be called after releasing the lock of a heap that may be idle (`Attended::look_again`).
///
/// # Safety
/// The caller does not hold `heap`'s lock.
pub(crate) unsafe fn look_again(heap: *mut Heap) {
    // SAFETY: heaps live for ever; the guard is of this one's lock.
    unsafe { attended(heap).look_again(|guard| drain_and_unlock(heap, guard)) };
}

/// Memory was freed on another heap's behalf, beyond the pool's bound.
static OVER: AtomicBool = AtomicBool::new(false);

/// Does what was left undone under locks. No lock may be held.
pub(crate) fn catch_up() {
    if post::take_left() {
        for heap in registry::all() {
            // SAFETY: heaps live for ever; no lock is held.
            unsafe {
                if attended(heap).is_idle() {
                    try_drain(heap);
                }
            }
        }
    }
    if OVER.load(Ordering::Relaxed) && OVER.swap(false, Ordering::Relaxed) {
        pool::trim();
    }
    DEPOT.catch_up();
}

/// Sends home everything in the inbox and among the pending batches.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn drain_locked(heap: *mut Heap) {
    // SAFETY: the caller's promise; posted batches are nobody else's.
    unsafe {
        let mut sorter = Sorter::new(heap, false);
        open::each_pending(heap, |batch, class| {
            (*shared(heap)).drained += 1;
            open::batch(heap, batch, class, &mut sorter);
        });
        sorter.post_all();
    }
}
