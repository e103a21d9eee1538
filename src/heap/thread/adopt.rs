//! A heap for a thread that has none.

use crate::heap::cache::flush;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::state::IdleOwners;
use crate::heap::data::{registry, torn};
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::upkeep::{idle_cache, tick};

/// A heap for the calling thread: one whose thread is gone, else an idle one, else a new one. `None` if memory or ids ran out.
pub(crate) fn acquire() -> Option<HeapRef> {
    let Some(heap) = registry::take_left() else {
        return registry::make();
    };
    // Nobody has the heap: its thread is gone, or it was taken out of the list under the registry's lock. Taking the heap's own
    // lock makes the adopter see what the last one who worked on it left (rule 5).
    let mut held = heap.lock();
    // SAFETY: the lock is held, and nobody else has the heap.
    unsafe { heap.attended().take() };
    idle_cache::forget(&mut held);
    tick::begin(&mut held);
    heap.idle_classes.clear();
    // SAFETY: the private part is the calling thread's from now on.
    unsafe {
        (*heap.ptr()).idle_owners = IdleOwners::NONE;
        if torn::was_torn(&held) {
            let mut sorter = Sorter::new(&held, true);
            flush::flush_private(&mut held, &mut sorter);
            flush::flush_all(&mut held, &mut sorter);
            drain::post_all(&mut held, &mut sorter);
        }
    }
    held.unlock().leave();
    Some(heap)
}
