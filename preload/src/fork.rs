//! `fork`. A signal handler may fork in the midst of a fork, in a process of one thread; glibc's fork allows that only while it knows
//! of no second thread, and the maintenance thread is one.

use hakmem_alloc::raw;

unsafe extern "C" {
    /// glibc's fork, by its other name.
    fn __fork() -> libc::pid_t;
    /// The same without handlers of fork and without locks.
    fn _Fork() -> libc::pid_t;
}

/// `pid_t fork(void)`
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork() -> libc::pid_t {
    // SAFETY: the caller's call.
    raw::fork(|| unsafe { __fork() }, || unsafe { _Fork() })
}
