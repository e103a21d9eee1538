//! Heaps whose threads have ended become idle.

use crate::heap::cache::{budget, stack};
use crate::heap::data::heap::HeapRef;
use crate::heap::data::{registry, rest};
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::walk;
use crate::heap::upkeep::idle_cache;

/// Makes a heap idle. Much may go back to the pool: the caller has a tick or the maintenance thread see to it.
///
/// # Safety
/// Its thread has ended, or is the calling one and does not touch it any more. No lock may be held.
pub(crate) unsafe fn give_up(heap: HeapRef) {
    idle_cache::evict_oldest();
    let mut held = heap.lock();
    heap.ending.is_over();
    let mut sorter = Sorter::new(&held, true);
    // SAFETY: the caller's promise: nobody touches the private part.
    let ended = unsafe { idle_cache::begin(&mut held, &mut sorter) };
    drain::post_all(&mut held, &mut sorter);
    // SAFETY: the lock is held, and nobody uses the heap by the caller's promise.
    unsafe { heap.attended().leave() };
    drain::drain_locked(&mut held);
    idle_cache::end(&mut held, ended);
    debug_assert!(
        walk::slabs_are_valid(&held) && stack::is_valid(&held),
        "a heap that is given up is in order"
    );
    budget::show(&mut held);
    let errands = drain::release(held);
    // SAFETY: the caller gave it up, and it was in no list while its thread used it.
    unsafe { registry::publish_idle(heap) };
    errands.run();
    rest::note_over(heap);
    idle_cache::evict_over();
}

/// Makes the heaps idle whose threads have ended without another call. Returns whether there were any. No lock may be held, and
/// the caller sees to the pool as after [`give_up`].
pub(crate) fn give_up_gone() -> bool {
    let mut any = false;
    while let Some(heap) = registry::take_gone() {
        // SAFETY: its thread is gone.
        unsafe { give_up(heap) };
        any = true;
    }
    any
}
