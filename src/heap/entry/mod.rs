//! What the layers above call: the fast paths, each beside its cold twin, and what they hand on.

mod caller;
mod chosen;
pub(crate) mod free_slow;
pub(crate) mod hot;
pub(crate) mod realloc;
pub(crate) mod survey;
pub(crate) mod threadless;
