//! What the allocator holds at one moment, as plain numbers.
//!
//! A [`Stats`] is defined here, filled in by `snapshot`, and written as text for people (`text`), as one JSON object (`json`),
//! and to stderr or a file when the process ends ([`exit`]). [`achieved`] asks the kernel which huge pages it gave, [`process`]
//! what it counts for the whole process. Nothing here allocates.
#![deny(unsafe_code)]

pub(crate) mod achieved;
pub(crate) mod exit;
mod json;
pub(crate) mod process;
mod text;

#[cfg(test)]
mod tests;

use crate::base::size_class;
use crate::os::tally;

/// How many size classes [`Stats::classes`] has a place for.
pub const CLASSES: usize = size_class::CLASSES;

/// How many errnos [`Stats::failures`] has a place for.
pub const FAILURES: usize = 16;

/// How many pairs of call and errno [`Stats::failed_calls`] has a place for.
pub const FAILED_CALLS: usize = tally::PLACES;

/// A snapshot of the allocator's accounting.
///
/// Other threads run while the parts are read one after another, so a sum may be off by what happens meanwhile.
/// [`live_bytes`](Self::live_bytes) is exact once the threads that freed blocks of others have been joined and no thread is
/// inside the allocator. All sizes are in bytes. Invariant in a process at rest: `superslabs.mapped == superslabs.in_use +
/// superslabs.retained + superslabs.purged`.
///
/// ```
/// let stats = hakmem_alloc::stats_quick();
/// let largest = stats.classes.iter().max_by_key(|class| class.live_bytes());
/// println!("{} live blocks; most bytes are in {largest:?}", stats.live_blocks());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Superslabs, 2 MiB each.
    pub superslabs: SuperslabStats,
    /// One entry for each size class, in order of size. The first is always empty.
    pub classes: [ClassStats; CLASSES],
    /// Large blocks: above 1 MiB, each in a mapping of its own.
    pub large: LargeStats,
    /// Heaps, one for each thread that allocates.
    pub heaps: HeapStats,
    /// Blocks freed by threads other than their owner.
    pub batches: BatchStats,
    /// Memory taken from the system.
    pub bytes: ByteStats,
    /// Huge pages requested and given.
    pub huge_pages: HugePageStats,
    /// The whole process, by the kernel's account.
    pub process: ProcessStats,
    /// Memory made resident before its first use.
    pub prefault: PrefaultStats,
    /// System calls about memory that failed since the process began, by errno. Entries with a count of 0 are unused.
    pub failures: [Failure; FAILURES],
    /// The same, by call and errno.
    pub failed_calls: [FailedCall; FAILED_CALLS],
}

/// Superslabs by state.
///
/// ```
/// let superslabs = hakmem_alloc::stats_quick().superslabs;
/// println!("{} MiB of address space", superslabs.mapped * 2);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuperslabStats {
    /// All of them: address space taken from the system and not given back.
    pub mapped: u64,
    /// Those with at least one slab in use.
    pub in_use: u64,
    /// Empty ones of which at least a part is still resident.
    pub retained: u64,
    /// Empty ones whose memory was given back and whose address space is kept.
    pub purged: u64,
    /// The pools they are in: one for each NUMA node that has CPUs, at most eight.
    pub pools: u64,
}

/// One size class.
///
/// ```
/// for class in hakmem_alloc::stats_quick().classes {
///     println!("{:>8} {:>8}", class.block_bytes, class.live_blocks);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// The size of its blocks.
    pub block_bytes: u64,
    /// Slabs that belong to it.
    pub slabs: u64,
    /// Blocks that the program holds.
    pub live_blocks: u64,
}

impl ClassStats {
    /// Bytes that the program holds, counted in whole blocks.
    ///
    /// ```
    /// let class = hakmem_alloc::stats_quick().classes[1];
    /// assert_eq!(class.live_bytes(), class.live_blocks * class.block_bytes);
    /// ```
    pub const fn live_bytes(&self) -> u64 {
        self.live_blocks.saturating_mul(self.block_bytes)
    }
}

/// Large blocks.
///
/// ```
/// let large = hakmem_alloc::stats_quick().large;
/// println!("{} blocks above 1 MiB; {} bytes cached", large.live_blocks, large.cached_bytes);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LargeStats {
    /// Blocks that the program holds.
    pub live_blocks: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Bytes of freed blocks, kept resident for the next ones.
    pub cached_bytes: u64,
}

/// Heaps by state.
///
/// ```
/// let heaps = hakmem_alloc::stats_quick().heaps;
/// println!("{} threads have a heap; {} heaps wait for one", heaps.live, heaps.idle);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Heaps that have a thread.
    pub live: u64,
    /// Heaps whose thread has ended, ready to be adopted.
    pub idle: u64,
}

/// Batches of blocks on their way back to the heap that owns them, since the process began.
///
/// ```
/// let batches = hakmem_alloc::stats_quick().batches;
/// println!("{} on their way", batches.posted.saturating_sub(batches.drained));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStats {
    /// Batches put into another heap's inbox.
    pub posted: u64,
    /// Batches taken out of an inbox.
    pub drained: u64,
}

/// Memory between the allocator and the system.
///
/// ```
/// let bytes = hakmem_alloc::stats_quick().bytes;
/// println!("{} held, {} of it unused", bytes.held, bytes.retained);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ByteStats {
    /// Address space mapped now: superslabs, live large blocks and freed ones, and the 2 MiB for guarded blocks.
    pub mapped: u64,
    /// Resident memory that no live block uses: free slots and cached large blocks.
    pub retained: u64,
    /// Memory mapped for the allocator's own tables, which `mapped` does not contain.
    pub metadata: u64,
    /// Bytes given back to the system since the process began, purged or unmapped.
    pub returned: u64,
    /// Memory that may be resident for blocks: live, free or cached. A block that was handed out counts, written or not.
    pub held: u64,
    /// The largest `held` seen when memory was taken from the system.
    pub peak: u64,
}

/// Huge pages requested and given.
///
/// ```
/// let huge_pages = hakmem_alloc::stats().huge_pages;
/// if let Some(given) = huge_pages.achieved_bytes {
///     println!("{given} of {} bytes", huge_pages.requested_bytes);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HugePageStats {
    /// Bytes mapped now for which huge pages were requested.
    pub requested_bytes: u64,
    /// Bytes on huge pages now, by the kernel's account; `None` if the kernel was not asked or did not say.
    pub achieved_bytes: Option<u64>,
}

/// The whole process, by the kernel's account, including what is not the allocator's. `None` if the kernel was not asked
/// ([`stats_quick`](crate::stats_quick)) or did not say.
///
/// ```
/// let process = hakmem_alloc::stats().process;
/// println!("peak: {:?} bytes", process.peak_resident_bytes);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessStats {
    /// Bytes resident now.
    pub resident_bytes: Option<u64>,
    /// The most bytes resident since the program started.
    pub peak_resident_bytes: Option<u64>,
    /// Page faults since the process began.
    pub page_faults: Option<u64>,
}

/// Prefaulting since the process began, of superslabs and of regions.
///
/// ```
/// let prefault = hakmem_alloc::stats_quick().prefault;
/// println!("{} bytes in {} calls", prefault.bytes, prefault.calls);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefaultStats {
    /// Ranges prefaulted.
    pub calls: u64,
    /// Bytes made resident by that. A call that stops short counts what it did.
    pub bytes: u64,
}

/// How often system calls failed with one errno.
///
/// ```
/// let stats = hakmem_alloc::stats_quick();
/// for failure in stats.failures.iter().filter(|failure| failure.count > 0) {
///     let reason = std::io::Error::from_raw_os_error(failure.errno);
///     println!("{} × {reason}", failure.count);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The error number, as in `errno`.
    pub errno: i32,
    /// How often.
    pub count: u64,
}

/// How often one system call failed with one errno.
///
/// ```
/// let stats = hakmem_alloc::stats_quick();
/// for failed in stats.failed_calls.iter().filter(|failed| failed.count > 0) {
///     println!("{} × {}", failed.count, failed.call);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedCall {
    /// The call, and for `madvise` the advice: `"mmap"`, `"madvise hugepage"`.
    pub call: &'static str,
    /// The error number, as in `errno`.
    pub errno: i32,
    /// How often.
    pub count: u64,
}

#[cfg(test)]
impl FailedCall {
    pub(crate) const fn new(call: &'static str, errno: i32, count: u64) -> Self {
        Self { call, errno, count }
    }
}

#[cfg(test)]
impl Failure {
    pub(crate) const fn new(errno: i32, count: u64) -> Self {
        Self { errno, count }
    }
}

impl Stats {
    /// Nothing held and nothing done. Only the sizes of the classes are filled in.
    pub(crate) fn empty() -> Self {
        let mut classes = [ClassStats::default(); CLASSES];
        for (class, &size) in classes.iter_mut().zip(&size_class::SIZES) {
            class.block_bytes = u64::from(size);
        }
        Self {
            superslabs: SuperslabStats::default(),
            classes,
            large: LargeStats::default(),
            heaps: HeapStats::default(),
            batches: BatchStats::default(),
            bytes: ByteStats::default(),
            huge_pages: HugePageStats::default(),
            process: ProcessStats::default(),
            prefault: PrefaultStats::default(),
            failures: [Failure::default(); FAILURES],
            failed_calls: [FailedCall::default(); FAILED_CALLS],
        }
    }

    /// Fills in the counts of the `os` layer: prefaulting, and refusals.
    pub(crate) fn take_tally(&mut self) {
        (self.prefault.calls, self.prefault.bytes) = tally::prefaulted();
        for ((call, errno, count), place) in tally::refusals().zip(&mut self.failed_calls) {
            *place = FailedCall {
                call,
                errno: errno.0,
                count,
            };
            // Errnos beyond the last place are counted there.
            let known = |failure: &Failure| failure.count == 0 || failure.errno == place.errno;
            let at = self.failures.iter().position(known);
            let at = at.unwrap_or(FAILURES - 1);
            self.failures[at].errno = place.errno;
            self.failures[at].count += count;
        }
    }

    /// Blocks that the program holds, large ones included.
    ///
    /// ```
    /// println!("{} blocks", hakmem_alloc::stats_quick().live_blocks());
    /// ```
    pub fn live_blocks(&self) -> u64 {
        self.classes
            .iter()
            .map(|class| class.live_blocks)
            .sum::<u64>()
            + self.large.live_blocks
    }

    /// Bytes that the program holds, counted in whole blocks, large ones included.
    ///
    /// ```
    /// println!("{} bytes", hakmem_alloc::stats_quick().live_bytes());
    /// ```
    pub fn live_bytes(&self) -> u64 {
        self.classes.iter().map(ClassStats::live_bytes).sum::<u64>() + self.large.live_bytes
    }

    /// Slabs of all classes.
    ///
    /// ```
    /// println!("{} slabs", hakmem_alloc::stats_quick().slabs());
    /// ```
    pub fn slabs(&self) -> u64 {
        self.classes.iter().map(|class| class.slabs).sum()
    }

    /// The classes that have slabs or live blocks.
    fn used_classes(&self) -> impl Iterator<Item = &ClassStats> {
        self.classes
            .iter()
            .filter(|class| class.slabs != 0 || class.live_blocks != 0)
    }

    /// The pairs of call and errno that occurred.
    fn known_failed_calls(&self) -> impl Iterator<Item = &FailedCall> {
        self.failed_calls.iter().filter(|failed| failed.count != 0)
    }

    /// The errnos that occurred.
    fn known_failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(|failure| failure.count != 0)
    }
}
