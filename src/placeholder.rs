//! Temporary stand-in so that everybody can compile; replaced by the real core.
use core::alloc::{GlobalAlloc, Layout};

/// The allocator.
#[derive(Debug, Default)]
pub struct Hakmem(());

impl Hakmem {
    /// A handle to the process-wide allocator.
    pub const fn new() -> Self {
        Self(())
    }
}

unsafe impl GlobalAlloc for Hakmem {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
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
