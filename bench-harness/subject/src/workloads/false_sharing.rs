//! false-sharing: threads write to small objects of their own; do two of them lie in one cache line?
//!
//! The cache-thrash (active) and cache-scratch (passive) tests of Hoard (Berger and others, 2000). Active: each thread
//! allocates its objects itself. Passive: main allocates neighbouring objects and gives one to each thread, which frees it
//! and allocates its next: an allocator that re-uses the freed piece makes two threads write to one cache line. Imitates
//! per-thread counters and small state in multi-threaded programs. One operation is one object written 100 times. The figure
//! is how many times as much processor time it takes as with objects that have cache lines of their own; both are made in
//! turns after the clock has stopped.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::bench::Bench;
use crate::blocks::{Slot, release, tables};
use crate::measure::thread_cpu_ns;
use crate::raw::RawAllocator;
use crate::spec::Spec;

const WRITES: u32 = 100;

/// Bytes of an object that shares no cache line, nor a pair of lines that the processor fetches together.
const PRIVATE: usize = 256;

/// How often the two kinds of object take turns for the figure.
const SLICES: u64 = 10;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (objects, size) = (s.n("objects"), s.size("size"));
    let (threads, given) = (s.size("threads"), s.size("given"));
    let mut first = tables(threads, given)?;
    let alloc = bench.begin(threads * given, size.max(PRIVATE))?;
    if s.is("mode", "passive") {
        // What main gives to each thread lies between what it gives to the others.
        for i in 0..threads * given {
            first[i % threads][i / threads] = Slot { ptr: alloc.alloc(size, i), size };
        }
    }
    let barrier = Barrier::new(threads);
    let (shared, private) = (AtomicU64::new(0), AtomicU64::new(0));
    bench.timed_threads(&mut first, |thread, given, gate| {
        gate.timed(|| {
            release(alloc, given);
            write_objects(alloc, size, thread, objects)
        });
        for _ in 0..SLICES {
            for (size, sum) in [(size, &shared), (size.max(PRIVATE), &private)] {
                barrier.wait();
                let start = thread_cpu_ns();
                write_objects(alloc, size, thread, objects / SLICES + 1);
                sum.fetch_add(thread_cpu_ns() - start, Relaxed);
            }
        }
    });
    bench.run.figure = Some(shared.into_inner() as f64 / private.into_inner().max(1) as f64);
    Ok(())
}

#[inline(never)]
fn write_objects(alloc: &RawAllocator, size: usize, slot: usize, objects: u64) -> u64 {
    for done in 0..objects {
        let ptr = alloc.alloc(size, slot);
        if ptr.is_null() {
            return done;
        }
        for n in 0..WRITES {
            // SAFETY: the object has at least one byte.
            unsafe { ptr.write_volatile(ptr.read_volatile().wrapping_add(n as u8)) };
        }
        // SAFETY: allocated above with this size.
        unsafe { alloc.dealloc(ptr, size) };
    }
    objects
}
