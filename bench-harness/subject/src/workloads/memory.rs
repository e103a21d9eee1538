//! Programs that are about memory: each holds, swings, shrinks or rests in a way in which some allocator was seen to hold
//! many times what is in use. What counts is the peak and what is resident at rest, in MiB; time is reported as well.
//!
//! `sparse` imitates receive buffers and tables that are mostly empty: the first page of each block is written. `threads`
//! imitates a server of many threads with a few blocks of each of many sizes. `churn` replaces blocks a little over a
//! boundary. `phases` fills memory with blocks of one kind, then of another, as a compiler does with its passes. `idle`
//! works in bursts on one thread and then does nothing, as a desktop program does. `shrink` fills buffers and keeps half of
//! each, as `shrink_to_fit` does. `aligned` takes and frees one aligned buffer in a loop, as a DMA or a codec does. `grow`
//! doubles buffers on several threads. `survivors` keeps one block in many of a large population.

use std::sync::Barrier;
use std::time::Duration;

use super::blocks::{release, take};
use crate::bench::{Bench, MemoryMoment};
use crate::memory::{Slot, Table};
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

/// Takes a block and writes it whole; `Slot::EMPTY` where it is refused.
fn full(alloc: &RawAllocator, size: usize) -> Slot {
    let slot = take(alloc, size, 0, 1);
    if !slot.ptr.is_null() {
        // SAFETY: the whole block.
        unsafe { slot.ptr.write_bytes(1, size) };
    }
    slot
}

/// Ends a run: everything that is to be freed is, and the process rests before its memory is read for the last time.
fn rested(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    bench.finish()?;
    bench.rest(Duration::from_secs(s.n("rest")));
    Ok(())
}

pub fn sparse(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let mut slots = Table::<Slot>::new(s.size("blocks"))?;
    let size = s.size("kib") << 10;
    let alloc = bench.begin(0, 0)?;
    bench.timed(|| {
        slots.iter_mut().for_each(|slot| *slot = take(alloc, size, 0, 1));
        slots.len() as u64
    });
    bench.note_memory(&[MemoryMoment::now(size * slots.len())]);
    release(alloc, &mut slots);
    rested(s, bench)
}

/// The size of the i-th of many classes.
fn class(i: usize) -> usize {
    16 + 3 * i * i
}

pub fn threads(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (threads, sizes, each) = (s.size("threads"), s.size("sizes"), s.size("each"));
    let alloc = bench.begin(0, 0)?;
    let (full, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let live = (0..sizes).map(class).sum::<usize>() * each * threads;
    let mut moments = Vec::new();
    let life = || {
        let mut slots = Table::<Slot>::new(sizes * each).ok();
        for (i, slot) in slots.iter_mut().flat_map(|t| t.iter_mut().enumerate()) {
            *slot = take(alloc, class(i / each), 0, 1);
            if !slot.ptr.is_null() {
                // SAFETY: the last byte of the block.
                unsafe { slot.ptr.add(slot.size - 1).write(1) };
            }
        }
        full.wait();
        end.wait();
        slots.iter_mut().for_each(|t| release(alloc, t));
    };
    bench.timed(|| {
        std::thread::scope(|scope| {
            for started in 0..threads {
                let thread = std::thread::Builder::new().stack_size(64 << 10);
                if let Err(e) = thread.spawn_scoped(scope, life) {
                    // Those that run would wait for ever.
                    eprintln!("thread {started} of {threads} could not be started: {e}");
                    std::process::exit(3);
                }
            }
            full.wait();
            moments.push(MemoryMoment::now(live));
            end.wait();
        });
        (sizes * each * threads) as u64
    });
    moments.push(MemoryMoment::now(0));
    bench.note_memory(&moments);
    rested(s, bench)
}

pub fn churn(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (low, high) = (s.size("min-size"), s.size("max-size"));
    let mut slots = Table::<Slot>::new((s.size("mib") << 20) / low.midpoint(high))?;
    let alloc = bench.begin(0, 0)?;
    let mut generator = XorShift64::new(42, 0);
    let mut moments = Vec::with_capacity(s.size("rounds") + 1);
    bench.timed(|| {
        for slot in slots.iter_mut() {
            *slot = full(alloc, generator.between(low, high));
        }
        for _ in 0..s.n("rounds") {
            for _ in 0..slots.len() {
                let i = generator.below(slots.len());
                release(alloc, &mut slots[i..=i]);
                slots[i] = full(alloc, generator.between(low, high));
            }
            moments.push(MemoryMoment::now(slots.iter().map(|s| s.size).sum()));
        }
        slots.len() as u64 * (s.n("rounds") + 1)
    });
    bench.note_memory(&moments);
    release(alloc, &mut slots);
    rested(s, bench)
}

/// The size of a phase's blocks, by its letter.
fn of_kind(letter: char) -> usize {
    match letter {
        'h' => 4 << 20,
        'l' => 300_000,
        'm' => 20_000,
        't' => 700,
        _ => 100,
    }
}

pub fn phases(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let bytes = s.size("mib") << 20;
    let kinds = s.word("kinds");
    let mut slots = Table::<Slot>::new(bytes / 100 + 1)?;
    let alloc = bench.begin(0, 0)?;
    bench.timed(|| {
        let mut ops = 0;
        for letter in (0..s.n("rounds")).flat_map(|_| kinds.chars()) {
            let (size, count) = (of_kind(letter), bytes.div_ceil(of_kind(letter)));
            slots[..count].iter_mut().for_each(|slot| *slot = full(alloc, size));
            release(alloc, &mut slots[..count]);
            ops += 2 * count as u64;
        }
        ops
    });
    rested(s, bench)
}

pub fn idle(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let bytes = s.size("mib") << 20;
    let (low, high): (usize, usize) = match s.word("kind").as_str() {
        "large" => (4 << 20, 24 << 20),
        "medium" => (4096, 204_096),
        _ => (16, 2016),
    };
    let mut slots = Table::<Slot>::new(bytes / low.midpoint(high) * 2 + 64)?;
    let alloc = bench.begin(0, 0)?;
    let mut generator = XorShift64::new(42, 0);
    bench.timed(|| {
        let mut ops = 0;
        for _ in 0..s.n("bursts") {
            let (mut held, mut count) = (0, 0);
            while held < bytes && count < slots.len() {
                let size = generator.between(low, high);
                slots[count] = full(alloc, size);
                (held, count) = (held + size, count + 1);
            }
            release(alloc, &mut slots[..count]);
            ops += 2 * count as u64;
        }
        ops
    });
    bench.note_memory(&[MemoryMoment::now(0)]);
    rested(s, bench)?;
    bench.note_memory(&[MemoryMoment::now(0)]);
    Ok(())
}

pub fn shrink(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let size = s.size("size");
    let less = ((size as f64 * s.share("part")) as usize).max(1);
    let mut slots = Table::<Slot>::new(s.size("buffers"))?;
    let alloc = bench.begin(0, 0)?;
    bench.timed(|| {
        for slot in slots.iter_mut() {
            *slot = full(alloc, size);
            if slot.ptr.is_null() {
                continue;
            }
            // SAFETY: a live block of this size; a refused shrink leaves it as it was.
            let ptr = unsafe { alloc.realloc(slot.ptr, size, less) };
            if !ptr.is_null() {
                *slot = Slot { ptr, size: less };
            }
        }
        slots.len() as u64
    });
    bench.note_memory(&[MemoryMoment::now(less * slots.len())]);
    // What is kept is what counts at rest.
    rested(s, bench)?;
    bench.note_memory(&[MemoryMoment::now(less * slots.len())]);
    release(alloc, &mut slots);
    Ok(())
}

pub fn aligned(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (align, size) = (s.size("align"), s.size("size"));
    let alloc = bench.begin(0, 0)?;
    bench.timed(|| {
        for done in 0..s.n("rounds") {
            let ptr = alloc.alloc_aligned(size, align, 0);
            if ptr.is_null() || !(ptr as usize).is_multiple_of(align) {
                return done;
            }
            // SAFETY: the whole block, freed as it was taken.
            unsafe {
                ptr.write_bytes(1, size);
                alloc.dealloc_aligned(ptr, size, align);
            }
        }
        s.n("rounds")
    });
    rested(s, bench)
}

pub fn grow(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (from, to, rounds) = (s.size("from-kib") << 10, s.size("to-kib") << 10, s.n("rounds"));
    let alloc = bench.begin(0, 0)?;
    bench.timed_threads(s.size("threads"), |_, gate| {
        gate.timed(|| {
            for _ in 0..rounds {
                let mut slot = full(alloc, from);
                while !slot.ptr.is_null() && slot.size < to {
                    // SAFETY: a live block of this size.
                    let ptr = unsafe { alloc.realloc(slot.ptr, slot.size, 2 * slot.size) };
                    if ptr.is_null() {
                        break;
                    }
                    // SAFETY: the second half of the block.
                    unsafe { ptr.add(slot.size).write_bytes(1, slot.size) };
                    slot = Slot { ptr, size: 2 * slot.size };
                }
                release(alloc, &mut [slot]);
            }
            rounds
        });
    });
    rested(s, bench)
}

pub fn survivors(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (low, high, keep) = (s.size("min-size"), s.size("max-size"), s.size("survivors"));
    let mut slots = Table::<Slot>::new((s.size("mib") << 20) / low.midpoint(high))?;
    let alloc = bench.begin(0, 0)?;
    let mut generator = XorShift64::new(42, 0);
    bench.timed(|| {
        slots.iter_mut().for_each(|slot| *slot = full(alloc, generator.between(low, high)));
        for i in (0..slots.len()).filter(|i| i % keep != 0) {
            release(alloc, &mut slots[i..=i]);
        }
        2 * slots.len() as u64
    });
    let live = || slots.iter().filter(|s| !s.ptr.is_null()).map(|s| s.size).sum();
    bench.note_memory(&[MemoryMoment::now(live())]);
    rested(s, bench)?;
    bench.note_memory(&[MemoryMoment::now(live())]);
    release(alloc, &mut slots);
    Ok(())
}
