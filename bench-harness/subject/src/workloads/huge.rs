//! huge: a few very large live blocks, replaced one after the other.
//!
//! Imitates image and matrix buffers, network receive buffers, large vectors made anew for each job. It comes from a
//! well-known weak spot: an allocator that maps and unmaps each such block spends its time in the kernel. With `--touch
//! sparse` one block at random is replaced and touched once per 64 KiB. With `--touch all` the blocks take turns, their
//! sizes are drawn on a logarithmic scale, and every OS page is written, as by batch jobs that build one large buffer per
//! item: what counts is whether memory comes back already faulted in, and in huge pages. One operation is one block.

use super::live_set::release;
use super::{is_touched, touch};
use crate::age::log_uniform;
use crate::bench::Bench;
use crate::memory::{Slot, Table};
use crate::rng::XorShift64;
use crate::spec::Spec;

/// See the head of the file.
pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (replacements, live) = (s.size("replacements"), s.size("live"));
    let (min, max) = (s.size("min-size"), s.size("max-size"));
    let all = s.is("touch", "all");
    let step = if all { 4096 } else { 64 << 10 };
    let mut slots = Table::<Slot>::new(live)?;
    let alloc = bench.begin(live, max)?;
    let mut generator = XorShift64::new(s.n("seed"), 0);
    let put = |slot: &mut Slot, size: usize, i: usize| {
        release(alloc, std::slice::from_mut(slot));
        *slot = Slot { ptr: alloc.alloc(size, i), size };
        if slot.ptr.is_null() {
            return 1;
        }
        touch(slot, step, i as u8);
        0
    };
    let mut next = |slots: &mut [Slot], number: usize| {
        let (i, size) = match all {
            true => (number % live, log_uniform(&mut generator, min, max)),
            false => (generator.below(live), generator.between(min, max)),
        };
        put(&mut slots[i], size, i)
    };
    let mut refused: u64 = 0;
    if bench.is_warm() {
        let first = if all { 4 * live } else { live };
        refused += (0..first).map(|n| next(&mut slots, n)).sum::<u64>();
    }
    bench.timed(|| {
        refused += (0..replacements).map(|n| next(&mut slots, n)).sum::<u64>();
        replacements as u64
    });
    bench.refused(refused);
    let held = slots.iter().enumerate().filter(|(_, s)| !s.ptr.is_null());
    bench.damaged(held.filter(|(i, s)| !is_touched(s, step, *i as u8)).count() as u64);
    release(alloc, &mut slots);
    bench.finish()
}
