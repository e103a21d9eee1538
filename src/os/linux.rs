//! The contract of [`super::sys`] on Linux, through libc.
//!
//! Each function makes one system call and returns its failure. Policy is elsewhere.
//!
//! Most go to the kernel through `syscall`. libc's functions for open, read, write, close, msync and the sleep are cancellation
//! points, and a thread that is cancelled must not be unwound out of malloc or free. Beyond that, each imported function costs
//! the loader a look-up at the start of every program, and libc's functions lie on many pages of it. mmap and munmap stay
//! functions: sanitizers replace them to learn of memory that comes and goes. So do mlock, munlock, ftruncate and memfd_create, which
//! regions alone call, and process_vm_readv.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use core::sync::atomic::AtomicU32;

use super::abi::{Errno, FileIdentity};

#[path = "linux_facts.rs"]
mod facts;
pub(crate) use facts::*;

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
    check(unsafe { libc::syscall(libc::SYS_mprotect, addr, len, prot as usize) } as c_int)
}

/// # Safety
/// The caller owns the range. If `advice` drops its contents, nobody needs them.
pub(crate) unsafe fn madvise(addr: usize, len: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    check(unsafe { libc::syscall(libc::SYS_madvise, addr, len, advice as usize) } as c_int)
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
    let flags = flags as usize;
    // SAFETY: as the caller promises; without MREMAP_FIXED the kernel does not look at the new address.
    let at = unsafe { libc::syscall(libc::SYS_mremap, old, old_len, new_len, flags, new_addr) };
    check_address(ptr::with_exposed_provenance_mut(at as usize))
}

/// Writes one byte per OS page of `[addr, addr + len)` into `out`; bit 0 means resident. `ENOMEM` if a part is not mapped.
/// `out` needs a byte per 4 KiB, however large an OS page is: an emulator writes one for each page of its host.
pub(crate) fn mincore(addr: usize, len: usize, out: &mut [u8]) -> Result<(), Errno> {
    if out.len() < len.div_ceil(4096) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: `out` has a byte for every page, and the kernel reads nothing of the range itself.
    check(unsafe { libc::syscall(libc::SYS_mincore, addr, len, out.as_mut_ptr()) } as c_int)
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
    check(unsafe { libc::syscall(libc::SYS_fstat, fd, &raw mut s) as c_int })?;
    Ok(FileIdentity {
        dev: s.st_dev as u64,
        ino: s.st_ino as u64,
        rdev: s.st_rdev as u64,
        mode: s.st_mode,
        size: u64::try_from(s.st_size).unwrap_or(0),
    })
}

/// Another descriptor of the same file, closed on exec, not below `least`.
pub(crate) fn duplicate(fd: i32, least: i32) -> Result<i32, Errno> {
    // The kernel takes this argument as a whole word, of which a variadic `int` fills half.
    let least = least as usize;
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, least) } as c_int;
    check(fd).map(|()| fd)
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
    let fd = unsafe { libc::syscall(libc::SYS_eventfd2, initial, flags) } as c_int;
    check(fd).map(|()| fd)
}

/// # Safety
/// `arg` is what the request takes.
pub(crate) unsafe fn ioctl(fd: i32, request: u64, arg: *mut c_void) -> Result<usize, Errno> {
    // SAFETY: as the caller promises.
    check_count(unsafe { libc::syscall(libc::SYS_ioctl, fd, request as usize, arg) } as isize)
}

/// Reads this process's own memory through the kernel; `own` is its number. Returns `EFAULT` where a load would raise a fatal signal (unmapped, without
/// access, or beyond the end of a file). Brings the OS pages in.
pub(crate) fn peek(own: u32, addr: usize, out: &mut [u8]) -> Result<(), Errno> {
    let to = libc::iovec {
        iov_base: out.as_mut_ptr().cast(),
        iov_len: out.len(),
    };
    let from = libc::iovec {
        iov_base: ptr::without_provenance_mut(addr),
        iov_len: out.len(),
    };
    // SAFETY: the kernel checks the source itself and writes at most `out`.
    let n = unsafe { libc::process_vm_readv(own as i32, &to, 1, &from, 1, 0) };
    match check_count(n)? {
        n if n == out.len() => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}
