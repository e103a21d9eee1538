//! What a class's next slab is expected to use of its slot, so that the pool finds a slot that suits it. A program has a few
//! blocks in each of dozens of classes. Each such slab would keep a whole slot resident, neither used nor purged.

use crate::base::size_class::{self, CLASSES, Class};
use crate::base::tuning::pool::LIGHT;
use crate::heap::data::heap::HeldHeap;
use crate::pool::Usage;
use crate::slab::superslab::UNIT;
use core::sync::atomic::{AtomicU8, Ordering};

/// How much of its slot a slab of the class used lately, in [`UNIT`]s, in any heap; 0 as long as none was full or went. Relaxed:
/// a wrong guess costs a few pages.
static USED: [AtomicU8; CLASSES] = [const { AtomicU8::new(0) }; CLASSES];

/// Notes that a slab of `class`, of which `used` bytes were handed out, goes or is full.
pub(crate) fn retired(class: Class, used: usize) {
    let now = used.div_ceil(UNIT).min(usize::from(u8::MAX)) as u8;
    let known = USED[class].load(Ordering::Relaxed);
    // Half of what was known stays, so that a class that comes and goes is not taken for a small one.
    USED[class].store(now.max(known / 2), Ordering::Relaxed);
}

/// What the heap's next slab of the class is for. It is expected to use a page or two of its slot if it is the heap's only one,
/// and none used more lately.
pub(crate) fn usage(heap: &HeldHeap, class: Class) -> Usage {
    let slabs = heap.slab_count[class] as usize;
    if slabs > 0 {
        // A heap that asks for a second slab has filled the first.
        retired(class, size_class::capacity(class) * size_class::size(class));
    }
    let light =
        slabs == 0 && !size_class::is_run(class) && USED[class].load(Ordering::Relaxed) <= LIGHT;
    Usage::of_next(class, slabs, light)
}
