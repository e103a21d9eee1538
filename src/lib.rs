//! hakmem-alloc: placeholder while the layers land one by one.
#![no_std]
#[cfg(any(test, feature = "std"))]
extern crate std;

mod knobs;
pub mod placeholder;
pub use knobs::{Config, Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};
pub use placeholder::Hakmem;
