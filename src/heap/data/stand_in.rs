//! Stand-ins for the bins of a thread without a heap, and for the places of a bin that has none.

use crate::slab::batch::Block;
use core::ptr;

/// Places below a bin's oldest block, which hold null.
pub(super) const NULLS: usize = 2;

/// A bin for read-only memory, so without a cell: empty and full.
#[repr(C)]
pub(crate) struct StandIn {
    top: *const Nothing,
    end: *const Nothing,
}

/// A place of a bin that has none.
#[repr(transparent)]
struct Nothing(*mut Block);

// SAFETY: never written.
unsafe impl Sync for Nothing {}

static NOTHING: [Nothing; NULLS] = [const { Nothing(ptr::null_mut()) }; NULLS];

/// The upper of the places. The pointer is to all of them, since what lies below it is read as well.
// SAFETY: inside the array.
const LAST: *const Nothing = unsafe { (&raw const NOTHING).cast::<Nothing>().add(NULLS - 1) };

/// `place`, or the stand-in's if it is null.
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
