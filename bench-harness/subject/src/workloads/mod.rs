//! What is done with an allocator. The harness's table has a row for each workload; the files here do them.
//!
//! Allocations that are refused are counted by the boundary (`raw`), blocks that lost their contents by `blocks`: a workload
//! goes on with an empty slot.

pub mod batch;
pub mod false_sharing;
pub mod few;
pub mod fragmentation;
pub mod grow_vec;
pub mod growth;
pub mod hand_over;
pub mod histogram;
pub mod huge;
pub mod keepers;
pub mod medium;
pub mod memory;
pub mod paths;
pub mod producer_consumer;
pub mod random_mixed;
pub mod replace;
pub mod thread_churn;

use prelude::{Bench, Spec};

/// What most workloads use.
mod prelude {
    pub use crate::bench::Bench;
    pub use crate::blocks::*;
    pub use crate::memory::Table;
    pub use crate::raw::RawAllocator;
    pub use crate::record::Spec;
    pub use crate::rng::XorShift64;
}

/// What is done: an error where it cannot be, or came out wrong.
pub type Work = fn(&Spec, &mut Bench) -> Result<(), String>;

/// The work of that name; that of real programs is in executables of their own.
pub fn find(name: &str) -> Option<Work> {
    Some(match name {
        "random-mixed" => random_mixed::run,
        "pair" => few::pair,
        "batch" => batch::run,
        "replace" => replace::replace,
        "burst" => replace::burst,
        "huge" => huge::run,
        "cache-sets" => few::cache_sets,
        "grow-vec" => grow_vec::run,
        "growth" => growth::run,
        "fragmentation" => fragmentation::run,
        "cold-start" => few::cold_start,
        "producer-consumer" => producer_consumer::run,
        "hand-over" => hand_over::run,
        "thread-churn" => thread_churn::run,
        "false-sharing" => false_sharing::run,
        "medium" => medium::run,
        "histogram" => histogram::run,
        "keepers" => keepers::run,
        "idle-return" => few::idle_return,
        "memory-sparse" => memory::sparse,
        "memory-threads" => memory::threads,
        "memory-churn" => memory::churn,
        "memory-phases" => memory::phases,
        "memory-idle" => memory::idle,
        "memory-shrink" => memory::shrink,
        "memory-aligned" => memory::aligned,
        "memory-grow" => memory::grow,
        "memory-survivors" => memory::survivors,
        _ => return None,
    })
}
