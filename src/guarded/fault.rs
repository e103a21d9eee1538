//! Faults in the memory of guarded blocks, and of freed large ones.

use super::slots;
use crate::base::tuning::guarded::{TRIES, TRY_US};
use crate::large;
use crate::os::segv::{Fault, Watch, Whose};
use crate::os::sys;
use crate::slab::known_report;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(super) static WATCH: Watch = Watch { whose, end };

/// Whose fault it is. Runs in a handler of signals, on whatever stack.
fn whose(addr: usize) -> Whose {
    if large::is_closed(addr) {
        return Whose::Ours;
    }
    if !slots::holds(addr) {
        return Whose::Others;
    }
    if !slots::is_open(addr) {
        return Whose::Ours;
    }
    // Either the block was given out while the fault was on its way, and the access succeeds when it is made again. Or it faults
    // again: then the program took the access to its own block away, and its handler knows. Threads that fault in turn try more
    // often: Relaxed.
    static LAST: AtomicUsize = AtomicUsize::new(0);
    if LAST.swap(addr, Relaxed) == addr {
        Whose::Others
    } else {
        Whose::Nobodys
    }
}

/// Ends the process for a fault. Runs in a handler of signals or instead of what faulted, whatever the thread was doing.
fn end(fault: Fault) -> ! {
    // The thread itself may hold the lock, if the fault is that of a handler of signals: then it is never free.
    let slot = (0..TRIES).find_map(|_| {
        let found = match slots::holds(fault.addr) {
            true => slots::try_nearest(fault.addr),
            false => large::try_closed(fault.addr),
        };
        if found.is_none() {
            sys::sleep_us(TRY_US);
        }
        found
    });
    known_report::fault(fault, slot.flatten().as_ref())
}
