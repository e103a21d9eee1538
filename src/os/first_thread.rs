//! Whether the process's first thread has ended. The kernel then tells nothing of the process's memory by the process's number.

use super::sys::{self, Errno};
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

/// A file in which the kernel tells of the process's memory: the process's own, and the calling thread's for when the first thread
/// has ended. Emulators know only the process's. Inlined, so that no table of addresses has to be relocated at each start.
#[derive(Clone, Copy)]
pub(crate) struct File {
    process: &'static CStr,
    thread: &'static CStr,
}

pub(crate) const MAPS: File = File {
    process: c"/proc/self/maps",
    thread: c"/proc/thread-self/maps",
};
pub(crate) const SMAPS: File = File {
    process: c"/proc/self/smaps",
    thread: c"/proc/thread-self/smaps",
};
pub(crate) const PAGEMAP: File = File {
    process: c"/proc/self/pagemap",
    thread: c"/proc/thread-self/pagemap",
};
pub(crate) const STATM: File = File {
    process: c"/proc/self/statm",
    thread: c"/proc/thread-self/statm",
};
pub(crate) const STATUS: File = File {
    process: c"/proc/self/status",
    thread: c"/proc/thread-self/status",
};

impl File {
    #[inline(always)]
    pub(crate) fn path(self) -> &'static CStr {
        if has_ended() {
            self.thread
        } else {
            self.process
        }
    }

    /// Opens it to read.
    #[inline(always)]
    pub(crate) fn open(self) -> Result<i32, Errno> {
        sys::open(self.path(), libc::O_RDONLY | libc::O_CLOEXEC, 0)
    }
}
