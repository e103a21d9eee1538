//! What everything else stands on: units, size classes, atomics (core's, or loom's under the model checker), the account of
//! bytes, demand, and the numbers of the memory policy.

pub(crate) mod account;
pub(crate) mod demand;
pub(crate) mod size_class;
pub(crate) mod sync;
pub(crate) mod tuning;
pub(crate) mod units;
pub(crate) mod wanted;
