//! Moves what came into the inbox onto the stacks.

use crate::heap::cache::{flush, stack};
use crate::heap::data::heap::{Heap, shared};
use crate::heap::home::open;
use crate::heap::home::sorter::Sorter;

/// Whether there is anything in the inbox, or taken from it and not yet opened.
pub(crate) unsafe fn has_post(heap: *mut Heap) -> bool {
    // SAFETY: the caller holds the lock.
    unsafe { (*shared(heap)).pending.is_some() || !(*heap).inbox.is_empty() }
}

/// Puts up to `most` batches from the inbox onto the stacks, still closed: only their headers are read. Bounds each stack that
/// grew.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn open_pending(heap: *mut Heap, most: usize, sorter: &mut Sorter) {
    // SAFETY: the caller's promise; batches in the inbox were given up by those who posted them.
    unsafe {
        let part = shared(heap);
        for _ in 0..most {
            if (*part).pending.is_none() {
                open::gather_pending(heap);
            }
            let Some((batch, class)) = open::next_pending(heap) else {
                return;
            };
            (*part).drained += 1;
            // The batch may hold blocks that are another heap's by now, which are found when it is opened.
            if (*part).taken_from.has(class) {
                (*heap).mixed.add(class);
            }
            stack::push(heap, class, batch);
            flush::bound_by_limit(heap, class, sorter);
        }
    }
}
