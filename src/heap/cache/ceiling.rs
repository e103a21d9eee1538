//! The ceiling: idle memory serves before the kernel is asked for more.
//!
//! Every store serves its own kind from what it keeps. If a process took fresh memory all the same, and now holds more than at
//! its recent peak, the other stores reclaim what they keep (`account::over`), cheapest first: freed large blocks, free slots,
//! blocks on the stacks of this heap and of heaps whose threads are still.

use crate::base::account;
use crate::heap::cache::{budget, reclaim};
use crate::heap::data::heap::{Heap, lock, shared};
use crate::heap::data::tls;
use crate::{large, pool};

/// Notes that fresh memory was taken. No lock may be held.
#[inline]
pub(crate) fn grew() {
    let over = account::over();
    if over > 0 {
        reclaim(over);
    }
}

#[cold]
#[inline(never)]
fn reclaim(asked: usize) {
    let mut left = asked.saturating_sub(large::reclaim(asked));
    if left > 0 {
        left = left.saturating_sub(pool::reclaim(left));
    }
    let heap = tls::current();
    if left > 0 && !heap.is_null() {
        // SAFETY: the calling thread's heap, and no lock is held.
        unsafe { empty_stacks(heap, left) };
        reclaim::others_make_room(heap, left);
        left = left.saturating_sub(pool::reclaim(left));
    }
    account::reclaimed(asked, asked - left);
}

/// Has the heap's stacks make room of `bytes`.
///
/// # Safety
/// The heap is the calling thread's, and no lock is held.
unsafe fn empty_stacks(heap: *mut Heap, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let _guard = lock(heap);
        reclaim::make_room(heap, 0, bytes);
        // The caller purges what came home, so the pool's bound can wait.
        (*shared(heap)).over_bound = false;
        budget::show(shared(heap));
    }
}
