//! What is done with an allocator. `table` has a row for each workload; the files here do them.
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
