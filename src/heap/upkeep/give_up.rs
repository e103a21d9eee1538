//! Heaps whose threads have ended become idle.

use crate::heap::cache::{budget, stack};
use crate::heap::data::heap::{Heap, attended, lock, shared};
use crate::heap::data::registry;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::walk;
use crate::heap::upkeep::idle_cache;
use crate::pool;

/// Makes a heap idle. Much may go back to the pool: the caller has a tick or the maintenance thread see to it.
///
/// # Safety
/// Its thread has ended, or is the calling one and does not touch it any more. No lock may be held.
pub(crate) unsafe fn give_up(heap: *mut Heap) {
    idle_cache::make_room();
    // SAFETY: the caller's promise: nobody touches the private part.
    unsafe {
        let guard = lock(heap);
        (*heap).ending.is_over();
        let mut sorter = Sorter::new(heap, true);
        let ended = idle_cache::begin(heap, &mut sorter);
        drain::post_all(&mut sorter);
        attended(heap).leave();
        drain::drain_locked(heap);
        idle_cache::end(heap, ended);
        debug_assert!(
            walk::slabs_are_valid(heap) && stack::is_valid(heap),
            "a heap that is given up is in order"
        );
        budget::show(shared(heap));
        let over = core::mem::take(&mut (*shared(heap)).over_bound);
        drop(guard);
        drain::look_again(heap);
        registry::publish_idle(heap);
        if over {
            pool::trim();
        }
        drain::catch_up();
    }
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
