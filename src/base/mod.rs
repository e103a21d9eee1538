//! What everything else stands on: units, size classes, the atomics (core's, or loom's under the model checker), and
//! what is learnt of a program's swings.

pub(crate) mod account;
pub(crate) mod demand;
pub(crate) mod size_class;
pub(crate) mod sync;
pub(crate) mod tuning;
pub(crate) mod units;
