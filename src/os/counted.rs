//! The calls about memory. Every refusal is counted before it is returned: see [`tally`].
//!
//! Answers that every process meets are not counted: `EINTR`; `EEXIST`, by which the kernel says that an address asked for with
//! `MAP_FIXED_NOREPLACE` is taken; and `ENOMEM` of an `mremap` that may not move, which says that another mapping lies behind
//! this one.

use core::ffi::CStr;

use super::abi::{self, Errno};
#[cfg(test)]
use super::fake as kernel;
#[cfg(not(test))]
use super::linux as kernel;
use super::tally::{self, Refused};

#[inline]
fn counted<T>(call: Refused, outcome: Result<T, Errno>) -> Result<T, Errno> {
    if let Err(errno) = outcome
        && errno != Errno::EINTR
        && errno != Errno::EEXIST
    {
        tally::refused(call, errno);
    }
    outcome
}

/// The system call of this name.
///
/// # Safety
/// With `MAP_FIXED` in `flags` the caller owns `[hint, hint + len)`.
pub(crate) unsafe fn mmap(hint: usize, len: usize, prot: i32, flags: i32) -> Result<usize, Errno> {
    // SAFETY: as the caller promises.
    counted(Refused::Mmap, unsafe {
        kernel::mmap(hint, len, prot, flags)
    })
}

/// The system call of this name.
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
    // SAFETY: as the caller promises.
    counted(Refused::Mmap, unsafe {
        kernel::mmap_fd(hint, len, prot, flags, fd, offset)
    })
}

/// The system call of this name.
///
/// # Safety
/// The caller owns the range, and nothing refers to it any more.
pub(crate) unsafe fn munmap(addr: usize, len: usize) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    counted(Refused::Munmap, unsafe { kernel::munmap(addr, len) })
}

/// The system call of this name.
///
/// # Safety
/// The caller owns the range, and nobody needs the access that is taken away.
pub(crate) unsafe fn mprotect(addr: usize, len: usize, prot: i32) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    counted(Refused::Mprotect, unsafe {
        kernel::mprotect(addr, len, prot)
    })
}

/// The system call of this name.
///
/// # Safety
/// The caller owns the range. If `advice` drops its contents, nobody needs them.
pub(crate) unsafe fn madvise(addr: usize, len: usize, advice: i32) -> Result<(), Errno> {
    let call = match advice {
        libc::MADV_HUGEPAGE => Refused::HugePage,
        libc::MADV_NOHUGEPAGE => Refused::NoHugePage,
        libc::MADV_DONTNEED => Refused::DontNeed,
        abi::MADV_POPULATE_READ | abi::MADV_POPULATE_WRITE => Refused::Populate,
        abi::MADV_COLLAPSE => Refused::Collapse,
        _ => Refused::Advice,
    };
    // SAFETY: as the caller promises.
    counted(call, unsafe { kernel::madvise(addr, len, advice) })
}

/// The system call of this name.
///
/// # Safety
/// The caller owns the old range and, with `MREMAP_FIXED`, the new one. A move ends all references into the old range.
pub(crate) unsafe fn mremap(
    old: usize,
    old_len: usize,
    new_len: usize,
    flags: i32,
    new_addr: usize,
) -> Result<usize, Errno> {
    // SAFETY: as the caller promises.
    let outcome = unsafe { kernel::mremap(old, old_len, new_len, flags, new_addr) };
    if flags & libc::MREMAP_MAYMOVE == 0 && outcome == Err(Errno::ENOMEM) {
        return outcome;
    }
    counted(Refused::Mremap, outcome)
}

/// Keeps the range resident.
pub(crate) fn mlock(addr: usize, len: usize) -> Result<(), Errno> {
    counted(Refused::Mlock, kernel::mlock(addr, len))
}

/// Writes a shared file mapping back and waits for it.
pub(crate) fn msync(addr: usize, len: usize, flags: i32) -> Result<(), Errno> {
    counted(Refused::Msync, kernel::msync(addr, len, flags))
}

pub(crate) fn memfd_create(name: &CStr, flags: u32) -> Result<i32, Errno> {
    counted(Refused::Memfd, kernel::memfd_create(name, flags))
}

pub(crate) fn ftruncate(fd: i32, len: u64) -> Result<(), Errno> {
    counted(Refused::Ftruncate, kernel::ftruncate(fd, len))
}
