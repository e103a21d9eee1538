//! Messages to other heaps: batches of their blocks.

use crate::base::size_class;
use crate::heap::data::heap::{Heap, attended};
use crate::heap::data::left_over::LeftOver;
use crate::heap::data::registry;
use crate::heap::data::state::batch_limit;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::tell::Report;

/// Bytes in an inbox, about, from which the poster tries to drain it itself: its owner seems to sleep, or does not allocate.
const LARGE_INBOX: usize = 512 << 10;

/// Posts a batch to its owner. Returns that heap if it is idle or its inbox is large, so that nobody may come for the batch. Then
/// the caller drains the inbox, or notes that a batch is left ([`leave`]).
///
/// # Safety
/// The caller owns the batch.
#[must_use]
pub(crate) unsafe fn post(owner: u32, batch: Batch) -> Option<*mut Heap> {
    // SAFETY: tags name heaps that exist, and heaps live for ever.
    unsafe {
        let heap = registry::heap(owner);
        if heap.is_null() {
            Report::of(format_args!(
                "block {:p}: its slab names a heap that does not exist",
                batch.head()
            ))
            .end();
        }
        let class = class_of(batch.head());
        let each = batch_limit(class) * size_class::size(class);
        let posted = attended(heap).post(batch);
        (posted.nobody_comes || posted.waiting * each >= LARGE_INBOX).then_some(heap)
    }
}

/// A batch was posted to a heap that nobody comes for, by a thread that could not drain it.
static LEFT: LeftOver = LeftOver::new();

/// Notes that some idle heap may hold batches that nobody opened ([`LeftOver::leave`]).
pub(crate) fn leave() {
    LEFT.leave();
}

/// Whether a batch was left since the last call. If so, the caller opens the inboxes of all idle heaps.
#[must_use]
pub(crate) fn take_left() -> bool {
    LEFT.take()
}

/// The class of a freed block.
pub(crate) fn class_of(block: *mut Block) -> usize {
    let class = DIRECTORY.tag(block as usize).class();
    if class == 0 || class >= size_class::CLASSES {
        Report::of(format_args!(
            "block {block:p}: in a free list, but not a block; something wrote to freed memory"
        ))
        .end();
    }
    class
}
