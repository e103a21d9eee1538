//! The functions that `hakmem.h` declares beyond the malloc family. The header documents them; the comments here say why.

use core::ffi::{c_char, c_int};
use core::slice;
use hakmem_alloc::Buffer;

/// `hakmem_stats`. Fields are only added at the end. `struct_size`, set by the caller, says which of them the caller knows.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct HakmemStats {
    struct_size: u64,
    live_blocks: u64,
    live_bytes: u64,
    mapped_bytes: u64,
    retained_bytes: u64,
    returned_bytes: u64,
    superslabs_mapped: u64,
    superslabs_in_use: u64,
    superslabs_retained: u64,
    superslabs_purged: u64,
    slabs: u64,
    large_live_blocks: u64,
    large_live_bytes: u64,
    large_cached_bytes: u64,
    heaps_live: u64,
    heaps_idle: u64,
    batches_posted: u64,
    batches_drained: u64,
    huge_page_requested_bytes: u64,
    huge_page_achieved_bytes: u64,
    prefault_calls: u64,
    prefault_bytes: u64,
    failures: u64,
    metadata_bytes: u64,
    held_bytes: u64,
    peak_bytes: u64,
    process_resident_bytes: u64,
    process_peak_bytes: u64,
    process_page_faults: u64,
}

/// The first version of the header had the fields up to here.
const LEAST: usize = size_of::<HakmemStats>();

/// Fills in a `hakmem_stats`.
///
/// # Safety
/// `out` is readable at its first word and writable for as many bytes as that says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hakmem_stats_get(out: *mut HakmemStats) -> c_int {
    if out.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: the caller's promise.
    let known = unsafe { (*out).struct_size };
    let Ok(known) = usize::try_from(known) else {
        return libc::EINVAL;
    };
    if known < LEAST {
        return libc::EINVAL;
    }
    let stats = hakmem_alloc::stats();
    let filled = HakmemStats {
        struct_size: LEAST as u64,
        live_blocks: stats.live_blocks(),
        live_bytes: stats.live_bytes(),
        mapped_bytes: stats.bytes.mapped,
        retained_bytes: stats.bytes.retained,
        returned_bytes: stats.bytes.returned,
        superslabs_mapped: stats.superslabs.mapped,
        superslabs_in_use: stats.superslabs.in_use,
        superslabs_retained: stats.superslabs.retained,
        superslabs_purged: stats.superslabs.purged,
        slabs: stats.slabs(),
        large_live_blocks: stats.large.live_blocks,
        large_live_bytes: stats.large.live_bytes,
        large_cached_bytes: stats.large.cached_bytes,
        heaps_live: stats.heaps.live,
        heaps_idle: stats.heaps.idle,
        batches_posted: stats.batches.posted,
        batches_drained: stats.batches.drained,
        huge_page_requested_bytes: stats.huge_pages.requested_bytes,
        huge_page_achieved_bytes: stats.huge_pages.achieved_bytes.unwrap_or(u64::MAX),
        prefault_calls: stats.prefault.calls,
        prefault_bytes: stats.prefault.bytes,
        failures: stats.failures.iter().map(|failure| failure.count).sum(),
        metadata_bytes: stats.bytes.metadata,
        held_bytes: stats.bytes.held,
        peak_bytes: stats.bytes.peak,
        process_resident_bytes: stats.process.resident_bytes.unwrap_or(u64::MAX),
        process_peak_bytes: stats.process.peak_resident_bytes.unwrap_or(u64::MAX),
        process_page_faults: stats.process.page_faults.unwrap_or(u64::MAX),
    };
    // SAFETY: the caller's struct is at least as long as this one.
    unsafe { out.write(filled) };
    0
}

/// The statistics as JSON, by the rules of `snprintf`.
///
/// # Safety
/// `buffer` is writable for `size` bytes. It may be null if `size` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hakmem_stats_json(buffer: *mut c_char, size: usize) -> usize {
    let room: &mut [u8] = if buffer.is_null() || size == 0 {
        &mut []
    } else {
        // SAFETY: the caller's promise.
        unsafe { slice::from_raw_parts_mut(buffer.cast(), size) }
    };
    let mut out = Buffer::new(room);
    // A buffer takes everything and never fails.
    let _ = hakmem_alloc::stats().write_json(&mut out);
    out.finish()
}

/// Gives back to the system what can be given back now. Returns the bytes.
#[unsafe(no_mangle)]
pub extern "C" fn hakmem_purge() -> usize {
    hakmem_alloc::purge()
}

/// Populates superslabs ahead of their use. Returns how many.
#[unsafe(no_mangle)]
pub extern "C" fn hakmem_prewarm(superslabs: usize) -> usize {
    hakmem_alloc::prewarm(superslabs)
}

/// The version of the library that runs, which may be newer than the header's.
#[unsafe(no_mangle)]
pub extern "C" fn hakmem_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
