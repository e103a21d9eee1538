//! What a handler of signals is told of the code it interrupted, and can change of it.

use super::segv::Access;
use super::stack::Registers;
use core::ffi::c_void;

/// What the processor says of the access.
///
/// # Safety
/// `context` is what the kernel passed to a handler of a fault.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn access(context: *mut c_void) -> Access {
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
pub(super) unsafe fn access(_: *mut c_void) -> Access {
    Access::Unknown
}

/// Bytes that are left of the alternative stack. `usize::MAX` if the handler runs on the stack of the code it interrupted.
///
/// # Safety
/// `context` is what the kernel passed to the handler of a signal that runs now.
pub(super) unsafe fn room(context: *mut c_void) -> usize {
    // SAFETY: as the caller promises.
    let stack = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_stack };
    let here = (&raw const stack).addr();
    match here.wrapping_sub(stack.ss_sp.addr()) {
        left if left < stack.ss_size => left,
        _ => usize::MAX,
    }
}

/// Where the code was interrupted. All 0 where that is not known.
///
/// # Safety
/// As for [`room`].
pub(super) unsafe fn registers(context: *mut c_void) -> Registers {
    // SAFETY: as the caller promises.
    unsafe { arch::registers(&(*context.cast::<libc::ucontext_t>()).uc_mcontext) }
}

/// Has the handler's return go on in `entry`, with a stack that ends at `top`, a multiple of 16. Returns false if it cannot.
///
/// # Safety
/// As for [`room`]; the 16 bytes below `top` and the stack below them are nobody's.
pub(super) unsafe fn go_on(context: *mut c_void, entry: extern "C" fn() -> !, top: usize) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        arch::go_on(
            &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext,
            entry,
            top,
        )
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::Registers;

    /// Flags that a function may count on being clear, and single steps: trap, direction, alignment check.
    const FLAGS: i64 = 1 << 8 | 1 << 10 | 1 << 18;

    pub(super) fn registers(context: &libc::mcontext_t) -> Registers {
        let of = |register: i32| context.gregs[register as usize] as usize;
        Registers {
            pc: of(libc::REG_RIP),
            sp: of(libc::REG_RSP),
            fp: of(libc::REG_RBP),
            link: 0,
        }
    }

    /// # Safety
    /// As for [`super::go_on`].
    pub(super) unsafe fn go_on(
        context: &mut libc::mcontext_t,
        entry: extern "C" fn() -> !,
        top: usize,
    ) -> bool {
        // As after a call: the return address, which ends the stack, lies at the stack pointer.
        // SAFETY: below `top`, as the caller promises.
        unsafe { core::ptr::with_exposed_provenance_mut::<[usize; 2]>(top - 16).write([0; 2]) };
        let mut set = |register: i32, value: i64| context.gregs[register as usize] = value;
        set(libc::REG_RIP, entry as usize as i64);
        set(libc::REG_RSP, (top - 8) as i64);
        set(libc::REG_RBP, 0);
        context.gregs[libc::REG_EFL as usize] &= !FLAGS;
        true
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::Registers;

    /// What kind of branch led here: a function that is none's target would fault.
    const BRANCH: u64 = 3 << 10;

    pub(super) fn registers(context: &libc::mcontext_t) -> Registers {
        Registers {
            pc: context.pc as usize,
            sp: context.sp as usize,
            fp: context.regs[29] as usize,
            link: context.regs[30] as usize,
        }
    }

    /// # Safety
    /// As for [`super::go_on`].
    pub(super) unsafe fn go_on(
        context: &mut libc::mcontext_t,
        entry: extern "C" fn() -> !,
        top: usize,
    ) -> bool {
        context.pc = entry as usize as u64;
        context.sp = top as u64;
        context.regs[29] = 0;
        context.regs[30] = 0;
        context.pstate &= !BRANCH;
        true
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    use super::Registers;

    pub(super) fn registers(_: &libc::mcontext_t) -> Registers {
        Registers {
            pc: 0,
            sp: 0,
            fp: 0,
            link: 0,
        }
    }

    /// # Safety
    /// None here.
    pub(super) unsafe fn go_on(
        _: &mut libc::mcontext_t,
        _: extern "C" fn() -> !,
        _: usize,
    ) -> bool {
        false
    }
}
