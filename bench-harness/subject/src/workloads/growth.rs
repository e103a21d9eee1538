//! growth: blocks of 16 to 1,039 bytes until they add up, one byte written in each, none freed: a program that reads its
//! data in.
//!
//! Imitates a compiler, a solver or a server that fills its caches. The same writes are made once more on a bare mapping, the
//! kernel's floor: the figure is how many times the floor's processor time the blocks took. Blocks and floor take turns, a
//! piece of 16 MiB each, so that a slow moment of the machine hits both. The floor of a piece maps as much as its blocks
//! spanned, 2 MiB-aligned and with MADV_HUGEPAGE, and writes at the same distances in the same order: what it takes, no
//! allocator can go below. One operation is one block; its time is the blocks' processor time alone.

use crate::bench::Bench;
use crate::measure::{Usage, thread_cpu_ns};
use crate::memory::{HUGE, Mapping, Table};
use crate::raw::RawAllocator;
use crate::rng::XorShift32;
use crate::spec::Spec;

const PIECE: usize = 16 << 20;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (bytes, prewarm) = (s.size("mib") << 20, s.size("prewarm"));
    // The average block has 527 bytes; a tenth more leaves room for luck.
    let mut blocks = Table::<usize>::new(PIECE / 479 + 1024)?;
    let alloc = bench.begin(0, 0)?;
    let prewarmed = if prewarm > 0 { alloc.prewarm(prewarm) } else { 0 };
    if prewarmed < prewarm {
        return Err(format!("{prewarmed} of {prewarm} superslabs were prewarmed"));
    }
    let mut rng = XorShift32::new(42);
    let (mut own, mut floor) = ((0, 0), (0, 0));
    let mut wrong = None;
    bench.timed(|| {
        let (mut done, mut count) = (0, 0);
        while done < bytes && wrong.is_none() {
            let (n, sum) = counted(&mut own, || fill(alloc, &mut rng, &mut blocks));
            wrong = counted(&mut floor, || write_floor(&blocks[..n])).err();
            if n == 0 {
                break;
            }
            (done, count) = (done + sum, count + n as u64);
        }
        count
    });
    bench.count_only(own.0, own.1);
    bench.run.figure = Some(own.0 as f64 / floor.0.max(1) as f64);
    wrong.map_or(Ok(()), Err)
}

/// Adds nanoseconds of processor time and page faults of the work to a sum.
fn counted<R>(sum: &mut (u64, u64), work: impl FnOnce() -> R) -> R {
    let (start, usage) = (thread_cpu_ns(), Usage::now());
    let result = work();
    *sum = (sum.0 + thread_cpu_ns() - start, sum.1 + Usage::now().since(&usage).minor);
    result
}

/// A piece of blocks: how many there are, and their bytes. Fewer where memory is refused.
#[inline(never)]
fn fill(alloc: &RawAllocator, rng: &mut XorShift32, blocks: &mut [usize]) -> (usize, usize) {
    let (mut n, mut sum) = (0, 0);
    while sum < PIECE && n < blocks.len() {
        let size = 16 + (rng.draw() & 0x3FF) as usize;
        let block = alloc.alloc(size, 0);
        if block.is_null() {
            break;
        }
        // SAFETY: a block of at least 16 bytes.
        unsafe { block.write_volatile(1) };
        blocks[n] = block as usize;
        (sum, n) = (sum + size, n + 1);
    }
    (n, sum)
}

#[inline(never)]
fn write_floor(blocks: &[usize]) -> Result<(), String> {
    let lowest = blocks.iter().min().copied().unwrap_or(0) & !(HUGE - 1);
    // Blocks of a piece may lie far apart, where gaps of earlier pieces are filled: what spans too much is folded.
    let highest = blocks.iter().max().copied().unwrap_or(0);
    let len = (highest - lowest + 1).next_multiple_of(HUGE).min(4 * PIECE);
    let memory = Mapping::aligned(len, libc::MAP_NORESERVE)?;
    // Without huge pages the floor is what the kernel can do without them.
    let _ = memory.advise(libc::MADV_HUGEPAGE);
    for block in blocks {
        let at = (block - lowest) % len;
        memory.touch(at, at + 1, 1);
    }
    Ok(())
}
