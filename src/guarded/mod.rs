//! Guarded blocks: now and then a block lies alone on an OS page between pages without access, and its page has no access for a
//! while once it is freed. A use beyond the block or after its free faults at the instruction that does it, and the process ends
//! with a report that names the block.
//!
//! Which allocation is given one is decided where it is slow anyway ([`sample`]). The blocks lie in 2 MiB of their own, whose
//! tags carry the class [`GUARDED`](crate::base::size_class::GUARDED), which matches no heap's: each free of such a block takes
//! the slow path, at no cost to others. At most [`SLOTS`](crate::base::tuning::guarded::SLOTS) live at once, because each splits
//! the kernel's mappings. Everything is under one lock, which ranks below those of the heaps and above those of the directory and
//! the knobs.
//!
//! There are none if the handler of faults could dangle ([`object::stays`]), under a limit of address space, and after the
//! kernel refused a call.

mod fault;
mod handler;
mod slots;
#[cfg(test)]
mod tests;

use crate::base::tuning::guarded::{SPACED_FROM, SPACED_MS};
use crate::knobs;
use crate::os::clock;
use crate::os::object;
use crate::os::random::seed;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

pub(crate) use slots::{compare, each_size, fork_lock, free, mapped, shrink, size_of};

/// A guarded block for `size` bytes at `align`, if one is due: `until` counts the caller's slow paths down to 1, and is 0 before
/// the first.
#[inline]
pub(crate) fn sample(until: &mut u32, size: usize, align: usize) -> Option<*mut u8> {
    if *until > 1 {
        *until -= 1;
        return None;
    }
    sample_slow(until, size, align)
}

#[cold]
#[inline(never)]
fn sample_slow(until: &mut u32, size: usize, align: usize) -> Option<*mut u8> {
    if *until == 0 {
        *until = draw();
        // Rust's standard library asks whether there is a handler of SIGSEGV, allocates for the first time, and then installs its
        // own: one that was installed in between would be lost. Relaxed: a flag that goes with nothing.
        static BEGUN: AtomicBool = AtomicBool::new(false);
        if *until > 1 || !BEGUN.swap(true, Relaxed) {
            return None;
        }
    }
    if !slots::fits(size, align) {
        // It stays due: the next block that fits is guarded.
        return None;
    }
    *until = draw();
    // The largest number stands for never, and was counted down.
    if *until == u32::MAX || !is_time() {
        return None;
    }
    slots::alloc(size, align, &fault::WATCH)
}

/// Whether the process may have another guarded block by now, if they are to be seldom.
fn is_time() -> bool {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    if knobs::get().guard_every < SPACED_FROM {
        return true;
    }
    // Before the clock: the time that another thread may store meanwhile is later.
    let last = LAST_MS.load(Relaxed);
    let now = clock::now_ms();
    // One of the threads that come at once gets it. Relaxed: the time is all there is to tell.
    let claim = || LAST_MS.compare_exchange(last, now, Relaxed, Relaxed);
    now.wrapping_sub(last) >= SPACED_MS && claim().is_ok()
}

/// Has faults in freed large blocks reported from now on, as those of guarded blocks are: unless none may be guarded. No lock may
/// be held.
pub(crate) fn watch_faults() {
    if !cfg!(test) && object::stays() && knobs::get().guard_every != 0 {
        // A fault ends the process without a line where this fails.
        let _ = handler::is_installed(&fault::WATCH);
    }
}

/// How many slow paths from now the next guarded block is due: the setting on average, so that no rhythm of the program's decides
/// which of its blocks are guarded.
fn draw() -> u32 {
    // Unit tests count system calls and faults; those of this module ask for their blocks.
    if cfg!(test) || !object::stays() {
        return u32::MAX;
    }
    match knobs::get().guard_every {
        0 => u32::MAX,
        1 => 1,
        every => every / 2 + 1 + (random() % u64::from(every)) as u32,
    }
}

static STATE: AtomicU64 = AtomicU64::new(0);
/// What its first number is for.
const ORDER: u64 = 0x636F_10A9_2B7D_8E45;

/// The children of one process draw numbers of their own, from the next on.
pub(crate) fn after_fork() {
    STATE.store(0, Relaxed);
}

/// Threads that draw at once may get the same number: Relaxed.
fn random() -> u64 {
    let last = match STATE.load(Relaxed) {
        0 => seed(ORDER) | 1,
        state => state,
    };
    // Knuth's linear congruence; the low bits of its states are of little use.
    let next = last
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    STATE.store(next, Relaxed);
    next >> 33
}
