//! Moves what came into the inbox onto the stacks.

use crate::heap::cache::{flush, stack};
use crate::heap::data::heap::HeldHeap;
use crate::heap::home::open;
use crate::heap::home::sorter::Sorter;

/// Whether there is anything in the inbox, or taken from it and not yet opened.
pub(crate) fn has_post(heap: &HeldHeap) -> bool {
    heap.pending.is_some() || !heap.heap().inbox.is_empty()
}

/// Puts up to `most` batches from the inbox onto the stacks, still closed: only their headers are read. Bounds each stack that
/// grew. What is posted after the inbox was taken is for the next call: the lock is not held for as long as others keep posting.
pub(crate) fn open_pending(heap: &mut HeldHeap, most: usize, sorter: &mut Sorter) {
    // SAFETY: batches in the inbox were given up by those who posted them.
    unsafe {
        let mut gathered = false;
        for _ in 0..most {
            if heap.pending.is_none() && !gathered {
                open::gather_pending(heap);
                gathered = true;
            }
            let Some((batch, class)) = open::next_pending(heap) else {
                return;
            };
            heap.drained += 1;
            // The batch may hold blocks that are another heap's by now, which are found when it is opened.
            if heap.taken_from.has(class) {
                heap.heap().mixed.add(class);
            }
            heap.fed.add(class);
            stack::push(heap, class, batch, batch.count());
            flush::bound_by_limit(heap, class, sorter);
        }
    }
}
