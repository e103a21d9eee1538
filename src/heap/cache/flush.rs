//! When the free blocks on the stacks, between bins and slabs, return to their slabs.
//!
//! A full bin's blocks go onto the stack (`stack`), and an empty bin is filled from it. Two bounds say how many may stay. By
//! class: the limit starts small, grows by what was returned if a refill then misses it, and shrinks by what a period of use
//! never needed. By heap (`budget`): if its slabs and magazines hold far more than is live, and more than the program needed
//! again, blocks kept here would pin nearly empty slabs. Then the class keeps an eighth of what is live or a few blocks, in its
//! bin too, so that little stays behind for long after everything has been freed.

use crate::base::size_class::{self, Class};
use crate::base::tuning::heap_cache::{AT_ONCE, CLASS_MOST};
use crate::heap::cache::budget::first_limit;
use crate::heap::cache::{budget, stack};
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::HeldHeap;
use crate::heap::data::state::Outbox;
use crate::heap::home::sorter::Sorter;
use crate::heap::home::{drain, open};
use crate::slab::batch;

/// Takes a batch off the stack, or up to `most` blocks from magazines or the shelf, and returns them to their slabs. The result is
/// how many.
pub(crate) fn return_blocks(
    heap: &mut HeldHeap,
    class: Class,
    most: u32,
    sorter: &mut Sorter,
) -> u32 {
    // SAFETY: there is room. Nothing that happens to the blocks uses this heap's scratch: other heaps open batches in
    // their own.
    unsafe {
        let first = heap.scratch();
        let count = stack::take(heap, class, first, (most as usize).min(batch::MOST));
        open::blocks(heap, first, count, class, sorter);
        count as u32
    }
}

/// Returns a batch of what the stack holds beyond `keep` blocks to its slabs, and counts it as returned. The result is how many
/// went.
pub(crate) fn send_surplus(
    heap: &mut HeldHeap,
    class: Class,
    keep: u32,
    sorter: &mut Sorter,
) -> u32 {
    let surplus = heap.stacks[class].blocks - keep;
    let gone = return_blocks(heap, class, surplus, sorter);
    let stack = &mut heap.stacks[class];
    stack.walked = stack.walked.saturating_add(gone);
    gone
}

/// Bounds a class whose stack grew through the inbox. [`first_limit`] blocks stay whatever the heap holds: its thread seems to
/// need blocks, and each message would otherwise return by itself.
pub(crate) fn bound_by_limit(heap: &mut HeldHeap, class: Class, sorter: &mut Sorter) {
    let least = first_limit(class);
    if heap.stacks[class].blocks <= least {
        return;
    }
    let share = budget::share(heap, class);
    let limit = heap.stacks[class].limit;
    let keep = limit.min(share.stack).max(least);
    let before = heap.stacks[class].blocks.min(limit);
    let until = heap.stacks[class].blocks.saturating_sub(AT_ONCE);
    while heap.stacks[class].blocks > keep.max(until) && send_surplus(heap, class, keep, sorter) > 0
    {
    }
    if share.stack < limit {
        let gone = before.saturating_sub(heap.stacks[class].blocks);
        budget::cut(heap, class, gone);
    }
}

/// Notes that a refill needs `want` blocks from the slabs. Blocks of the class returned before were missed: it may keep more.
pub(crate) fn missed(heap: &mut HeldHeap, class: Class, want: usize) {
    budget::missed(heap, class, want);
    let stack = &mut heap.stacks[class];
    let walked = stack.walked;
    // A small process has no stacks: its refills leave their memory unwritten.
    if walked == 0 {
        return;
    }
    stack.walked = 0;
    // The pool has the memory of a run for any class that wants it, and retains as much as the program takes again.
    if !size_class::is_run(class) {
        let most = (CLASS_MOST / size_class::size(class)) as u32;
        stack.limit = stack
            .limit
            .saturating_add(walked)
            .min(stack.limit.saturating_mul(64))
            .max(stack.limit.saturating_mul(4))
            .max(first_limit(class))
            .min(most);
    }
}

/// Bounds a bin to `most` blocks. The oldest beyond that go onto the stack; all do if it lies in a magazine, which it then
/// leaves.
///
/// # Safety
/// The caller is the heap's thread.
pub(crate) unsafe fn bound_bin(heap: &mut HeldHeap, class: Class, most: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        if Bin::limit(heap.heap(), class) <= most as usize {
            return;
        }
        let count = Bin::count(heap.heap(), class);
        if count > most as usize {
            let keep = match Bin::magazine(heap.heap(), class) {
                Some(_) => 0,
                None => most as usize,
            };
            stack::put_oldest(heap, class, count - keep);
        }
        if Bin::count(heap.heap(), class) == 0 {
            stack::leave_magazine(heap, class, most as usize);
        } else {
            Bin::set_limit(heap.heap(), class, most as usize);
        }
    }
}

/// Returns everything on the heap's stacks to its slabs, and gives back its empty magazines.
pub(crate) fn flush_all(heap: &mut HeldHeap, sorter: &mut Sorter) {
    for class in Class::all() {
        flush(heap, class, sorter);
    }
    stack::give_empties(heap);
}

/// Returns the stack of one class to its slabs.
pub(crate) fn flush(heap: &mut HeldHeap, class: Class, sorter: &mut Sorter) {
    while return_blocks(heap, class, u32::MAX, sorter) > 0 {}
}

/// Returns the stack of one class to its slabs, with a sorter of its own.
#[cold]
#[inline(never)]
pub(crate) fn return_stack(heap: &mut HeldHeap, class: Class) {
    let mut sorter = Sorter::new(heap, true);
    flush(heap, class, &mut sorter);
    drain::post_all(heap, &mut sorter);
}

/// Returns the stack and the bin of one class to their slabs.
///
/// # Safety
/// The caller is the heap's thread.
pub(crate) unsafe fn empty(heap: &mut HeldHeap, class: Class, sorter: &mut Sorter) {
    // SAFETY: the caller's promise.
    unsafe {
        let limit = Bin::limit(heap.heap(), class);
        bound_bin(heap, class, 0);
        // Later frees of the class should not take the slow path each time.
        Bin::set_limit(heap.heap(), class, limit);
        flush(heap, class, sorter);
    }
}

/// What one call of [`shrink_unneeded`] did.
pub(crate) struct Shrunk {
    pub(crate) blocks: u32,
    pub(crate) bytes: usize,
    /// All classes have been looked at. If not, the next call goes on.
    pub(crate) done: bool,
}

/// Returns what the stacks did not need for a whole period, about `most` blocks at a time.
pub(crate) fn shrink_unneeded(heap: &mut HeldHeap, most: u32, sorter: &mut Sorter) -> Shrunk {
    let mut shrunk = Shrunk {
        blocks: 0,
        bytes: 0,
        done: true,
    };
    for class in core::mem::replace(&mut heap.shrinking, Class::NONE).onward() {
        let mut surplus = heap.stacks[class].low.min(heap.stacks[class].blocks);
        let mut gone = 0;
        while surplus > gone && shrunk.blocks + gone < most {
            match return_blocks(heap, class, surplus - gone, sorter) {
                0 => surplus = 0,
                some => gone += some,
            }
        }
        if gone > 0 {
            let limit = heap.stacks[class].limit.saturating_sub(gone);
            heap.stacks[class].limit = limit.max(first_limit(class));
        }
        shrunk.blocks += gone;
        shrunk.bytes += gone as usize * size_class::size(class);
        if surplus > gone {
            heap.stacks[class].low = (surplus - gone).min(heap.stacks[class].blocks);
            heap.shrinking = class;
            shrunk.done = false;
            break;
        }
        heap.stacks[class].low = heap.stacks[class].blocks;
    }
    budget::unneeded(heap, shrunk.bytes);
    if shrunk.done {
        budget::looked(heap);
        stack::shrink_empties(heap);
    }
    shrunk
}

/// Returns what is in the heap's bins and outboxes to its slabs.
///
/// # Safety
/// `heap`'s thread gives it up, or is gone.
pub(crate) unsafe fn flush_private(heap: &mut HeldHeap, sorter: &mut Sorter) {
    for class in Class::all() {
        // SAFETY: nobody else uses the private part.
        unsafe {
            flush_bin(heap, class, sorter);
            if heap.heap().gathered.has(class) {
                let (gathered, count) = Outbox::take(heap.heap(), class, usize::MAX);
                open::blocks(heap, gathered, count, class, sorter);
            }
        }
    }
}

/// Returns the bin of one class to its slabs.
///
/// # Safety
/// As for [`flush_private`].
pub(crate) unsafe fn flush_bin(heap: &mut HeldHeap, class: Class, sorter: &mut Sorter) {
    // SAFETY: nobody else uses the bin.
    unsafe {
        let count = Bin::count(heap.heap(), class);
        Bin::set_count(heap.heap(), class, 0);
        open::blocks(heap, Bin::first(heap.heap(), class), count, class, sorter);
        stack::leave_magazine(heap, class, 0);
    }
}
