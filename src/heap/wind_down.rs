//! A process whose threads have ended but one, which only frees: what they were seen to come back for is not kept for them.
//!
//! Retained memory that nobody needs goes once the purge delay has passed, but a process that only waits from here on may
//! have nobody to see it pass: the maintenance thread is there for much alone.

use super::registry;
use crate::knobs;
use crate::os::clock;
use crate::pool;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A thread only frees what others took, and nobody opened a slab since. When memory is given back depends on it, and
/// nothing else does, so Relaxed, here and below.
static WINDING_DOWN: AtomicBool = AtomicBool::new(false);
/// When that last had consequences.
static FORGOT_MS: AtomicU64 = AtomicU64::new(0);

/// A thread only frees what others took. Where no other thread has a heap, what the pool learnt is forgotten at once;
/// but not again within the delay: programs whose threads come and go in waves would have to take it again with each. No
/// lock may be held.
pub(super) fn only_frees() {
    if registry::live_count() > 1 {
        return WINDING_DOWN.store(true, Relaxed);
    }
    let (now, last) = (clock::now_ms(), FORGOT_MS.load(Relaxed));
    if last == 0 || now.saturating_sub(last) >= u64::from(knobs::get().purge_delay_ms) {
        FORGOT_MS.store(now, Relaxed);
        pool::forget_swing();
    }
}

/// A thread has ended, and its heap is idle. No lock may be held.
pub(super) fn ended() {
    if WINDING_DOWN.load(Relaxed) && registry::live_count() <= 1 {
        WINDING_DOWN.store(false, Relaxed);
        only_frees();
    }
}

/// A thread opens a slab.
#[inline]
pub(super) fn grew() {
    if WINDING_DOWN.load(Relaxed) {
        WINDING_DOWN.store(false, Relaxed);
    }
}
