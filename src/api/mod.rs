//! The public interface.

#[cfg(feature = "allocator-api2")]
mod allocator;
// Not in unit tests: they make the kernel fail, and the test harness itself would be served.
#[cfg(all(feature = "malloc", not(test), not(miri)))]
pub(crate) mod c;
pub(crate) mod global;
pub mod raw;
pub(crate) mod snapshot;
pub(crate) mod stats;

use crate::knobs::StatsMode;
use crate::os::{message, thread};
use crate::{heap, knobs, pool};

/// Whether the allocator serves. Miri knows neither its mappings nor its assembly: there the system allocator is the global
/// one, and statistics and purges find nothing.
pub(crate) const SERVES: bool = !cfg!(miri);

/// Maps and populates `superslabs` superslabs (2 MiB each) now, so that blocks in them take no page fault later. Returns how
/// many were populated: fewer if memory ran out or a limit ended it. Where addresses are limited, 4 MiB of them are left. Any
/// thread may call it. On a machine of several NUMA nodes the memory lies on the node of the calling thread, and serves that
/// node's threads.
///
/// ```
/// // Before the first request: 8 MiB that will take no page fault.
/// let populated = hakmem_alloc::prewarm(4);
/// assert!(populated <= 4);
/// ```
pub fn prewarm(superslabs: usize) -> usize {
    if SERVES && heap::ensure_ready() {
        pool::prewarm(knobs::get(), superslabs)
    } else {
        0
    }
}

/// Gives back to the kernel what can be given back now, OS pages between live blocks included. Returns the bytes. Free
/// blocks in the bins of running threads stay there. Any thread may call it.
///
/// ```
/// // After a phase that needed much, if the next one does not.
/// let bytes = hakmem_alloc::purge();
/// println!("{bytes} bytes went back to the kernel");
/// ```
pub fn purge() -> usize {
    if SERVES && heap::ensure_ready() {
        heap::maintain::purge_now()
    } else {
        0
    }
}

/// Bytes that the block at `ptr` holds, at least as many as were requested. All of them may be used.
///
/// # Safety
/// `ptr` came from this allocator and was not freed.
///
/// ```
/// use hakmem_alloc::{raw, usable_size};
///
/// let block = raw::alloc(1000, 16);
/// // SAFETY: a block in use; it is freed once.
/// unsafe {
///     assert!(usable_size(block) >= 1000);
///     raw::dealloc(block);
/// }
/// ```
pub unsafe fn usable_size(ptr: *const u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { heap::free_slow::usable_size(ptr, "usable size") }
}

/// Called once, when the allocator is ready.
fn at_ready() {
    let knobs = knobs::get();
    if knobs.stats != StatsMode::Off {
        if knobs.stats_file().is_none() {
            // Some programs close stderr before they end, and so before the statistics are printed.
            message::keep_stderr();
        }
        // SAFETY: a plain function; the object that contains it stays loaded or ends with the C library's handlers for it. If
        // it cannot be registered, nothing is printed.
        unsafe { libc::atexit(print_at_exit) };
    }
}

extern "C" fn print_at_exit() {
    let knobs = knobs::get();
    let pid = thread::pid();
    snapshot::with_stats(false, &mut |stats, room| {
        stats::exit::print(stats, room, knobs.stats, knobs.stats_file(), pid);
    });
}
