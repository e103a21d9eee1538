//! The growing workload, in a child of its own: blocks of 16–1039 bytes until they add up, one byte written in each, and
//! the same writes once more on a bare mapping: the kernel's floor.
//!
//! The floor maps as much as the blocks spanned, 2 MiB-aligned and with MADV_HUGEPAGE, and writes at the same distances
//! in the same order: what it takes, no allocator can go below. A virtual machine's host may take free memory away
//! within seconds, and its first touch then costs ten times the second. So the child touches as much as the blocks will
//! need and releases it right before the clock, and the blocks are freed and purged before the floor: both get memory
//! that was in use a moment ago.

use serde::{Deserialize, Serialize};

use super::maps::{HUGE, RW, Raw};
use crate::fail::Fail;
use crate::host_warm;
use crate::measure::{Usage, now_ns};
use crate::memory::Table;
use crate::raw::RawAllocator;
use crate::rng::XorShift32;
use crate::subjects;

/// What the child is asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct GrowthOrder {
    /// Bytes of blocks.
    pub bytes: usize,
    /// Superslabs to take before the clock.
    pub prewarm: usize,
    /// Times every allocation by itself, which makes the whole slower: for the worst one only.
    pub each: bool,
    /// Touches and releases as much memory beforehand.
    pub host_warm: bool,
    /// Random-mixed instead, with so many operations, for its worst allocation alone; warm where `prewarm` is not 0.
    #[serde(default)]
    pub mixed_ops: u64,
}

/// What it answers.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Growth {
    pub blocks: u64,
    pub secs: f64,
    pub setup_secs: f64,
    pub faults_timed: u64,
    pub faults_untimed: u64,
    pub user_secs: f64,
    pub sys_secs: f64,
    pub worst_alloc_us: f64,
    pub floor_secs: f64,
    pub floor_faults: u64,
    pub floor_user_secs: f64,
    pub floor_sys_secs: f64,
}

/// The child: one line of JSON on stdout.
pub fn child(order: &str) -> Result<(), Fail> {
    let order: GrowthOrder =
        serde_json::from_str(order).map_err(|e| Fail::usage(format!("growth: {e}")))?;
    let alloc = subjects::find("hakmem").ok_or_else(|| Fail::run("hakmem is not built in"))?;
    let growth = match order.mixed_ops {
        0 => grow(alloc, order),
        ops => worst_of_random_mixed(alloc, ops, order.prewarm),
    };
    let growth = growth.map_err(Fail::run)?;
    println!(
        "{}",
        serde_json::to_string(&growth).map_err(|e| Fail::run(e.to_string()))?
    );
    Ok(())
}

fn grow(alloc: &RawAllocator, order: GrowthOrder) -> Result<Growth, String> {
    // The average block has 527 bytes; a tenth more leaves room for luck.
    let room = order.bytes / 479 + 1024;
    let mut blocks = Table::<usize>::new(room)?;
    if order.host_warm {
        // Room for what rounding to classes and prewarming add.
        host_warm::touch(order.bytes + order.bytes / 4)?;
    }
    let before = Usage::now();
    let begun = now_ns();
    let prewarmed = if order.prewarm > 0 {
        alloc.prewarm(order.prewarm)
    } else {
        0
    };
    if prewarmed < order.prewarm {
        return Err(format!(
            "{prewarmed} of {} superslabs were prewarmed",
            order.prewarm
        ));
    }
    let (setup, start) = (Usage::now(), now_ns());

    let (mut n, mut sum, mut worst) = (0, 0, 0);
    let mut rng = XorShift32::new(42);
    while sum < order.bytes && n < room {
        let size = 16 + (rng.draw() & 0x3FF) as usize;
        let one = if order.each { now_ns() } else { 0 };
        let p = alloc.alloc(size, n);
        if p.is_null() {
            return Err(format!("no memory after {sum} bytes"));
        }
        // SAFETY: a block of at least 16 bytes.
        unsafe { p.write_volatile(1) };
        if order.each {
            worst = worst.max(now_ns() - one);
        }
        blocks[n] = p as usize;
        sum += size;
        n += 1;
    }
    let (end, usage) = (now_ns(), Usage::now());
    let blocks = &blocks[..n];
    let timed = usage.since(&setup);
    release(alloc, blocks);
    let (floor_secs, floor) = floor(blocks)?;
    Ok(Growth {
        blocks: n as u64,
        secs: (end - start) as f64 / 1e9,
        setup_secs: (start - begun) as f64 / 1e9,
        faults_timed: timed.minor,
        faults_untimed: setup.since(&before).minor,
        user_secs: timed.user_secs,
        sys_secs: timed.sys_secs,
        worst_alloc_us: worst as f64 / 1e3,
        floor_secs,
        floor_faults: floor.minor,
        floor_user_secs: floor.user_secs,
        floor_sys_secs: floor.sys_secs,
    })
}

/// The draws of `random-mixed OPS 256 42` with every allocation timed by itself, which would spoil the figures of the
/// workload. The worst has its first byte written, as the workload does.
fn worst_of_random_mixed(alloc: &RawAllocator, ops: u64, prewarm: usize) -> Result<Growth, String> {
    let mut slots = [(std::ptr::null_mut::<u8>(), 0); 256];
    if prewarm > 0 {
        random_mixed(alloc, &mut slots, ops / 10)?;
        alloc.prewarm(prewarm);
    }
    let worst = random_mixed(alloc, &mut slots, ops)?;
    Ok(Growth {
        worst_alloc_us: worst as f64 / 1e3,
        ..Growth::default()
    })
}

/// One pass, every block freed at its end; answers the longest allocation in ns.
fn random_mixed(
    alloc: &RawAllocator,
    slots: &mut [(*mut u8, usize)],
    ops: u64,
) -> Result<u64, String> {
    let (mut rng, mut worst) = (XorShift32::new(42), 0);
    for _ in 0..ops {
        let r = rng.draw();
        let i = r as usize % slots.len();
        let (block, size) = &mut slots[i];
        if block.is_null() {
            *size = 16 + (r & 0x3FF) as usize;
            let one = now_ns();
            *block = alloc.alloc(*size, i);
            if block.is_null() {
                return Err(format!("no memory for {size} bytes"));
            }
            // SAFETY: a block of at least 16 bytes.
            unsafe { block.write_volatile(r as u8) };
            worst = worst.max(now_ns() - one);
        } else {
            // SAFETY: allocated above with this very size, and forgotten here.
            unsafe { alloc.dealloc(*block, *size) };
            *block = std::ptr::null_mut();
        }
    }
    for (block, size) in slots {
        if !block.is_null() {
            // SAFETY: as above.
            unsafe { alloc.dealloc(*block, *size) };
            *block = std::ptr::null_mut();
        }
    }
    Ok(worst)
}

/// Frees the blocks, drawing their sizes once more, and has ours give the memory back.
fn release(alloc: &RawAllocator, blocks: &[usize]) {
    let mut rng = XorShift32::new(42);
    for block in blocks {
        let size = 16 + (rng.draw() & 0x3FF) as usize;
        // SAFETY: allocated above with this very size, and freed once.
        unsafe { alloc.dealloc(*block as *mut u8, size) };
    }
    hakmem_alloc::purge();
}

fn floor(blocks: &[usize]) -> Result<(f64, Usage), String> {
    let lowest = blocks.iter().min().copied().unwrap_or(0) & !(HUGE - 1);
    let highest = blocks.iter().max().copied().unwrap_or(0);
    let (before, start) = (Usage::now(), now_ns());
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let len = (highest - lowest + 1).next_multiple_of(HUGE);
    let map =
        Raw::placed(len, 0, RW, flags, -1).map_err(|e| format!("the floor's mapping: {e}"))?;
    // Without huge pages the floor is what the kernel can do without them.
    let _ = map.advise(libc::MADV_HUGEPAGE);
    for block in blocks {
        // SAFETY: inside the mapping.
        unsafe { ((map.addr + (block - lowest)) as *mut u8).write_volatile(1) };
    }
    Ok(((now_ns() - start) as f64 / 1e9, Usage::now().since(&before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_bytes_asked_and_has_a_floor() {
        let system = subjects::find("system").unwrap();
        let order = GrowthOrder {
            bytes: 8 << 20,
            prewarm: 0,
            each: true,
            host_warm: false,
            mixed_ops: 0,
        };
        let growth = grow(system, order).unwrap();
        assert!((8 << 20) / 1039 <= growth.blocks && growth.blocks <= (8 << 20) / 479);
        assert!(growth.secs > 0.0 && growth.floor_secs > 0.0 && growth.worst_alloc_us > 0.0);
        // System malloc has no superslabs to take.
        let refused = grow(
            system,
            GrowthOrder {
                prewarm: 4,
                ..order
            },
        )
        .unwrap_err();
        assert_eq!(refused, "0 of 4 superslabs were prewarmed");
        let mixed = worst_of_random_mixed(system, 10_000, 0).unwrap();
        assert!(mixed.worst_alloc_us > 0.0);
    }
}
