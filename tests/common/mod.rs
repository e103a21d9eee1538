//! What the whole-allocator tests share: child processes, a shadow model of the heap, and readings of the kernel's
//! accounts. Every test binary compiles this module and uses a part of it.
#![allow(dead_code, reason = "each test binary uses a part of this module")]

pub mod blocks;
pub mod child;
pub mod clock;
pub mod faulty;
pub mod mem;
pub mod pattern;
pub mod programs;
pub mod pthread;
pub mod script;
pub mod seccomp;
pub mod shadow;

/// How many times as long as on an idle machine a test waits before it takes a missing event for a fault. A time limit ends
/// what hangs; it never judges speed.
pub const PATIENCE: u32 = 40;

/// The first figure in release builds, the second where debug assertions and walkers make every step slower.
pub const fn scale(release: usize, debug: usize) -> usize {
    if cfg!(debug_assertions) {
        debug
    } else {
        release
    }
}

/// `ALLOC_TEST_FACTOR`, by which a soak multiplies the length of what is random.
pub fn factor() -> usize {
    std::env::var("ALLOC_TEST_FACTOR").map_or(1, |text| {
        let factor = text.parse();
        factor.unwrap_or_else(|_| panic!("ALLOC_TEST_FACTOR={text}: expected a number"))
    })
}

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;
pub const GIB: usize = 1 << 30;
