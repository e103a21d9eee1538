//! `fork`. A signal handler may fork in the midst of a fork, in a process of one thread; glibc's fork allows that only while it knows
//! of no second thread, and the maintenance thread is one.

use crate::open;
use core::ffi::c_void;
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use hakmem_alloc::raw;

type Fork = unsafe extern "C" fn() -> libc::pid_t;

unsafe extern "C" {
    /// glibc's fork, by its other name.
    fn __fork() -> libc::pid_t;
    /// The same without handlers of fork and without locks.
    fn _Fork() -> libc::pid_t;
}

/// The C library's `fork`, or that of another library that wraps it. Looked for once; of threads that do so at once each finds the
/// same: Relaxed.
fn next() -> Fork {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    let mut found = NEXT.load(Relaxed);
    if found.is_null() {
        found = open::next(c"fork");
        NEXT.store(found, Relaxed);
    }
    match found.is_null() {
        true => __fork,
        // SAFETY: what is called so is a function of that type.
        false => unsafe { mem::transmute::<*mut c_void, Fork>(found) },
    }
}

/// `pid_t fork(void)`
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fork() -> libc::pid_t {
    // SAFETY: the caller's call.
    raw::fork(|| unsafe { next()() }, || unsafe { _Fork() })
}
