//! The free blocks between the bins and the slabs, and how many there may be.

pub(crate) mod budget;
pub(crate) mod ceiling;
pub(crate) mod flush;
pub(crate) mod incoming;
pub(crate) mod reclaim;
pub(crate) mod stack;
