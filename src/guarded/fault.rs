//! Faults in the memory of guarded blocks.

use super::{report, slots};
use crate::os::segv::Fault;
use crate::os::{sys, thread};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The thread that reports a fault, as [`thread::me`] names it; 0 for none. Only compared with a thread's own: Relaxed.
static REPORTER: AtomicUsize = AtomicUsize::new(0);
/// How often and how long a thread waits for another to end the process, or for the lock.
const TRIES: u32 = 100;
const TRY_US: u64 = 20_000;

/// Ends the process if the fault lies in the memory of guarded blocks. Runs in a handler of signals, whatever the thread was
/// doing.
pub(super) fn look(fault: Fault) {
    if !slots::holds(fault.addr) {
        return;
    }
    let me = thread::me();
    match REPORTER.compare_exchange(0, me, Relaxed, Relaxed) {
        Ok(_) => {}
        // In its handler of SIGABRT.
        Err(other) if other == me => return,
        Err(_) => {
            // The first fault is the one that is reported.
            (0..TRIES).for_each(|_| sys::sleep_us(TRY_US));
            return;
        }
    }
    // The thread itself may hold the lock, if the fault is that of a handler of signals. Then it is never free.
    let slot = (0..TRIES).find_map(|_| {
        let found = slots::try_nearest(fault.addr);
        if found.is_none() {
            sys::sleep_us(TRY_US);
        }
        found
    });
    report::fault(fault, slot.flatten().as_ref())
}
