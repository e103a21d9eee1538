//! How many blocks are checked: none, some, or all.
//!
//! If all are, threads get no heap, and every allocation that a size class serves comes here, unless it gets a guarded block. If
//! one slab in N is, the heaps count the slabs that they open. When it is time, the next slow path opens a checked one for the
//! size that it was asked for, and slow paths of that size get a block of it now and then.

use crate::base::account::{self, Kind};
use crate::base::tuning::checked as tuning;
use crate::knobs;
use crate::os::stack;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

/// What slow paths do about checked blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Nothing: no block is checked, or no checked slab has room and none is due.
    Off = 0,
    /// Ask for one.
    Some,
    /// Take nothing else.
    All,
}

/// All words here are Relaxed: what they lead to is under the store's lock.
static MODE: AtomicU8 = AtomicU8::new(Mode::Off as u8);
/// Slabs from one checked one to the next; 0 if no slab is checked, or all are.
static INTERVAL: AtomicU32 = AtomicU32::new(0);
static LEFT: AtomicU32 = AtomicU32::new(0);
/// A checked slab is to be opened.
static DUE: AtomicBool = AtomicBool::new(false);
static HARDENED: AtomicBool = AtomicBool::new(false);
/// The process was forked, and its random numbers are its parent's.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Takes the settings over. Before the first block is allocated.
pub(crate) fn init() {
    let knobs = knobs::get();
    HARDENED.store(knobs.hardened, Relaxed);
    if knobs.check_one_in == 1 || knobs.guard_every == 1 {
        stack::read_all_tables();
    }
    match knobs.check_one_in {
        0 => {}
        1 => set(Mode::All),
        n => {
            INTERVAL.store(n, Relaxed);
        }
    }
}

#[inline]
pub(crate) fn mode() -> Mode {
    match MODE.load(Relaxed) {
        0 => Mode::Off,
        1 => Mode::Some,
        _ => Mode::All,
    }
}

fn set(mode: Mode) {
    MODE.store(mode as u8, Relaxed);
}

pub(super) fn is_hardened() -> bool {
    HARDENED.load(Relaxed)
}

/// Whether one slab in so many is checked.
pub(super) fn is_sampled() -> bool {
    INTERVAL.load(Relaxed) != 0
}

/// In the child of a fork.
pub(crate) fn after_fork() {
    FORKED.store(true, Relaxed);
}

/// Whether random numbers are to be drawn anew.
pub(super) fn take_forked() -> bool {
    FORKED.load(Relaxed) && FORKED.swap(false, Relaxed)
}

/// A heap has opened a slab.
pub(crate) fn slab_opened() {
    let interval = INTERVAL.load(Relaxed);
    if interval == 0 {
        return;
    }
    // Threads that come at the same time may count one slab too many or too few.
    let left = LEFT.load(Relaxed);
    if left > 1 {
        LEFT.store(left - 1, Relaxed);
        return;
    }
    // A program with a block of each size has many slabs and little memory.
    if account::of(Kind::Blocks) < tuning::FROM {
        return;
    }
    LEFT.store(interval, Relaxed);
    DUE.store(true, Relaxed);
    set(Mode::Some);
}

/// Whether a checked slab is to be opened.
pub(super) fn is_due() -> bool {
    DUE.load(Relaxed)
}

/// The same. Of several threads that ask, one gets the task.
pub(super) fn take_due() -> bool {
    is_due() && DUE.swap(false, Relaxed)
}

/// Tells slow paths whether to ask; not where all blocks are checked.
pub(super) fn show(has_room: bool) {
    if mode() != Mode::All {
        let wanted = has_room || DUE.load(Relaxed);
        set(if wanted { Mode::Some } else { Mode::Off });
    }
}
