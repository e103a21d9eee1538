//! The contract of [`super::sys`] on Linux, through libc.
//!
//! Each function makes one system call and returns its failure. Policy is elsewhere.
//!
//! open, read, write, close, msync and the sleep go to the kernel through `syscall`: libc's functions of those names are
//! cancellation points, and a thread that is cancelled must not be unwound out of malloc or free.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

use super::abi::{Errno, FileIdentity};

/// libc's type for the kinds of limits, which differs between C libraries.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = c_int;

fn check(result: c_int) -> Result<(), Errno> {
    if result == -1 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

fn check_count(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

fn check_address(result: *mut c_void) -> Result<usize, Errno> {
    if result == libc::MAP_FAILED {
        Err(Errno::last())
    } else {
        Ok(result as usize)
    }
}

/// Anonymous memory; private unless `flags` say `MAP_SHARED`.
///
/// # Safety
/// With `MAP_FIXED` in `flags` the caller owns `[hint, hint + len)`.
pub(crate) unsafe fn mmap(hint: usize, len: usize, prot: i32, flags: i32) -> Result<usize, Errno> {
    let sharing = if flags & libc::MAP_SHARED != 0 {
        0
    } else {
        libc::MAP_PRIVATE
    };
    // SAFETY: anonymous, and the caller vouches for a fixed address.
    unsafe {
        mmap_fd(
            hint,
            len,
            prot,
            flags | sharing | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    }
}

/// The general form, for files and memfds.
///
/// # Safety
/// With `MAP_FIXED` in `flags` the caller owns `[hint, hint + len)`.
pub(crate) unsafe fn mmap_fd(
    hint: usize,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: u64,
) -> Result<usize, Errno> {
    let Ok(offset) = libc::off_t::try_from(offset) else {
        return Err(Errno::EOVERFLOW);
    };
    // SAFETY: the caller vouches for a fixed address; any other choice of arguments can only fail
    // or create memory nobody refers to yet.
    check_address(unsafe {
        libc::mmap(
            ptr::without_provenance_mut(hint),
            len,
            prot,
            flags,
            fd,
            offset,
        )
    })
}

/// # Safety
/// The caller owns the range, and nothing refers to it any more.
pub(crate) unsafe fn munmap(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    check(unsafe { libc::munmap(ptr::with_exposed_provenance_mut(addr), len) })
}

/// # Safety
/// The caller owns the range, and nobody needs the access that is taken away.
pub(crate) unsafe fn mprotect(addr: usize, len: usize, prot: i32) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    check(unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(addr), len, prot) })
}

/// # Safety
/// The caller owns the range. If `advice` drops its contents, nobody needs them.
pub(crate) unsafe fn madvise(addr: usize, len: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    check(unsafe { libc::madvise(ptr::with_exposed_provenance_mut(addr), len, advice) })
}

/// # Safety
/// The caller owns the old range and, with `MREMAP_FIXED`, the new one. A move ends all references into the old range.
pub(crate) unsafe fn mremap(
    old: usize,
    old_len: usize,
    new_len: usize,
    flags: i32,
    new_addr: usize,
) -> Result<usize, Errno> {
    let old: *mut c_void = ptr::with_exposed_provenance_mut(old);
    let new: *mut c_void = ptr::without_provenance_mut(new_addr);
    // SAFETY: as the caller promises; without MREMAP_FIXED the kernel does not look at `new`.
    check_address(unsafe { libc::mremap(old, old_len, new_len, flags, new) })
}

/// Writes one byte per OS page of `[addr, addr + len)` into `out`; bit 0 means resident. `ENOMEM` if a part is not mapped.
/// `out` needs a byte per 4 KiB, however large an OS page is: an emulator writes one for each page of its host.
pub(crate) fn mincore(addr: usize, len: usize, out: &mut [u8]) -> Result<(), Errno> {
    if out.len() < len.div_ceil(4096) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: `out` has a byte for every page, and the kernel reads nothing of the range itself.
    check(unsafe { libc::mincore(ptr::without_provenance_mut(addr), len, out.as_mut_ptr()) })
}

/// Keeps the range resident. Safe, because a program can observe nothing of it but time.
pub(crate) fn mlock(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: no memory content is read or changed.
    check(unsafe { libc::mlock(ptr::without_provenance(addr), len) })
}

/// Undoes [`mlock`].
pub(crate) fn munlock(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: no memory content is read or changed.
    check(unsafe { libc::munlock(ptr::without_provenance(addr), len) })
}

/// Writes a shared file mapping back and waits for it.
pub(crate) fn msync(addr: usize, len: usize, flags: i32) -> Result<(), Errno> {
    // SAFETY: no memory content is changed.
    check(unsafe { libc::syscall(libc::SYS_msync, addr, len, flags) as c_int })
}

/// Names an anonymous mapping in /proc/self/maps. Many kernels lack the call and are asked only once. Nothing depends on the
/// name.
pub(crate) fn name_range(addr: usize, len: usize, name: &CStr) -> Result<(), Errno> {
    const PR_SET_VMA: c_int = 0x53564d41;
    const PR_SET_VMA_ANON_NAME: usize = 0;
    // A kernel without the call refuses with EINVAL what every kernel with it accepts. That never changes, and a thread that
    // does not see it yet only asks once more, so Relaxed.
    static LACKING: AtomicBool = AtomicBool::new(false);
    if LACKING.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the kernel copies the string and changes nothing but the mapping's label.
    let outcome =
        check(unsafe { libc::prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, len, name.as_ptr()) });
    if outcome == Err(Errno::EINVAL) {
        LACKING.store(true, Relaxed);
    }
    outcome
}

/// Sleeps while `*word == expected`, until it is woken or interrupted, or `timeout_ms` have passed. Returns `Ok` except after
/// the time-out, or if the kernel refuses the call: callers check the word again.
pub(crate) fn futex_wait(
    word: &AtomicU32,
    expected: u32,
    timeout_ms: Option<u64>,
) -> Result<(), Errno> {
    let mut limit: libc::timespec = timespec_of_ms(timeout_ms.unwrap_or(0));
    let limit_ptr = if timeout_ms.is_some() {
        &raw mut limit
    } else {
        ptr::null_mut()
    };
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the time-out outlive the call.
    let r = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, expected, limit_ptr) };
    match check(r as c_int) {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
        other => other,
    }
}

pub(super) fn timespec_of_ms(ms: u64) -> libc::timespec {
    // SAFETY: an all-zero timespec is valid; some targets pad it with fields of their own.
    let mut t: libc::timespec = unsafe { core::mem::zeroed() };
    t.tv_sec = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    t.tv_nsec = (ms % 1000 * 1_000_000) as _;
    t
}

/// Wakes up to `n` sleepers on `word`.
pub(crate) fn futex_wake(word: &AtomicU32, n: u32) -> Result<usize, Errno> {
    let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let n = c_int::try_from(n).unwrap_or(c_int::MAX);
    // SAFETY: the kernel uses the address only as a key.
    check_count(unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, n) } as isize)
}

/// Sleeps once; a signal may cut it short.
pub(crate) fn sleep_us(us: u64) {
    let mut t = timespec_of_ms(us / 1000);
    t.tv_nsec += (us % 1000 * 1000) as libc::c_long;
    // SAFETY: `t` outlives the call; no remainder is asked for (0).
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const t, 0usize) };
}

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
    // SAFETY: asks for a number.
    unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0 }
}

/// A soft limit in bytes, `None` if it is unlimited or unreadable.
pub(crate) fn limit_of(which: Resource) -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: fills the struct.
    let r = unsafe { libc::getrlimit(which, &mut limit) };
    if r != 0 || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    usize::try_from(limit.rlim_cur).ok()
}

pub(crate) fn open(path: &CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
    // SAFETY: a C string. Not every architecture has the call `open`.
    let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode) };
    check(fd as c_int).map(|()| fd as i32)
}

pub(crate) fn read(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the buffer's length.
    check_count(unsafe { libc::syscall(libc::SYS_read, fd, buf.as_mut_ptr(), buf.len()) as isize })
}

pub(crate) fn write(fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads at most the slice's length.
    check_count(unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) as isize })
}

pub(crate) fn close(fd: i32) -> Result<(), Errno> {
    // SAFETY: callers close only descriptors that they opened.
    check(unsafe { libc::syscall(libc::SYS_close, fd) as c_int })
}

pub(crate) fn fstat(fd: i32) -> Result<FileIdentity, Errno> {
    // SAFETY: an all-zero stat is valid, and the kernel fills it.
    let mut s: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: as above.
    check(unsafe { libc::fstat(fd, &mut s) })?;
    Ok(FileIdentity {
        dev: s.st_dev as u64,
        ino: s.st_ino as u64,
        rdev: s.st_rdev as u64,
        mode: s.st_mode,
        size: u64::try_from(s.st_size).unwrap_or(0),
    })
}

pub(crate) fn ftruncate(fd: i32, len: u64) -> Result<(), Errno> {
    let Ok(len) = libc::off_t::try_from(len) else {
        return Err(Errno::EFBIG);
    };
    // SAFETY: changes the size of a file that the caller made.
    check(unsafe { libc::ftruncate(fd, len) })
}

pub(crate) fn memfd_create(name: &CStr, flags: u32) -> Result<i32, Errno> {
    // SAFETY: a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    check(fd).map(|()| fd)
}

pub(crate) fn eventfd(initial: u32, flags: i32) -> Result<i32, Errno> {
    // SAFETY: makes a descriptor and touches no memory.
    let fd = unsafe { libc::eventfd(initial, flags) };
    check(fd).map(|()| fd)
}

/// # Safety
/// `arg` is what the request takes.
pub(crate) unsafe fn ioctl(fd: i32, request: u64, arg: *mut c_void) -> Result<usize, Errno> {
    // SAFETY: as the caller promises. The request's type differs between libcs.
    check_count(unsafe { libc::ioctl(fd, request as _, arg) } as isize)
}

/// Reads one byte of this process's own memory through the kernel. Returns `EFAULT` where a load would raise a fatal signal
/// (unmapped, or beyond the end of a file). Brings the OS page in.
pub(crate) fn peek(addr: usize) -> Result<u8, Errno> {
    let mut byte = 0u8;
    let to = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let from = libc::iovec {
        iov_base: ptr::without_provenance_mut(addr),
        iov_len: 1,
    };
    // SAFETY: the kernel checks the source itself and writes one byte to `byte`.
    let n = unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) };
    match check_count(n)? {
        1 => Ok(byte),
        _ => Err(Errno::EFAULT),
    }
}
