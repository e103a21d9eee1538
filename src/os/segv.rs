//! A handler of SIGSEGV that stands in front of the program's own.
//!
//! [`watch`] installs it. A fault at an address that is watched ends the process. Any other fault goes to the handler that was
//! installed before, as the kernel would have called it: with its mask, with or without the details, once only under
//! SA_RESETHAND. If there was none, the default action is restored and the fault happens again, so that the process ends where it
//! would have. A handler that the program installs later replaces this one: then a fault at a watched address is one like any
//! other.
//!
//! The handler runs on the thread's alternative stack if the program's handler asks for that, or if the program has no handler:
//! then the other stack may be exhausted. An alternative stack may be as small as a signal's frame allows. If too little of it is
//! left, the process ends on a stack that is kept here. The frame of another signal may overwrite the handler's frame then, which
//! is not returned to.

use super::context::{Registers, access, end_on, registers, room};
use super::sys::{self, Errno};
use super::thread;
use crate::base::tuning::reports::FIRST_MS;
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
    /// What the code had in its registers.
    pub(crate) at: Registers,
}

/// Who is to deal with a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    Ours,
    /// The program.
    Others,
    /// The access is to be made again.
    Nobodys,
}

/// Which faults end the process, and how.
pub(crate) struct Watch {
    /// Whose the fault at an address is. Has little stack.
    pub(crate) whose: fn(usize) -> Whose,
    /// May need more stack than a handler has.
    pub(crate) end: fn(Fault) -> !,
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

/// Null before [`watch`].
static WATCH: AtomicPtr<Watch> = AtomicPtr::new(ptr::null_mut());

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

/// Has faults end the process as `watch` says, from now on. Returns false, with nothing done, if the process ignores the signal:
/// what it executes would ignore it no more. One thread at a time may call it, and nobody once it returned true. The object that
/// holds this code must stay as long as the process.
pub(crate) fn watch(watch: &'static Watch) -> Result<bool, Errno> {
    // SAFETY: all-zero actions are valid; the handler is a function of the kind that the flags say.
    unsafe {
        let mut was: libc::sigaction = core::mem::zeroed();
        check(libc::sigaction(libc::SIGSEGV, ptr::null(), &mut was))?;
        if was.sa_sigaction == libc::SIG_IGN {
            return Ok(false);
        }
        // First, because the next fault may come as soon as the handler is installed. Another thread may install a handler in
        // between: then that one is called no more.
        BEFORE.keep(&was);
        WATCH.store(ptr::from_ref(watch).cast_mut(), Release);
        let mut ours: libc::sigaction = core::mem::zeroed();
        ours.sa_sigaction = on_fault as *const () as usize;
        // As the handler behind it, which may need more than an alternative stack has.
        let inherited = match was.sa_sigaction {
            libc::SIG_DFL => libc::SA_ONSTACK,
            _ => was.sa_flags & (libc::SA_ONSTACK | libc::SA_RESTART),
        };
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | inherited;
        check(libc::sigaction(libc::SIGSEGV, &ours, ptr::null_mut()))?;
        Ok(true)
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both, and `WATCH` was set before the handler was installed, for ever. The Acquire pairs with the
    // Release in `watch`.
    unsafe {
        // Whom the kernel calls now, and how. If it refuses to say, it calls this function.
        let mut now: libc::sigaction = core::mem::zeroed();
        let me = on_fault as *const () as usize;
        let known = sys::preserve_errno(|| libc::sigaction(signal, ptr::null(), &mut now)) == 0;
        let is_called = !known || now.sa_sigaction == me;
        if known && is_called && now.sa_flags & libc::SA_SIGINFO == 0 {
            // The program put this handler back by `signal`: there are no details to read.
            return step_aside(signal);
        }
        // Other codes are those of signals that a program sends.
        let faulted = (*info).si_code > 0;
        let watch = &*WATCH.load(Acquire);
        let addr = (*info).si_addr() as usize;
        let whose = match faulted {
            true => (watch.whose)(addr),
            false => Whose::Others,
        };
        if whose == Whose::Nobodys {
            return;
        }
        if whose == Whose::Ours {
            let fault = Fault {
                addr,
                access: access(context),
                at: registers(context),
            };
            match room(context) {
                ENOUGH.. => (watch.end)(fault),
                _ => end_elsewhere(fault),
            }
        }
        let caller = if is_called {
            libc::SIG_DFL
        } else {
            now.sa_sigaction
        };
        hand_on(signal, info, context, faulted, caller);
    }
}

/// The room that the end of a process needs, with a fault in its midst.
const ENOUGH: usize = 64 << 10;

/// The stack for ends that have no room, and what they are to end for.
#[repr(C, align(16))]
struct Elsewhere {
    stack: UnsafeCell<MaybeUninit<[u8; ENOUGH]>>,
    fault: UnsafeCell<MaybeUninit<Fault>>,
    /// The thread that ends the process there, as [`thread::me`] names it; 0 for none. A thread only compares it with its own:
    /// Relaxed.
    thread: AtomicUsize,
}

// SAFETY: the thread that is named is the only one that touches the rest.
unsafe impl Sync for Elsewhere {}

static ELSEWHERE: Elsewhere = Elsewhere {
    stack: UnsafeCell::new(MaybeUninit::uninit()),
    fault: UnsafeCell::new(MaybeUninit::uninit()),
    thread: AtomicUsize::new(0),
};

/// Ends the process for a fault, on a stack with room enough.
fn end_elsewhere(fault: Fault) -> ! {
    let me = thread::me();
    match ELSEWHERE.thread.compare_exchange(0, me, Relaxed, Relaxed) {
        Ok(_) => {}
        // Its handler of SIGABRT made this mistake, or left the end by a jump. What lies on that stack is not returned to.
        Err(other) if other == me => {}
        Err(_) => {
            // The first fault is the one that is told. If whoever tells it is stuck, this one ends the process.
            (0..FIRST_MS / 10).for_each(|_| sys::sleep_us(10_000));
            // SAFETY: ends the process.
            unsafe { libc::abort() }
        }
    }
    // SAFETY: this thread is the one that is named.
    unsafe {
        (*ELSEWHERE.fault.get()).write(fault);
        end_on(ELSEWHERE.stack.get().expose_provenance() + ENOUGH, end_here)
    }
}

extern "C" fn end_here() -> ! {
    // SAFETY: written by `end_elsewhere` for this thread. The Acquire pairs with the Release in `watch`.
    unsafe { ((*WATCH.load(Acquire)).end)((*ELSEWHERE.fault.get()).assume_init()) }
}

/// Puts back what stood before, for the fault that happens again.
unsafe fn step_aside(signal: c_int) {
    // SAFETY: as in `hand_on`.
    unsafe {
        let mut before: libc::sigaction = core::mem::zeroed();
        // Acquire pairs with the Release in `keep`.
        before.sa_sigaction = BEFORE.handler.load(Acquire);
        before.sa_flags = BEFORE.flags.load(Relaxed);
        before.sa_mask = *(*BEFORE.mask.get()).as_ptr();
        libc::sigaction(signal, &before, ptr::null_mut());
    }
}

/// Does what would have been done without this handler. `caller` is the handler that calls this one, SIG_DFL if the kernel does.
unsafe fn hand_on(
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
    faulted: bool,
    caller: usize,
) {
    // Acquire pairs with the Release in `keep`.
    let handler = match BEFORE.handler.load(Acquire) {
        // It calls what it found, which was this one, and would be called again.
        before if before == caller => libc::SIG_DFL,
        before => before,
    };
    let flags = BEFORE.flags.load(Relaxed);
    // SAFETY: calls of the C library that a handler may make; the handler was installed for a signature that its flags say.
    unsafe {
        match handler {
            libc::SIG_DFL => {
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
