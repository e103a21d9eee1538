//! hakmem-alloc: placeholder while the layers land one by one.
#![no_std]
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod placeholder;
pub use placeholder::Hakmem;
