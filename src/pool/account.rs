//! What one superslab contributes to what its pool counts.

use crate::base::units::Slots;
use crate::slab::superslab::{State, Superslab, UNIT};

/// What a superslab in the lists contributes to the counts.
#[derive(Clone, Copy)]
pub(super) struct Account {
    pub(super) in_use: usize,
    pub(super) retained: usize,
    pub(super) purged: usize,
    /// Slots that are free and dirty, and the bytes of them that were handed out.
    pub(super) dirty_slots: Slots,
    pub(super) dirty_bytes: usize,
}

/// Units of the slots in `bits` that were handed out.
///
/// # Safety
/// The pool's lock is held.
pub(super) unsafe fn units(superslab: *mut Superslab, bits: u32) -> usize {
    let mut left = bits;
    let mut units = 0;
    while left != 0 {
        // SAFETY: the caller holds the lock.
        units += usize::from(unsafe { (*superslab).touched[left.trailing_zeros() as usize] });
        left &= left - 1;
    }
    units
}

/// Recomputes `held`, after a change of more than single slots.
///
/// # Safety
/// The pool's lock is held.
pub(super) unsafe fn recount(superslab: *mut Superslab) {
    // SAFETY: the caller holds the lock.
    unsafe {
        (*superslab).held = units(superslab, (*superslab).free & (*superslab).dirty) as u16;
    }
}

/// Static, since every start reads it: the compiler lays a constant among the texts of messages, which no start reads.
pub(super) static NONE: Account = Account {
    in_use: 0,
    retained: 0,
    purged: 0,
    dirty_slots: Slots::NONE,
    dirty_bytes: 0,
};

impl Account {
    /// Of a superslab, or nothing if it is not pooled.
    ///
    /// # Safety
    /// The pool's lock is held.
    pub(super) unsafe fn of(superslab: *mut Superslab) -> Account {
        // SAFETY: the caller holds the lock.
        let (state, free, dirty, held, populated) = unsafe {
            (
                (*superslab).state,
                (*superslab).free,
                (*superslab).dirty,
                (*superslab).held,
                (*superslab).populated,
            )
        };
        if state != State::Pooled {
            return NONE;
        }
        let empty = free == u32::MAX;
        let resident = dirty != 0 || populated;
        Account {
            in_use: !empty as usize,
            retained: (empty && resident) as usize,
            purged: (empty && !resident) as usize,
            dirty_slots: Slots::in_bits(free & dirty),
            dirty_bytes: usize::from(held) * UNIT,
        }
    }
}
