//! What lies inside a superslab, and how an address finds its way there: the directory, descriptors, slabs, blocks and batches,
//! and the metadata that holds them.

pub(crate) mod batch;
pub(crate) mod bits;
#[cfg(not(loom))]
pub(crate) mod check;
#[cfg(not(loom))]
pub(crate) mod directory;
#[cfg(not(loom))]
pub(crate) mod holes;
pub(crate) mod inbox;
#[cfg(not(loom))]
pub(crate) mod known;
#[cfg(not(loom))]
pub(crate) mod known_report;
#[cfg(not(loom))]
pub(crate) mod magazine;
#[cfg(not(loom))]
pub(crate) mod magazine_pool;
#[cfg(not(loom))]
pub(crate) mod meta;
#[cfg(not(loom))]
pub(crate) mod report;
#[cfg(not(loom))]
#[allow(clippy::module_inception)]
pub(crate) mod slab;
#[cfg(not(loom))]
pub(crate) mod slab_holes;
#[cfg(not(loom))]
pub(crate) mod superslab;
#[cfg(not(loom))]
pub(crate) mod tell;
