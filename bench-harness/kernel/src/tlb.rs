//! What huge pages gain where the translation buffer is the bottleneck: a random gather of doubles, against the same sum in
//! order, which the prefetcher hides.
//!
//! Backings take turns, so that a slow moment hits all alike; a figure is the median of the rounds, in processor time.

use std::any::Any;
use std::os::fd::AsRawFd;

use bench_subject::measure::thread_cpu_ns;
use bench_subject::memory::{HUGE, Mapping, RW};
use hakmem_alloc::region::{HugeWish, Region};
use serde_json::json;

use crate::maps::{collapsed_memfd, huge_bytes, placed};
use crate::{Row, median, row};

pub(crate) fn bytes(quick: bool) -> usize {
    if quick { 8_000_000 } else { 3_200_000_000 }
}

const BACKINGS: [&str; 4] = ["system_malloc", "shared_4k", "region_thp", "memfd_huge"];

/// Memory for so many bytes of doubles: where it is, and what gives it back when it is dropped.
fn hold(backing: &str, len: usize) -> std::io::Result<(usize, Box<dyn Any>)> {
    let whole = len.next_multiple_of(HUGE);
    let own = |map: Mapping| (map.addr, Box::new(map) as Box<dyn Any>);
    match backing {
        "system_malloc" => {
            let mut memory = Vec::<f64>::new();
            memory.try_reserve_exact(len / 8)?;
            Ok((memory.as_ptr() as usize, Box::new(memory)))
        }
        "shared_4k" => {
            let map = Mapping::new(0, whole, RW, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
            map.advise(libc::MADV_NOHUGEPAGE)?;
            Ok(own(map))
        }
        "region_thp" => {
            let region = Region::builder().len(len).huge(HugeWish::Want).map()?;
            region.prefault()?;
            Ok((region.as_mut_ptr() as usize, Box::new(region)))
        }
        _ => {
            let fd = collapsed_memfd(whole)?;
            placed(whole, 0, RW, libc::MAP_SHARED, fd.as_raw_fd()).map(own)
        }
    }
}

/// For every size the random one and the sequential one of each backing.
pub(crate) fn rows(quick: bool, say: &dyn Fn(&str)) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for bytes in if quick { vec![bytes(quick)] } else { vec![400_000_000, bytes(quick)] } {
        say(&format!("{} MB", bytes / 1_000_000));
        rows.extend(measure(bytes / 8, if quick { 3 } else { 5 }, say));
    }
    Ok(rows)
}

fn measure(n: usize, rounds: usize, say: &dyn Fn(&str)) -> Vec<Row> {
    // Of each backing: nanoseconds at random, in order, and bytes on huge pages.
    let mut seen: [(Vec<f64>, Vec<f64>, u64); 4] = Default::default();
    for round in 0..rounds {
        for (backing, (random, sequential, huge)) in BACKINGS.iter().zip(&mut seen) {
            match hold(backing, n * 8) {
                Ok((addr, _memory)) => {
                    fill(addr, n);
                    *huge = huge_bytes(addr, n * 8);
                    random.push(gather(addr, n, true));
                    sequential.push(gather(addr, n, false));
                }
                Err(e) if round == 0 => say(&format!("{backing}: not available here: {e}")),
                Err(_) => {}
            }
        }
    }
    // Nothing where these pages are not to be had.
    let middle = |runs: &[f64]| median(runs).unwrap_or(f64::NAN);
    let base = [middle(&seen[1].0), middle(&seen[1].1)];
    let mut rows = Vec::new();
    for (i, pattern) in ["random", "sequential"].iter().enumerate() {
        for (backing, (random, sequential, huge)) in BACKINGS.iter().zip(&seen).filter(|(_, s)| !s.0.is_empty()) {
            let runs = if i == 0 { random } else { sequential };
            rows.push(row(json!({
                "backing": backing, "pattern": pattern, "bytes": n * 8, "ns_per_element": middle(runs),
                "ratio_to_4k": base[i] / middle(runs), "huge_bytes": huge,
            })));
        }
    }
    rows
}

fn fill(addr: usize, n: usize) {
    // SAFETY: n doubles, writable and owned by the caller.
    let values = unsafe { std::slice::from_raw_parts_mut(addr as *mut f64, n) };
    values.iter_mut().enumerate().for_each(|(i, v)| *v = (i & 0xFF) as f64);
}

/// Sums doubles at random or in order; nanoseconds per element. Addresses do not depend on what was loaded, as in a gather
/// through an index vector.
fn gather(addr: usize, n: usize, random: bool) -> f64 {
    // SAFETY: n doubles, filled, and nobody writes them now.
    let values = unsafe { std::slice::from_raw_parts(addr as *const f64, n) };
    let count = if random { 10_000_000.min(n) } else { n };
    let (mut state, mut sum) = (0x9E37_79B9_7F4A_7C15u64, 0.0);
    let start = thread_cpu_ns();
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
    std::hint::black_box(sum);
    (thread_cpu_ns() - start) as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backing_gathers() {
        let rows = rows(true, &|_| ()).unwrap();
        for backing in ["system_malloc", "shared_4k", "region_thp"] {
            for pattern in ["random", "sequential"] {
                let row = rows.iter().find(|r| r["backing"] == backing && r["pattern"] == pattern).unwrap();
                assert!(row["ns_per_element"].as_f64().unwrap() > 0.0 && row["ratio_to_4k"].as_f64().unwrap() > 0.0);
                assert!(backing != "shared_4k" || row["huge_bytes"] == 0);
            }
        }
    }
}
