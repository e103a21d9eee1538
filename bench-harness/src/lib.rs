//! The harness that compares allocators, as a library and a thin binary.
//!
//! The parent (`cli`, `suite`, `plan`, `session`, `journal`, `runner`, `stats`, `drift`, `table`, `output`) never times
//! anything itself: each run of each allocator is a child process (`child`), started one at a time in an order shuffled by
//! the seed. The child builds its bookkeeping from mmap (`memory`), calls the allocator under test through one table of
//! functions that are never inlined (`raw`), times a workload (`workloads`, `measure`) and prints one line of JSON
//! (`record`).
//!
//! An executable outside this workspace can be a child too: it calls [`child::child_main`] with its own allocator.
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

pub mod callgrind;
pub mod child;
pub mod cli;
pub mod compare;
pub mod doctor;
pub mod drift;
pub mod experiment;
pub mod fail;
pub mod host_warm;
pub mod interrupt;
pub mod journal;
pub mod latency;
pub mod machine;
pub mod measure;
pub mod memory;
pub mod on_demand;
pub mod options;
pub mod output;
pub mod peers;
pub mod plan;
pub mod preload;
pub mod programs;
pub mod progress;
pub mod raw;
pub mod record;
pub mod report;
pub mod rng;
pub mod runner;
pub mod session;
pub mod smoke;
pub mod sources;
pub mod stats;
pub mod subjects;
pub mod suite;
pub mod table;
pub mod workloads;
