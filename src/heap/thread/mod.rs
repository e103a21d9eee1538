//! A heap's life with its threads.

pub(crate) mod adopt;
pub(crate) mod attach;
pub(crate) mod exit;
pub(crate) mod fork;
