//! Where a heap's next blocks of a class come from, cheapest first.

use super::heap::{Bin, Heap, Out, bin_limit, lock, shared};
use super::hot::Fresh;
use super::remote::Sorter;
use super::{ahead, expect, slabs, spare, strays};
use crate::base::size_class;
use crate::knobs;
use crate::large;
use crate::os::sys::ErrnoGuard;
use crate::pool;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::slab::Taken;

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
        let out = &raw mut (*heap).out[class];
        let bin = &raw mut (*heap).front.bins[class];
        strays::took(heap);
        if (*out).count() > 0 && size_class::size(class) >= RECYCLE_FROM {
            let (head, count) = Out::take(out);
            (*heap).mixed.add(class);
            return keep(
                heap,
                class,
                Taken {
                    head,
                    count,
                    zero: false,
                },
            );
        }
        let guard = lock(heap);
        if let Some(batch) = from_stock(heap, class) {
            let taken = Taken {
                head: batch.head(),
                count: batch.count(),
                zero: false,
            };
            let todo = spare::look(heap);
            drop(guard);
            let fresh = keep(heap, class, taken);
            todo.run();
            return fresh;
        }
        // Grows by doubling from a quarter: what a class is given depends on how often it asks.
        let limit = bin_limit(class);
        let want = ((*bin).limit() as usize * 2)
            .clamp(limit.div_ceil(4), limit)
            .max(1);
        spare::missed(heap, class);
        let taken = slabs::take(heap, class, want);
        let todo = spare::look(heap);
        drop(guard);
        let fresh = match taken {
            Some(taken) => {
                Bin::fill(bin, core::ptr::null_mut(), 0, want.min(bin_limit(class)));
                keep(heap, class, taken)
            }
            None => from_new_slab(heap, class, want),
        };
        todo.run();
        ahead::start_if_wanted();
        fresh
    }
}

/// Gives the first block of the chain out and puts the rest into the (empty) bin. Between the look at the bin and this
/// nothing may stand that can call the C library: an allocation in there would fill the bin, and be lost.
unsafe fn keep(heap: *mut Heap, class: usize, taken: Taken) -> Fresh {
    // SAFETY: the chain is the caller's, the bin the thread's own.
    unsafe {
        let bin = &raw mut (*heap).front.bins[class];
        let limit = ((*bin).limit() as usize).max(bin_limit(class).div_ceil(4));
        Bin::fill(bin, (*taken.head).next.get(), taken.count - 1, limit);
        Fresh {
            ptr: taken.head.cast(),
            zero: taken.zero,
        }
    }
}

/// A batch from the spare stack, after a look into the inbox where the stack is empty.
unsafe fn from_stock(heap: *mut Heap, class: usize) -> Option<Batch> {
    // SAFETY: the caller holds the lock.
    unsafe {
        if let Some(batch) = spare::pop(heap, class) {
            return Some(batch);
        }
        let mut sorter = Sorter::new(true);
        open_pending(heap, INBOX_PER_REFILL, &mut sorter);
        sorter.post_all(heap);
        spare::pop(heap, class)
    }
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
            (*part).pending = batch.link();
            (*part).drained += 1;
            spare::push(heap, class, batch);
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
        while let Some(next) = last.link() {
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
    let _errno = ErrnoGuard::new();
    if slabs::take_over(heap, class) {
        // SAFETY: the lock is taken for the call.
        unsafe {
            let guard = lock(heap);
            let taken = slabs::take(heap, class, want);
            drop(guard);
            if let Some(taken) = taken {
                return keep(heap, class, taken);
            }
        }
    }
    // SAFETY: the heap is the calling thread's, and its lock is free.
    let need = unsafe { expect::need(heap, class) };
    // Once for all tries: a thread that is moved meanwhile has one node grow and claims from that one.
    let (node, slots) = (pool::here(), size_class::slots(class));
    for attempt in 0..3 {
        let mut refused = false;
        loop {
            // SAFETY: the claim is ours and becomes a slab under the lock.
            unsafe {
                if let Some(claim) = pool::claim_after(refused, node, slots, need) {
                    let guard = lock(heap);
                    slabs::open(heap, claim, class);
                    let taken = slabs::take(heap, class, want);
                    drop(guard);
                    if let Some(taken) = taken {
                        let bin = &raw mut (*heap).front.bins[class];
                        Bin::fill(bin, core::ptr::null_mut(), 0, want.min(bin_limit(class)));
                        return keep(heap, class, taken);
                    }
                    continue;
                }
            }
            if refused {
                break;
            }
            match pool::grow(knobs::get(), node) {
                Ok(()) => ahead::ran_dry(node),
                Err(_) => refused = true,
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
unsafe fn flush(heap: *mut Heap) {
    // SAFETY: the caller is the heap's thread and holds no lock.
    unsafe {
        let guard = lock(heap);
        let mut sorter = Sorter::new(true);
        open_pending(heap, usize::MAX, &mut sorter);
        spare::flush_all(heap, &mut sorter);
        sorter.post_all(heap);
        drop(guard);
    }
}
