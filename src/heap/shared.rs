//! Allocation for threads without a heap of their own: those of the allocator itself, and those for which no heap could be
//! made. One heap, whose bins stay empty: every block comes from the slabs, under its lock.

use super::heap::{Heap, by_id, lock, shared};
use super::hot::Fresh;
use super::registry::SHARED_ID;
use super::{attach, remote, slabs};
use crate::base::size_class;
use crate::knobs;
use crate::pool;
use core::ptr;

/// A block of `class` from the shared heap.
pub(super) fn alloc(class: usize) -> Fresh {
    if !attach::ensure_ready() {
        return Fresh::NULL;
    }
    let heap: *mut Heap = by_id(SHARED_ID);
    if heap.is_null() {
        return Fresh::NULL;
    }
    let slots = size_class::slots(class);
    // Asked once, and only when there is no slab with room.
    let mut asked = None;
    let mut refused = false;
    loop {
        // SAFETY: heaps live for ever; everything but the pool's growing happens under the lock.
        unsafe {
            let guard = lock(heap);
            remote::drain_locked(heap);
            if (*shared(heap)).slabs[class]
                .iter()
                .all(|slab| slab.is_null())
                && let node = *asked.get_or_insert_with(pool::here)
                && let Some(claim) = pool::claim_after(refused, node, slots, false)
            {
                slabs::open(heap, claim, class);
            }
            let mut block = ptr::null_mut();
            let taken = slabs::take(heap, class, &raw mut block, 1, 1);
            drop(guard);
            remote::look_again(heap);
            remote::catch_up();
            if let Some(taken) = taken {
                return Fresh {
                    ptr: block.cast(),
                    zero: taken.zero,
                };
            }
        }
        if refused {
            return Fresh::NULL;
        }
        refused = pool::grow(knobs::get(), *asked.get_or_insert_with(pool::here)).is_err();
    }
}
