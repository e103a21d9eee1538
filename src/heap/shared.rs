//! Allocation for threads without a heap of their own: those of the allocator itself, and those for which no heap could be
//! made. One heap, whose bins stay empty: every block comes from the slabs, under its lock.

use super::heap::{Heap, by_id, lock};
use super::hot::Fresh;
use super::registry::SHARED_ID;
use super::{attach, expect, remote, slabs};
use crate::base::size_class;
use crate::knobs;
use crate::pool::{self, Want};
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
    loop {
        // SAFETY: heaps live for ever; everything but the pool's growing happens under the lock.
        unsafe {
            let guard = lock(heap);
            remote::drain_locked(heap);
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
            let usage = expect::usage(heap, class);
            let Some(had) = pool::obtain(knobs::get(), pool::here(), Want { slots, usage }) else {
                return Fresh::NULL;
            };
            let _guard = lock(heap);
            slabs::open(heap, had.claim, class);
        }
    }
}
