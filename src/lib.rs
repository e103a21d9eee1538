//! hakmem-alloc: placeholder while the layers land one by one.
#![no_std]
#[cfg(any(test, feature = "std"))]
extern crate std;

#[allow(dead_code, unused_imports)]
mod base;
#[allow(dead_code)]
mod knobs;
#[allow(dead_code, unused_imports, unused_macros)]
pub(crate) mod os;
pub mod placeholder;
pub use knobs::{Config, Hugetlb, Prefault, Profile, StatsMode, ThpPolicy};
pub use placeholder::Hakmem;
