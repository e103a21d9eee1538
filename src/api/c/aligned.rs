//! The members of the family that take an alignment. Each refuses what glibc refuses, in glibc's way.

use super::errno::{answer, fail, set};
use super::os_page;
use crate::api::raw;
use core::ffi::{c_int, c_void};

/// glibc's least block: what smaller alignments of `memalign` are raised to.
const LEAST: usize = 16;

/// `posix_memalign`. EINVAL for an alignment that is no power of two or no multiple of a pointer's size, ENOMEM for
/// want of memory; `*out` is written on success alone.
///
/// # Safety
/// `out` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    let block = raw::alloc(size, align.max(LEAST));
    if block.is_null() {
        // POSIX leaves it open; glibc does.
        set(libc::ENOMEM);
        return libc::ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { *out = block.cast() };
    0
}

/// `aligned_alloc`. EINVAL for an alignment that is no power of two (glibc from 2.38 on; before, as [`memalign`]).
/// The size need not be a multiple of it.
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        return fail(libc::EINVAL);
    }
    answer(raw::alloc(size, align.max(LEAST)))
}

/// `memalign`. An alignment that is no power of two is raised to the next one, as glibc does; one that has none is
/// EINVAL.
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    match align.max(LEAST).checked_next_power_of_two() {
        Some(align) => answer(raw::alloc(size, align)),
        None => fail(libc::EINVAL),
    }
}

/// `valloc`: a block that starts an OS page.
#[unsafe(no_mangle)]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    answer(raw::alloc(size, os_page()))
}

/// `pvalloc`: whole OS pages.
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    let page = os_page();
    match size.checked_next_multiple_of(page) {
        Some(size) => answer(raw::alloc(size, page)),
        None => fail(libc::ENOMEM),
    }
}
