//! The values of `Heap::rest`.

use crate::heap::data::heap::HeapRef;
use core::sync::atomic::Ordering::Relaxed;

/// An idle heap's bins and stacks are empty, or a thread has the heap.
pub(crate) const EMPTY: u8 = 0;
/// They were left as they are.
pub(crate) const WHOLE: u8 = 1;
/// They were left as they are, and were looked at once.
pub(crate) const LOOKED: u8 = 2;
/// They are empty, but empty slabs were kept.
pub(crate) const SLABS: u8 = 3;

/// Whether an idle heap's bins and stacks were left as they are. A hint to all but the holder of its lock.
pub(crate) fn is_warm(heap: HeapRef) -> bool {
    matches!(heap.rest.load(Relaxed), WHOLE | LOOKED)
}
