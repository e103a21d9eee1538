//! `errno` as glibc's family sets it: ENOMEM or EINVAL on failure, unchanged on success.

use crate::api::global::Hakmem;
use core::ffi::c_void;
use core::ptr;

pub(crate) fn set(value: i32) {
    // SAFETY: the C library's own location for this thread.
    unsafe { *libc::__errno_location() = value };
}

/// Sets `errno` and returns null.
#[cold]
#[inline(never)]
pub(crate) fn fail(value: i32) -> *mut c_void {
    set(value);
    ptr::null_mut()
}

/// The allocator as the C functions call it: null sets ENOMEM, at no cost to a call that succeeds.
pub(crate) static HAKMEM: Hakmem = Hakmem::new().when_null(|| set(libc::ENOMEM));

/// A block as a C pointer. Null sets ENOMEM.
#[inline(always)]
pub(crate) fn answer(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        return fail(libc::ENOMEM);
    }
    block.cast()
}
