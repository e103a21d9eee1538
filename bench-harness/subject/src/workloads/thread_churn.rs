//! thread-churn: short-lived threads that each allocate a little, free it, and end.
//!
//! Imitates thread-per-request servers and test runners: what an allocator does when a thread starts and ends counts more
//! than its fast paths. One operation is one thread, from its start to its end.

use crate::bench::Bench;
use crate::blocks::{Slot, check, release};
use crate::measure::timed_section;
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

/// The most blocks of one thread: they live on its stack.
pub const MOST: usize = 1024;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (count, blocks, threads) = (s.n("count"), s.size("blocks"), s.size("threads"));
    let sizes = (s.size("min-size"), s.size("max-size"));
    let alloc = bench.begin(blocks * threads, sizes.1)?;
    let warm = bench.is_warm();
    bench.timed_threads(&mut vec![(); threads], |thread, (), gate| {
        let live = |count: u64| {
            for number in 0..count {
                let generator = XorShift64::new(s.n("seed") + number, thread as u64);
                let life = || life(alloc, generator, thread * blocks, blocks, sizes);
                std::thread::scope(|scope| {
                    scope.spawn(|| timed_section(life));
                });
            }
            count
        };
        if warm {
            live(count / 10);
        }
        gate.timed(|| live(count));
    });
    Ok(())
}

fn life(alloc: &RawAllocator, mut generator: XorShift64, base: usize, count: usize, sizes: (usize, usize)) {
    let mut blocks = [Slot::EMPTY; MOST];
    for (i, block) in blocks[..count].iter_mut().enumerate() {
        *block = Slot::take(alloc, generator.between(sizes.0, sizes.1), base + i, i as u8);
    }
    check(&blocks[..count]);
    release(alloc, &mut blocks[..count]);
}
