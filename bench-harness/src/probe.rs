//! What this machine gives to any program: the cost of a page fault and of a miss in all caches, in a fifth of a second.
//!
//! The figures stand in every results file: without them a file from another machine, or from this one on another day,
//! looks like another allocator.

use bench_subject::measure::thread_cpu_ns;
use bench_subject::memory::{Table, map};

use crate::stats::median;

const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;

/// Nanoseconds of processor time for the first touch of an OS page of 4 KiB, and for that of a huge page: medians over
/// pieces of 2 MiB. Nothing where memory cannot be had.
pub fn fault_ns() -> (Option<f64>, Option<f64>) {
    (first_touch(8 * HUGE, libc::MADV_NOHUGEPAGE, PAGE), first_touch(16 * HUGE, libc::MADV_HUGEPAGE, HUGE))
}

fn first_touch(bytes: usize, advice: libc::c_int, page: usize) -> Option<f64> {
    let length = bytes + HUGE;
    let base = map(length, false).ok()?;
    let start = (base as usize).next_multiple_of(HUGE);
    // SAFETY: the mapping was just made; the advice cannot harm it.
    unsafe { libc::madvise(base.cast(), length, advice) };
    let pieces: Vec<f64> = (start..start + bytes)
        .step_by(HUGE)
        .map(|piece| {
            let before = thread_cpu_ns();
            for at in (piece..piece + HUGE).step_by(page) {
                // SAFETY: within the mapping.
                unsafe { (at as *mut u8).write_volatile(1) };
            }
            (thread_cpu_ns() - before) as f64 / (HUGE / page) as f64
        })
        .collect();
    // SAFETY: mapped above, and nobody else knows of it.
    unsafe { libc::munmap(base.cast(), length) };
    median(&pieces)
}

/// Nanoseconds of one load whose address depends on the last, at random in 64 MiB: the median of ten tries.
pub fn memory_latency_ns() -> Option<f64> {
    const ELEMENTS: usize = (64 << 20) / 64;
    const LOADS: usize = 40_000;
    let mut next = Table::<[u64; 8]>::new(ELEMENTS).ok()?;
    // One cycle through all lines: a congruential generator of full period, which no prefetcher foresees.
    for (i, line) in next.iter_mut().enumerate() {
        line[0] = (i as u64 * 1_664_525 + 1_013_904_223) % ELEMENTS as u64;
    }
    let mut at = 0;
    let tries: Vec<f64> = (0..10)
        .map(|_| {
            let before = thread_cpu_ns();
            for _ in 0..LOADS {
                at = next[at][0] as usize;
            }
            (thread_cpu_ns() - before) as f64 / LOADS as f64
        })
        .collect();
    std::hint::black_box(at);
    median(&tries)
}
