//! Frees of blocks that are another heap's.

use crate::base::size_class::{self, Class};
use crate::base::tuning::heap_cache::{TURN_AFTER, TURN_LATEST, TURN_WORTH};
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::state::{Outbox, batch_limit};
use crate::heap::home::{drain, post};
use crate::heap::slow::{idle_owners, push, watch};
use crate::heap::upkeep::maintain;
use crate::os::sys::ErrnoGuard;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::Tag;
use crate::slab::report;
use core::{ptr, slice};

/// A free of a block that belongs to another heap, by a thread that has one. While blocks of a third heap are gathered, the
/// block goes into the bin, and is sorted by owner on its way back. If many of one owner come in a row, as when the thread frees
/// what a message brought, the outbox makes way for them.
///
/// # Safety
/// `heap` is the calling thread's; `block`, tagged `tag`, is the caller's to give.
#[inline]
pub(crate) unsafe fn free_foreign(block: *mut Block, heap: HeapRef, tag: Tag) {
    let class = tag.class();
    // SAFETY: the thread's own; the caller's promise.
    unsafe {
        if Outbox::owner(heap, class).is_none_or(|owner| owner == tag.owner()) {
            return gather_end(block, heap, tag);
        }
        if Outbox::turns_to(heap, class, tag.owner()) {
            return make_way(block, heap, tag);
        }
        put_in_bin(block, heap, class);
    }
}

/// Puts a block of another heap into the bin.
///
/// # Safety
/// `heap` is the calling thread's; `block`, of `class`, is the caller's to give.
#[inline(always)]
unsafe fn put_in_bin(block: *mut Block, heap: HeapRef, class: Class) {
    heap.mixed.add(class);
    // SAFETY: the caller's promises.
    unsafe {
        idle_owners::came(heap, class);
        push::push_foreign(heap, block, class);
    }
}

/// Gathers a block for whose owner the outbox is emptied. What it holds is posted, or goes into the bin if it is too little for a
/// message; then the next outbox is emptied later.
///
/// # Safety
/// As for [`free_foreign`]. The outbox is another owner's.
#[inline(never)]
unsafe fn make_way(block: *mut Block, heap: HeapRef, tag: Tag) {
    let class = tag.class();
    // SAFETY: the thread's own. Nothing is gathered until the places that the outbox gave up are read.
    unsafe {
        let owner = Outbox::owner(heap, class).unwrap_or(tag.owner());
        let (from, count) = Outbox::take(heap, class, usize::MAX);
        let wait = &mut (*heap.ptr()).idle_owners.turn.wait;
        if count >= TURN_WORTH.min(batch_limit(class)) {
            *wait /= 2;
            let _errno = ErrnoGuard::new();
            let batch = Batch::of(from.add(count - 1), count, size_class::size(class));
            post_now(owner, batch).run();
            // Before the maintenance thread may be started, for the reason given below.
            gather_end(block, heap, tag);
            return maintain::wake_if_noted();
        }
        *wait = (*wait + TURN_AFTER).min(TURN_LATEST);
        let mut few = [ptr::null_mut(); TURN_WORTH];
        ptr::copy_nonoverlapping(from, few.as_mut_ptr(), count);
        // A block that finds the bin full, or is looked at, may start the maintenance thread. The C library may then free what
        // ended threads left, which is gathered where these blocks were.
        gather_end(block, heap, tag);
        for &few in few.iter().take(count) {
            put_in_bin(few, heap, class);
        }
    }
}

/// Gathers a block that is the first or fills the batch, which is posted then. A function of its own, so that the one before needs
/// no registers saved.
///
/// # Safety
/// As for [`free_foreign`], and nothing of a third heap is gathered.
#[inline(never)]
unsafe fn gather_end(block: *mut Block, heap: HeapRef, tag: Tag) {
    let class = tag.class();
    // SAFETY: the outbox is the thread's own; the caller's promises.
    unsafe {
        heap.gathered.add(class);
        if let Some(batch) = Outbox::add_end(heap, class, block, tag.owner()) {
            // Each run comes here, because it fills a batch alone.
            if size_class::is_run(class) {
                watch::run_freed(block, class);
            }
            let _errno = ErrnoGuard::new();
            post_now(tag.owner(), batch).run();
            maintain::wake_if_noted();
        }
    }
}

/// A free by a thread without a heap. Posts the block at once.
///
/// # Safety
/// `block`, tagged `tag`, is the caller's to give; no lock is held.
#[inline(never)]
pub(crate) unsafe fn post_single(block: *mut Block, tag: Tag) {
    // SAFETY: the caller's promise.
    unsafe {
        let class = tag.class();
        if size_class::is_run(class) {
            watch::run_freed(block, class);
        } else {
            report::unless_all_start(slice::from_ref(&block), class);
        }
        let batch = Batch::of(&raw const block, 1, size_class::size(class));
        post_now(tag.owner(), batch).run();
    }
}

/// Posts a batch, and drains its owner's inbox if nobody else may.
///
/// # Safety
/// The caller owns the batch.
unsafe fn post_now(owner: u32, batch: Batch) -> Errands {
    // SAFETY: the caller's promises.
    unsafe { post::post(owner, batch) }.map_or(Errands::NONE, drain::try_drain)
}
