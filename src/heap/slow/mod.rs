//! No block in the bin, no room in it, or a block of another heap.

pub(crate) mod foreign;
pub(crate) mod idle_owners;
pub(crate) mod in_person;
pub(crate) mod overflow;
pub(crate) mod push;
pub(crate) mod refill;
pub(crate) mod take_over;
pub(crate) mod watch;
