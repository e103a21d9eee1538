//! What an idle heap keeps: its bins and stacks as its thread left them or not (`Heap::rest`), and how many bytes besides blocks in
//! use all idle heaps keep together.

use crate::base::size_class::{self, Class};
use crate::base::tuning::idle_heaps::{MOST, MOST_EACH};
use crate::base::units::SLOT;
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use core::sync::atomic::Ordering::{self, Relaxed};
use core::sync::atomic::{AtomicBool, AtomicUsize};

/// An idle heap's bins and stacks are empty, or a thread has the heap.
pub(crate) const EMPTY: u8 = 0;
/// They were left as they are.
pub(crate) const WHOLE: u8 = 1;
/// They were left as they are, and were looked at once.
pub(crate) const LOOKED: u8 = 2;
/// They were left as they are, and so much came back since that the heap keeps more than it may.
pub(crate) const OVER: u8 = 3;
/// They are empty, but empty slabs were kept.
pub(crate) const SLABS: u8 = 4;

/// Bytes that all idle heaps keep together: the sum of every `Shared::kept`, and of what is reserved for heaps about to be
/// idle. Approximate while one changes, and it publishes nothing, so Relaxed.
static KEPT: AtomicUsize = AtomicUsize::new(0);
/// Some listed heap may be [`OVER`]. Release and Acquire, as below: whoever takes the word sees which.
static ANY_OVER: AtomicBool = AtomicBool::new(false);
/// Some heap may have been emptied that is in the list of warm ones.
static ANY_EMPTIED: AtomicBool = AtomicBool::new(false);

/// Whether an idle heap's bins and stacks were left as they are. A hint to all but the holder of its lock.
pub(crate) fn is_warm(heap: HeapRef) -> bool {
    (WHOLE..=OVER).contains(&heap.rest.load(Relaxed))
}

pub(crate) fn is_over(heap: HeapRef) -> bool {
    heap.rest.load(Relaxed) == OVER
}

/// Bytes that all idle heaps keep.
pub(crate) fn kept() -> usize {
    KEPT.load(Relaxed)
}

/// Reserves `bytes` more for a heap that keeps `kept`, if it may keep as much.
pub(crate) fn reserve(kept: usize, bytes: usize) -> bool {
    let more = |all: usize| Some(all + bytes).filter(|&all| all <= MOST);
    kept + bytes <= MOST_EACH && KEPT.fetch_update(Relaxed, Relaxed, more).is_ok()
}

/// Reserves what is left for one heap, and returns how much that is.
pub(crate) fn reserve_rest() -> usize {
    let left = |all: usize| MOST_EACH.min(MOST.saturating_sub(all));
    let was = KEPT.fetch_update(Relaxed, Relaxed, |all| Some(all + left(all)));
    // It never refuses.
    left(was.unwrap_or(MOST))
}

pub(crate) fn release(bytes: usize) {
    KEPT.fetch_sub(bytes, Relaxed);
}

/// Bytes of OS pages that the heap's slabs and magazines hold besides the blocks that others have, about. A slab begins and ends
/// within a page: 2 KiB more a slot. `unused` are the bytes of its blocks in bins and on stacks.
pub(crate) fn free_bytes(heap: &HeldHeap, unused: usize) -> usize {
    let held = heap.carved_bytes + heap.slab_bytes / SLOT * 2048 + heap.empties.held_bytes();
    let used = heap.allocated_bytes.saturating_sub(unused);
    held.saturating_sub(used)
}

/// Bytes of blocks in the heap's bins and on its stacks.
///
/// # Safety
/// No thread uses the private part.
pub(crate) unsafe fn unused(heap: &HeldHeap) -> usize {
    // SAFETY: the caller's promise.
    let count = |class| unsafe { Bin::count(heap.heap(), class) };
    let in_bins = Class::all().map(|class| count(class) * size_class::size(class));
    heap.stack_bytes + in_bins.sum::<usize>()
}

/// Blocks came back to the slabs of a heap, which may be idle. If it was left as it is, they count as kept.
#[inline]
pub(crate) fn recount(heap: &mut HeldHeap) {
    if matches!(heap.heap().rest.load(Relaxed), WHOLE | LOOKED) {
        recount_warm(heap);
    }
}

#[inline(never)]
fn recount_warm(heap: &mut HeldHeap) {
    let more = free_bytes(heap, heap.unused).saturating_sub(heap.kept);
    if more == 0 {
        return;
    }
    if reserve(heap.kept, more) {
        heap.kept += more;
    } else {
        heap.heap().rest.store(OVER, Relaxed);
        note_over(heap.heap());
    }
}

/// Says again that a heap may be [`OVER`], which was in no list meanwhile.
pub(crate) fn note_over(heap: HeapRef) {
    if is_over(heap) {
        ANY_OVER.store(true, Ordering::Release);
    }
}

/// Whether a listed heap may be [`OVER`]. Says so once.
#[inline]
pub(crate) fn take_any_over() -> bool {
    ANY_OVER.load(Relaxed) && ANY_OVER.swap(false, Ordering::Acquire)
}

/// A heap was emptied, which may be in the list of warm ones.
pub(crate) fn note_emptied() {
    ANY_EMPTIED.store(true, Ordering::Release);
}

/// Whether a heap in the list of warm ones may have been emptied. Says so once.
pub(crate) fn take_any_emptied() -> bool {
    ANY_EMPTIED.load(Relaxed) && ANY_EMPTIED.swap(false, Ordering::Acquire)
}
