//! What everything else stands on: units, size classes, the atomics (core's, or loom's under the model checker), what is
//! learnt of a program's swings, and the numbers of the memory policy.

pub(crate) mod account;
pub(crate) mod demand;
pub(crate) mod size_class;
pub(crate) mod sync;
pub(crate) mod tuning;
pub(crate) mod units;
