//! Workloads of a few lines each.
//!
//! `pair` allocates a block, writes its first byte and frees it, again and again: a program that builds one short-lived
//! object at a time. The block freed last is always at hand, so that nothing but the two fast paths is measured.
//!
//! `cache-sets` touches one hot object in each of many size classes in turn: a server's state, an interpreter's frames, a
//! game's systems. An allocator whose first blocks of every class lie at the same offset of an aligned slab puts all of them
//! into one set of the first-level cache, where eight or twelve find room. The figure is the time of one touch.
//!
//! `cold-start` is the start of a process up to its first thousand allocations: command-line tools, which live for
//! milliseconds. The clock starts in the parent, right before it starts the child.
//!
//! `idle-return` looks at memory after a peak: threads fill it, free it and end, and the process sits still, as a server
//! does after its busiest hour. Throughput is that of the peak.

use crate::bench::Bench;
use crate::blocks::{Slot, check, damaged, release, tables};
use crate::memory::Table;
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

pub fn pair(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (size, pairs, threads) = (s.size("size"), s.n("pairs"), s.size("threads"));
    let alloc = bench.begin(threads, size)?;
    let warm = bench.is_warm();
    bench.timed_threads(&mut vec![(); threads], |thread, (), gate| {
        if warm {
            make_pairs(alloc, size, thread, pairs / 10);
        }
        gate.timed(|| make_pairs(alloc, size, thread, pairs));
    });
    Ok(())
}

/// `count` pairs; stops at the first refusal. Answers how many were made.
#[inline(never)]
fn make_pairs(alloc: &RawAllocator, size: usize, slot: usize, count: u64) -> u64 {
    for done in 0..count {
        let block = alloc.alloc(size, slot);
        if block.is_null() {
            return done;
        }
        // SAFETY: the block has at least one byte, comes from this allocator with this size, and is forgotten.
        unsafe {
            block.write(done as u8);
            alloc.dealloc(block, size);
        }
    }
    count
}

pub fn cache_sets(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (classes, step, rounds) = (s.size("classes"), s.size("step"), s.n("rounds"));
    let mut slots = Table::<Slot>::new(classes)?;
    let alloc = bench.begin(classes, classes * step)?;
    let warm = bench.is_warm();
    let take_all = |slots: &mut [Slot]| {
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = Slot::take(alloc, (i + 1) * step, i, 0);
        }
    };
    if warm {
        take_all(&mut slots);
        touch_in_turn(&slots, rounds / 10);
    }
    bench.timed(|| {
        if !warm {
            take_all(&mut slots);
        }
        touch_in_turn(&slots, rounds)
    });
    bench.run.figure = Some(bench.run.secs * 1e9 / bench.run.ops.max(1) as f64);
    let touches = (rounds + if warm { rounds / 10 } else { 0 }) as u8;
    damaged(slots.iter().filter(|s| !s.has(touches)).count() as u64);
    release(alloc, &mut slots);
    Ok(())
}

/// Touches every object so many times, in turn; answers how many touches there were.
#[inline(never)]
fn touch_in_turn(slots: &[Slot], rounds: u64) -> u64 {
    if slots.iter().any(|s| s.ptr.is_null()) {
        return 0;
    }
    for _ in 0..rounds {
        for slot in slots {
            // SAFETY: the object is live and has at least one byte. Volatile, so that touches are not merged.
            unsafe { slot.ptr.write_volatile(slot.ptr.read_volatile().wrapping_add(1)) };
        }
    }
    rounds * slots.len() as u64
}

pub fn cold_start(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (low, high) = (s.size("min-size"), s.size("max-size"));
    let mut slots = Table::<Slot>::new(s.size("blocks"))?;
    let alloc = bench.begin(slots.len(), high)?;
    let mut generator = XorShift64::new(s.n("seed"), 0);
    bench.timed_since_spawn(|| {
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = Slot::take(alloc, generator.between(low, high), i, i as u8);
        }
        1
    });
    check(&slots);
    release(alloc, &mut slots);
    Ok(())
}

pub fn idle_return(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (threads, low, high) = (s.size("threads"), s.size("min-size"), s.size("max-size"));
    let blocks = ((s.size("mib") << 20) / threads / low.midpoint(high)).max(1);
    let mut sets = tables(threads, blocks)?;
    let alloc = bench.begin(blocks * threads, high)?;
    bench.timed_threads(&mut sets, |thread, slots, gate| {
        let mut generator = XorShift64::new(s.n("seed"), thread as u64);
        gate.timed(|| {
            for (i, slot) in slots.iter_mut().enumerate() {
                *slot = Slot::take(alloc, generator.between(low, high), thread * blocks + i, 1);
            }
            release(alloc, slots);
            2 * blocks as u64
        });
    });
    bench.rest(s.n("secs"));
    Ok(())
}
