//! What stands in for the bins of a thread without a heap, and for the places of a bin without any.

use crate::slab::batch::Block;
use core::ptr;

/// Places of a bin that hold null.
pub(super) const NULLS: usize = 2;

/// A bin without a cell in it, for read-only memory: empty and full.
#[repr(C)]
pub(crate) struct StandIn {
    top: *const Nothing,
    end: *const Nothing,
}

/// The place of a bin that has none.
#[repr(transparent)]
struct Nothing(*mut Block);

// SAFETY: never written.
unsafe impl Sync for Nothing {}

static NOTHING: [Nothing; NULLS] = [const { Nothing(ptr::null_mut()) }; NULLS];

/// The upper of the places. The pointer is to all of them, since what lies below it is read as well.
// SAFETY: inside the array.
const LAST: *const Nothing = unsafe { (&raw const NOTHING).cast::<Nothing>().add(NULLS - 1) };

/// A bin's place, or the one of a bin that has none, if it is null.
#[inline(always)]
pub(super) fn or_nothing(place: *mut *mut Block) -> *mut *mut Block {
    if place.is_null() {
        LAST.cast_mut().cast()
    } else {
        place
    }
}

impl StandIn {
    pub(crate) const NEW: StandIn = StandIn {
        top: LAST,
        end: LAST,
    };
}
