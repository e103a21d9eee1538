//! Why huge pages, prefault or memory were refused, and what to do about it: one text for each cause.
//!
//! `HAKMEM_VERBOSE=1` prints one line when something is first refused, and the doctor of bench-harness tries things and asks
//! here for the cause. A refusal of memory is reported without `HAKMEM_VERBOSE` too, if a limit explains it or the machine has
//! the memory. A cause is searched only after a real refusal, because a setting that hurts nobody is no finding. The search
//! reads /proc and /sys into buffers on the stack.

use crate::base::tuning::addresses::SCARCE_FROM;
use core::fmt;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use super::achieved::for_each_line;
use super::first_thread;
use super::linux;
use super::mapping::HUGE_PAGE;
use super::memory::{cgroup_available, file, machine_available, number};
use super::message::message;
use super::sys::machine_total;
use super::sys::{self, Errno};

/// Why something was refused. Its text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the texts say what they mean")]
pub enum Cause {
    ThpDisabledForProcess,
    NoThpInKernel,
    ThpNever,
    DefragNever,
    NoFreeHugePage,
    SharedMemory,
    NoPopulate,
    GroupLimit { left: usize },
    MachineMemory { available: usize },
    AddressSpaceLimit { limit: usize },
    DataLimit { limit: usize },
    Overcommit,
    MapCount,
    Addresses { mapped: usize },
    LockLimit { limit: usize },
    EmptyPool { page: usize, free: usize },
    NoPool { page: usize },
    NoBackground,
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Cause::ThpDisabledForProcess => {
                "PR_SET_THP_DISABLE is set for this process, by itself or whoever started it: start it from elsewhere, \
                 or without the service manager's option for it"
            }
            Cause::NoThpInKernel => {
                "the kernel has no transparent huge pages (or /sys is not mounted)"
            }
            Cause::ThpNever => {
                "transparent_hugepage/enabled is never: as root, echo madvise > \
                 /sys/kernel/mm/transparent_hugepage/enabled"
            }
            Cause::DefragNever => {
                "defrag is never and no huge page was free at once: echo madvise > \
                 /sys/kernel/mm/transparent_hugepage/defrag"
            }
            Cause::NoFreeHugePage => {
                "memory is too fragmented or too scarce: echo 1 > /proc/sys/vm/compact_memory, or use a hugetlb pool"
            }
            Cause::SharedMemory => {
                "shared memory was not collapsed: that takes Linux 6.1, or advise in \
                 /sys/kernel/mm/transparent_hugepage/shmem_enabled"
            }
            Cause::NoPopulate => {
                "this kernel has no MADV_POPULATE_WRITE (Linux 5.14 has): OS pages are touched one by one instead"
            }
            Cause::Overcommit => {
                "vm.overcommit_memory is 2, where what is mapped counts, touched or not: as root, sysctl \
                 vm.overcommit_memory=0, or raise vm.overcommit_ratio"
            }
            Cause::MapCount => {
                "the process has as many mappings as vm.max_map_count allows: as root, raise it"
            }
            Cause::NoBackground => {
                "HAKMEM_BACKGROUND=0 forbids the thread that would populate ahead of demand: leave it out"
            }
            Cause::Unknown => "nothing here explains it",
            Cause::GroupLimit { left } => {
                let left = left >> 20;
                return write!(
                    f,
                    "the control group leaves {left} MiB: raise its memory.max or memory.high"
                );
            }
            Cause::MachineMemory { available } => {
                return write!(
                    f,
                    "the machine has {} MiB available (MemAvailable)",
                    available >> 20
                );
            }
            Cause::AddressSpaceLimit { limit } => {
                return write!(
                    f,
                    "RLIMIT_AS is {} MiB, which leaves too little: raise it (ulimit -v)",
                    limit >> 20
                );
            }
            Cause::DataLimit { limit } => {
                return write!(
                    f,
                    "RLIMIT_DATA is {} MiB, which leaves too little: raise it (ulimit -d)",
                    limit >> 20
                );
            }
            Cause::LockLimit { limit } => {
                let limit = limit >> 10;
                return write!(
                    f,
                    "RLIMIT_MEMLOCK is {limit} KiB: raise it (ulimit -l), or grant CAP_IPC_LOCK"
                );
            }
            Cause::Addresses { mapped } => {
                return write!(
                    f,
                    "the process has mapped {} TiB: reserve less of its addresses; none is left for this, or only some a \
                     multiple of 4 TiB from others in use",
                    mapped >> 40
                );
            }
            Cause::NoPool { page } => {
                return write!(
                    f,
                    "the kernel has no pool of such pages (or /sys is not mounted): boot with hugepagesz={}M hugepages=N",
                    page >> 20
                );
            }
            Cause::EmptyPool { page, free } => {
                return write!(
                    f,
                    "{free} pages of {0} MiB are free: as root, echo N > \
                     /sys/kernel/mm/hugepages/hugepages-{1}kB/nr_hugepages",
                    page >> 20,
                    page >> 10
                );
            }
        };
        f.write_str(text)
    }
}

/// Why huge pages were refused, from the contents of files in /sys; `None` for a file that is missing.
pub fn of_huge_pages(disabled: bool, enabled: Option<&str>, defrag: Option<&str>) -> Cause {
    match (disabled, enabled, defrag) {
        (true, _, _) => Cause::ThpDisabledForProcess,
        (_, None, _) => Cause::NoThpInKernel,
        (_, Some("never"), _) => Cause::ThpNever,
        (_, _, Some("never")) => Cause::DefragNever,
        _ => Cause::NoFreeHugePage,
    }
}

/// Why less was populated than requested: the tighter of the two bounds.
pub fn of_short_populate() -> Cause {
    let (group, machine) = (cgroup_available(), machine_available());
    if group < machine {
        Cause::GroupLimit { left: group }
    } else {
        Cause::MachineMemory { available: machine }
    }
}

/// Why the kernel refused to map `len` bytes.
pub fn of_mapping(len: usize) -> Cause {
    let mut buf = [0; 128];
    // Field 0: everything mapped. Field 5: data and stack. Both in OS pages.
    let mut fields = file(first_thread::STATM.path(), &mut buf).split(|byte| *byte == b' ');
    let mut bytes = |nth| {
        let pages = fields.nth(nth).and_then(number).unwrap_or(0);
        pages.saturating_mul(sys::page_size())
    };
    let (mapped, data) = (bytes(0), bytes(4));
    let used_up = |which, used: usize| {
        linux::limit_of(which).filter(|&limit| used.saturating_add(len) > limit)
    };
    if let Some(limit) = used_up(libc::RLIMIT_AS, mapped) {
        return Cause::AddressSpaceLimit { limit };
    }
    if let Some(limit) = used_up(libc::RLIMIT_DATA, data) {
        return Cause::DataLimit { limit };
    }
    if number(file(c"/proc/sys/vm/overcommit_memory", &mut buf)) == Some(2) {
        return Cause::Overcommit;
    }
    let most = number(file(c"/proc/sys/vm/max_map_count", &mut buf)).unwrap_or(usize::MAX);
    if mappings().is_some_and(|n| n + 2 >= most) {
        return Cause::MapCount;
    }
    if mapped >= SCARCE_FROM {
        return Cause::Addresses { mapped };
    }
    Cause::Unknown
}

fn mappings() -> Option<usize> {
    let fd = first_thread::MAPS.open().ok()?;
    let mut lines = 0;
    let outcome = for_each_line(|buf| sys::read(fd, buf), |_| lines += 1);
    // Nothing was written through this descriptor, so a failing close loses nothing.
    let _ = sys::close(fd);
    outcome.ok().map(|()| lines)
}

/// Why memory was not locked.
pub fn of_lock() -> Cause {
    match linux::limit_of(libc::RLIMIT_MEMLOCK) {
        Some(limit) => Cause::LockLimit { limit },
        None => Cause::Unknown,
    }
}

/// Why the pool had no pages of `page` bytes.
pub fn of_pool(page: usize) -> Cause {
    let path = if page > HUGE_PAGE {
        c"/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages"
    } else {
        c"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
    };
    match number(file(path, &mut [0; 32])) {
        Some(free) => Cause::EmptyPool { page, free },
        None => Cause::NoPool { page },
    }
}

/// What a line is about. Each topic is reported once.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Topic {
    /// Not a topic: findings are to be reported.
    Listening = 1,
    HugePages = 2,
    Populate = 4,
    Memory = 8,
    Lock = 16,
    Pool = 32,
    Async = 64,
    /// Not a topic either: findings about huge pages are to be reported.
    ListeningHuge = 128,
    Alignment = 256,
}

/// It only limits the number of lines, so Relaxed.
static SAID: AtomicU32 = AtomicU32::new(0);

/// Reports findings on stderr from now on.
pub(crate) fn listen() {
    SAID.fetch_or(Topic::Listening as u32, Relaxed);
}

/// Reports from now on if huge pages are refused: a program that asked for the pool's learns what it got instead.
pub(crate) fn listen_for_huge_pages() {
    SAID.fetch_or(Topic::ListeningHuge as u32, Relaxed);
}

pub(super) fn listening(topic: Topic) -> bool {
    let ears = match topic {
        Topic::HugePages => Topic::Listening as u32 | Topic::ListeningHuge as u32,
        _ => Topic::Listening as u32,
    };
    SAID.load(Relaxed) & ears != 0
}

/// Whether findings on the topic are reported and none was yet.
pub(super) fn news(topic: Topic) -> bool {
    listening(topic) && SAID.fetch_or(topic as u32, Relaxed) & topic as u32 == 0
}

/// Why memory lies on OS pages.
pub(super) fn cause_of_small() -> Cause {
    const ENABLED: &core::ffi::CStr = c"/sys/kernel/mm/transparent_hugepage/enabled";
    const DEFRAG: &core::ffi::CStr = c"/sys/kernel/mm/transparent_hugepage/defrag";
    let (mut enabled, mut defrag) = ([0; 64], [0; 64]);
    of_huge_pages(
        linux::thp_disabled(),
        chosen(file(ENABLED, &mut enabled)),
        chosen(file(DEFRAG, &mut defrag)),
    )
}

/// The word in brackets.
fn chosen(text: &[u8]) -> Option<&str> {
    let (_, rest) = core::str::from_utf8(text).ok()?.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word)
}

/// Reports a region that asked for huge pages and was brought in on OS pages.
pub(crate) fn region_is_small(bytes: usize, huge: usize, shared: bool) {
    if news(Topic::HugePages) {
        sys::preserve_errno(|| {
            let cause = match cause_of_small() {
                Cause::NoFreeHugePage | Cause::ThpNever if shared => Cause::SharedMemory,
                cause => cause,
            };
            let (bytes, huge) = (bytes >> 20, huge >> 20);
            message!("huge pages: {bytes} MiB asked for by a region, {huge} MiB given: {cause}");
        });
    }
}

/// Reports that the kernel lacks what populating needs.
pub(crate) fn cannot_populate() {
    if news(Topic::Populate) {
        message!("prefault: {}", Cause::NoPopulate);
    }
}

/// Reports that populating failed.
pub(crate) fn populate_refused(errno: Errno) {
    if news(Topic::Populate) {
        sys::preserve_errno(|| message!("prefault: {errno}: {}", of_short_populate()));
    }
}

/// Called before the program gets null for `len` bytes aligned to `align`. Says why even if findings are not reported, if a limit
/// refused the bytes or the machine has that much memory: null alone looks like a full machine. A process searches for the cause
/// only once, because a program may try sizes until one is granted. No lock may be held.
#[cold]
pub(crate) fn memory_refused(len: usize, align: usize) {
    if SAID.load(Relaxed) & Topic::Memory as u32 != 0 {
        return;
    }
    sys::preserve_errno(|| {
        let listening = listening(Topic::Memory);
        let room = len.saturating_add(align);
        // No machine would have granted it.
        if !listening && room > machine_total() {
            return;
        }
        if SAID.fetch_or(Topic::Memory as u32, Relaxed) & Topic::Memory as u32 != 0 {
            return;
        }
        // The kernel was asked for this much: whole superslabs, and room to align them.
        let cause = of_mapping(room.saturating_add(2 * HUGE_PAGE));
        let there = || room <= machine_available().min(cgroup_available());
        if listening || cause != Cause::Unknown || there() {
            message!("{len} bytes refused, ENOMEM: {cause}");
        }
    });
}

/// Reports that a block was asked for at an alignment that is none.
#[cold]
pub(crate) fn alignment_refused(align: usize) {
    if news(Topic::Alignment) {
        message!("alignment {align}: expected a power of two; null is returned");
    }
}

/// Reports that memory was not locked.
pub(crate) fn lock_refused(errno: Errno) {
    if news(Topic::Lock) {
        sys::preserve_errno(|| message!("mlock: {errno}: {}", of_lock()));
    }
}

/// Reports that the pool did not give `len` bytes.
pub(crate) fn pool_refused(len: usize, page: usize, errno: Errno) {
    if news(Topic::Pool) {
        let len = len >> 20;
        sys::preserve_errno(|| {
            message!("hugetlb: {len} MiB asked for: {errno}: {}", of_pool(page))
        });
    }
}

/// Reports that populating ahead of demand was requested and is forbidden.
pub(crate) fn async_forbidden() {
    if news(Topic::Async) {
        message!("HAKMEM_SS_PREFAULT=async: {}", Cause::NoBackground);
    }
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
