//! `unshare` and `setns`, which the kernel allows for some namespaces to a process of one thread alone. The maintenance
//! thread is none of the program's, so it ends before.

use core::ffi::c_int;
use hakmem_alloc::raw;

/// As glibc answers: the kernel's result, and `errno`.
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
