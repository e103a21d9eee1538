//! Faults in the memory of guarded blocks.

use super::{report, slots};
use crate::os::segv::{Fault, Watch};
use crate::os::sys;

/// How often and how long a thread waits for the lock.
const TRIES: u32 = 100;
const TRY_US: u64 = 20_000;

pub(super) static WATCH: Watch = Watch {
    is_ours: slots::holds,
    end,
};

/// Ends the process for a fault. Runs in a handler of signals or instead of what faulted, whatever the thread was doing.
fn end(fault: Fault) -> ! {
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
