//! What the kernel says of the machine, the process and its threads, and their names.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::super::abi::Errno;
use super::{check, check_count};

/// libc's type for the kinds of limits, which differs between C libraries.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = c_int;

/// The size of an OS page.
pub(crate) fn page_size() -> usize {
    // A cache of a constant: every thread that computes it stores the same number, so Relaxed.
    static CACHE: AtomicUsize = AtomicUsize::new(0);
    match CACHE.load(Relaxed) {
        0 => {
            let size = match getauxval(libc::AT_PAGESZ as usize) {
                n if n.is_power_of_two() => n,
                _ => 4096,
            };
            CACHE.store(size, Relaxed);
            size
        }
        size => size,
    }
}

/// A value of the auxiliary vector, 0 if it has none. Miri has no such vector.
pub(crate) fn getauxval(kind: usize) -> usize {
    if cfg!(miri) {
        return 0;
    }
    // SAFETY: looks up a number in a table that the kernel wrote at start.
    unsafe { libc::getauxval(kind as libc::c_ulong) as usize }
}

/// How many CPUs this thread may run on, at least 1.
pub(crate) fn cpu_count() -> usize {
    let mut mask = [0u64; 1024 / 8];
    // SAFETY: the kernel fills at most the size given.
    let n = unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(&mask),
            mask.as_mut_ptr(),
        )
    };
    if n <= 0 {
        return 1;
    }
    mask.iter()
        .map(|w| w.count_ones() as usize)
        .sum::<usize>()
        .max(1)
}

/// The NUMA node this thread runs on at the moment, 0 if the kernel does not say.
pub(crate) fn current_node() -> usize {
    let (mut cpu, mut node) = (0u32, 0u32);
    let none = ptr::null_mut::<c_void>();
    // SAFETY: the kernel fills the two words. The third argument is unused since 2.6.24.
    let r = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, none) };
    if r == 0 { node as usize } else { 0 }
}

/// Makes the kernel prefer the node with this id for new pages of the calling thread.
pub(crate) fn prefer_node(id: usize) -> Result<(), Errno> {
    const MPOL_PREFERRED: c_int = 1;
    let mut mask = [0u64; 1024 / 64];
    let Some(word) = mask.get_mut(id / 64) else {
        return Err(Errno::EINVAL);
    };
    *word = 1 << (id % 64);
    // The kernel reads one bit fewer than it is told.
    let bits = size_of_val(&mask) * 8 + 1;
    // SAFETY: the kernel reads the mask. Where pages lie does not change what they hold.
    check(unsafe {
        libc::syscall(libc::SYS_set_mempolicy, MPOL_PREFERRED, mask.as_ptr(), bits) as c_int
    })
}

/// The soft limit on address space, `None` if it is unlimited or unreadable.
pub(crate) fn rlimit_as() -> Option<usize> {
    limit_of(libc::RLIMIT_AS)
}

/// Whether `PR_SET_THP_DISABLE` is in force for this process.
pub(crate) fn thp_disabled() -> bool {
    prctl([libc::PR_GET_THP_DISABLE as usize, 0, 0, 0, 0]).is_ok_and(|disabled| disabled > 0)
}

/// Names an anonymous mapping in /proc/self/maps. Many kernels lack the call and are asked only once. Nothing depends on the
/// name.
pub(crate) fn name_range(addr: usize, len: usize, name: &CStr) -> Result<(), Errno> {
    const PR_SET_VMA: usize = 0x53564d41;
    const PR_SET_VMA_ANON_NAME: usize = 0;
    // A kernel without the call refuses with EINVAL what every kernel with it accepts. That never changes, and a thread that
    // does not see it yet only asks once more, so Relaxed.
    static LACKING: AtomicBool = AtomicBool::new(false);
    if LACKING.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    // The kernel copies the string and changes nothing but the mapping's label.
    let outcome = prctl([
        PR_SET_VMA,
        PR_SET_VMA_ANON_NAME,
        addr,
        len,
        name.as_ptr() as usize,
    ])
    .map(drop);
    if outcome == Err(Errno::EINVAL) {
        LACKING.store(true, Relaxed);
    }
    outcome
}

/// Gives the calling thread a name.
pub(crate) fn name_thread(name: &CStr) -> Result<(), Errno> {
    let name = name.as_ptr() as usize;
    prctl([libc::PR_SET_NAME as usize, name, 0, 0, 0]).map(drop)
}

/// For requests that write to no memory of the process.
fn prctl([option, a, b, c, d]: [usize; 5]) -> Result<usize, Errno> {
    // SAFETY: the kernel checks what it reads.
    check_count(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, c, d) } as isize)
}

/// Bytes of main memory the machine has; 0 if the kernel does not say.
pub(crate) fn machine_total() -> usize {
    // SAFETY: a struct of integers, valid when zero, which the call fills.
    unsafe {
        let mut info: libc::sysinfo = core::mem::zeroed();
        if libc::syscall(libc::SYS_sysinfo, &raw mut info) != 0 {
            return 0;
        }
        (info.totalram as usize).saturating_mul(info.mem_unit.max(1) as usize)
    }
}

/// The kernel's number of the process.
pub(crate) fn pid() -> u32 {
    // SAFETY: a plain query, which cannot fail.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

/// A soft limit in bytes, `None` if it is unlimited or unreadable.
pub(crate) fn limit_of(which: Resource) -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let none = ptr::null::<libc::rlimit>();
    // SAFETY: fills the struct, which on 64-bit machines is the kernel's.
    let r = unsafe { libc::syscall(libc::SYS_prlimit64, 0, which, none, &raw mut limit) };
    if r != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    usize::try_from(limit.rlim_cur).ok()
}

/// How many names a file has.
pub(crate) fn links(path: &CStr) -> Result<u64, Errno> {
    // SAFETY: an all-zero stat is valid, and the kernel fills it.
    let mut s: libc::stat = unsafe { core::mem::zeroed() };
    let (at, path) = (libc::AT_FDCWD, path.as_ptr());
    // SAFETY: as above; a C string.
    let r = unsafe { libc::syscall(libc::SYS_newfstatat, at, path, &raw mut s, 0) };
    check(r as c_int).map(|()| s.st_nlink as u64)
}
