//! What `Heap::rest` says of an idle heap.

use crate::heap::data::heap::Heap;
use core::sync::atomic::Ordering::Relaxed;

/// What `Heap::rest` says of an idle heap's bins and stacks. They are empty, or a thread has them:
pub(crate) const EMPTY: u8 = 0;
/// they were left as they are;
pub(crate) const WHOLE: u8 = 1;
/// as before, and one look has passed;
pub(crate) const LOOKED: u8 = 2;
/// they are empty, but some slabs were kept that are.
pub(crate) const SLABS: u8 = 3;

/// Whether a heap's bins and stacks were left as they are. A hint, but to the holder of its lock.
///
/// # Safety
/// `heap` is a heap.
pub(crate) unsafe fn is_warm(heap: *mut Heap) -> bool {
    // SAFETY: heaps live for ever.
    matches!(unsafe { (*heap).rest.load(Relaxed) }, WHOLE | LOOKED)
}
