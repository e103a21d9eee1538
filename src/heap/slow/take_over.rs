//! Taking over a slab with room from an idle heap.

use crate::base::size_class;
use crate::base::units::SLOT;
use crate::heap::data::heap::{Heap, lock, shared};
use crate::heap::data::registry;
use crate::heap::home::drain;
use crate::heap::slabs::slabs;
use crate::slab::directory::{DIRECTORY, Tag};

/// Takes a slab with room in `class` over from an idle heap. Returns whether it did. No lock is held at the call.
pub(crate) fn take_over(heap: *mut Heap, class: usize) -> bool {
    registry::find_idle(class, 4, |from| {
        // SAFETY: registry before heap, a second heap by try only (ranks). Both heaps' locks are held while the owner changes
        // (rule 3), and a block on its way home looks at nothing but the owner.
        unsafe {
            let _mine = lock(heap);
            let Some(theirs) = (*from).lock.try_lock() else {
                return false;
            };
            let (to_part, from_part) = (shared(heap), shared(from));
            let Some(&slab) = (*from_part).slabs[class]
                .iter()
                .find(|slab| !slab.is_null())
            else {
                slabs::note_idle_classes(from);
                drop(theirs);
                drain::look_again(from);
                return false;
            };
            slabs::unlink(from_part, slab);
            (*from_part).taken_from.add(class);
            let (slots, out) = (size_class::slots(class), (*slab).out());
            let bytes = out * size_class::size(class);
            (*from_part).slab_count[class] -= 1;
            (*from_part).slab_bytes -= slots * SLOT;
            (*from_part).out_blocks[class] -= out as u64;
            (*from_part).out_bytes -= bytes;
            (*from_part).carved_bytes -= (*slab).held_bytes();
            (*to_part).slab_count[class] += 1;
            (*to_part).slab_bytes += slots * SLOT;
            (*to_part).out_blocks[class] += out as u64;
            (*to_part).out_bytes += bytes;
            (*to_part).carved_bytes += (*slab).held_bytes();
            (*to_part).has_empty |= out == 0;
            (*to_part).holes.given(class, 0);
            (*slab).owner = (*heap).id;
            DIRECTORY.set((*slab).base, slots, Tag::new((*heap).id, class as u8));
            slabs::relist(to_part, slab);
            slabs::note_idle_classes(from);
            drop(theirs);
            drain::look_again(from);
            true
        }
    })
}
