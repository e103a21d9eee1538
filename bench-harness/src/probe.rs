//! What this machine gives to any program: the cost of a page fault and of a miss in all caches, in a fifth of a second.
//!
//! The figures stand in every results file: without them a file from another machine, or from this one on another day,
//! looks like another allocator.

use bench_subject::measure::thread_cpu_ns;
use bench_subject::memory::{HUGE, Mapping, Table};

use crate::stats::median;

/// Nanoseconds of processor time for the first touch of an OS page of 4 KiB, and for that of a huge page: medians over
/// pieces of 2 MiB. Nothing where memory cannot be had.
pub fn fault_ns() -> (Option<f64>, Option<f64>) {
    (first_touch(8 * HUGE, libc::MADV_NOHUGEPAGE, 4096), first_touch(16 * HUGE, libc::MADV_HUGEPAGE, HUGE))
}

fn first_touch(bytes: usize, advice: libc::c_int, page: usize) -> Option<f64> {
    let memory = Mapping::aligned(bytes, libc::MAP_NORESERVE).ok()?;
    // Where the kernel has no huge pages the figure shows it.
    let _ = memory.advise(advice);
    let nanoseconds = |piece: usize| {
        let before = thread_cpu_ns();
        memory.touch(piece, piece + HUGE, page);
        (thread_cpu_ns() - before) as f64 / (HUGE / page) as f64
    };
    median(&(0..bytes).step_by(HUGE).map(nanoseconds).collect::<Vec<_>>())
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
