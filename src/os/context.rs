//! The registers of code that runs or was interrupted, what else a handler of signals is told of that code, and the way to
//! another stack.

use super::segv::Access;
use core::ffi::c_void;

/// Where code was interrupted, by a fault or a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Registers {
    pub(crate) pc: usize,
    pub(crate) sp: usize,
    pub(crate) fp: usize,
    /// The link register; 0 on architectures that have none.
    pub(crate) link: usize,
}

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

/// Where the code was interrupted. All 0 on architectures for which that is not written.
///
/// # Safety
/// As for [`room`].
pub(super) unsafe fn registers(context: *mut c_void) -> Registers {
    // SAFETY: as the caller promises.
    unsafe { arch::registers(&(*context.cast::<libc::ucontext_t>()).uc_mcontext) }
}

/// Calls `end` on a stack that ends at `top`, a multiple of 16. On architectures for which that is not written, calls it on this
/// stack.
///
/// # Safety
/// The stack below `top` is nobody's, and large enough. What is on this one is not returned to.
pub(super) unsafe fn end_on(top: usize, end: extern "C" fn() -> !) -> ! {
    // SAFETY: as the caller promises.
    unsafe { arch::end_on(top, end) }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::Registers;

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
    /// As for [`super::end_on`].
    pub(super) unsafe fn end_on(top: usize, end: extern "C" fn() -> !) -> ! {
        // A return address of 0 ends the stack for whoever walks it, and aligns it as after a call.
        // SAFETY: as the caller promises.
        unsafe {
            core::arch::asm!(
                "mov rsp, {top}", "xor ebp, ebp", "push 0", "jmp {end}",
                top = in(reg) top, end = in(reg) end,
                options(noreturn),
            )
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::Registers;

    pub(super) fn registers(context: &libc::mcontext_t) -> Registers {
        Registers {
            pc: context.pc as usize,
            sp: context.sp as usize,
            fp: context.regs[29] as usize,
            link: context.regs[30] as usize,
        }
    }

    /// # Safety
    /// As for [`super::end_on`].
    pub(super) unsafe fn end_on(top: usize, end: extern "C" fn() -> !) -> ! {
        // A return address of 0 ends the stack for whoever walks it. From x16 a branch may lead to any function.
        // SAFETY: as the caller promises.
        unsafe {
            core::arch::asm!(
                "mov sp, {top}", "mov x29, xzr", "mov x30, xzr", "br x16",
                top = in(reg) top, in("x16") end,
                options(noreturn),
            )
        }
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
    pub(super) unsafe fn end_on(_: usize, end: extern "C" fn() -> !) -> ! {
        end()
    }
}

/// Those of the function that this is inlined into.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) fn registers_here() -> Registers {
    let (pc, sp, fp): (usize, usize, usize);
    // SAFETY: reads registers.
    unsafe {
        core::arch::asm!(
            "lea {0}, [rip]", "mov {1}, rsp", "mov {2}, rbp",
            out(reg) pc, out(reg) sp, out(reg) fp,
            options(nomem, nostack, preserves_flags),
        );
    }
    Registers {
        pc,
        sp,
        fp,
        link: 0,
    }
}

#[inline(always)]
#[cfg(all(target_arch = "aarch64", not(miri)))]
pub(super) fn registers_here() -> Registers {
    let (pc, sp, fp, link): (usize, usize, usize, usize);
    // SAFETY: reads registers.
    unsafe {
        core::arch::asm!(
            "adr {0}, .", "mov {1}, sp", "mov {2}, x29", "mov {3}, x30",
            out(reg) pc, out(reg) sp, out(reg) fp, out(reg) link,
            options(nomem, nostack, preserves_flags),
        );
    }
    Registers { pc, sp, fp, link }
}

/// On other architectures no caller is found.
#[inline(always)]
#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
pub(super) fn registers_here() -> Registers {
    Registers {
        pc: 1,
        sp: 1,
        fp: 1,
        link: 1,
    }
}
