//! A heap for a thread that has none.

use crate::heap::cache::flush;
use crate::heap::data::heap::{Heap, attended, lock};
use crate::heap::data::state::Strays;
use crate::heap::data::{registry, torn};
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::upkeep::{idle_cache, tick};

/// A heap for the calling thread: one whose thread is gone, else an idle one, else a new one. `None` if memory or ids ran out.
pub(crate) fn acquire() -> Option<*mut Heap> {
    let Some(heap) = registry::take_left() else {
        return registry::make();
    };
    // SAFETY: nobody has the heap: its thread is gone, or it was taken out of the list under the registry's lock. Taking
    // the heap's own lock makes the adopter see what the last one who worked on it left (rule 5).
    unsafe {
        let _guard = lock(heap);
        attended(heap).take();
        idle_cache::forget(heap);
        tick::begin(heap);
        (*heap).strays = Strays::NONE;
        (*heap).idle_classes.clear();
        if torn::was_torn(heap) {
            let mut sorter = Sorter::new(heap, true);
            flush::flush_private(heap, &mut sorter);
            flush::flush_all(heap, &mut sorter);
            drain::post_all(&mut sorter);
        }
    }
    Some(heap)
}
