//! What a class's next slab is expected to use of its slot, so that the pool finds a slot that suits it: a program has a
//! few blocks in each of dozens of classes, and each such slab would hold on to a whole slot of resident memory, which
//! could neither be used nor purged.

use super::heap::{Heap, Shared, lock, shared};
use crate::base::size_class;
use crate::slab::superslab::{LIGHT, UNIT};

/// Notes that a slab of `class` goes, of which `used` bytes were handed out.
///
/// # Safety
/// The caller holds the lock of the heap that `part` belongs to.
pub(super) unsafe fn retired(part: *mut Shared, class: usize, used: usize) {
    // SAFETY: the lock is held.
    let known = unsafe { &mut (*part).used[class] };
    // Half of what was known stays, so that a class that comes and goes is not taken for a small one.
    *known = (used.div_ceil(UNIT).min(usize::from(u8::MAX)) as u8).max(*known / 2);
}

/// Whether the class's next slab is expected to use a page or two of its slot: it would be the only one, and none used
/// more of late.
///
/// # Safety
/// `heap` is a heap of the registry, and its lock is not the caller's.
pub(super) unsafe fn light(heap: *mut Heap, class: usize) -> bool {
    if size_class::is_run(class) {
        return false;
    }
    // SAFETY: the lock is held for the look.
    unsafe {
        let _guard = lock(heap);
        let part = shared(heap);
        (*part).slab_count[class] == 0 && (*part).used[class] <= LIGHT
    }
}
