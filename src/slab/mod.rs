//! What lies inside a superslab and how an address finds its way there: the directory, descriptors, slabs, blocks and
//! batches, and the metadata they live in.

pub(crate) mod batch;
pub(crate) mod directory;
pub(crate) mod inbox;
pub(crate) mod meta;
pub(crate) mod slab;
pub(crate) mod superslab;
