//! A handler of SIGSEGV that stands in front of the program's own.
//!
//! [`watch`] installs it. Each fault is shown to one function first, which does not return if the address is its own. Any other
//! fault goes to the handler that was installed before, as the kernel would have called it: with its mask, with or without the
//! details, once only under SA_RESETHAND. If there was none, the default action is restored and the fault happens again, so that
//! the process ends where it would have. A handler that the program installs later replaces this one, and a fault that was to be
//! shown is one like any other.
//!
//! The handler runs on the thread's alternative stack, if it has one: it may be called because the other stack is exhausted. So
//! does the program's handler then.

use super::sys::Errno;
use super::thread;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize};

/// What the program did at the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
    /// The processor does not say, or it fetched an instruction.
    Unknown,
}

/// A fault that the kernel reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) addr: usize,
    pub(crate) access: Access,
}

/// The action that stands behind ours.
struct Before {
    handler: AtomicUsize,
    flags: AtomicI32,
    mask: UnsafeCell<MaybeUninit<libc::sigset_t>>,
}

// SAFETY: the mask is written by `keep` before `handler` is published, and read after that.
unsafe impl Sync for Before {}

static BEFORE: Before = Before {
    handler: AtomicUsize::new(libc::SIG_DFL),
    flags: AtomicI32::new(0),
    mask: UnsafeCell::new(MaybeUninit::zeroed()),
};

/// A `fn(Fault)`; null before [`watch`].
static LOOK: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

impl Before {
    fn keep(&self, action: &libc::sigaction) {
        // SAFETY: one thread at a time installs, and no handler of ours runs yet that could read it.
        unsafe { (*self.mask.get()).write(action.sa_mask) };
        self.flags.store(action.sa_flags, Relaxed);
        // Release pairs with the Acquire in `hand_on`: mask and flags come with the handler.
        self.handler.store(action.sa_sigaction, Release);
    }
}

fn check(result: c_int) -> Result<(), Errno> {
    match result {
        -1 => Err(Errno::last()),
        _ => Ok(()),
    }
}

/// Has `look` called at each fault from now on. One thread at a time may call it, and nobody once it succeeded. The object that
/// holds this code must stay as long as the process.
pub(crate) fn watch(look: fn(Fault)) -> Result<(), Errno> {
    // SAFETY: all-zero actions are valid; the handler is a function of the kind that the flags say.
    unsafe {
        let mut was: libc::sigaction = core::mem::zeroed();
        check(libc::sigaction(libc::SIGSEGV, ptr::null(), &mut was))?;
        // First, because the next fault may come as soon as the handler is installed. Another thread may install a handler in
        // between: then that one is called no more.
        BEFORE.keep(&was);
        LOOK.store(look as *mut (), Release);
        let mut ours: libc::sigaction = core::mem::zeroed();
        ours.sa_sigaction = on_fault as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO
            | libc::SA_ONSTACK
            | libc::SA_NODEFER
            | (was.sa_flags & libc::SA_RESTART);
        check(libc::sigaction(libc::SIGSEGV, &ours, ptr::null_mut()))
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both, and `LOOK` is only ever set to such a function. The Acquire pairs with the Release in
    // `watch`.
    unsafe {
        // Other codes are those of signals that a program sends.
        let faulted = (*info).si_code > 0;
        if faulted {
            let look = core::mem::transmute::<*mut (), fn(Fault)>(LOOK.load(Acquire));
            look(Fault {
                addr: (*info).si_addr() as usize,
                access: access(context),
            });
        }
        hand_on(signal, info, context, faulted);
    }
}

/// What the processor says of the access.
///
/// # Safety
/// `context` is what the kernel passed to a handler of a fault.
#[cfg(target_arch = "x86_64")]
unsafe fn access(context: *mut c_void) -> Access {
    const WRITE: i64 = 1 << 1;
    const FETCH: i64 = 1 << 4;
    // SAFETY: as the caller promises.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    match registers.get(libc::REG_ERR as usize) {
        Some(error) if error & FETCH != 0 => Access::Unknown,
        Some(error) if error & WRITE != 0 => Access::Write,
        Some(_) => Access::Read,
        None => Access::Unknown,
    }
}

/// # Safety
/// None here.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn access(_: *mut c_void) -> Access {
    Access::Unknown
}

/// Does what would have been done without this handler.
unsafe fn hand_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, faulted: bool) {
    // Acquire pairs with the Release in `keep`.
    let handler = BEFORE.handler.load(Acquire);
    let flags = BEFORE.flags.load(Relaxed);
    // SAFETY: calls of the C library that a handler may make; the handler was installed for a signature that its flags say.
    unsafe {
        match handler {
            // A fault cannot be ignored.
            libc::SIG_IGN if !faulted => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                let mut default: libc::sigaction = core::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, ptr::null_mut());
                if !faulted {
                    // A fault happens again on return; what somebody sent does not.
                    libc::syscall(libc::SYS_tgkill, thread::pid(), thread::tid(), signal);
                }
            }
            _ => {
                if flags & libc::SA_RESETHAND != 0 {
                    BEFORE.handler.store(libc::SIG_DFL, Relaxed);
                }
                // Ours blocks nothing, so that a handler which jumps out leaves nothing blocked by us. A return restores what
                // was blocked before.
                let mut mask = *(*BEFORE.mask.get()).as_ptr();
                if flags & libc::SA_NODEFER == 0 {
                    libc::sigaddset(&mut mask, signal);
                }
                libc::pthread_sigmask(libc::SIG_BLOCK, &mask, ptr::null_mut());
                if flags & libc::SA_SIGINFO != 0 {
                    type Detailed = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                    let call = core::mem::transmute::<usize, Detailed>(handler);
                    call(signal, info, context);
                } else {
                    let call = core::mem::transmute::<usize, extern "C" fn(c_int)>(handler);
                    call(signal);
                }
            }
        }
    }
}
