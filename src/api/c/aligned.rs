//! The functions of the family that take an alignment. Each refuses what glibc refuses, as glibc does.

use super::errno::{answer, fail, set};
use super::os_page;
use crate::api::raw;
use core::ffi::{c_int, c_void};

/// The alignment of every block in glibc. Smaller alignments are raised to it.
const LEAST: usize = 16;

/// `posix_memalign`. Returns EINVAL for an alignment that is no power of two or no multiple of a pointer's size, and ENOMEM if
/// memory is out. `*out` is written only on success.
///
/// # Safety
/// `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let block = raw::alloc_at(size, align.max(LEAST));
    if block.is_null() {
        // POSIX leaves `errno` open; glibc sets it.
        set(libc::ENOMEM);
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { *out = block.cast() };
    0
}

/// `aligned_alloc`. EINVAL for an alignment that is no power of two (as glibc from 2.38 on; before, it did as [`memalign`]).
/// The size need not be a multiple of the alignment.
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        return fail(libc::EINVAL);
    }
    answer(raw::alloc_at(size, align.max(LEAST)))
}

/// `memalign`. Raises an alignment that is no power of two to the next one, as glibc does. EINVAL if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    match align.max(LEAST).checked_next_power_of_two() {
        Some(align) => answer(raw::alloc_at(size, align)),
        None => fail(libc::EINVAL),
    }
}

/// `valloc`: a block that starts at an OS page.
#[unsafe(no_mangle)]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    answer(raw::alloc_at(size, os_page()))
}

/// `pvalloc`: whole OS pages.
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    let page = os_page();
    match size.checked_next_multiple_of(page) {
        Some(size) => answer(raw::alloc_at(size, page)),
        None => fail(libc::ENOMEM),
    }
}
