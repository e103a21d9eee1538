//! The way of a block back into its slab, or to the heap that owns it. A block is *home* when it lies free in its slab. Sending
//! a block home puts it there, or posts it to the heap that owns the slab.

pub(crate) mod drain;
pub(crate) mod open;
pub(crate) mod post;
pub(crate) mod sorter;
