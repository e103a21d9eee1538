//! What huge pages gain where the translation buffer is the bottleneck: a random gather of doubles, against the same
//! sum in order, which the prefetcher hides.
//!
//! Backings take turns, so that a slow moment hits all alike; a figure is the median of the rounds.

use std::os::fd::AsRawFd;
use std::time::Instant;

use hakmem_alloc::region::{Backing, HugeWish, HugetlbSize, Region};
use serde_json::{Value, json};

use super::maps::{HUGE, RW, Raw, collapsed_memfd};
use super::{Row, row};
use crate::fail::Fail;

/// The sizes in bytes.
pub(super) fn checked_sizes(mb: Option<usize>, quick: bool) -> Result<Vec<usize>, Fail> {
    match mb {
        Some(mb) if (1..=1_000_000).contains(&mb) => Ok(vec![mb * 1_000_000]),
        Some(mb) => Err(Fail::usage(format!(
            "tlb {mb}: expected MB from 1 to 1000000"
        ))),
        None if quick => Ok(vec![20_000_000]),
        None => Ok(vec![400_000_000, 3_200_000_000]),
    }
}

/// Memory that holds the doubles, and how it is given back.
enum Held {
    Malloc(*mut f64),
    Raw(Raw),
    Region(Region),
}

impl Held {
    fn addr(&self) -> usize {
        match self {
            Held::Malloc(p) => *p as usize,
            Held::Raw(raw) => raw.addr,
            Held::Region(region) => region.as_mut_ptr() as usize,
        }
    }

    fn huge_bytes(&self, len: usize) -> u64 {
        let view = std::mem::ManuallyDrop::new(Raw {
            addr: self.addr(),
            len,
        });
        view.huge_bytes()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Held::Malloc(p) = self {
            // SAFETY: from malloc, freed once.
            unsafe { libc::free(p.cast()) };
        }
    }
}

const BACKINGS: [&str; 5] = [
    "system_malloc",
    "shared_4k",
    "region_thp",
    "memfd_huge",
    "hugetlb",
];

fn hold(backing: &str, len: usize) -> Result<Held, String> {
    let text = |e: std::io::Error| e.to_string();
    let region = |b: Backing| {
        Region::builder()
            .len(len)
            .backing(b)
            .huge(HugeWish::Want)
            .map()
            .map_err(text)
    };
    match backing {
        "system_malloc" => {
            // SAFETY: malloc of a size; the harness's own allocator is the system's.
            let p = unsafe { libc::malloc(len) };
            if p.is_null() {
                Err("no memory".into())
            } else {
                Ok(Held::Malloc(p.cast()))
            }
        }
        "shared_4k" => {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let raw = Raw::map(0, len.next_multiple_of(HUGE), RW, flags, -1).map_err(text)?;
            raw.advise(libc::MADV_NOHUGEPAGE).map_err(text)?;
            Ok(Held::Raw(raw))
        }
        "region_thp" => {
            let region = region(Backing::Anonymous)?;
            region.prefault().map_err(text)?;
            Ok(Held::Region(region))
        }
        "memfd_huge" => {
            let len = len.next_multiple_of(HUGE);
            let fd = collapsed_memfd(len).map_err(text)?;
            Raw::placed(len, 0, RW, libc::MAP_SHARED, fd.as_raw_fd())
                .map(Held::Raw)
                .map_err(text)
        }
        _ => region(Backing::Hugetlb(HugetlbSize::TwoMiB)).map(Held::Region),
    }
}

/// All rows, for every size the random one and the sequential one of each backing.
pub(super) fn rows(sizes: &[usize], quick: bool) -> Result<Vec<Row>, Fail> {
    let counter = Counter::open();
    if counter.is_none() {
        eprintln!(
            "dTLB misses: not available (no performance counters here, or perf_event_paranoid forbids them)"
        );
    }
    let mut rows = Vec::new();
    for &bytes in sizes {
        // Large sets come one after another, small ones side by side.
        let together = bytes <= 500_000_000;
        let rounds = if quick { 3 } else { 5 };
        rows.extend(measure(bytes, rounds, together, counter.as_ref())?);
    }
    Ok(rows)
}

#[derive(Default)]
struct Samples {
    random: Vec<f64>,
    sequential: Vec<f64>,
    misses: Vec<u64>,
    huge: u64,
}

fn measure(
    bytes: usize,
    rounds: usize,
    together: bool,
    counter: Option<&Counter>,
) -> Result<Vec<Row>, Fail> {
    let n = bytes / 8;
    let mut samples: Vec<(&str, Samples)> = Vec::new();
    let mut held: Vec<(usize, Held)> = Vec::new();
    for round in 0..rounds {
        for (i, backing) in BACKINGS.iter().enumerate() {
            if round == 0 || (!together && samples.iter().any(|s| s.0 == *backing)) {
                match hold(backing, n * 8) {
                    Ok(memory) => {
                        fill(memory.addr(), n);
                        held.push((i, memory));
                        if round == 0 {
                            samples.push((backing, Samples::default()));
                        }
                    }
                    Err(e) => {
                        eprintln!(
                            "{backing}: not available here for {} MB: {e}",
                            bytes / 1_000_000
                        );
                        continue;
                    }
                }
            }
            let Some((_, memory)) = held.iter().find(|(k, _)| *k == i) else {
                continue;
            };
            let Some((_, s)) = samples.iter_mut().find(|s| s.0 == *backing) else {
                continue;
            };
            s.huge = memory.huge_bytes(n * 8);
            let before = counter.and_then(Counter::read);
            s.random.push(gather(memory.addr(), n, true));
            if let (Some(b), Some(a)) = (before, counter.and_then(Counter::read)) {
                s.misses.push(a - b);
            }
            s.sequential.push(gather(memory.addr(), n, false));
            if !together {
                held.clear();
            }
        }
    }
    let base = |random: bool| {
        let s = &samples.iter().find(|s| s.0 == "shared_4k")?.1;
        Some(median(if random { &s.random } else { &s.sequential }))
    };
    let mut rows = Vec::new();
    for random in [true, false] {
        for (backing, s) in &samples {
            let runs = if random { &s.random } else { &s.sequential };
            let ns = median(runs);
            let misses = match s.misses.first() {
                Some(_) if random => json!(s.misses.iter().sum::<u64>() / s.misses.len() as u64),
                _ => Value::Null,
            };
            rows.push(row(json!({
                "backing": backing, "pattern": if random { "random" } else { "sequential" }, "bytes": n * 8,
                "ns_per_element": ns,
                "ns_min": runs.iter().copied().fold(f64::INFINITY, f64::min),
                "ns_max": runs.iter().copied().fold(0.0, f64::max),
                "ratio_to_4k": base(random).map(|b| b / ns),
                "huge_bytes": s.huge, "dtlb_misses": misses,
            })));
        }
    }
    Ok(rows)
}

fn fill(addr: usize, n: usize) {
    // SAFETY: n doubles, writable and owned by the caller.
    let values = unsafe { std::slice::from_raw_parts_mut(addr as *mut f64, n) };
    for (i, v) in values.iter_mut().enumerate() {
        *v = (i & 0xFF) as f64;
    }
}

/// Sums doubles in random or in given order; nanoseconds per element. Addresses do not depend on what was loaded, as in
/// a gather through an index vector.
fn gather(addr: usize, n: usize, random: bool) -> f64 {
    // SAFETY: n doubles, filled, and nobody writes them now.
    let values = unsafe { std::slice::from_raw_parts(addr as *const f64, n) };
    let count = if random { 10_000_000.min(4 * n) } else { n };
    let (mut state, mut sum) = (0x9E37_79B9_7F4A_7C15u64, 0.0);
    let start = Instant::now();
    if random {
        for _ in 0..count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // The high half scaled to n: no division.
            let i = ((state >> 32) * n as u64) >> 32;
            sum += values.get(i as usize).copied().unwrap_or(0.0);
        }
    } else {
        sum = values.iter().sum();
    }
    let ns = start.elapsed().as_nanos() as f64 / count as f64;
    std::hint::black_box(sum);
    ns
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The processor's count of loads that missed the data TLB, in this thread.
struct Counter(i32);

impl Counter {
    fn open() -> Option<Counter> {
        /// The first version of `struct perf_event_attr`, which every kernel takes.
        #[repr(C)]
        #[derive(Default)]
        struct Attr {
            kind: u32,
            size: u32,
            config: u64,
            sample_period: u64,
            sample_type: u64,
            read_format: u64,
            flags: u64,
            wakeup_events: u32,
            bp_type: u32,
            config1: u64,
        }
        const HW_CACHE: u32 = 3;
        const DTLB_READ_MISS: u64 = 3 | (1 << 16);
        const EXCLUDE_KERNEL: u64 = 1 << 5;
        const EXCLUDE_HV: u64 = 1 << 6;
        let attr = Attr {
            kind: HW_CACHE,
            size: 64,
            config: DTLB_READ_MISS,
            flags: EXCLUDE_KERNEL | EXCLUDE_HV,
            ..Attr::default()
        };
        const _: () = assert!(size_of::<Attr>() == 64, "the first version is 64 bytes");
        // SAFETY: the attribute is as large as it says; the other arguments are numbers.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, 0, -1, -1, 0) };
        (fd >= 0).then_some(Counter(fd as i32))
    }

    fn read(&self) -> Option<u64> {
        let mut value = 0u64;
        // SAFETY: eight bytes are read into eight bytes.
        let n = unsafe { libc::read(self.0, (&raw mut value).cast(), 8) };
        (n == 8).then_some(value)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: opened by this value.
        unsafe { libc::close(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backing_gathers_the_same_doubles() {
        let rows = rows(&[8_000_000], true).unwrap();
        for backing in ["system_malloc", "shared_4k", "region_thp"] {
            for pattern in ["random", "sequential"] {
                let row = rows
                    .iter()
                    .find(|r| r["backing"] == backing && r["pattern"] == pattern)
                    .unwrap();
                assert!(row["ns_per_element"].as_f64().unwrap() > 0.0);
                assert!(row["ratio_to_4k"].as_f64().unwrap() > 0.0);
            }
        }
        let small = rows.iter().find(|r| r["backing"] == "shared_4k").unwrap();
        assert_eq!(small["huge_bytes"], 0);
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(checked_sizes(Some(0), false).unwrap_err().code, 2);
        assert_eq!(checked_sizes(Some(400), false).unwrap(), [400_000_000]);
        assert_eq!(checked_sizes(None, false).unwrap().len(), 2);
    }
}
