//! What a class's next slab is expected to use of its slot, so that the pool finds a slot that suits it: a program has a
//! few blocks in each of dozens of classes, and each such slab would hold on to a whole slot of resident memory, which
//! could neither be used nor purged.

use crate::base::size_class::{self, CLASSES};
use crate::heap::data::heap::{Heap, shared};
use crate::pool::Usage;
use crate::slab::superslab::{LIGHT, UNIT};
use core::sync::atomic::{AtomicU8, Ordering};

/// How much of its slot a slab of the class used lately, in units of the pool, in whatever heap; 0 where no slab of it
/// ever went. Relaxed: a wrong guess costs a few pages.
static USED: [AtomicU8; CLASSES] = [const { AtomicU8::new(0) }; CLASSES];

/// Notes that a slab of `class` goes, of which `used` bytes were handed out.
pub(crate) fn retired(class: usize, used: usize) {
    let now = used.div_ceil(UNIT).min(usize::from(u8::MAX)) as u8;
    let known = USED[class].load(Ordering::Relaxed);
    // Half of what was known stays, so that a class that comes and goes is not taken for a small one.
    USED[class].store(now.max(known / 2), Ordering::Relaxed);
}

/// What the heap's next slab of the class is for. A page or two of its slot are expected to be used where it would be the
/// heap's only one, and none used more of late.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn usage(heap: *mut Heap, class: usize) -> Usage {
    // SAFETY: the caller's promise.
    let slabs = unsafe { (*shared(heap)).slab_count[class] as usize };
    if slabs > 0 {
        // One that asks for a second has filled the first.
        retired(class, size_class::capacity(class) * size_class::size(class));
    }
    let light =
        slabs == 0 && !size_class::is_run(class) && USED[class].load(Ordering::Relaxed) <= LIGHT;
    Usage::of_next(class, slabs, light)
}
