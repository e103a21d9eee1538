//! The way of a block back into its slab, or to the heap that owns it.

pub(crate) mod drain;
pub(crate) mod open;
pub(crate) mod post;
pub(crate) mod sorter;
