//! What everything else stands on: units, size classes, and the atomics (core's, or loom's under the model checker).

pub(crate) mod size_class;
pub(crate) mod sync;
pub(crate) mod units;
