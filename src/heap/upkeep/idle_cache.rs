//! What an idle heap keeps, so that threads that come one after another find in their bins the blocks that the last one left. The
//! last one need not return them, and the next one need not fetch them, class by class and line by line.
//!
//! Two bounds hold, for each heap and for all idle ones together, in bytes of the OS pages held besides blocks in use. A heap within
//! its bound stays as it is. One beyond it returns its bins and stacks, and keeps a few empty slabs at most. So does one to which
//! more comes back than it may keep (`rest::recount`), at the next slow path of any thread. What no thread came for between two looks
//! a purge delay apart returns to its slabs as well.

use crate::base::tuning::idle_heaps::{LEAST, MOST, MOST_EACH, PER_LOOK};
use crate::heap::cache::{budget, flush};
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::rest::{EMPTY, LOOKED, SLABS, WHOLE};
use crate::heap::data::state::Outbox;
use crate::heap::data::{registry, rest, torn};
use crate::heap::home::sorter::Sorter;
use crate::heap::home::{drain, open};
use crate::heap::slabs::slabs;
use crate::heap::upkeep::settle;
use crate::knobs;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// When idle heaps were last looked at.
static LOOKED_MS: AtomicU64 = AtomicU64::new(0);

/// What [`end`] finishes once the heap is idle.
#[must_use]
pub(crate) enum Ended {
    Whole { held: usize },
    Returned,
}

/// Empties the warm idle heap that was left longest ago if one more might be too many: the heap that is about to become idle is
/// adopted first. No lock may be held.
pub(crate) fn evict_oldest() {
    if rest::kept() + MOST_EACH <= MOST {
        return;
    }
    if let Some(heap) = registry::take_oldest_warm(|_| true) {
        evict(heap);
    }
}

/// Empties warm idle heaps to which more came back than they may keep. No lock may be held.
#[inline]
pub(crate) fn evict_over() {
    if rest::take_any_over() {
        evict_all_over();
    }
}

#[cold]
#[inline(never)]
fn evict_all_over() {
    while let Some(heap) = registry::take_oldest_warm(rest::is_over) {
        evict(heap);
    }
}

/// Empties a warm idle heap that was taken off its list, and publishes it again.
fn evict(heap: HeapRef) {
    // It is idle and in no list, so nobody adopts it meanwhile.
    let held = heap.lock();
    heap.rest.store(LOOKED, Relaxed);
    // A poster that finds the lock held goes away, and `settle` may not get it.
    let mut errands = drain::release(held);
    errands.add(settle::settle(heap));
    // SAFETY: see above.
    unsafe { registry::publish_idle(heap) };
    rest::note_over(heap);
    errands.run();
}

/// Prepares a heap whose thread ends: foreign blocks return to their slabs, and its own if it holds more than an idle heap may.
///
/// # Safety
/// The heap's thread gives it up, or is gone. [`end`] follows under the same hold of it.
pub(crate) unsafe fn begin(heap: &mut HeldHeap, sorter: &mut Sorter) -> Ended {
    // SAFETY: the caller's promises.
    unsafe {
        budget::forget(heap);
        send_foreign(heap, sorter);
        let mut unused = rest::unused(heap);
        if rest::free_bytes(heap, unused) > MOST_EACH {
            forget(heap);
            slabs::retire_empty(heap);
            flush::flush_all(heap, sorter);
            unused = rest::unused(heap);
        }
        heap.unused = unused;
        let held = rest::free_bytes(heap, unused).max(LEAST);
        if rest::reserve(0, held) {
            // What comes back until the heap is idle stays with it as well: it is counted.
            heap.keep_left = usize::MAX;
            return Ended::Whole { held };
        }
        // What earlier threads left and later ones did not use must not pile up.
        forget(heap);
        slabs::retire_empty(heap);
        heap.keep_left = rest::reserve_rest();
        return_blocks(heap, sorter);
        Ended::Returned
    }
}

/// The heap is idle, and its inbox was drained. From here on, slabs that run empty go back to the pool.
pub(crate) fn end(heap: &mut HeldHeap, ended: Ended) {
    let left = core::mem::take(&mut heap.keep_left);
    match ended {
        // Other heaps take no slabs over from a warm heap: its bins would then hold foreign blocks.
        Ended::Whole { held } => {
            heap.kept = held;
            heap.heap().rest.store(WHOLE, Relaxed);
            rest::recount(heap);
        }
        Ended::Returned => {
            rest::release(left);
            slabs::note_idle_classes(heap);
            if heap.kept > 0 {
                heap.heap().rest.store(SLABS, Relaxed);
            }
        }
    }
}

/// Returns what the thread holds of others: its outboxes, and the bins and stacks in which such blocks may lie.
unsafe fn send_foreign(heap: &mut HeldHeap, sorter: &mut Sorter) {
    // SAFETY: no thread uses the private part.
    unsafe {
        for class in heap.heap().gathered.take() {
            let (gathered, count) = Outbox::take(heap.heap(), class, usize::MAX);
            open::blocks(heap, gathered, count, class, sorter);
        }
        for class in heap.heap().mixed.take() {
            flush::flush_bin(heap, class, sorter);
            flush::flush(heap, class, sorter);
        }
    }
}

/// Returns what is in the bins and on the stacks to its slabs.
unsafe fn return_blocks(heap: &mut HeldHeap, sorter: &mut Sorter) {
    // SAFETY: no thread uses the private part.
    unsafe {
        flush::flush_private(heap, sorter);
        flush::flush_all(heap, sorter);
        heap.heap().rest.store(EMPTY, Relaxed);
    }
}

/// What an idle heap kept no longer counts: a thread has adopted it, or it is about to be emptied.
pub(crate) fn forget(heap: &mut HeldHeap) {
    heap.heap().rest.store(EMPTY, Relaxed);
    rest::release(core::mem::take(&mut heap.kept));
}

/// Looks at an idle heap. At the second look, what was left in its bins and stacks returns to its slabs, and every empty slab
/// goes back to the pool. Kept slabs alone go at the first.
///
/// # Safety
/// The heap is idle. Then no thread uses the private part: one that ended has released the lock, and one that adopts the heap takes
/// it first.
pub(crate) unsafe fn look(heap: &mut HeldHeap, sorter: &mut Sorter) {
    let (rest, torn) = (&heap.heap().rest, &heap.heap().torn);
    if rest.load(Relaxed) == WHOLE && !torn.load(Relaxed) {
        rest.store(LOOKED, Relaxed);
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { empty(heap, sorter) };
}

/// Whether an idle heap keeps anything in its bins or stacks, or slabs for another thread.
pub(crate) fn keeps(heap: &HeldHeap) -> bool {
    heap.heap().rest.load(Relaxed) != EMPTY || heap.heap().torn.load(Relaxed)
}

/// Returns all that an idle heap keeps, and notes in which classes its slabs have room.
///
/// # Safety
/// As for [`look`].
pub(crate) unsafe fn empty(heap: &mut HeldHeap, sorter: &mut Sorter) {
    // A thread that a fork left behind may have learnt.
    budget::forget(heap);
    if torn::was_torn(heap) || heap.heap().rest.load(Relaxed) != EMPTY {
        // SAFETY: the caller's promise.
        unsafe { return_blocks(heap, sorter) };
    }
    forget(heap);
    rest::note_emptied();
    slabs::retire_empty(heap);
    slabs::note_idle_classes(heap);
}

/// Returns what idle heaps have kept for too long, and what they may not keep. No lock may be held.
pub(crate) fn decay(now: u64) {
    evict_over();
    let period = u64::from(knobs::get().purge_delay_ms).max(10);
    let last = LOOKED_MS.load(Relaxed);
    if rest::kept() == 0 || now.saturating_sub(last) < period {
        return;
    }
    // One of the threads that come at the same time looks. Relaxed: no data depends on it.
    if LOOKED_MS
        .compare_exchange(last, now, Relaxed, Relaxed)
        .is_err()
    {
        return;
    }
    let mut keeping = [None; PER_LOOK];
    let count = registry::keeping(&mut keeping);
    let mut errands = Errands::NONE;
    for heap in keeping[..count].iter().flatten() {
        if heap.attended().is_idle() {
            errands.add(settle::settle(*heap));
        }
    }
    errands.run();
}
