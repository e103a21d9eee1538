//! The harness that compares allocators, as a library and a thin binary.
//!
//! The parent never times anything itself: each run of each allocator is a child process, started one at a time in an order
//! shuffled by the seed. A child is an executable that links `bench_subject` and its allocator (`subjects` finds and builds
//! them). Files use only what stands above them here; a test holds them to it.
//!
//! `fail`, `interrupt`, `output`: ends, signals, files · `stats`: medians and intervals · `machine`, `probe`: where it is
//! measured · `results`: what is kept · `runner`, `subjects`, `host_warm`: children · `noise`, `figures`, `standings`,
//! `finding`: what it means · `table`, `report`, `markdown`, `pages`, `compare`: how it is said · `plan`, `suite`, `progress`,
//! `exact`, `resume`, `session`: measuring · `paths`, `smoke`, `preload`: commands of their own · `options`, `cli`: what can
//! be asked.
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod cli;
pub mod compare;
pub mod exact;
pub mod fail;
pub mod figures;
pub mod finding;
pub mod host_warm;
pub mod interrupt;
pub mod machine;
pub mod markdown;
pub mod noise;
pub mod options;
pub mod output;
mod pages;
pub mod paths;
pub mod plan;
pub mod preload;
pub mod probe;
pub mod progress;
pub mod report;
pub mod results;
pub mod resume;
pub mod runner;
pub mod session;
pub mod smoke;
pub mod standings;
pub mod stats;
pub mod subjects;
pub mod suite;
pub mod table;
pub mod text;
