//! The allocator without `Layout`: the base for a C interface.
//!
//! Sizes are bytes, and alignments are powers of two. A failure returns a null pointer and never panics; `errno` is left alone.
//! Every function may be called from any thread. The [front page](crate#failure-and-misuse) says what happens on misuse. One
//! more address passes for a block: one that is exactly a multiple of the directory's span (4 to 16 TiB, less under RLIMIT_AS)
//! away from memory whose blocks the calling thread's heap owns.

use super::global::Hakmem;
use super::snapshot;
use super::stats::Stats;
use crate::base::size_class::MIN_ALIGN;
use crate::heap::{free_slow, hot, realloc as resize};
use crate::knobs;
use crate::os::message::message;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The caller for programs that set nothing in code.
static DEFAULT: Hakmem = Hakmem::new();

/// Whether [`drops_deepbind`] has reported what it does.
static MENTIONED: AtomicBool = AtomicBool::new(false);

/// A block of at least `size` bytes (0 counts as 1) at `align`. Null if `align` is no power of two.
///
/// ```
/// use hakmem_alloc::raw;
///
/// let block = raw::alloc(100, 4096);
/// assert!(block.addr().is_multiple_of(4096) && !block.is_null());
/// // SAFETY: the block is freed once.
/// unsafe { raw::dealloc(block) };
/// ```
#[inline]
pub fn alloc(size: usize, align: usize) -> *mut u8 {
    alloc_by(&DEFAULT, size, align)
}

/// As [`alloc`], with all `size` bytes zero.
///
/// ```
/// use hakmem_alloc::raw;
///
/// let block = raw::alloc_zeroed(100, 16);
/// // SAFETY: the block has 100 bytes and is freed once.
/// unsafe {
///     assert_eq!(block.add(99).read(), 0);
///     raw::dealloc(block);
/// }
/// ```
#[inline]
pub fn alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    alloc_zeroed_by(&DEFAULT, size, align)
}

/// As [`alloc`], on behalf of `hakmem`: its configuration counts if it is the first to allocate, and its
/// [`when_null`](Hakmem::when_null) is called.
///
/// ```
/// use hakmem_alloc::{Config, Hakmem, raw};
///
/// static HAKMEM: Hakmem = Hakmem::with_config(Config::new().purge_delay_ms(500));
/// let block = raw::alloc_by(&HAKMEM, 100, 16);
/// // SAFETY: the block is freed once.
/// unsafe { raw::dealloc(block) };
/// ```
#[inline]
pub fn alloc_by(hakmem: &'static Hakmem, size: usize, align: usize) -> *mut u8 {
    hot::alloc(grantable(size, align), align, Some(&hakmem.caller))
}

/// As [`alloc_by`], with all `size` bytes zero.
///
/// ```
/// use hakmem_alloc::{Hakmem, raw};
///
/// static HAKMEM: Hakmem = Hakmem::new();
/// let block = raw::alloc_zeroed_by(&HAKMEM, 100, 16);
/// // SAFETY: the block is freed once.
/// unsafe { raw::dealloc(block) };
/// ```
#[inline]
pub fn alloc_zeroed_by(hakmem: &'static Hakmem, size: usize, align: usize) -> *mut u8 {
    hot::alloc_zeroed(grantable(size, align), align, Some(&hakmem.caller))
}

/// As [`alloc`], for an alignment that the caller knows to be a power of two.
#[cfg(all(feature = "malloc", not(test), not(miri)))]
#[inline]
pub(crate) fn alloc_at(size: usize, align: usize) -> *mut u8 {
    hot::alloc(size, align, Some(&DEFAULT.caller))
}

/// `size`, or a size that every allocation refuses if `align` is no power of two: the layers below rely on one.
#[inline(always)]
fn grantable(size: usize, align: usize) -> usize {
    if align.is_power_of_two() {
        size
    } else {
        usize::MAX
    }
}

/// Frees a block. Null is ignored.
///
/// # Safety
/// `ptr` is null or a block of this allocator that is not used again.
///
/// ```
/// use hakmem_alloc::raw;
///
/// let block = raw::alloc(100, 16);
/// // SAFETY: the block is freed once; null is ignored.
/// unsafe {
///     raw::dealloc(block);
///     raw::dealloc(std::ptr::null_mut());
/// }
/// ```
#[inline]
pub unsafe fn dealloc(ptr: *mut u8) {
    // SAFETY: the caller's promise; null takes the slow path, which ignores it.
    unsafe { hot::free(ptr) }
}

/// Frees a block whose size and alignment are known. They are checked against the block's size class.
///
/// # Safety
/// As [`dealloc`], and the block was allocated with this `size` and `align`.
///
/// ```
/// use hakmem_alloc::raw;
///
/// let block = raw::alloc(100, 64);
/// // SAFETY: the block is freed once, by the size and alignment it was allocated with.
/// unsafe { raw::dealloc_sized(block, 100, 64) };
/// ```
#[inline]
pub unsafe fn dealloc_sized(ptr: *mut u8, size: usize, align: usize) {
    // SAFETY: the caller's promise.
    unsafe { hot::dealloc(ptr, size, align) }
}

/// Resizes a block, which may move. Returns null on failure; the block is then unchanged.
///
/// # Safety
/// `ptr` is a block of this allocator in use. It is not used again unless null is returned.
///
/// ```
/// use hakmem_alloc::raw;
///
/// // SAFETY: each block is used within its size; the last one is freed once.
/// unsafe {
///     let block = raw::alloc(100, 16);
///     block.write(7);
///     let block = raw::realloc(block, 10_000);
///     assert_eq!(block.read(), 7);
///     raw::dealloc(block);
/// }
/// ```
pub unsafe fn realloc(ptr: *mut u8, new_size: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { realloc_aligned(ptr, new_size, MIN_ALIGN) }
}

/// As [`realloc`], for a block allocated at `align`, which the new block keeps.
///
/// # Safety
/// As [`realloc`].
///
/// ```
/// use hakmem_alloc::raw;
///
/// // SAFETY: the block that realloc returns replaces the first, and is freed once.
/// unsafe {
///     let block = raw::realloc_aligned(raw::alloc(100, 4096), 10_000, 4096);
///     assert!(block.addr().is_multiple_of(4096));
///     raw::dealloc(block);
/// }
/// ```
pub unsafe fn realloc_aligned(ptr: *mut u8, new_size: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { resize::realloc(ptr, None, align, new_size) }
}

/// Bytes that the block holds; see [`crate::usable_size`].
///
/// # Safety
/// `ptr` is a block of this allocator in use.
///
/// ```
/// use hakmem_alloc::raw;
///
/// let block = raw::alloc(100, 16);
/// // SAFETY: all bytes that the block holds may be used; it is freed once.
/// unsafe {
///     block.write_bytes(1, raw::usable_size(block));
///     raw::dealloc(block);
/// }
/// ```
#[inline]
pub unsafe fn usable_size(ptr: *const u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { free_slow::usable_size(ptr, "usable size") }
}

/// Whether a library that replaces the C allocator drops RTLD_DEEPBIND, by `HAKMEM_DEEPBIND`. Under `HAKMEM_VERBOSE` the first
/// call reports it.
#[doc(hidden)]
pub fn drops_deepbind() -> bool {
    let knobs = knobs::get();
    // Relaxed: the flag only limits the number of messages.
    if knobs.verbose && !knobs.deepbind && !MENTIONED.swap(true, Relaxed) {
        message!(
            "RTLD_DEEPBIND is dropped, since the library would call glibc's malloc; HAKMEM_DEEPBIND=1 keeps it"
        );
    }
    !knobs.deepbind
}

/// Ends the maintenance thread (`HAKMEM_BACKGROUND`), then calls `call`, which needs a process of one thread: `unshare` or
/// `setns`, for example. The thread may start again afterwards. Threads started for a [region](crate::region) or for
/// `HAKMEM_SS_PREFAULT=async` stay.
///
/// Must not be called in a signal handler.
///
/// ```
/// use hakmem_alloc::raw;
///
/// // A call that needs a process of one thread: unshare(CLONE_NEWUSER), for example.
/// let id = raw::without_helper(std::process::id);
/// assert_eq!(id, std::process::id());
/// ```
pub fn without_helper<R>(call: impl FnOnce() -> R) -> R {
    crate::heap::maintain::without_helper(call)
}

/// Forks by `usual`, the C library's fork, or, in a signal handler that interrupted such a call, by `bare`, a fork that runs no
/// handlers. For libhakmem.so.
#[doc(hidden)]
pub fn fork(usual: impl FnOnce() -> i32, bare: impl FnOnce() -> i32) -> i32 {
    crate::heap::fork(usual, bare)
}

/// Calls `read` with a snapshot and room for its text, for a C interface. Works on threads with little stack too.
#[doc(hidden)]
pub fn with_stats(quick: bool, read: &mut dyn FnMut(&Stats, &mut [u8])) {
    snapshot::with_stats(quick, read);
}

/// Whether every block is checked. `None` before the first one.
#[doc(hidden)]
pub fn checks_each_block() -> Option<bool> {
    Some(knobs::known()?.check_one_in == 1)
}

/// Writes one line to stderr as this crate's own messages do, and aborts.
#[doc(hidden)]
pub fn fatal(text: core::fmt::Arguments<'_>) -> ! {
    crate::os::message::die(text)
}
