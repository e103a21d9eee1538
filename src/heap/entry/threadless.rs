//! Allocation for threads without a heap of their own: those of the allocator itself, and those for which no heap could be made.
//! They share one heap, whose bins stay empty: every block comes from its slabs, under its lock.

use crate::base::size_class::{self, Class};
use crate::checked::{self, Mode};
use crate::heap::data::fresh::Fresh;
use crate::heap::data::registry::SHARED_ID;
use crate::heap::data::registry::heap as by_id;
use crate::heap::data::tls;
use crate::heap::home::drain;
use crate::heap::slabs::{expected_use, slabs};
use crate::heap::thread::{attach, exit};
use crate::heap::upkeep::{maintain, shortage};
use crate::pool::{self, Want};
use crate::slab::superslab::Superslab;
use crate::{knobs, large};
use core::ptr;

/// The number of the calling thread, for the records of checked blocks. The first call of each thread counts as its first
/// allocation: if every block is checked, no thread gets a heap.
pub(super) fn thread() -> u32 {
    let is_new = tls::is_unknown();
    if is_new {
        // First, because `tls::thread` keeps the number only once the process is noted.
        maintain::noticed();
    }
    let number = tls::thread();
    // Then only, because the C library may allocate for it, and only if the number was kept: not in the child of a vfork. The key of
    // a thread that may have a heap is for that.
    if is_new && checked::mode() == Mode::All && !tls::is_unknown() {
        exit::arm_first();
    }
    number
}

/// A block of `class` from the threadless heap.
#[cold]
#[inline(never)]
pub(crate) fn alloc(class: Class) -> Fresh {
    if !attach::ensure_ready() {
        return Fresh::NULL;
    }
    let Some(heap) = by_id(SHARED_ID) else {
        return Fresh::NULL;
    };
    let slots = size_class::slots(class);
    let mut relieved = false;
    loop {
        // Everything but the pool's growth happens under the lock. A poster that finds the lock held goes away, so the inbox is
        // looked at again after each hold of the lock, also before null is returned.
        let mut held = heap.lock();
        drain::drain_locked(&mut held);
        let mut block = ptr::null_mut();
        // SAFETY: there is room for one.
        let taken = unsafe { slabs::take(&mut held, class, &raw mut block, 1, 1) }
            .ok_or_else(|| expected_use::usage(&held, class));
        drain::release(held).run();
        let usage = match taken {
            Ok(taken) => {
                if size_class::is_run(class) {
                    // SAFETY: the run is ours.
                    unsafe { Superslab::run_taken(block) };
                }
                return Fresh {
                    ptr: block.cast(),
                    zero: taken.zero,
                };
            }
            Err(usage) => usage,
        };
        match pool::obtain(
            knobs::get(),
            pool::here(),
            Want { slots, usage },
            large::lend,
        ) {
            // SAFETY: the claim is ours.
            Some(had) => unsafe { slabs::open(&mut heap.lock(), had.claim, class) },
            None if relieved => return Fresh::NULL,
            None => {
                shortage::relieve(0);
                relieved = true;
            }
        }
    }
}
