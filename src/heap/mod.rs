//! Heaps: the two fast paths and everything behind them.
//!
//! ```text
//! alloc ── bin ─ miss → alloc_slow ── attach (first call of a thread)
//!                                  └─ refill ── out → spare → inbox → slabs → idle heaps' slabs → pool
//! free ─── tag matches → bin ─ full → overflow ── spare → walk home → slabs → pool
//!     └─── no match → free_slow ── mine, other class │ another heap's: out → post │ huge │ not ours: abort
//! ```
//!
//! Bins and `out` are private to the thread; everything else of a heap is under its lock, which the owner's own slow
//! paths take too, so that any thread can drain, flush or rob any heap, and fork can freeze it. Heaps are reached by
//! raw pointer only; nobody ever forms `&mut Heap`.

mod ahead;
mod attach;
mod bin;
mod ceiling;
mod classes;
pub(crate) mod cold;
mod exit;
mod expect;
pub(crate) mod fork;
#[cfg(all(test, not(loom)))]
mod fork_tests;
#[allow(clippy::module_inception)]
mod heap;
mod holes;
mod home;
pub(crate) mod hot;
mod keep;
mod left_over;
pub(crate) mod maintain;
#[cfg(all(test, not(loom)))]
mod nodes_tests;
#[cfg(all(test, not(loom)))]
mod oom_tests;
mod out;
mod pages;
pub(crate) mod realloc;
mod refill;
pub(crate) mod registry;
mod remote;
mod shared;
mod shed;
mod slabs;
mod slack;
#[cfg(all(test, not(loom)))]
mod slack_tests;
mod spare;
#[cfg(all(test, not(loom)))]
mod spare_tests;
mod stack;
#[cfg(all(test, not(loom)))]
mod stack_tests;
mod strays;
pub(crate) mod survey;
mod tls;
mod upkeep;
mod visits;
mod walk;

pub(crate) use attach::ensure_ready;
