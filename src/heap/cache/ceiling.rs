//! The ceiling: a process that grows beyond its recent peak gives idle memory back.
//!
//! Every store serves its own kind from what it keeps. If a process took fresh memory all the same, and now holds more than at
//! its recent peak, the other stores reclaim as much of what they keep (`account::over`), cheapest first: freed large blocks, if it
//! is a superslab or more, free slots, blocks on the stacks of this heap and of heaps whose threads are still.

use crate::base::account;
use crate::base::size_class::Class;
use crate::base::units::SUPERSLAB;
use crate::heap::cache::{budget, reclaim};
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::HeapRef;
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
    // A freed large block goes back by the superslab.
    let little = asked < SUPERSLAB;
    let mut left = asked;
    if !little {
        left = left.saturating_sub(large::reclaim(left));
    }
    if left > 0 {
        left = left.saturating_sub(pool::reclaim(left));
    }
    if little && left > 0 {
        left = left.saturating_sub(large::reclaim(left));
    }
    let mut errands = Errands::NONE;
    if let Some(heap) = tls::current().filter(|_| left > 0) {
        // SAFETY: the calling thread's heap.
        errands.add(unsafe { empty_stacks(heap, left) });
        errands.add(reclaim::reclaim_from_others(heap, left));
        left = left.saturating_sub(pool::reclaim(left));
    }
    account::reclaimed(asked, asked - left);
    errands.run();
}

/// Reclaims `bytes` from the heap's stacks.
///
/// # Safety
/// The heap is the calling thread's.
unsafe fn empty_stacks(heap: HeapRef, bytes: usize) -> Errands {
    let mut held = heap.lock();
    // SAFETY: the caller's promise.
    unsafe { reclaim::from_classes(&mut held, Class::NONE, bytes) };
    budget::show(&mut held);
    held.unlock()
}
