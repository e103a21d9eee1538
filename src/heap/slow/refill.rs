//! Where a heap's next blocks of a class come from, cheapest first.

use crate::base::size_class::{self, Class};
use crate::base::tuning::bins::FIRST_SHARE;
use crate::base::tuning::heap_cache::{self, OUTBOX_SPARED};
use crate::base::tuning::others_blocks::{INBOX_PER_REFILL, RECYCLE_FROM};
use crate::heap::cache::incoming::{has_post, open_pending};
use crate::heap::cache::{budget, ceiling, flush, reclaim, stack};
use crate::heap::data::bin::{Bin, bin_limit, room};
use crate::heap::data::errands::Errands;
use crate::heap::data::fresh::Fresh;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::state::Outbox;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::{expected_use, slabs};
use crate::heap::slow::{idle_owners, take_over, watch};
use crate::heap::upkeep::{ahead, settle, shortage, tick};
use crate::pool::{self, Want};
use crate::slab::superslab::Superslab;
use crate::slab::{magazine, report};
use crate::{knobs, large};
use core::ptr;

/// A block of `class` for the owner of `heap`, whose bin is empty. Fills the bin with the others that come along.
///
/// # Safety
/// `heap` is the calling thread's; no lock is held.
pub(crate) unsafe fn refill(heap: HeapRef, class: Class) -> Fresh {
    // SAFETY: bins and outboxes are the thread's own; the rest is under the lock.
    unsafe {
        debug_assert!(
            Bin::count(heap, class) == 0,
            "what is in the bin would be lost"
        );
        if !Bin::is_wide(heap, class) && !find_places(heap, class) {
            return Fresh::NULL;
        }
        let turns = heap.freeing.has(class);
        heap.freeing.remove(class);
        idle_owners::took(heap);
        if size_class::size(class) >= RECYCLE_FROM && recycles(heap, class) {
            return from_outbox(heap, class);
        }
        let mut held = heap.lock();
        if size_class::is_run(class)
            && let Some(run) = stack::take_run(&mut held, class)
        {
            Superslab::run_taken(run);
            tick::look(&mut held);
            tick::run(held.unlock());
            return Fresh {
                ptr: run.cast(),
                zero: false,
            };
        }
        if from_stock(&mut held, class, turns) {
            let fresh = give_newest(heap, class, false);
            tick::look(&mut held);
            tick::run(held.unlock());
            return fresh;
        }
        // Doubles each time, from an eighth of the most: what a class gets depends on how often it asks.
        let limit = bin_limit(class);
        let want = (Bin::limit(heap, class) * 2)
            .clamp(limit.div_ceil(FIRST_SHARE), limit)
            .max(1);
        flush::missed(&mut held, class, want);
        let taken = from_slabs(&mut held, class, want);
        tick::look(&mut held);
        let mut errands = held.unlock();
        let fresh = taken.unwrap_or_else(|| from_new_slab(heap, class, want, &mut errands));
        tick::run(errands);
        ahead::start_if_wanted();
        fresh
    }
}

/// Whether this refill takes back what is in the outbox. If all did, a thread that replaces blocks of a set which another made would
/// have them as another heap's for ever, and a free of one costs three times that of an own block. So some leave the blocks there:
/// the outbox fills up and goes to its owner, and blocks of the thread's own take their place.
///
/// # Safety
/// `heap` is the calling thread's.
unsafe fn recycles(heap: HeapRef, class: Class) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if !has_outbox(heap, class) {
            return false;
        }
        let refills = &mut (*heap.ptr()).outboxes[class.index()].refills;
        *refills = refills.wrapping_add(1);
        !refills.is_multiple_of(OUTBOX_SPARED)
    }
}

/// Whether the outbox holds anything. Most threads gather nothing: they need not touch the outboxes.
///
/// # Safety
/// `heap` is the calling thread's.
unsafe fn has_outbox(heap: HeapRef, class: Class) -> bool {
    // SAFETY: the caller's promise.
    heap.gathered.has(class) && unsafe { Outbox::count(heap, class) } > 0
}

/// Fills the empty bin from the outbox, which holds something, and hands out the newest block.
///
/// # Safety
/// `heap` is the calling thread's, and the bin has places.
unsafe fn from_outbox(heap: HeapRef, class: Class) -> Fresh {
    // SAFETY: bin and outbox are the thread's own. A bin that has few places yet leaves the rest where it is.
    unsafe {
        let (from, count) = Outbox::take(heap, class, Bin::room(heap, class));
        heap.mixed.add(class);
        ptr::copy_nonoverlapping(from, Bin::first(heap, class), count);
        Bin::set_count(heap, class, count);
        report::unless_all_start(Bin::blocks(heap, class), class);
        give_newest(heap, class, false)
    }
}

/// The newest block of a bin that was just filled. Do not call the C library between the check that the bin is empty and the
/// filling: it may allocate, and the blocks of that refill would be overwritten.
unsafe fn give_newest(heap: HeapRef, class: Class, zero: bool) -> Fresh {
    // SAFETY: the bin is the thread's own.
    unsafe {
        let bin = &raw mut (*heap.ptr()).front.bins[class.index()];
        let newest = Bin::pop(bin).or_else(|| {
            watch::unless_empty(bin, class);
            None
        });
        let least = bin_limit(class).div_ceil(FIRST_SHARE);
        if let Some(run) = newest.filter(|_| size_class::is_run(class)) {
            Superslab::run_taken(run.cast());
            // Runs never come back into the bin: a free of one takes the slow path, which marks it as free.
            Bin::set_limit(heap, class, 0);
        } else if Bin::limit(heap, class) < least.max(Bin::count(heap, class)) {
            Bin::set_limit(heap, class, least);
        }
        Fresh {
            ptr: newest.unwrap_or(ptr::null_mut()),
            zero,
        }
    }
}

/// Fills the empty bin from the stack. If that is empty, it takes what is in the inbox first. `turns` says whether the class's last
/// slow path was a free. Returns whether there was anything.
unsafe fn from_stock(heap: &mut HeldHeap, class: Class, turns: bool) -> bool {
    // SAFETY: the caller is the heap's thread.
    unsafe {
        let mut count = from_stack(heap, class, turns);
        if count == 0 && has_post(heap) {
            let mut sorter = Sorter::new(heap, true);
            open_pending(heap, INBOX_PER_REFILL, &mut sorter);
            drain::post_all(heap, &mut sorter);
            count = from_stack(heap, class, turns);
        }
        if count > 0 && Bin::magazine(heap.heap(), class).is_some() {
            // The class's usage rises and falls: as much may go back at once as a magazine brings.
            Bin::set_limit(heap.heap(), class, magazine::ROOM);
        } else if budget::demand(heap) > 0 {
            // The bin's limit was lowered while the class ran empty.
            let limit = Bin::limit(heap.heap(), class);
            let more = (limit * 2).max(count).min(bin_limit(class));
            Bin::set_limit(heap.heap(), class, limit.max(more));
        }
        count > 0
    }
}

/// Fills the empty bin from the stack; to half its limit if the program takes and frees in `turns` and what it frees lies on the
/// shelf. Returns how many blocks are in it then.
unsafe fn from_stack(heap: &mut HeldHeap, class: Class, turns: bool) -> usize {
    // SAFETY: the caller is the heap's thread.
    unsafe {
        if heap.stacks[class].blocks == 0 {
            return 0;
        }
        if !Bin::widen(heap.heap(), class) {
            // No memory for as many places as a batch may need. The slabs give out a few blocks at a time.
            flush::return_stack(heap, class);
            return 0;
        }
        let shelved = heap.stacks[class].shelved > 0;
        let from_batch = heap.stacks[class].in_magazines == 0 && !shelved;
        let most = match turns && shelved {
            true => Bin::limit(heap.heap(), class).div_ceil(2).max(1),
            false => room(class),
        };
        let mut count = stack::take_bin(heap, class);
        if count == 0 {
            count = stack::take(heap, class, Bin::first(heap.heap(), class), most);
            Bin::set_count(heap.heap(), class, count);
        }
        if from_batch {
            // The program may have written to the freed blocks in which these addresses were.
            report::unless_all_start(Bin::blocks(heap.heap(), class), class);
        }
        count
    }
}

/// Gives the bin places: few at first, and all when it is filled again. If memory is refused and it has none, tries again once
/// what others keep was taken back.
#[inline(never)]
unsafe fn find_places(heap: HeapRef, class: Class) -> bool {
    // SAFETY: the heap is the calling thread's, and its lock is free.
    let find = || unsafe {
        let _held = heap.lock();
        Bin::find_places(heap, class)
    };
    find() || {
        shortage::relieve(0);
        find()
    }
}

/// Fills the empty bin from the heap's slabs and hands out the newest block. The bin may then hold `want`.
///
/// # Safety
/// The caller is the heap's thread.
unsafe fn from_slabs(heap: &mut HeldHeap, class: Class, want: usize) -> Option<Fresh> {
    // SAFETY: the bin is the thread's own, and empty.
    unsafe {
        let to = Bin::first(heap.heap(), class);
        let most = Bin::own_room(heap.heap(), class);
        let taken = slabs::take(heap, class, to, want.min(most), most)?;
        Bin::set_limit(heap.heap(), class, want.min(bin_limit(class)));
        Bin::set_count(heap.heap(), class, taken.count);
        Some(give_newest(heap.heap(), class, taken.zero))
    }
}

/// A block from a slab of an idle heap, or from a new one: the heap has no slab with room. The caller runs the `errands`.
#[inline(never)]
unsafe fn from_new_slab(heap: HeapRef, class: Class, want: usize, errands: &mut Errands) -> Fresh {
    // One node for all tries: even if the thread is moved meanwhile, it claims from the node that it had grow.
    let (node, slots) = (pool::here(), size_class::slots(class));
    for attempt in 0..3 {
        // Before the last try the heap's own slabs got back what it kept.
        if take_over::take_over(heap, class) || attempt == 2 {
            // SAFETY: the heap is the calling thread's.
            let taken = unsafe { from_slabs(&mut heap.lock(), class, want) };
            if let Some(fresh) = taken {
                return fresh;
            }
        }
        let usage = expected_use::usage(&heap.lock(), class);
        while let Some(had) = pool::obtain(knobs::get(), node, Want { slots, usage }, large::lend) {
            let fresh_memory = had.claim.clean;
            let bytes = slots.bytes() * heap_cache::ROOM_FOR;
            let mut held = heap.lock();
            // SAFETY: the heap is the calling thread's; the claim is ours and becomes a slab under the lock.
            let taken = unsafe {
                slabs::open(&mut held, had.claim, class);
                let taken = from_slabs(&mut held, class, want);
                if budget::demand(&held) > 0 {
                    reclaim::from_classes(&mut held, class, bytes);
                }
                taken
            };
            let grows = held.slab_count[class] > 1;
            errands.add(held.unlock());
            errands.add(reclaim::reclaim_from_others(heap, bytes));
            ceiling::grew();
            // The first slab of a class is what every program needs, however short it runs.
            if fresh_memory && grows {
                settle::recover(1);
            }
            if had.mapped {
                ahead::ran_dry(node);
            }
            if let Some(fresh) = taken {
                return fresh;
            }
        }
        match attempt {
            // Address space may be held by what is cached: give it up and try again.
            0 => large::purge_all(),
            // SAFETY: the heap is the calling thread's.
            1 => unsafe { flush(heap) },
            _ => {}
        }
    }
    // SAFETY: the heap is the calling thread's, and nothing has filled the bin.
    unsafe {
        if has_outbox(heap, class) {
            return from_outbox(heap, class);
        }
    }
    Fresh::NULL
}

/// For want of memory: empties the heap's inbox, stacks and bins into the slabs, and takes back what all heaps keep.
///
/// # Safety
/// The heap is the calling thread's.
#[cold]
#[inline(never)]
unsafe fn flush(heap: HeapRef) {
    let mut held = heap.lock();
    let mut sorter = Sorter::new(&held, true);
    open_pending(&mut held, usize::MAX, &mut sorter);
    for class in Class::all() {
        // SAFETY: the caller's promise.
        unsafe { flush::empty(&mut held, class, &mut sorter) };
    }
    drain::post_all(&mut held, &mut sorter);
    held.unlock().run();
    shortage::relieve(0);
}
