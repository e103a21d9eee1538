//! growth: blocks of 16 to 1,039 bytes until they add up, one byte written in each, none freed: a program that reads its
//! data in.
//!
//! Imitates a compiler, a solver or a server that fills its caches. The same writes are made once more on a bare mapping, the
//! kernel's floor: the figure is how many times the floor's processor time the blocks took. Blocks and floor take turns, a
//! piece of 16 MiB each, so that a slow moment of the machine hits both. The floor of a piece maps as many units of 2 MiB as
//! its blocks are the first in, with MADV_HUGEPAGE, and writes at the same places of a unit in the same order. One operation
//! is one block; its time is the blocks' processor time alone.
//!
//! What the floor gives back, the kernel hands out next, and on a virtual machine it costs far less than memory that the host
//! has not given yet. So blocks and floor get it in turns: the floor of every other piece is kept until the next blocks are
//! there.

use super::prelude::*;
use crate::measure::{Usage, thread_cpu_ns};
use crate::memory::{HUGE, Mapping, Table};
use crate::rng::XorShift32;

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
    let mut units = Units { known: Table::new(4 * bytes / HUGE + 512)?, len: 0 };
    let (mut own, mut floor) = ((0, 0), (0, 0));
    let mut wrong = None;
    bench.timed(|| {
        let (mut done, mut count, mut kept) = (0, 0, None);
        for piece in 0.. {
            let (n, sum) = counted(&mut own, || fill(alloc, &mut rng, &mut blocks));
            drop(kept.take());
            let len = units.pack(&mut blocks[..n]);
            match counted(&mut floor, || write_floor(&blocks[..n], len)) {
                Ok(memory) => kept = Some(memory).filter(|_| piece % 2 == 0),
                Err(e) => wrong = Some(e),
            }
            (done, count) = (done + sum, count + n as u64);
            if n == 0 || done >= bytes || wrong.is_some() {
                break;
            }
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

/// The units of 2 MiB that blocks were in so far, in order, each with how many there were before it.
struct Units {
    known: Table<[usize; 2]>,
    len: usize,
}

impl Units {
    /// Makes of each block its place on the floor; how much that maps. Blocks of a unit that earlier pieces were in have theirs
    /// in the first, which costs the kernel nothing more where pages are huge. So have blocks of units that find the table full.
    fn pack(&mut self, blocks: &mut [usize]) -> usize {
        let first = self.len;
        for block in blocks {
            let unit = *block / HUGE;
            let found = self.known[..self.len].binary_search_by_key(&unit, |k| k[0]);
            let at = found.unwrap_or_else(|at| at);
            if found.is_err() && self.len < self.known.len() {
                self.known.copy_within(at..self.len, at + 1);
                (self.known[at], self.len) = ([unit, self.len], self.len + 1);
            }
            let before = self.known[..self.len].get(at).filter(|k| k[0] == unit).map_or(0, |k| k[1]);
            *block = before.saturating_sub(first) * HUGE + *block % HUGE;
        }
        (self.len - first).max(1) * HUGE
    }
}

#[inline(never)]
fn write_floor(places: &[usize], len: usize) -> Result<Mapping, String> {
    let memory = Mapping::aligned(len, libc::MAP_NORESERVE)?;
    // Without huge pages the floor is what the kernel can do without them.
    let _ = memory.advise(libc::MADV_HUGEPAGE);
    places.iter().for_each(|at| memory.touch(*at, at + 1, 1));
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_maps_what_blocks_are_the_first_in() {
        let mut units = Units { known: Table::new(4).unwrap(), len: 0 };
        let mut packed = |blocks: [usize; 3]| {
            let mut blocks = blocks.map(|b| b * HUGE / 2);
            let len = units.pack(&mut blocks);
            (blocks.map(|b| b * 2 / HUGE), len / HUGE)
        };
        assert_eq!(packed([19, 4, 18]), ([1, 2, 0], 2), "two units, in the order of their first blocks");
        assert_eq!(packed([5, 7, 6]), ([1, 1, 0], 1), "one is known, one is new");
        assert_eq!(packed([4, 19, 7]), ([0, 1, 1], 1), "all are known");
        assert_eq!(packed([20, 0, 30]), ([0, 0, 0], 1), "the table has room for one more");
        assert_eq!(packed([40, 11, 1]), ([0, 1, 1], 1), "the table is full");
    }
}
