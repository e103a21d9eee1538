//! Heaps that a fork left behind.

use crate::heap::data::heap::HeldHeap;
use core::sync::atomic::{AtomicUsize, Ordering};

/// How many heaps that a fork left behind still hold what their threads held. A hint to all but the holders of their locks.
pub(crate) static TORN: AtomicUsize = AtomicUsize::new(0);

/// Whether a fork left the heap behind. Clears the mark: the caller sends what the private part holds back to its slabs.
pub(crate) fn was_torn(held: &HeldHeap) -> bool {
    let torn = held.heap().torn.swap(false, Ordering::Relaxed);
    if torn {
        TORN.fetch_sub(1, Ordering::Relaxed);
    }
    torn
}
