//! Messages to other heaps: batches of their blocks.

use crate::base::size_class::{self, Class};
use crate::base::tuning::others_blocks::LARGE_INBOX;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::registry;
use crate::heap::data::state::batch_limit;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::tell::Report;

/// Posts a batch to its owner. Returns that heap if it is idle or its inbox is large, so that nobody may come for the batch. Then
/// the caller drains the inbox, or leaves that to its errands.
///
/// # Safety
/// The caller owns the batch.
#[must_use]
pub(crate) unsafe fn post(owner: u32, batch: Batch) -> Option<HeapRef> {
    // SAFETY: tags name heaps that exist, and heaps live for ever.
    unsafe {
        let Some(heap) = registry::heap(owner) else {
            Report::of(format_args!(
                "block {:p}: its slab names a heap that does not exist",
                batch.head()
            ))
            .end();
        };
        let class = class_of(batch.head());
        let each = batch_limit(class) * size_class::size(class);
        let posted = heap.attended().post(batch);
        (posted.nobody_comes || posted.waiting * each >= LARGE_INBOX).then_some(heap)
    }
}

/// The class of a freed block.
pub(crate) fn class_of(block: *mut Block) -> Class {
    let class = DIRECTORY.tag(block as usize).class();
    if !class.has_blocks() {
        Report::of(format_args!(
            "block {block:p}: in a free list, but not a block; something wrote to freed memory"
        ))
        .end();
    }
    class
}
