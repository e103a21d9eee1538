//! Fills a [`Stats`] from the counts of the layers.

use super::SERVES;
use super::stats::{Stats, achieved, process};
use crate::base::account;
use crate::base::units::{CACHE_LINE, SUPERSLAB};
use crate::guarded;
use crate::heap;
use crate::large;
use crate::os::{mapping, numa};
use crate::pool;
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::meta;
use core::sync::atomic::Ordering;

/// A snapshot of what the allocator holds. Reads every heap in turn, and asks the kernel for the huge pages it gave and for its
/// counts of the process. That reads `/proc/self/smaps`: milliseconds in a large process, during which other threads' `mmap`
/// waits ([`stats_quick`] avoids that). Allocates nothing; any thread with 16 KiB of stack left may call it. [`Stats`] says
/// what is exact.
///
/// ```
/// let stats = hakmem_alloc::stats();
/// println!("{stats}"); // `{stats:#}` adds a table of the size classes
/// assert!(stats.bytes.peak >= stats.bytes.held);
/// ```
pub fn stats() -> Stats {
    let mut stats = Stats::empty();
    fill(&mut stats, false);
    stats
}

/// As [`stats`], but from the allocator's own accounting only. The kernel is not asked, so
/// [`achieved_bytes`](super::stats::HugePageStats::achieved_bytes) and all of [`process`](super::stats::Stats::process) are
/// `None`. Takes microseconds, for monitoring.
///
/// ```
/// let stats = hakmem_alloc::stats_quick();
/// println!("live {} held {}", stats.live_bytes(), stats.bytes.held);
/// assert_eq!(stats.process.resident_bytes, None); // the kernel was not asked
/// ```
pub fn stats_quick() -> Stats {
    let mut stats = Stats::empty();
    fill(&mut stats, true);
    stats
}

/// Bytes of room for a snapshot's text, whose longest form has some 20 KiB.
const TEXT: usize = 64 << 10;

/// Calls `read` with a snapshot and room for its text, both in a mapping made for this call, because a thread may have little
/// stack. If the mapping is refused, they lie on the stack, with less room.
pub(crate) fn with_stats(quick: bool, read: &mut dyn FnMut(&Stats, &mut [u8])) {
    const HEAD: usize = size_of::<Stats>().next_multiple_of(64);
    match mapping::map_aligned(HEAD + TEXT, CACHE_LINE, None) {
        Ok(map) => {
            let stats = map.addr as *mut Stats;
            // SAFETY: the mapping belongs to this call, is long enough for both, aligned to an OS page, and written above or
            // zero. No reference into it outlives `read`.
            unsafe {
                write_empty(stats);
                fill(&mut *stats, quick);
                let room = core::slice::from_raw_parts_mut((map.addr + HEAD) as *mut u8, TEXT);
                read(&*stats, room);
                mapping::abandon(map);
            }
        }
        Err(_) => on_stack(quick, read),
    }
}

#[cold]
#[inline(never)]
fn on_stack(quick: bool, read: &mut dyn FnMut(&Stats, &mut [u8])) {
    let mut stats = Stats::empty();
    fill(&mut stats, quick);
    read(&stats, &mut [0; 512]);
}

/// Not inlined, so that the temporary does not stay on the caller's stack.
///
/// # Safety
/// `stats` is aligned, has room for a value, and may be written.
#[inline(never)]
unsafe fn write_empty(stats: *mut Stats) {
    // SAFETY: as the caller promises.
    unsafe { stats.write(Stats::empty()) };
}

#[inline(never)]
fn fill(stats: &mut Stats, quick: bool) {
    if !SERVES || !heap::ensure_ready() {
        return;
    }
    fill_from_heaps(stats);
    let pool = pool::counts();
    stats.superslabs.mapped = pool.mapped as u64;
    stats.superslabs.in_use = pool.in_use as u64;
    stats.superslabs.retained = pool.retained as u64;
    stats.superslabs.purged = pool.purged as u64;
    stats.superslabs.pools = numa::count() as u64;
    let blocks = large::counts();
    stats.large.live_blocks = blocks.live_blocks as u64;
    stats.large.live_bytes = blocks.live_bytes as u64;
    stats.large.cached_bytes = blocks.cached_bytes as u64;
    let large = blocks.live_bytes + blocks.cached_bytes + blocks.address_bytes;
    stats.bytes.mapped = (pool.mapped * SUPERSLAB + large + guarded::mapped()) as u64;
    stats.bytes.retained = (pool.dirty_bytes + large::cached_bytes()) as u64;
    stats.bytes.metadata = meta::mapped() as u64;
    stats.bytes.returned = pool.returned + blocks.returned;
    stats.bytes.held = account::resident() as u64;
    stats.bytes.peak = account::peak_ever() as u64;
    stats.huge_pages.requested_bytes = (pool.huge_requested + blocks.huge_requested) as u64;
    stats.take_tally();
    if !quick {
        stats.huge_pages.achieved_bytes = achieved::huge_bytes(&mut ours).ok();
        stats.process = process::read();
    }
}

/// Not inlined, so that the sums do not stay on the caller's stack.
#[inline(never)]
fn fill_from_heaps(stats: &mut Stats) {
    let survey = heap::survey::survey();
    for (class, out) in stats.classes.iter_mut().enumerate() {
        out.slabs = survey.slabs[class];
        out.live_blocks = survey.live[class].max(0) as u64;
    }
    stats.heaps.live = survey.live_heaps as u64;
    stats.heaps.idle = survey.idle_heaps as u64;
    stats.batches.posted = survey.posted;
    stats.batches.drained = survey.drained;
}

/// Whether a mapping of the process holds the allocator's memory. The kernel merges neighbours, so every 2 MiB of the mapping
/// is looked up, up to 64 GiB, until one is found.
fn ours(start: usize, end: usize) -> bool {
    let mut at = start.next_multiple_of(SUPERSLAB);
    while at < end {
        if DIRECTORY.holds(at)
            && (DIRECTORY.descriptor(at).load(Ordering::Relaxed) != 0
                || DIRECTORY.tag(at) != Tag::NONE)
        {
            return true;
        }
        at += SUPERSLAB;
        if at - start > 64 << 30 {
            return false;
        }
    }
    false
}
