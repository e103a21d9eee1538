//! How long single allocations and frees take: every 61st call is timed, in runs of their own.
//!
//! Throughput runs are never sampled. In a sampling run the workload calls the functions here, which pass every call on
//! and read a time stamp before and after some; the cost of reading is measured first and subtracted. Durations go into
//! a histogram of fixed size with 32 steps per doubling, so that nothing is allocated and nothing is lost.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::measure::now_ns;
use crate::raw::{Calls, RawAllocator};

pub const VARIABLE: &str = "HAKMEM_BENCH_LATENCY";

/// One call in so many is timed: a prime, so that no rhythm of a workload is met.
const EVERY: u32 = 61;

/// Distribution of one kind of call, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub samples: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub worst_ns: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub alloc: Percentiles,
    pub free: Percentiles,
}

const STEPS: u64 = 32;
const BUCKETS: usize = 60 * STEPS as usize;

struct Histogram {
    // Counters that nothing else depends on, read after the threads were joined: Relaxed.
    counts: [AtomicU64; BUCKETS],
    worst: AtomicU64,
}

static ALLOCS: Histogram = Histogram::new();
static FREES: Histogram = Histogram::new();
static REAL: OnceLock<&'static RawAllocator> = OnceLock::new();
static SAMPLED: OnceLock<RawAllocator> = OnceLock::new();
/// The cost of two clock readings, in nanoseconds; written before any thread of the workload exists.
static CLOCK_COST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTDOWN: Cell<u32> = const { Cell::new(EVERY) };
}

impl Histogram {
    const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], worst: AtomicU64::new(0) }
    }

    fn add(&self, ns: u64) {
        self.counts[bucket(ns)].fetch_add(1, Relaxed);
        self.worst.fetch_max(ns, Relaxed);
    }

    fn percentiles(&self) -> Percentiles {
        let counts: Vec<u64> = self.counts.iter().map(|c| c.load(Relaxed)).collect();
        let samples = counts.iter().sum::<u64>();
        let worst_ns = self.worst.load(Relaxed);
        let at = |share: f64| {
            let wanted = (samples as f64 * share).ceil() as u64;
            let mut seen = 0;
            let reached = counts.iter().position(|n| {
                seen += n;
                seen >= wanted.max(1)
            });
            reached.map_or(0, upper).min(worst_ns)
        };
        Percentiles { samples, p50_ns: at(0.5), p99_ns: at(0.99), p999_ns: at(0.999), worst_ns }
    }
}

/// The bucket of a duration: exact below 32 ns, then 32 to each doubling.
fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = u64::from(ns.ilog2()) - 5;
    (((shift + 1) * STEPS + ((ns >> shift) - STEPS)) as usize).min(BUCKETS - 1)
}

/// The longest duration that falls into a bucket.
fn upper(bucket: usize) -> u64 {
    let (shift, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match shift {
        0 => step,
        s => ((STEPS + step + 1) << (s - 1)) - 1,
    }
}

/// The allocator with every 61st call timed, where the environment asks for it.
pub fn sampled(real: &'static RawAllocator) -> &'static RawAllocator {
    if std::env::var_os(VARIABLE).is_none() {
        return real;
    }
    let real = *REAL.get_or_init(|| real);
    // The cheapest of many tries: the others were interrupted.
    let cost = (0..10_000).map(|_| {
        let start = now_ns();
        now_ns() - start
    });
    CLOCK_COST.store(cost.min().unwrap_or(0), Relaxed);
    SAMPLED.get_or_init(|| {
        let mut sampled = *real;
        sampled.calls = Calls { alloc, zeroed, dealloc, realloc };
        sampled
    })
}

pub fn found() -> Option<Latency> {
    SAMPLED.get().map(|_| Latency { alloc: ALLOCS.percentiles(), free: FREES.percentiles() })
}

#[inline(always)]
fn due() -> bool {
    COUNTDOWN.with(|c| {
        let left = c.get() - 1;
        c.set(if left == 0 { EVERY } else { left });
        left == 0
    })
}

#[inline(always)]
fn sometimes_timed<R>(histogram: &Histogram, call: impl FnOnce() -> R) -> R {
    if !due() {
        return call();
    }
    let start = now_ns();
    let result = std::hint::black_box(call());
    let took = now_ns() - start;
    histogram.add(took.saturating_sub(CLOCK_COST.load(Relaxed)));
    result
}

fn real() -> Calls {
    REAL.get().expect("the sampling functions are handed out after REAL was set").calls
}

/// A function of the table that passes its call on, timed now and then.
macro_rules! passed_on {
    ($call:ident, $histogram:ident, ($($argument:ident: $kind:ty),*) $(-> $result:ty)?) => {
        #[inline(never)]
        unsafe fn $call($($argument: $kind),*) $(-> $result)? {
            // SAFETY: the contract of the real call is the same.
            sometimes_timed(&$histogram, || unsafe { (real().$call)($($argument),*) })
        }
    };
}
passed_on!(alloc, ALLOCS, (size: usize, align: usize, slot: usize) -> *mut u8);
passed_on!(zeroed, ALLOCS, (size: usize, align: usize, slot: usize) -> *mut u8);
passed_on!(dealloc, FREES, (block: *mut u8, size: usize, align: usize));
passed_on!(realloc, ALLOCS, (block: *mut u8, size: usize, align: usize, new: usize) -> *mut u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_falls_into_them() {
        for ns in (0..5000).chain([1 << 20, (1 << 20) + 12345, 1 << 40]) {
            let b = bucket(ns);
            assert!(ns <= upper(b), "{ns}");
            assert!(b == 0 || ns > upper(b - 1), "{ns}");
            assert!(upper(b) as f64 <= ns as f64 * 1.04 + 1.0, "{ns}: {}", upper(b));
        }
    }

    #[test]
    fn percentiles_of_a_known_distribution() {
        let h = Histogram::new();
        (1..=1000).for_each(|ns| h.add(ns));
        let p = h.percentiles();
        assert_eq!((p.samples, p.worst_ns), (1000, 1000));
        assert!((500..=512).contains(&p.p50_ns) && (990..=1000).contains(&p.p99_ns), "{p:?}");
        assert_eq!(Histogram::new().percentiles(), Percentiles::default());
    }
}
