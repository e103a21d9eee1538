//! What a free does if its bin is full.

use crate::base::size_class::{self, Class};
use crate::base::tuning::heap_cache::AT_ONCE;
use crate::heap::cache::budget::{Share, first_limit};
use crate::heap::cache::flush::{bound_bin, send_surplus};
use crate::heap::cache::{budget, reclaim, stack};
use crate::heap::data::bin::{Bin, room};
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::home::sorter::Sorter;
use crate::heap::home::{drain, open};
use crate::heap::slow::{idle_owners, watch};
use crate::heap::upkeep::tick;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::report;
use core::ptr;

/// Handles a free that found the bin full. The older half of the bin goes onto the stack, so that a program that takes and
/// frees in turns does not come again soon. All of it goes if the class's last slow path was a free too.
///
/// # Safety
/// `heap` is the calling thread's; `block`, of `class`, which is none of runs, is the caller's to give.
pub(crate) unsafe fn overflow(heap: HeapRef, block: *mut Block, class: Class) {
    // SAFETY: bins are the thread's own; the rest is under the lock.
    unsafe {
        let mut held = heap.lock();
        let count = Bin::count(heap, class);
        if count > 0 {
            let first = Bin::first(heap, class);
            if *first.add(count - 1) == block {
                report::free_already("free", block, class);
            }
            // A program that only frees would come again as soon as half is full.
            let only_frees = heap.freeing.has(class);
            let old = if only_frees { count } else { count.div_ceil(2) };
            heap.freeing.add(class);
            // Of what others allocated, such a program needs none.
            if (*heap.ptr()).watch > 0 || only_frees && heap.mixed.has(class) {
                return_oldest(&mut held, class, old);
            } else if old < count || !stack::put_bin(&mut held, class) {
                stack::put_oldest(&mut held, class, old);
            }
        }
        if Bin::limit(heap, class) > 0 {
            keep(heap, class, block);
        } else if DIRECTORY.tag(block as usize).owner() != heap.id && Bin::widen(heap, class) {
            // A thread that frees what others allocate gathers, so that each message carries many.
            Bin::set_limit(heap, class, room(class));
            keep(heap, class, block);
        } else if budget::demand(&held) > 0 {
            stack::put(&mut held, class, &raw const block, 1);
        } else {
            give_up(&mut held, class, &raw const block, 1);
        }
        bound(&mut held, class);
        tick::look(&mut held);
        tick::run(held.unlock());
    }
}

/// Handles the free of a run, whose bin never has room. One of a class that keeps some goes onto the stack, for the next that is
/// wanted; another returns to the pool.
///
/// # Safety
/// `heap` is the calling thread's; `run`, of `class`, is the caller's to give.
pub(crate) unsafe fn run(heap: HeapRef, run: *mut Block, class: Class) {
    // SAFETY: the stack is under the lock, and the run is the caller's.
    unsafe {
        let mut held = heap.lock();
        watch::run_freed(run, class);
        if first_limit(class) == 0 {
            give_up(&mut held, class, &raw const run, 1);
        } else {
            keep_run(&mut held, run, class);
        }
        tick::look(&mut held);
        tick::run(held.unlock());
    }
}

/// Puts a run onto the stack, and bounds that.
#[inline(always)]
unsafe fn keep_run(heap: &mut HeldHeap, run: *mut Block, class: Class) {
    // SAFETY: the stack is under the lock, and the run is the caller's to give.
    unsafe {
        let batch = Batch::of(&raw const run, 1, size_class::size(class));
        stack::push(heap, class, batch, 1);
        bound(heap, class);
    }
}

/// Returns the blocks at `count` addresses to their slabs.
///
/// # Safety
/// They are the caller's to give, all of `class`.
#[cold]
#[inline(never)]
unsafe fn give_up(heap: &mut HeldHeap, class: Class, first: *const *mut Block, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sorter = Sorter::new(heap, true);
        open::blocks(heap, first, count, class, &mut sorter);
        drain::post_all(heap, &mut sorter);
    }
}

/// Returns the oldest blocks of the bin to their slabs, those of others by way of their owners. A watched heap puts none onto its
/// stack: a slab has a bit that says whether a block is free, but the batches of a stack have to be searched.
///
/// # Safety
/// The caller is the heap's thread; so many are in the bin.
unsafe fn return_oldest(heap: &mut HeldHeap, class: Class, some: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let (first, left) = (
            Bin::first(heap.heap(), class),
            Bin::count(heap.heap(), class) - some,
        );
        give_up(heap, class, first, some);
        ptr::copy(first.add(some), first, left);
        Bin::set_count(heap.heap(), class, left);
    }
}

/// Puts a block into the bin, which has room.
unsafe fn keep(heap: HeapRef, class: Class, block: *mut Block) {
    // SAFETY: the bin is the calling thread's.
    let kept = unsafe { Bin::push(&raw mut (*heap.ptr()).front.bins[class.index()], block) };
    debug_assert!(kept, "the bin has room");
}

/// Returns what the class may not keep to its slabs, if there is any.
#[inline(always)]
unsafe fn bound(heap: &mut HeldHeap, class: Class) {
    let share = budget::share(heap, class);
    let stack = &heap.stacks[class];
    // SAFETY: the caller is the heap's thread.
    unsafe {
        if stack.blocks > stack.limit
            || share.stack < stack.limit
            || Bin::limit(heap.heap(), class) > share.bin as usize
        {
            bound_to(heap, class, &share);
        }
    }
}

/// Bounds the class to its limit and its `share`, [`AT_ONCE`] blocks at a time.
#[cold]
#[inline(never)]
unsafe fn bound_to(heap: &mut HeldHeap, class: Class, share: &Share) {
    // SAFETY: the caller is the heap's thread.
    unsafe {
        let mut sorter = Sorter::new(heap, true);
        let limit = heap.stacks[class].limit;
        let mut keep = limit.min(share.stack);
        bound_bin(heap, class, share.bin);
        let before = heap.stacks[class].blocks.min(limit);
        let until = heap.stacks[class].blocks.saturating_sub(AT_ONCE);
        while heap.stacks[class].blocks > keep.max(until) {
            let gone = send_surplus(heap, class, keep, &mut sorter);
            if gone == 0 {
                break;
            }
            idle_owners::returned(heap.heap(), class, gone);
            if sorter.has_any() {
                // There are foreign blocks among them: more at once make fuller messages.
                keep = keep.min(heap.stacks[class].limit / 2);
            }
        }
        // One sorter at a time uses the heap's rows.
        drain::post_all(heap, &mut sorter);
        if share.stack < limit {
            let gone = before - heap.stacks[class].blocks.min(limit);
            budget::cut(heap, class, gone);
            let over = budget::over(heap);
            if over > 0 {
                reclaim::from_classes(heap, class, over);
            }
        }
    }
}
