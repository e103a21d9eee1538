//! Heaps that a fork left behind.

use crate::heap::data::heap::Heap;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Heaps that a fork left behind, and that still hold what their threads held. A hint but to those who hold the lock of
/// such a heap, as `Heap::torn` is.
pub(crate) static TORN: AtomicUsize = AtomicUsize::new(0);

/// Whether a fork left the heap behind; not any more.
///
/// # Safety
/// The caller holds `heap`'s lock, and sends home what the private part holds.
pub(crate) unsafe fn was_torn(heap: *mut Heap) -> bool {
    // SAFETY: heaps live for ever.
    let torn = unsafe { (*heap).torn.swap(false, Ordering::Relaxed) };
    if torn {
        TORN.fetch_sub(1, Ordering::Relaxed);
    }
    torn
}
