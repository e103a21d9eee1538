//! hakmem-alloc: placeholder while the layers land one by one.
#![no_std]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "hakmem-alloc supports Linux only: it is built on mmap, madvise and futex as Linux has them"
);
#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "hakmem-alloc needs a 64-bit address space: its directory describes terabytes of it"
);
#[cfg(all(not(target_arch = "x86_64"), not(feature = "std")))]
compile_error!("without the feature `std` hakmem-alloc has thread-local storage on x86_64 only");

#[cfg(any(test, feature = "std"))]
extern crate std;

mod api;
mod base;
mod heap;
mod knobs;
mod large;
#[allow(dead_code, unused_imports, unused_macros)]
pub(crate) mod os;
mod pool;
#[cfg(feature = "std")]
pub mod region;
mod slab;

pub use api::global::Hakmem;
pub use api::raw;
pub use api::stats::{
    BatchStats, ByteStats, ClassStats, Failure, HeapStats, HugePageStats, HugeStats, PrefaultStats,
    Stats, SuperslabStats,
};
pub use api::{prewarm, purge, usable_size};
pub use knobs::{Config, Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};
#[cfg(feature = "std")]
pub use region::prefault;
