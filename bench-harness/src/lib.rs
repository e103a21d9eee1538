//! The harness that compares allocators, as a library and a thin binary.
//!
//! The parent never times anything itself: each run of each allocator is a child process, started one at a time in an order
//! shuffled by the seed. A child is an executable that links `bench_subject` and its allocator (`subjects` finds and builds
//! them). Files use only what stands above them here; a test holds them to it.
//!
//! `fail`, `interrupt`, `output`: ends, signals, files · `stats`: medians and intervals · `machine`: where it is
//! measured · `workloads`: their table · `results`: what is kept · `runner`, `subjects`, `host_warm`: children · `noise`,
//! `figures`, `finding`: what it means · `table`, `report`, `markdown`, `pages`, `compare`: how it is said ·
//! `plan`, `suite`, `exact`, `resume`, `session`: measuring · `paths`, `smoke`, `prefault`, `preload`: commands of their own ·
//! `options`, `cli`: what can be asked.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod cli;
mod compare;
mod exact;
mod fail;
mod figures;
mod finding;
mod host_warm;
mod interrupt;
mod machine;
mod markdown;
mod noise;
mod options;
mod output;
mod pages;
mod paths;
mod plan;
mod prefault;
mod preload;
mod report;
mod results;
mod resume;
mod runner;
mod session;
mod smoke;
mod stats;
mod subjects;
mod suite;
mod table;
mod text;
pub mod workloads;
