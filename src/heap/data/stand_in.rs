//! What stands in for the bins of a thread without a heap, and for the places of a bin without any.

use crate::slab::batch::Block;
use core::ptr;

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

static NOTHING: Nothing = Nothing(ptr::null_mut());

/// A bin's place, or the one of a bin that has none, if it is null.
#[inline(always)]
pub(super) fn or_nothing(place: *mut *mut Block) -> *mut *mut Block {
    if place.is_null() {
        (&raw const NOTHING).cast_mut().cast()
    } else {
        place
    }
}

impl StandIn {
    pub(crate) const NEW: StandIn = StandIn {
        top: &raw const NOTHING,
        end: &raw const NOTHING,
    };
}
