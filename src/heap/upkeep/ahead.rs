//! `HAKMEM_SS_PREFAULT=async`: a thread that keeps superslabs ready ahead of a program that grows.
//!
//! It starts if the pool ran dry several times in quick succession, so never in a program that does not grow. It keeps four times
//! as much ready as the program took since the last look, within a quarter of what the program holds, in superslabs ([`target`]).
//! When the program stops growing, the thread gives back what it made ready and nobody used (not what was prewarmed on request),
//! and ends. Each superslab is one populate call of 2 MiB, without a lock, and with a pause after it so that other threads' mmap
//! is not held up.
//!
//! With several NUMA nodes it serves the one whose pool ran dry last: it asks the kernel to give it pages from there. If that is
//! refused, it serves the node that it happens to run on.

use crate::base::tuning::ahead::{
    CLAIMED_SHARE, DRY_TO_START, FROM_SUPERSLABS, LEAST, LOOK_US, LOOKS_TO_LIVE, MOST, PAUSE_US,
    QUICK_MS, REFUSED_MS, TIMES,
};
use crate::base::units::{SLOTS, Slots};
use crate::heap::data::tls;
use crate::knobs::{self, Prefault};
use crate::os::{clock, findings, first_thread, sys, thread};
use crate::pool::{self, Node};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Whether the thread exists. The thread that sets it starts this one, which clears it. Nothing else is published by it, so
/// Relaxed, as for the words below, which only decide when and where.
static RUNNING: AtomicBool = AtomicBool::new(false);
static WANTED: AtomicBool = AtomicBool::new(false);
static DRY: AtomicU32 = AtomicU32::new(0);
/// The node whose pool ran dry last: it is stocked.
static DRY_NODE: AtomicU8 = AtomicU8::new(0);
static DRY_AT_MS: AtomicU64 = AtomicU64::new(0);
static NOT_BEFORE_MS: AtomicU64 = AtomicU64::new(0);

/// Notes that the node's pool ran dry and had to map. Decides whether the thread is wanted. Calls nothing that allocates.
pub(crate) fn ran_dry(node: Node) {
    let knobs = knobs::get();
    if knobs.prefault != Prefault::Async {
        return;
    }
    DRY_NODE.store(node.number(), Relaxed);
    if RUNNING.load(Relaxed) {
        return;
    }
    if !knobs.background {
        return findings::async_forbidden();
    }
    let now = clock::now_ms();
    if now < NOT_BEFORE_MS.load(Relaxed) {
        return;
    }
    if now.saturating_sub(DRY_AT_MS.swap(now, Relaxed)) > QUICK_MS {
        DRY.store(0, Relaxed);
    } else if DRY.fetch_add(1, Relaxed) + 1 >= DRY_TO_START
        && pool::counts().mapped >= FROM_SUPERSLABS
    {
        WANTED.store(true, Relaxed);
    }
}

/// Starts the thread if it is wanted and does not exist. Starting may allocate: no lock may be held, and no bin be about to be
/// filled.
#[inline]
pub(crate) fn start_if_wanted() {
    if WANTED.load(Relaxed) {
        start();
    }
}

#[cold]
fn start() {
    // The swap makes one thread the one that starts it.
    if WANTED.swap(false, Relaxed) && !first_thread::has_ended() && !RUNNING.swap(true, Relaxed) {
        let _errno = sys::ErrnoGuard::new();
        if !thread::spawn(run) {
            // The next try waits for a while.
            NOT_BEFORE_MS.store(clock::now_ms() + REFUSED_MS, Relaxed);
            RUNNING.store(false, Relaxed);
        }
    }
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    // The threadless heap serves what the C library allocates for this thread.
    tls::set_dead();
    // A refusal does no harm.
    let _ = sys::name_thread(c"hakmem-ahead");
    let knobs = knobs::get();
    let mut claimed = pool::counts().claimed_slots;
    let mut still = 0;
    let mut node = Node::FIRST;
    // For the same reason as the maintenance thread it ends with the process's first thread.
    while still < LOOKS_TO_LIVE && !first_thread::has_ended() {
        let now = pool::counts().claimed_slots;
        let grown = now.saturating_sub(claimed);
        claimed = now;
        still = if grown == Slots::NONE { still + 1 } else { 0 };
        let wanted = target(grown, now);
        if grown > Slots::NONE {
            node = pool::serving(Node::of_number(DRY_NODE.load(Relaxed)));
        }
        while grown > Slots::NONE
            && pool::ready(node, wanted) < wanted
            && !first_thread::has_ended()
        {
            let began = clock::now_ns();
            if !pool::stock(knobs, node) {
                NOT_BEFORE_MS.store(clock::now_ms() + REFUSED_MS, Relaxed);
                still = LOOKS_TO_LIVE;
                break;
            }
            // A quarter of the call's time, for threads that waited meanwhile.
            sys::sleep_us(((clock::now_ns() - began) / 4000).clamp(PAUSE_US, LOOK_US));
        }
        sys::sleep_us(LOOK_US);
    }
    pool::unstock();
    DRY.store(0, Relaxed);
    RUNNING.store(false, Relaxed);
    ptr::null_mut()
}

/// How many superslabs to keep ready if `grown` slots were taken since the last look, and `claimed` are in use.
fn target(grown: Slots, claimed: Slots) -> usize {
    let wish = (TIMES * grown.count()).div_ceil(SLOTS);
    let share = claimed.superslabs() / CLAIMED_SHARE;
    wish.min(share).clamp(LEAST, MOST)
}

/// In the child of a fork: the thread is gone; what it had ready is ready in the child.
pub(crate) fn after_fork() {
    RUNNING.store(false, Relaxed);
    WANTED.store(false, Relaxed);
    DRY.store(0, Relaxed);
    NOT_BEFORE_MS.store(0, Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_target_follows_growth_and_stays_within_a_quarter() {
        let target = |grown, claimed| target(Slots::new(grown), Slots::new(claimed));
        assert_eq!(target(0, 0), LEAST);
        assert_eq!(target(SLOTS, 400 * SLOTS), 4);
        assert_eq!(target(1, 400 * SLOTS), LEAST);
        assert_eq!(target(10 * SLOTS, 40 * SLOTS), 10);
        assert_eq!(target(1000 * SLOTS, 10_000 * SLOTS), MOST);
    }
}
