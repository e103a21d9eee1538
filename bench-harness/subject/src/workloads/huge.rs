//! huge: a few very large live blocks, replaced one after the other.
//!
//! Imitates image and matrix buffers, network receive buffers, large vectors made anew for each job. It comes from a
//! well-known weak spot: an allocator that maps and unmaps each such block spends its time in the kernel. With `--touch
//! sparse` one block at random is replaced and touched once per 64 KiB. With `--touch all` the blocks take turns, their
//! sizes are drawn on a logarithmic scale, and every OS page is written, as by batch jobs that build one large buffer per
//! item: what counts is whether memory comes back already faulted in, and in huge pages. One operation is one block.

use crate::bench::Bench;
use crate::blocks::{Slot, damaged, release};
use crate::memory::Table;
use crate::rng::XorShift64;
use crate::spec::Spec;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (replacements, live) = (s.size("replacements"), s.size("live"));
    let (min, max) = (s.size("min-size"), s.size("max-size"));
    let all = s.is("touch", "all");
    let step = if all { 4096 } else { 64 << 10 };
    let mut slots = Table::<Slot>::new(live)?;
    let alloc = bench.begin(live, max)?;
    let mut generator = XorShift64::new(s.n("seed"), 0);
    let mut replace = |slots: &mut [Slot], number: usize| {
        let (i, size) = match all {
            true => (number % live, generator.log_between(min, max)),
            false => (generator.below(live), generator.between(min, max)),
        };
        slots[i].free(alloc);
        slots[i] = Slot { ptr: alloc.alloc(size, i), size };
        // SAFETY: within the block.
        slots[i].places(step).for_each(|place| unsafe { place.write_volatile(i as u8) });
    };
    if bench.is_warm() {
        (0..if all { 4 * live } else { live }).for_each(|n| replace(&mut slots, n));
    }
    bench.timed(|| {
        (0..replacements).for_each(|n| replace(&mut slots, n));
        replacements as u64
    });
    // SAFETY: within the block, which was written there.
    let whole = |i: usize, s: &Slot| s.places(step).all(|place| unsafe { place.read_volatile() } == i as u8);
    damaged(slots.iter().enumerate().filter(|(i, s)| !whole(*i, s)).count() as u64);
    release(alloc, &mut slots);
    Ok(())
}
