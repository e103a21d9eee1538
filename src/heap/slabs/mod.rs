//! A heap's slabs.

pub(crate) mod expected_use;
pub(crate) mod holes;
#[allow(clippy::module_inception)]
pub(crate) mod slabs;
pub(crate) mod walk;
