//! malloc, free, calloc, realloc and their variants.

use super::errno::{HAKMEM, answer, fail};
use crate::api::raw;
use core::ffi::c_void;
use core::ptr;

/// The alignment of every block: that of `max_align_t`.
const ALIGN: usize = 16;

/// `malloc`. A block of 0 bytes is a block like any other.
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: usize) -> *mut c_void {
    raw::alloc_by(&HAKMEM, size, ALIGN).cast()
}

/// `free`. Null is ignored and `errno` kept.
///
/// # Safety
/// `block` is null or a block that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { raw::dealloc(block.cast()) }
}

/// `cfree`, the name of `free` on some old systems.
///
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { raw::dealloc(block.cast()) }
}

/// `free_sized` of C23, for blocks of `malloc`, `calloc` and `realloc`. A size of another class ends the process, except a
/// smaller class down to half of the block's. For a checked or guarded block any size but the one asked for does.
///
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(block: *mut c_void, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { raw::dealloc_sized(block.cast(), size, ALIGN) }
}

/// `free_aligned_sized` of C23, for blocks asked for at an alignment; see [`free_sized`].
///
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, align: usize, size: usize) {
    if !align.is_power_of_two() {
        // SAFETY: the caller's promise.
        return unsafe { raw::dealloc(block.cast()) };
    }
    // SAFETY: the caller's promise.
    unsafe { raw::dealloc_sized(block.cast(), size, align) }
}

/// `calloc`. ENOMEM if the product overflows.
#[unsafe(no_mangle)]
pub extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => raw::alloc_zeroed_by(&HAKMEM, bytes, ALIGN).cast(),
        None => fail(libc::ENOMEM),
    }
}

/// `realloc`. Of null it is [`malloc`]. To 0 bytes it frees, returns null and leaves `errno` alone. On failure the block stays.
///
/// # Safety
/// `block` is null or a block in use. It is not used again unless the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if block.is_null() {
        return malloc(size);
    }
    if size == 0 {
        // SAFETY: the caller's promise.
        unsafe { raw::dealloc(block.cast()) };
        return ptr::null_mut();
    }
    // SAFETY: the caller's promise.
    answer(unsafe { raw::realloc(block.cast(), size) })
}

/// `reallocarray`: [`realloc`] to a product. ENOMEM if the product overflows.
///
/// # Safety
/// As [`realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(
    block: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's promise.
        Some(bytes) => unsafe { realloc(block, bytes) },
        None => fail(libc::ENOMEM),
    }
}

/// `malloc_usable_size`: how many bytes may be used; 0 of null.
///
/// # Safety
/// `block` is null or a block in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { raw::usable_size(block.cast()) }
}
