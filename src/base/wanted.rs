//! Whether a thread is to look if the maintenance thread is wanted.
//!
//! Every slow path asks, so asking is one load. Whatever may make it wanted notes it: more lies idle, as far as the account was
//! told; the process has a second thread, for which less is much; it was forked, and the thread is not there; or a start was
//! refused.

use core::sync::atomic::{AtomicBool, Ordering};

static NOTED: AtomicBool = AtomicBool::new(false);

/// Has the next slow path of any thread look, after the account was told.
#[inline]
pub(crate) fn note() {
    if !NOTED.load(Ordering::Relaxed) {
        // Release: whoever looks sees what was told.
        NOTED.store(true, Ordering::Release);
    }
}

/// Whether the caller is to look.
#[inline]
pub(crate) fn take() -> bool {
    NOTED.load(Ordering::Relaxed) && NOTED.swap(false, Ordering::Acquire)
}
