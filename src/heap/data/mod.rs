//! What a heap is made of, and where heaps are found.

pub(crate) mod attended;
pub(crate) mod bin;
pub(crate) mod class_set;
pub(crate) mod ending;
pub(crate) mod errands;
pub(crate) mod fresh;
pub(crate) mod heap;
pub(crate) mod holes;
pub(crate) mod outbox;
pub(crate) mod presence;
pub(crate) mod registry;
pub(crate) mod rest;
mod stand_in;
pub(crate) mod state;
pub(crate) mod tls;
pub(crate) mod torn;
