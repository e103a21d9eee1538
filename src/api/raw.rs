//! The allocator without `Layout`: what a C interface is built on.
//!
//! Sizes are bytes; alignments are powers of two. A failure is a null pointer, never a panic; `errno` is left alone.
//! Every function may be called from any thread. A freed pointer into memory that this allocator does not use for blocks
//! ends the process with one line on stderr and SIGABRT, and so do a second free and a free inside a block where they are
//! noticed (docs/hardening.md says when). One kind of address slips through: exactly a multiple of the directory's
//! span (at least 4 TiB, less under RLIMIT_AS) away from memory whose blocks the calling thread owns.

use super::global::Hakmem;
use super::snapshot;
use super::stats::Stats;
use crate::base::size_class::MIN_ALIGN;
use crate::heap::{free_slow, hot, realloc as resize};
use crate::knobs;
use crate::os::message::message;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Who asks where nothing is set in code.
static DEFAULT: Hakmem = Hakmem::new();

/// [`drops_deepbind`] has said what it does.
static MENTIONED: AtomicBool = AtomicBool::new(false);

/// A block of at least `size` bytes (0 counts as 1) at `align`.
#[inline]
pub fn alloc(size: usize, align: usize) -> *mut u8 {
    alloc_by(&DEFAULT, size, align)
}

/// As [`alloc`], with all `size` bytes zero.
#[inline]
pub fn alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    alloc_zeroed_by(&DEFAULT, size, align)
}

/// As [`alloc`], for whom `hakmem` was made: its configuration counts if it is the first, and its
/// [`when_null`](Hakmem::when_null) is called.
#[inline]
pub fn alloc_by(hakmem: &'static Hakmem, size: usize, align: usize) -> *mut u8 {
    debug_assert!(align.is_power_of_two());
    hot::alloc(size, align, Some(&hakmem.caller))
}

/// As [`alloc_by`], with all `size` bytes zero.
#[inline]
pub fn alloc_zeroed_by(hakmem: &'static Hakmem, size: usize, align: usize) -> *mut u8 {
    debug_assert!(align.is_power_of_two());
    hot::alloc_zeroed(size, align, Some(&hakmem.caller))
}

/// Frees a block. Null is ignored.
///
/// # Safety
/// `ptr` is null or a block of this allocator that is not used again.
#[inline]
pub unsafe fn dealloc(ptr: *mut u8) {
    // SAFETY: the caller's promise; null takes the slow path, which ignores it.
    unsafe { hot::free(ptr) }
}

/// Frees a block whose size and alignment are known: checked against the block's size class.
///
/// # Safety
/// As [`dealloc`], and the block was allocated with this `size` and `align`.
#[inline]
pub unsafe fn dealloc_sized(ptr: *mut u8, size: usize, align: usize) {
    // SAFETY: the caller's promise.
    unsafe { hot::dealloc(ptr, size, align) }
}

/// Resizes a block, which may move. On failure the answer is null and the block as it was.
///
/// # Safety
/// `ptr` is a block of this allocator in use; it is gone unless the answer is null.
pub unsafe fn realloc(ptr: *mut u8, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { realloc_aligned(ptr, new_size, MIN_ALIGN) }
}

/// As [`realloc`], for a block allocated at `align`, which is kept.
///
/// # Safety
/// As [`realloc`].
pub unsafe fn realloc_aligned(ptr: *mut u8, new_size: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { resize::realloc(ptr, free_slow::usable_size(ptr, "realloc"), align, new_size) }
}

/// Bytes that the block holds; see [`crate::usable_size`].
///
/// # Safety
/// `ptr` is a block of this allocator in use.
#[inline]
pub unsafe fn usable_size(ptr: *const u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { free_slow::usable_size(ptr, "usable size") }
}

/// For a library that stands in for the C allocator: `known` is asked about every address given to [`dealloc`] that is not
/// a block of ours; where it answers true the call does nothing, instead of ending the process.
#[doc(hidden)]
pub fn set_foreign(known: fn(*mut u8) -> bool) {
    free_slow::set_foreign(known);
}

/// For a library that stands in for the C allocator, whether it is to drop RTLD_DEEPBIND: as `HAKMEM_DEEPBIND` says.
/// Under `HAKMEM_VERBOSE` the first call says so.
#[doc(hidden)]
pub fn drops_deepbind() -> bool {
    let knobs = knobs::get();
    // Relaxed: the flag guards nothing but the number of messages.
    if knobs.verbose && !knobs.deepbind && !MENTIONED.swap(true, Relaxed) {
        message!(
            "RTLD_DEEPBIND is dropped, for the library would call glibc's malloc; HAKMEM_DEEPBIND=1 keeps it"
        );
    }
    !knobs.deepbind
}

/// Calls `call`, which needs the process to have one thread: `unshare` or `setns`, for example. The maintenance thread
/// (`HAKMEM_BACKGROUND`) has ended before, and may come again afterwards. Threads that a
/// [region](crate::region) or `HAKMEM_SS_PREFAULT=async` asked for stay.
///
/// Not for a signal handler.
pub fn without_helper<R>(call: impl FnOnce() -> R) -> R {
    crate::heap::maintain::without_helper(call)
}

/// Calls `read` with a snapshot and room for its text, on a thread with little stack as well: for a C interface.
#[doc(hidden)]
pub fn with_stats(quick: bool, read: &mut dyn FnMut(&Stats, &mut [u8])) {
    snapshot::with_stats(quick, read);
}

/// Writes one line to stderr, by the rules of this crate's own messages, and aborts.
#[doc(hidden)]
pub fn fatal(text: core::fmt::Arguments<'_>) -> ! {
    crate::os::message::die(text)
}
