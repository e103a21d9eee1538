//! replace: a large live set in which one random block at a time is freed and allocated anew.
//!
//! Imitates a cache or an in-memory database: far more blocks than fit the processor's caches, freed in no order at all, so
//! that locality of the blocks and of the allocator's own data decides. One operation is one replacement. The cold series
//! times the filling of the live set as well, one operation per block.
//!
//! burst: many blocks of many sizes, all freed, again and again with other sizes.
//!
//! Imitates a request, a compilation unit or a frame that builds a large and varied working set and drops it whole: small
//! sizes are the most frequent, large ones hold most of the bytes (sizes are drawn evenly on a logarithmic scale). What is
//! freed in one round should serve the next, though its sizes differ. One operation is one allocation or free.

use crate::bench::Bench;
use crate::blocks::{LiveSet, Slot, drawn, release, tables, verify};
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

pub fn replace(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (live, replacements, threads) = (s.size("live"), s.n("replacements"), s.size("threads"));
    let sizes = (s.size("min-size"), s.size("max-size"));
    let mut sets = tables(threads, live)?;
    let alloc = bench.begin(live * threads, sizes.1)?;
    let warm = bench.is_warm();
    bench.timed_threads(&mut sets, |thread, slots, gate| {
        let mut generator = XorShift64::new(s.n("seed"), thread as u64);
        let set = LiveSet { alloc, sizes, base: thread * live };
        if warm {
            set.fill(slots, &mut generator);
        }
        gate.timed(|| {
            if !warm {
                set.fill(slots, &mut generator);
            }
            set.replace(slots, &mut generator, replacements);
            replacements + if warm { 0 } else { live as u64 }
        });
        release(alloc, slots);
    });
    bench.finish();
    verify(alloc, &mut sets[0], sizes, s.n("seed"));
    Ok(())
}

pub fn burst(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (blocks, rounds, threads) = (s.size("blocks"), s.n("rounds"), s.size("threads"));
    let (min, max) = (s.size("min-size"), s.size("max-size"));
    let mut sets = tables(threads, blocks)?;
    // A cycle of sizes that every round enters at another place.
    let sizes = drawn(1 << 16, s.n("seed"), min, max)?;
    let alloc = bench.begin(blocks * threads, max)?;
    let warm = bench.is_warm();
    bench.timed_threads(&mut sets, |thread, slots, gate| {
        let base = thread * blocks;
        if warm {
            round(alloc, slots, &sizes, 7 * thread + 31, base);
        }
        gate.timed(|| {
            for number in 0..rounds as usize {
                round(alloc, slots, &sizes, 7 * thread + 7919 * number, base);
            }
            rounds * 2 * blocks as u64
        });
    });
    bench.finish();
    verify(alloc, &mut sets[0], (min, max), s.n("seed"));
    Ok(())
}

#[inline(never)]
fn round(alloc: &RawAllocator, slots: &mut [Slot], sizes: &[u32], entry: usize, base: usize) {
    for (i, slot) in slots.iter_mut().enumerate() {
        *slot = Slot::take(alloc, sizes[(entry + i) % sizes.len()] as usize, base + i, i as u8);
    }
    release(alloc, slots);
}
