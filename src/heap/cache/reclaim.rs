//! Takes back what heaps keep because of what they learnt (`budget`): for other sizes of the same program, and for threads that
//! grow while the heap's own does nothing.

use crate::base::size_class::{self, Class};
use crate::base::tuning::heap_cache::OTHERS;
use crate::base::units::SLOT;
use crate::heap::cache::budget::{amount, bound, demand, demand_of_all, forget, is_still};
use crate::heap::cache::{budget, flush};
use crate::heap::data::bin::Bin;
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::{HeapRef, HeldHeap, Shared};
use crate::heap::data::registry;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::os::clock;
use core::sync::atomic::AtomicUsize;

/// Bytes on the stack of a class.
fn kept(part: &Shared, class: Class) -> usize {
    part.stacks[class].blocks as usize * size_class::size(class)
}

/// Bytes that a class holds for nobody: what is on its stack, and the slabs that this and its bin alone pin.
unsafe fn held_by(heap: &mut HeldHeap, class: Class) -> usize {
    // SAFETY: the caller is the heap's thread.
    unsafe {
        let kept = kept(heap, class);
        if heap.slab_count[class] <= 1 {
            return kept;
        }
        let free = heap.stacks[class].blocks + Bin::count(heap.heap(), class) as u32;
        if free == 0 || heap.heap().mixed.has(class) {
            // Some may be foreign, and what those pin is not known here.
            return kept;
        }
        let live = heap.allocated_blocks[class].saturating_sub(free.into());
        // One slab is little to hold for a class that is in use at all.
        let slabs = u64::from(heap.slab_count[class]).saturating_sub(live.max(1));
        kept.max(slabs as usize * size_class::slots(class).bytes())
    }
}

/// Reclaims `bytes` for a class that grows, or for something that is no class: while the heap is over its bound, returns what its
/// other classes keep, from the one that keeps most.
///
/// # Safety
/// The caller is the heap's thread.
pub(crate) unsafe fn from_classes(heap: &mut HeldHeap, class: Class, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sorter = Sorter::new(heap, true);
        let mut left = bytes;
        while left > 0 && amount(heap) > bound(heap) {
            let Some((_, most)) = Class::all()
                .filter(|&other| other != class)
                .map(|other| (held_by(heap, other), other))
                .max()
                .filter(|&(held, _)| held >= SLOT)
            else {
                break;
            };
            while left > 0 && kept(heap, most) >= SLOT {
                let gone = flush::return_blocks(heap, most, u32::MAX, &mut sorter);
                left = left.saturating_sub(gone as usize * size_class::size(most));
            }
            if kept(heap, most) < SLOT {
                // In whatever order they were freed: the few that are left may lie in all of the slabs.
                flush::empty(heap, most, &mut sorter);
            }
        }
        drain::post_all(heap, &mut sorter);
    }
}

/// Which heap's turn it is to be looked at by one that grows. A hint, so Relaxed.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// Reclaims `bytes` for a heap that grows: another that keeps blocks because of what it learnt, and whose thread does
/// nothing meanwhile, returns so many. So a pool of threads that take turns does not hold what each of them needs.
pub(crate) fn reclaim_from_others(heap: HeapRef, bytes: usize) -> Errands {
    let mut errands = Errands::NONE;
    if demand_of_all() == 0 {
        return errands;
    }
    let now = clock::now_ms();
    for other in registry::in_turn(&TURN, OTHERS).filter(|&other| other != heap) {
        if reclaim_if_still(other, bytes, now, &mut errands) {
            break;
        }
    }
    errands
}

/// Returns about `bytes` from a heap's stacks to their slabs, if the heap has learnt something and its thread took no slow path
/// for a while. The result is whether it is such a heap.
fn reclaim_if_still(heap: HeapRef, bytes: usize, now: u64, errands: &mut Errands) -> bool {
    // Another's stacks are under its lock; its bins are left alone.
    let Some(mut held) = heap.try_lock() else {
        return false;
    };
    let reclaims = demand(&held) > 0 && is_still(&mut held, now);
    if reclaims {
        let mut sorter = Sorter::new(&held, false);
        let mut left = bytes;
        while left > 0 && held.stack_bytes > 0 {
            let most = Class::all()
                .max_by_key(|&class| kept(&held, class))
                .unwrap_or(Class::new(1));
            let gone = flush::return_blocks(&mut held, most, u32::MAX, &mut sorter);
            left = left.saturating_sub(gone as usize * size_class::size(most));
        }
        sorter.post_all(&mut held);
        if held.stack_bytes == 0 {
            forget(&mut held);
        }
    }
    budget::show(&mut held);
    errands.add(drain::release(held));
    reclaims
}
