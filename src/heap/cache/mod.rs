//! The free blocks between bins and slabs, and how many there may be.

pub(crate) mod budget;
pub(crate) mod ceiling;
pub(crate) mod flush;
pub(crate) mod incoming;
pub(crate) mod reclaim;
pub(crate) mod shelf;
pub(crate) mod stack;
