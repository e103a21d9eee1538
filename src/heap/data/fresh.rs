//! What a slow path gives out.

use core::ptr;

/// A block from a slow path, and whether everything past its first two words is known to be zero.
#[derive(Clone, Copy)]
pub(crate) struct Fresh {
    pub(crate) ptr: *mut u8,
    pub(crate) zero: bool,
}

impl Fresh {
    pub(crate) const NULL: Fresh = Fresh {
        ptr: ptr::null_mut(),
        zero: false,
    };
}
