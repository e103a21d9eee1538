//! Whether the process's first thread has ended. The kernel then tells nothing of the process's memory by the process's number.

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Relaxed: whoever misses it is answered as before.
static ENDED: AtomicBool = AtomicBool::new(false);

pub(crate) fn note(ended: bool) {
    ENDED.store(ended, Relaxed);
}

pub(crate) fn has_ended() -> bool {
    ENDED.load(Relaxed)
}

/// Of a file of the process and the same file of the calling thread, the one that tells of memory. Emulators know only the
/// process's.
pub(crate) fn file_of_memory(process: &'static CStr, thread: &'static CStr) -> &'static CStr {
    if has_ended() { thread } else { process }
}
