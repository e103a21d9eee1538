//! `unshare` and `setns`. For some namespaces the kernel allows them only in a process of one thread. The maintenance thread is
//! not the program's, so it ends first.

use core::ffi::c_int;
use hakmem_alloc::raw;

/// Returns what glibc returns: the kernel's result, with `errno` set.
fn kernel(call: impl FnOnce() -> libc::c_long) -> c_int {
    raw::without_helper(call) as c_int
}

/// `int unshare(int flags)`
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unshare(flags: c_int) -> c_int {
    // SAFETY: the caller's call.
    kernel(|| unsafe { libc::syscall(libc::SYS_unshare, flags) })
}

/// `int setns(int fd, int type)`
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setns(fd: c_int, kind: c_int) -> c_int {
    // SAFETY: the caller's call.
    kernel(|| unsafe { libc::syscall(libc::SYS_setns, fd, kind) })
}
