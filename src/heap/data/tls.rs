//! The one thread-local pointer: the calling thread's heap, or one of two read-only stand-ins.
//!
//! On x86_64 it is a hidden symbol of our own in initial-exec storage: a single `fs:` access in an executable, one
//! more load in a shared library, never a call. Its name carries the crate's version, so that two versions can live in
//! one program.
//!
//! Initial-exec storage makes the dynamic loader refuse a library that is opened late, once its small reserve is used up.
//! With the feature `local_dynamic_tls` a TLS descriptor finds the pointer. A feature, since nothing else can choose: this
//! crate is compiled before it is known what it is linked into, and the linker turns descriptors into constants, but
//! leaves a `nop` in every fast path of an executable.
//!
//! Elsewhere it is a `thread_local!`, which the compiler makes a descriptor on aarch64.

use crate::heap::data::heap::{Front, Heap, StandIn};
use core::ptr;

/// What a thread starts with: every bin empty, no tag matches, so that the fast paths need no test for it.
pub(crate) static EMPTY: StandIn = StandIn::new();
/// What threads have that go without a heap: the first of these those of ours, for good; the second a thread whose heap
/// was given up, and the ones behind it a thread that has freed a block since.
static GONE: [StandIn; 2 + FREES] = [const { StandIn::new() }; 2 + FREES];
/// Blocks that such a thread frees before it is given a heap again: the C library frees a few of its own last of all.
const FREES: usize = 3;

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

    #[cfg(not(feature = "local_dynamic_tls"))]
    #[inline(always)]
    pub(crate) fn get() -> *mut Front {
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

    #[cfg(not(feature = "local_dynamic_tls"))]
    pub(crate) fn set(front: *mut Front) {
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

    /// Finds the pointer by a TLS descriptor, then does `$then`, in which `rax` is its place relative to `fs`.
    ///
    /// By convention the descriptor's function preserves every register but `rax` and the flags. glibc before 2.40
    /// breaks that when a thread comes here for the first time: the function calls `malloc`, which may use vector
    /// registers. So those count as overwritten. The linker matches the first two instructions as they stand and, in an executable,
    /// replaces them by a constant and a `nop`.
    #[cfg(feature = "local_dynamic_tls")]
    macro_rules! by_descriptor {
        ($then:literal, $($operand:tt)*) => {
            asm!(
                concat!("lea rax, [rip + ", symbol!(), "@TLSDESC]"),
                concat!("call qword ptr [rax + ", symbol!(), "@TLSCALL]"),
                $then,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
                out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
                out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _,
                out("xmm28") _, out("xmm29") _, out("xmm30") _, out("xmm31") _,
                out("k1") _, out("k2") _, out("k3") _, out("k4") _, out("k5") _, out("k6") _, out("k7") _,
                $($operand)*
            )
        };
    }

    #[cfg(feature = "local_dynamic_tls")]
    #[inline(always)]
    pub(crate) fn get() -> *mut Front {
        let front: *mut Front;
        // SAFETY: reads eight bytes of this thread's storage. `pure, readonly` as in the other `get`; the call needs
        // an aligned stack and may change the flags, so neither is promised away.
        unsafe {
            by_descriptor!(
                "mov rax, qword ptr fs:[rax]",
                out("rax") front,
                options(pure, readonly),
            );
        }
        front
    }

    #[cfg(feature = "local_dynamic_tls")]
    pub(crate) fn set(front: *mut Front) {
        // SAFETY: writes eight bytes of this thread's storage; default options, so that nothing is assumed of memory
        // across it.
        unsafe {
            by_descriptor!(
                "mov qword ptr fs:[rax], {value}",
                value = in(reg) front,
                out("rax") _,
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
    pub(crate) fn get() -> *mut Front {
        // A const-initialised cell without a destructor is reachable for as long as the thread runs.
        HEAP.with(Cell::get)
    }

    pub(crate) fn set(front: *mut Front) {
        HEAP.with(|cell| cell.set(front));
    }
}

pub(crate) use access::{get, set};

#[inline]
pub(crate) fn is_empty(front: *mut Front) -> bool {
    core::ptr::addr_eq(front, &raw const EMPTY)
}

#[inline]
pub(crate) fn is_dead(front: *mut Front) -> bool {
    (front as usize).wrapping_sub(GONE.as_ptr() as usize) < size_of_val(&GONE)
}

/// Which of the stand-ins `front` is.
fn stage(front: *mut Front) -> usize {
    (front as usize).wrapping_sub(GONE.as_ptr() as usize) / size_of::<StandIn>()
}

fn set_stage(stage: usize) {
    if let Some(stand_in) = GONE.get(stage) {
        set((&raw const *stand_in).cast_mut().cast());
    }
}

/// Marks the calling thread, which is one of ours, as one that never has a heap.
pub(crate) fn set_dead() {
    set_stage(0);
}

/// Marks the calling thread as one whose heap was given up.
pub(crate) fn set_ended() {
    set_stage(1);
}

/// Whether the calling thread, whose front this is, had a heap, and is to be given one for what it allocates.
pub(crate) fn may_return(front: *mut Front) -> bool {
    is_dead(front) && stage(front) > 0
}

/// The same for what it frees: not for the first few blocks.
pub(crate) fn may_return_to_free(front: *mut Front) -> bool {
    if !may_return(front) {
        return false;
    }
    let last = stage(front) == FREES + 1;
    if !last {
        set_stage(stage(front) + 1);
    }
    last
}

/// The calling thread's heap; null if it has none.
pub(crate) fn current() -> *mut Heap {
    let front = get();
    if is_empty(front) || is_dead(front) {
        ptr::null_mut()
    } else {
        front.cast()
    }
}
