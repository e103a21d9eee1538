//! Threads without the standard library's own bookkeeping. After a fork its lock may be held for ever by a thread that
//! the child does not have: std keeps a list of all threads, and allocates while it holds the lock.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

pub struct Pthread(libc::pthread_t);

type Body = Box<dyn FnOnce() + Send>;

/// Starts a thread. A panic in it ends the process.
pub fn spawn(body: impl FnOnce() + Send + 'static) -> Pthread {
    let body: Box<Body> = Box::new(Box::new(body));
    let mut id = MaybeUninit::uninit();
    // SAFETY: a place for the id, default attributes, and a start function that takes the box.
    let result = unsafe {
        libc::pthread_create(
            id.as_mut_ptr(),
            std::ptr::null(),
            start,
            Box::into_raw(body).cast(),
        )
    };
    assert_eq!(result, 0, "pthread_create");
    // SAFETY: written by the call that succeeded. Its type is a number or a pointer, as the C library has it.
    Pthread(unsafe { id.assume_init() })
}

extern "C" fn start(body: *mut c_void) -> *mut c_void {
    // SAFETY: the box that `spawn` gave away.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        std::process::abort();
    }
    null_mut()
}

impl Pthread {
    pub fn join(self) {
        // SAFETY: a thread of this process that was neither joined nor detached.
        assert_eq!(
            unsafe { libc::pthread_join(self.0, null_mut()) },
            0,
            "pthread_join"
        );
    }
}
