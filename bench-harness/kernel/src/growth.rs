//! The growing workload, in a child of its own: blocks of 16–1039 bytes until they add up, one byte written in each, and the
//! same writes once more on a bare mapping: the kernel's floor.
//!
//! Blocks and floor take turns, a piece of 16 MiB each, so that a slow moment of the machine hits both; both are measured in
//! this thread's processor time. The floor of a piece maps as much as its blocks spanned, 2 MiB-aligned and with
//! MADV_HUGEPAGE, and writes at the same distances in the same order: what it takes, no allocator can go below.

use bench_subject::measure::{Usage, thread_cpu_ns};
use bench_subject::memory::Table;
use bench_subject::raw::{RawAllocator, Subject};
use bench_subject::record::Order;
use bench_subject::rng::XorShift32;
use hakmem_alloc::Hakmem;
use serde_json::{Value, json};

use crate::maps::{HUGE, RW, Raw};

static HAKMEM: Hakmem = Hakmem::new();

struct Ours;

impl Subject for Ours {
    const NAME: &'static str = "hakmem";
    fn allocator() -> &'static (impl std::alloc::GlobalAlloc + 'static) {
        &HAKMEM
    }
    fn prewarm(n: usize) -> usize {
        hakmem_alloc::prewarm(n)
    }
}

static OURS: RawAllocator = RawAllocator::of::<Ours>();

const PIECE: usize = 16 << 20;

/// The child: one line of JSON on stdout. The order is either a workload's or `{"bytes", "prewarm"}`.
pub fn child(order: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(order).map_err(|e| e.to_string())?;
    let number = |name: &str| value[name].as_u64().map(|n| n as usize);
    let answer = match (number("bytes"), number("prewarm")) {
        (Some(bytes), Some(prewarm)) => grow(&OURS, bytes, prewarm)?,
        _ => {
            let order: Order = serde_json::from_value(value).map_err(|e| e.to_string())?;
            json!(bench_subject::child::run(&OURS, &order)?)
        }
    };
    println!("{answer}");
    Ok(())
}

fn grow(alloc: &RawAllocator, bytes: usize, prewarm: usize) -> Result<Value, String> {
    // The average block has 527 bytes; a tenth more leaves room for luck.
    let mut blocks = Table::<usize>::new(PIECE / 479 + 1024)?;
    let before = Usage::now();
    let start = thread_cpu_ns();
    let prewarmed = if prewarm > 0 { alloc.prewarm(prewarm) } else { 0 };
    if prewarmed < prewarm {
        return Err(format!("{prewarmed} of {prewarm} superslabs were prewarmed"));
    }
    let (setup_ns, untimed) = (thread_cpu_ns() - start, Usage::now().since(&before).minor);
    let mut rng = XorShift32::new(42);
    let (mut count, mut own_ns, mut floor_ns, mut faults, mut floor_faults) = (0, 0, 0, 0, 0);
    let mut done = 0;
    while done < bytes {
        let (mut n, mut sum) = (0, 0);
        let (start, usage) = (thread_cpu_ns(), Usage::now());
        while sum < PIECE && n < blocks.len() {
            let size = 16 + (rng.draw() & 0x3FF) as usize;
            let p = alloc.alloc(size, 0);
            if p.is_null() {
                return Err(format!("no memory after {done} bytes"));
            }
            // SAFETY: a block of at least 16 bytes.
            unsafe { p.write_volatile(1) };
            blocks[n] = p as usize;
            (sum, n) = (sum + size, n + 1);
        }
        own_ns += thread_cpu_ns() - start;
        faults += Usage::now().since(&usage).minor;
        (done, count) = (done + sum, count + n);
        let (start, usage) = (thread_cpu_ns(), Usage::now());
        floor(&blocks[..n])?;
        floor_ns += thread_cpu_ns() - start;
        floor_faults += Usage::now().since(&usage).minor;
    }
    Ok(json!({
        "blocks": count, "cpu_secs": own_ns as f64 / 1e9, "floor_secs": floor_ns as f64 / 1e9,
        "setup_secs": setup_ns as f64 / 1e9, "faults_timed": faults, "floor_faults": floor_faults, "faults_untimed": untimed,
    }))
}

fn floor(blocks: &[usize]) -> Result<(), String> {
    let lowest = blocks.iter().min().copied().unwrap_or(0) & !(HUGE - 1);
    // Blocks of a piece may lie far apart, where gaps of earlier pieces are filled: what spans too much is folded.
    let highest = blocks.iter().max().copied().unwrap_or(0);
    let len = (highest - lowest + 1).next_multiple_of(HUGE).min(4 * PIECE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let map = Raw::placed(len, 0, RW, flags, -1).map_err(|e| format!("the floor's mapping: {e}"))?;
    // Without huge pages the floor is what the kernel can do without them.
    let _ = map.advise(libc::MADV_HUGEPAGE);
    for block in blocks {
        // SAFETY: inside the mapping.
        unsafe { ((map.addr + (block - lowest) % len) as *mut u8).write_volatile(1) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_bytes_asked_and_has_a_floor() {
        let grown = grow(&OURS, 2 * PIECE, 0).unwrap();
        let of = |name: &str| grown[name].as_f64().unwrap();
        assert!((2 * PIECE / 1039..2 * PIECE / 479).contains(&(of("blocks") as usize)), "{grown}");
        assert!(of("cpu_secs") > 0.0 && of("floor_secs") > 0.0 && of("floor_faults") > 0.0, "{grown}");
    }
}
