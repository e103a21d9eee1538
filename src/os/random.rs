//! Random numbers of a process, and of the processes that it forks.

#![forbid(unsafe_code)]

use super::{clock, sys};

/// A random number for one use: it tells nothing about the number for another use. The clock is mixed in, so that each process
/// that a program forks draws another one.
pub(crate) fn seed(of: u64) -> u64 {
    let mut mixed = sys::random() ^ clock::now_ns().rotate_left(24) ^ of;
    for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        mixed = (mixed ^ mixed >> 30).wrapping_mul(factor);
    }
    mixed ^ mixed >> 31
}
