//! Taking over a slab with room from an idle heap.

use crate::base::size_class::{self, Class};
use crate::base::tuning::idle_heaps::TAKE_OVER_LOOKS;
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::registry;
use crate::heap::home::drain;
use crate::heap::slabs::slabs;
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::slab::Slab;

/// Takes a slab with room in `class` over from an idle heap. Returns whether it did. No lock is held at the call.
pub(crate) fn take_over(heap: HeapRef, class: Class) -> bool {
    let mut errands = Errands::NONE;
    let found = registry::find_idle(class, TAKE_OVER_LOOKS, |from| {
        // Registry before heap, a second heap by try only (ranks). Both heaps' locks are held while the owner changes (rule 3), and
        // a block on its way back looks at nothing but the owner.
        let mut mine = heap.lock();
        let Some(mut theirs) = from.try_lock() else {
            return false;
        };
        let slab = theirs.slabs[class].into_iter().find(|slab| !slab.is_null());
        if let Some(slab) = slab {
            // SAFETY: a slab that `theirs` lists.
            unsafe { hand_over(&mut theirs, &mut mine, slab, class) };
        }
        slabs::note_idle_classes(&theirs);
        errands.add(drain::release(theirs));
        slab.is_some()
    });
    errands.run();
    found
}

/// Makes the slab of one heap the other's.
///
/// # Safety
/// `from` lists the slab, of `class`.
unsafe fn hand_over(from: &mut HeldHeap, to: &mut HeldHeap, slab: *mut Slab, class: Class) {
    // SAFETY: the caller's promise.
    unsafe {
        slabs::unlink(from, slab);
        from.taken_from.add(class);
        let (slots, allocated) = (size_class::slots(class), (*slab).allocated());
        let bytes = allocated * size_class::size(class);
        from.slab_count[class] -= 1;
        from.slab_bytes -= slots.bytes();
        from.allocated_blocks[class] -= allocated as u64;
        from.allocated_bytes -= bytes;
        from.carved_bytes -= (*slab).held_bytes();
        to.slab_count[class] += 1;
        to.slab_bytes += slots.bytes();
        to.allocated_blocks[class] += allocated as u64;
        to.allocated_bytes += bytes;
        to.carved_bytes += (*slab).held_bytes();
        to.has_empty |= allocated == 0;
        to.holes.given(class, 0);
        let id = to.heap().id;
        (*slab).owner = id;
        DIRECTORY.set((*slab).base, slots, Tag::new(id, class));
        slabs::relist(to, slab);
    }
}
