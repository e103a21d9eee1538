//! What runs beside an allocator that is measured. An executable per allocator links this crate and nothing else, so that
//! all of them differ in the allocator alone.
//!
//! `raw` is the boundary through which the allocator is called, `blocks` what is held of it, `workloads` what is done with it,
//! `bench` holds the clock, `age` fragments the heap before it, `memory` and `rng` never ask the allocator under test,
//! `record` is the JSON between parent and child, `child` is the life of such a process.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

pub mod age;
pub mod bench;
pub mod blocks;
pub mod child;
pub mod latency;
pub mod measure;
pub mod memory;
pub mod program;
pub mod raw;
pub mod record;
pub mod rng;
pub mod workloads;

/// Joins several lines into one, so that a message is always one line.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The `main` of an executable that measures one allocator: its name and an expression that is a `&'static` of it; how it
/// takes units of memory ahead of time, and what prepares its real programs, where it has any.
#[macro_export]
macro_rules! subject {
    ($name:literal, $allocator:expr $(, prewarm: $prewarm:expr)? $(, programs: $prepare:expr)?) => {
        struct Subject;
        impl $crate::raw::Subject for Subject {
            const NAME: &'static str = $name;
            fn allocator() -> &'static (impl std::alloc::GlobalAlloc + 'static) {
                $allocator
            }
            $(fn prewarm(n: usize) -> usize {
                $prewarm(n)
            })?
        }
        static SUBJECT: $crate::raw::RawAllocator = $crate::raw::RawAllocator::of::<Subject>();

        fn main() {
            $crate::child::main(&SUBJECT, None::<$crate::program::Prepare>$(.or(Some($prepare)))?)
        }
    };
}
