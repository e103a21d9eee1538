//! Temporary stand-in so that everybody can compile; replaced by the real core.
use core::alloc::{GlobalAlloc, Layout};

use crate::knobs::{self, Config};

/// The allocator.
#[derive(Debug, Default)]
pub struct Hakmem {
    config: Config,
}

impl Hakmem {
    /// A handle to the process-wide allocator.
    pub const fn new() -> Self {
        Self::with_config(Config::new())
    }

    /// The same, with settings in code.
    pub const fn with_config(config: Config) -> Self {
        Self { config }
    }
}

unsafe impl GlobalAlloc for Hakmem {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        knobs::init(&self.config);
        let mut out = core::ptr::null_mut();
        let r = unsafe { libc::posix_memalign(&mut out, layout.align().max(16), layout.size()) };
        if r == 0 {
            out.cast()
        } else {
            core::ptr::null_mut()
        }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        unsafe { libc::free(ptr.cast()) }
    }
}
