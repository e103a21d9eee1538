//! Three thread-local words: the pointer to the calling thread's heap, or to a read-only stand-in; why it is the stand-in; and
//! the thread's number.
//!
//! On x86_64 the pointer is a hidden symbol of our own in initial-exec storage: one `fs:` access in an executable, one more
//! load in a shared library, never a call. Its name carries the crate's version, so that two versions can live in one program.
//!
//! Initial-exec storage makes the dynamic loader refuse a library that is opened late, once its small reserve is used up. With
//! the feature `local_dynamic_tls` a TLS descriptor finds the pointer instead. Only a feature can choose: this crate is
//! compiled before it is known what it is linked into. The linker turns descriptors into constants, but leaves a `nop` in every
//! fast path of an executable.
//!
//! Elsewhere it is a `thread_local!`, which the compiler makes a descriptor on aarch64.

use crate::base::tuning::LATE_FREES;
use crate::heap::data::heap::{Front, HeapRef, StandIn};
use crate::os::thread;

/// What a thread starts with: every bin is empty and no tag matches, so that the fast paths need no test for it.
pub(crate) static EMPTY: StandIn = StandIn::new();

/// The thread has the stand-in because it is new.
const FRESH: usize = 0;
/// Because it is one of the allocator's own threads, which never have a heap.
const OURS: usize = 1;
/// Because its heap was given up. Each block that it frees after that adds 1 to the stage, up to [`LATE_FREES`] of them.
const ENDED: usize = 2;

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
        concat!(".size ", symbol!(), ", 24"),
        concat!(symbol!(), ":"),
        ".quad {empty}",
        ".quad 0",
        ".quad 0",
        ".text",
        empty = sym EMPTY,
    );

    #[inline(always)]
    pub(crate) fn get() -> *mut Front {
        read::<0>() as *mut Front
    }

    pub(crate) fn set(front: *mut Front) {
        write::<0>(front as usize);
    }

    pub(crate) fn stage() -> usize {
        read::<8>()
    }

    pub(crate) fn set_stage(stage: usize) {
        write::<8>(stage);
    }

    pub(crate) fn number() -> usize {
        read::<16>()
    }

    pub(crate) fn set_number(number: usize) {
        write::<16>(number);
    }

    #[cfg(not(feature = "local_dynamic_tls"))]
    #[inline(always)]
    fn read<const AT: usize>() -> usize {
        let word: usize;
        // SAFETY: reads eight bytes of this thread's initial-exec storage. `pure, readonly` (never `nomem`) lets the
        // compiler merge reads but not move them across a `set`.
        unsafe {
            asm!(
                concat!("mov {out}, qword ptr [rip + ", symbol!(), "@GOTTPOFF]"),
                "mov {out}, qword ptr fs:[{out} + {at}]",
                out = out(reg) word,
                at = const AT,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        word
    }

    #[cfg(not(feature = "local_dynamic_tls"))]
    fn write<const AT: usize>(word: usize) {
        // SAFETY: writes eight bytes of this thread's initial-exec storage; default options, so that nothing is
        // assumed of memory across it.
        unsafe {
            asm!(
                concat!("mov {tmp}, qword ptr [rip + ", symbol!(), "@GOTTPOFF]"),
                "mov qword ptr fs:[{tmp} + {at}], {value}",
                tmp = out(reg) _,
                value = in(reg) word,
                at = const AT,
            );
        }
    }

    /// Finds the pointer by a TLS descriptor, then does `$then`, in which `rax` is its place relative to `fs`.
    ///
    /// By convention the descriptor's function preserves every register but `rax` and the flags. glibc before 2.40 breaks this
    /// when a thread comes here for the first time: the function calls `malloc`, which may use vector registers. So those count
    /// as overwritten. The linker matches the first two instructions as they stand and, in an executable, replaces them by a
    /// constant and a `nop`.
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
    fn read<const AT: usize>() -> usize {
        let word: usize;
        // SAFETY: reads eight bytes of this thread's storage. `pure, readonly` as in the other `read`; the call needs
        // an aligned stack and may change the flags, so neither is promised away.
        unsafe {
            by_descriptor!(
                "mov rax, qword ptr fs:[rax + {at}]",
                out("rax") word,
                at = const AT,
                options(pure, readonly),
            );
        }
        word
    }

    #[cfg(feature = "local_dynamic_tls")]
    fn write<const AT: usize>(word: usize) {
        // SAFETY: writes eight bytes of this thread's storage; default options, so that nothing is assumed of memory
        // across it.
        unsafe {
            by_descriptor!(
                "mov qword ptr fs:[rax + {at}], {value}",
                value = in(reg) word,
                out("rax") _,
                at = const AT,
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
        static STAGE: Cell<usize> = const { Cell::new(0) };
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }

    #[inline(always)]
    pub(crate) fn get() -> *mut Front {
        // A const-initialised cell without a destructor is reachable for as long as the thread runs.
        HEAP.with(Cell::get)
    }

    pub(crate) fn set(front: *mut Front) {
        HEAP.with(|cell| cell.set(front));
    }

    pub(crate) fn stage() -> usize {
        STAGE.with(Cell::get)
    }

    pub(crate) fn set_stage(stage: usize) {
        STAGE.with(|cell| cell.set(stage));
    }

    pub(crate) fn number() -> usize {
        NUMBER.with(Cell::get)
    }

    pub(crate) fn set_number(number: usize) {
        NUMBER.with(|cell| cell.set(number));
    }
}

pub(crate) use access::{get, set};

/// The kernel's number of the calling thread, which is asked once. A child of `vfork` has its parent's memory: it gets that one's
/// number, or asks each time.
pub(crate) fn thread() -> u32 {
    match access::number() {
        0 => {
            let number = thread::tid();
            if thread::is_of_process() {
                access::set_number(number as usize);
            }
            number
        }
        number => number as u32,
    }
}

/// Whether [`thread`] was not asked yet.
pub(crate) fn is_unknown() -> bool {
    access::number() == 0
}

/// In the child of a fork: the thread has another number than in the parent.
pub(crate) fn after_fork() {
    access::set_number(0);
}

/// Whether the calling thread, whose front this is, is new.
#[inline]
pub(crate) fn is_empty(front: *mut Front) -> bool {
    is_stand_in(front) && access::stage() == FRESH
}

/// Whether the calling thread, whose front this is, goes without a heap.
#[inline]
pub(crate) fn is_dead(front: *mut Front) -> bool {
    is_stand_in(front) && access::stage() != FRESH
}

#[inline]
fn is_stand_in(front: *mut Front) -> bool {
    core::ptr::addr_eq(front, &raw const EMPTY)
}

fn go_without(stage: usize) {
    // In this order, so that a signal handler finds the heap or the reason why there is none.
    access::set_stage(stage);
    set((&raw const EMPTY).cast_mut().cast());
}

/// Marks the calling thread as one of the allocator's own, which never have a heap.
pub(crate) fn set_dead() {
    go_without(OURS);
}

/// Marks the calling thread as one whose heap was given up.
pub(crate) fn set_ended() {
    go_without(ENDED);
}

/// Whether the calling thread, whose front this is, had a heap and gets another one for what it allocates.
pub(crate) fn may_return(front: *mut Front) -> bool {
    is_stand_in(front) && access::stage() >= ENDED
}

/// The same for what it frees: not for the first few blocks.
pub(crate) fn may_return_to_free(front: *mut Front) -> bool {
    if !may_return(front) {
        return false;
    }
    let stage = access::stage();
    if stage < ENDED + LATE_FREES {
        access::set_stage(stage + 1);
    }
    stage == ENDED + LATE_FREES
}

/// The calling thread's heap, if it has one.
pub(crate) fn current() -> Option<HeapRef> {
    let front = get();
    if is_empty(front) || is_dead(front) {
        return None;
    }
    // SAFETY: neither stand-in.
    Some(unsafe { HeapRef::of_front(front) })
}
