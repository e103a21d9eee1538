//! Faults of the thread that ends the process. What it still reads may be damaged, and must not keep SIGABRT from ending it.

use crate::base::tuning::reports::FIRST_MS;
use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{sys, thread};

const FAULTS: [c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// The thread whose faults end the process, and what the program does with such signals otherwise.
struct Caught {
    thread: AtomicUsize,
    before: UnsafeCell<[MaybeUninit<libc::sigaction>; FAULTS.len()]>,
}

// SAFETY: only the thread that is named touches `before`.
unsafe impl Sync for Caught {}

static CAUGHT: Caught = Caught {
    thread: AtomicUsize::new(0),
    before: UnsafeCell::new([const { MaybeUninit::uninit() }; FAULTS.len()]),
};

/// Runs `body`. If the calling thread faults in it, the process ends by SIGABRT. Another thread that faults waits until `body`
/// has ended, or for [`FIRST_MS`], and then faults again as it would have. No other signal comes through meanwhile. Afterwards
/// SIGPIPE and SIGXFSZ stay blocked: a reader who has seen enough must not change what ends the process.
///
/// # Safety
/// One thread at a time calls this.
pub(crate) unsafe fn end_by_abort(body: impl FnOnce()) {
    // SAFETY: plain calls on locals and, by the caller's promise, on what is this thread's. An all-zero action is valid.
    unsafe {
        // Relaxed: only this thread finds its own number there. The others take `thread` as a flag.
        CAUGHT.thread.store(thread::me(), Relaxed);
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        // The stack may be what is exhausted. A fault in the handler of another one comes through, too.
        action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER;
        for (signal, before) in FAULTS.into_iter().zip(&mut *CAUGHT.before.get()) {
            libc::sigaction(signal, &raw const action, before.as_mut_ptr());
        }
    }
    // Nothing else may end the report or leave it by a jump: no handler of the program's, and no signal for a reader who has seen
    // enough or for a file that is too long. 32 and 33 are the C library's own, by which other threads wait for this one.
    let faults: u64 = FAULTS.into_iter().chain([32, 33]).map(bit).sum();
    let before = change_mask(libc::SIG_SETMASK, !faults);
    body();
    // First, as a handler that comes through then may jump out of here.
    // SAFETY: this thread is the one that is named.
    unsafe { put_back() };
    change_mask(
        libc::SIG_SETMASK,
        before | bit(libc::SIGPIPE) | bit(libc::SIGXFSZ),
    );
}

/// The signal in a mask of signals, as the kernel has it.
fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Changes which signals are blocked in the calling thread, and returns which were. The kernel is called, as each function of
/// the C library costs every process a search for its name at start.
fn change_mask(how: c_int, mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: the kernel reads and writes eight bytes each.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const mask,
            &raw mut before,
            size_of_val(&mask),
        );
    }
    before
}

/// Has the next SIGABRT end the process, whatever handler it has.
pub(crate) fn forget_abort_handler() {
    // SAFETY: an all-zero action is the default one, without flags.
    unsafe {
        let action: libc::sigaction = core::mem::zeroed();
        libc::sigaction(libc::SIGABRT, &raw const action, ptr::null_mut());
    }
}

/// # Safety
/// `end_by_abort` was called, and its `body` is not to be protected any longer.
unsafe fn put_back() {
    // SAFETY: filled by `end_by_abort`.
    unsafe {
        for (signal, before) in FAULTS.into_iter().zip(&*CAUGHT.before.get()) {
            libc::sigaction(signal, before.as_ptr(), ptr::null_mut());
        }
    }
    // Release pairs with the Acquire in `on_fault`: a thread that goes on finds the program's own handlers.
    CAUGHT.thread.store(0, Release);
}

extern "C" fn on_fault(_signal: c_int) {
    if CAUGHT.thread.load(Relaxed) == thread::me() {
        // SAFETY: this thread is the one that is named; then the end of the process.
        unsafe {
            put_back();
            libc::abort();
        }
    }
    sys::preserve_errno(|| {
        for _ in 0..FIRST_MS {
            // Acquire: see `put_back`.
            if CAUGHT.thread.load(Acquire) == 0 {
                return;
            }
            sys::sleep_us(1000);
        }
        // SAFETY: whoever writes the report is stuck, or is not in this process, which another thread forked meanwhile.
        unsafe { put_back() };
    });
}
