//! Where a heap's next blocks of a class come from, cheapest first.

use super::bin::{Bin, bin_limit, room};
use super::heap::{Heap, lock, shared};
use super::hot::Fresh;
use super::out::Out;
use super::remote::Sorter;
use super::{ahead, ceiling, expect, fork, home, shed, slabs, slack, spare, stack, strays, upkeep};
use crate::base::size_class;
use crate::base::tuning::heap_cache;
use crate::base::units::SLOT;
use crate::knobs;
use crate::large;
use crate::pool::{self, Want};
use crate::slab::batch::{self, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::magazine;
use core::ptr;

/// Batches from the inbox that one slow path opens.
const INBOX_PER_REFILL: usize = 16;
/// A batch for another heap is taken back only if its blocks fill cache lines: else two threads end up writing the same
/// lines, at the batch's edges and wherever the user freed every other block.
const RECYCLE_FROM: usize = 64;

/// A block of `class` for the owner of `heap`, whose bin is empty; fills the bin with what comes along.
///
/// # Safety
/// `heap` is the calling thread's; no lock is held.
pub(super) unsafe fn refill(heap: *mut Heap, class: usize) -> Fresh {
    // SAFETY: bins and `out` are the thread's own; the rest is under the lock.
    unsafe {
        debug_assert!(
            Bin::count(heap, class) == 0,
            "what is in the bin would be lost"
        );
        (*heap).freeing.remove(class);
        strays::took(heap);
        if Out::count(heap, class) > 0 && size_class::size(class) >= RECYCLE_FROM {
            let (from, count) = Out::take(heap, class);
            (*heap).mixed.add(class);
            ptr::copy_nonoverlapping(from, Bin::first(heap, class), count);
            Bin::set_count(heap, class, count);
            return give_newest(heap, class, false);
        }
        let guard = lock(heap);
        if from_stock(heap, class) {
            let fresh = give_newest(heap, class, false);
            let todo = upkeep::look(heap);
            drop(guard);
            todo.run();
            return fresh;
        }
        // Grows by doubling from a quarter: what a class is given depends on how often it asks.
        let limit = bin_limit(class);
        let want = (Bin::limit(heap, class) * 2)
            .clamp(limit.div_ceil(4), limit)
            .max(1);
        spare::missed(heap, class, want);
        let taken = from_slabs(heap, class, want);
        let todo = upkeep::look(heap);
        drop(guard);
        let fresh = taken.unwrap_or_else(|| from_new_slab(heap, class, want));
        todo.run();
        ahead::start_if_wanted();
        fresh
    }
}

/// The newest block of a bin that was just filled. Between the look at the empty bin and the filling nothing may stand
/// that can call the C library: an allocation in there would fill the bin, and be lost.
unsafe fn give_newest(heap: *mut Heap, class: usize, zero: bool) -> Fresh {
    // SAFETY: the bin is the thread's own.
    unsafe {
        let newest = Bin::pop(&raw mut (*heap).front.bins[class]);
        let limit = Bin::limit(heap, class).max(bin_limit(class).div_ceil(4));
        Bin::set_limit(heap, class, limit);
        Fresh {
            ptr: newest.unwrap_or(ptr::null_mut()),
            zero,
        }
    }
}

/// Fills the empty bin from the spare stack, after a look into the inbox where the stack is empty; whether it could.
unsafe fn from_stock(heap: *mut Heap, class: usize) -> bool {
    // SAFETY: the caller holds the lock, and is the heap's thread.
    unsafe {
        let mut count = from_stack(heap, class);
        if count == 0 && has_post(heap) {
            let mut sorter = Sorter::new(heap, true);
            open_pending(heap, INBOX_PER_REFILL, &mut sorter);
            sorter.post_all();
            count = from_stack(heap, class);
        }
        if count > 0 && Bin::magazine(heap, class).is_some() {
            // Of a class that swings: as much may go back at once as a magazine brings.
            Bin::set_limit(heap, class, magazine::ROOM);
        } else if slack::learnt(shared(heap)) > 0 {
            // The bin was bounded while the class ran empty.
            let limit = Bin::limit(heap, class);
            let more = (limit * 2).max(count).min(bin_limit(class));
            Bin::set_limit(heap, class, limit.max(more));
        }
        count > 0
    }
}

/// Fills the empty bin from the spare stack; how many blocks there are in it then.
unsafe fn from_stack(heap: *mut Heap, class: usize) -> usize {
    // SAFETY: the caller holds the lock, and is the heap's thread.
    unsafe {
        let count = stack::take_bin(heap, class);
        if count > 0 {
            return count;
        }
        let count = stack::take(heap, class, Bin::first(heap, class), room(class));
        Bin::set_count(heap, class, count);
        count
    }
}

/// Fills the empty bin from the heap's slabs and gives the newest out; the bin may hold `want` from now on.
///
/// # Safety
/// The caller holds the lock, and is the heap's thread.
unsafe fn from_slabs(heap: *mut Heap, class: usize, want: usize) -> Option<Fresh> {
    // SAFETY: the bin is the thread's own, and empty.
    unsafe {
        let to = Bin::first(heap, class);
        let taken = slabs::take(heap, class, to, want, room(class))?;
        Bin::set_limit(heap, class, want.min(bin_limit(class)));
        Bin::set_count(heap, class, taken.count);
        Some(give_newest(heap, class, taken.zero))
    }
}

/// Whether there is anything in the inbox, or taken from it and not yet opened.
unsafe fn has_post(heap: *mut Heap) -> bool {
    // SAFETY: the caller holds the lock.
    unsafe { (*shared(heap)).pending.is_some() || !(*heap).inbox.is_empty() }
}

/// Puts up to `most` batches from the inbox on the spare stacks, unopened but for their first word.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn open_pending(heap: *mut Heap, most: usize, sorter: &mut Sorter) {
    // SAFETY: the caller's promise; batches in the inbox were given up by those who posted them.
    unsafe {
        let part = shared(heap);
        for _ in 0..most {
            if (*part).pending.is_none() {
                (*part).pending = (*heap).inbox.take_all();
            }
            let Some(batch) = (*part).pending else { return };
            let class = class_of(batch.head());
            home::plausible(batch, batch::MOST);
            // The batch stays closed: which of its blocks are another heap's by now is found when it is opened.
            if (*part).taken_from.has(class) {
                (*heap).mixed.add(class);
            }
            (*part).pending = home::next_posted(batch);
            (*part).drained += 1;
            stack::push(heap, class, batch);
            spare::bound_by_limit(heap, class, sorter);
        }
    }
}

/// Takes what is in the inbox over to the pending batches, so that all of them can be walked.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn gather_pending(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let Some(taken) = (*heap).inbox.take_all() else {
            return;
        };
        let mut last = taken;
        while let Some(next) = home::next_posted(last) {
            last = next;
        }
        last.set_link((*part).pending);
        (*part).pending = Some(taken);
    }
}

/// The class of a block that somebody freed.
pub(super) fn class_of(block: *mut Block) -> usize {
    let class = DIRECTORY.tag(block as usize).class();
    if class == 0 || class >= size_class::CLASSES {
        crate::os::message::fatal!(
            "block {block:p}: in a free list, but not a block; something wrote to freed memory"
        );
    }
    class
}

/// The heap has no slab with room: somebody else's, or a new one.
#[inline(never)]
unsafe fn from_new_slab(heap: *mut Heap, class: usize, want: usize) -> Fresh {
    fork::recover();
    if slabs::take_over(heap, class) {
        // SAFETY: the lock is taken for the call.
        unsafe {
            let guard = lock(heap);
            let taken = from_slabs(heap, class, want);
            drop(guard);
            if let Some(fresh) = taken {
                return fresh;
            }
        }
    }
    // SAFETY: the heap is the calling thread's, and its lock is free.
    let usage = unsafe { expect::usage(heap, class) };
    // Once for all tries: a thread that is moved meanwhile has one node grow and claims from that one.
    let (node, slots) = (pool::here(), size_class::slots(class));
    for attempt in 0..3 {
        while let Some(had) = pool::obtain(knobs::get(), node, Want { slots, usage }) {
            // SAFETY: the claim is ours and becomes a slab under the lock.
            unsafe {
                let guard = lock(heap);
                slabs::open(heap, had.claim, class);
                let taken = from_slabs(heap, class, want);
                let bytes = slots * SLOT * heap_cache::ROOM_FOR;
                if slack::learnt(shared(heap)) > 0 {
                    shed::make_room(heap, class, bytes);
                }
                drop(guard);
                shed::others_make_room(heap, bytes);
                ceiling::grew();
                if had.mapped {
                    ahead::ran_dry(node);
                }
                if let Some(fresh) = taken {
                    return fresh;
                }
            }
        }
        match attempt {
            // Address space may be held by what is cached: give it up and try again.
            0 => large::purge_all(),
            // SAFETY: no lock is held.
            1 => unsafe { flush(heap) },
            _ => {}
        }
    }
    Fresh::NULL
}

/// Empties the heap's own caches into the slabs, for want of anything else.
#[cold]
#[inline(never)]
unsafe fn flush(heap: *mut Heap) {
    // SAFETY: the caller is the heap's thread and holds no lock.
    unsafe {
        let guard = lock(heap);
        let mut sorter = Sorter::new(heap, true);
        open_pending(heap, usize::MAX, &mut sorter);
        spare::flush_all(heap, &mut sorter);
        sorter.post_all();
        drop(guard);
    }
    shed::give_up(0);
}
