//! The way of a block back into its slab, or to the heap that owns it. A block that *returns* is
//! put there free, or posted to the heap that owns the slab.

pub(crate) mod drain;
pub(crate) mod open;
pub(crate) mod post;
pub(crate) mod sorter;
