//! The one thread-local pointer: the calling thread's heap, or one of two read-only stand-ins.
//!
//! On x86_64 it is a hidden symbol of our own in initial-exec storage: a single `fs:` access in an executable, one
//! more load in a shared library, never a call. Its name carries the crate's version, so that two versions can live in
//! one program. Elsewhere it is a `thread_local!` (untested there: no such machine was at hand).

use super::heap::{Front, StandIn};

/// What a thread starts with: every bin empty, no tag matches, so that the fast paths need no test for it.
pub(super) static EMPTY: StandIn = StandIn::new();
/// What a thread ends with, once its heap was given up.
pub(super) static DEAD: StandIn = StandIn::new();

#[cfg(target_arch = "x86_64")]
mod access {
    use super::{EMPTY, Front};
    use core::arch::{asm, global_asm};

    macro_rules! symbol {
        () => {
            concat!(
                "hakmem_alloc_heap_",
                env!("CARGO_PKG_VERSION_MAJOR"),
                "_",
                env!("CARGO_PKG_VERSION_MINOR"),
                "_",
                env!("CARGO_PKG_VERSION_PATCH")
            )
        };
    }

    global_asm!(
        ".section .tdata,\"awT\",@progbits",
        ".p2align 3",
        concat!(".hidden ", symbol!()),
        concat!(".globl ", symbol!()),
        concat!(".type ", symbol!(), ", @object"),
        concat!(".size ", symbol!(), ", 8"),
        concat!(symbol!(), ":"),
        ".quad {empty}",
        ".text",
        empty = sym EMPTY,
    );

    #[inline(always)]
    pub(in crate::heap) fn get() -> *mut Front {
        let front: *mut Front;
        // SAFETY: reads eight bytes of this thread's initial-exec storage. `pure, readonly` (never `nomem`) lets the
        // compiler merge reads but not move them across a `set`.
        unsafe {
            asm!(
                concat!("mov {out}, qword ptr [rip + ", symbol!(), "@GOTTPOFF]"),
                "mov {out}, qword ptr fs:[{out}]",
                out = out(reg) front,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        front
    }

    pub(in crate::heap) fn set(front: *mut Front) {
        // SAFETY: writes eight bytes of this thread's initial-exec storage; default options, so that nothing is
        // assumed of memory across it.
        unsafe {
            asm!(
                concat!("mov {tmp}, qword ptr [rip + ", symbol!(), "@GOTTPOFF]"),
                "mov qword ptr fs:[{tmp}], {value}",
                tmp = out(reg) _,
                value = in(reg) front,
            );
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod access {
    use super::{EMPTY, Front};
    use core::cell::Cell;

    std::thread_local! {
        static HEAP: Cell<*mut Front> = const { Cell::new((&raw const EMPTY).cast_mut().cast()) };
    }

    #[inline(always)]
    pub(in crate::heap) fn get() -> *mut Front {
        // A const-initialised cell without a destructor is reachable for as long as the thread runs.
        HEAP.with(Cell::get)
    }

    pub(in crate::heap) fn set(front: *mut Front) {
        HEAP.with(|cell| cell.set(front));
    }
}

pub(super) use access::{get, set};

#[inline]
pub(super) fn is_empty(front: *mut Front) -> bool {
    core::ptr::addr_eq(front, &raw const EMPTY)
}

#[inline]
pub(super) fn is_dead(front: *mut Front) -> bool {
    core::ptr::addr_eq(front, &raw const DEAD)
}

/// Marks the calling thread as one that has no heap any more.
pub(super) fn set_dead() {
    set((&raw const DEAD).cast_mut().cast());
}
