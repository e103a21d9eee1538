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

use super::prelude::*;

/// Blocks of random sizes, each written in full.
struct Held {
    alloc: &'static RawAllocator,
    slots: Table<Slot>,
    sizes: (usize, usize),
    generator: XorShift64,
}

impl Held {
    /// Room for so many, and none of them yet.
    fn new(bench: &mut Bench, slots: usize, sizes: (usize, usize)) -> Result<Held, String> {
        let slots = Table::new(slots)?;
        Ok(Held { alloc: bench.begin(0, 0)?, slots, sizes, generator: XorShift64::new(42, 0) })
    }

    /// Room for so many bytes in blocks between the smallest and the largest size.
    fn of_bytes(s: &Spec, bench: &mut Bench) -> Result<Held, String> {
        let sizes = (s.size("min-size"), s.size("max-size"));
        Held::new(bench, (s.size("mib") << 20) / sizes.0.midpoint(sizes.1), sizes)
    }

    fn put(&mut self, i: usize) {
        self.slots[i].free(self.alloc);
        let size = self.generator.between(self.sizes.0, self.sizes.1);
        self.slots[i] = Slot::take_full(self.alloc, size, 0, 1);
    }

    fn fill(&mut self) {
        (0..self.slots.len()).for_each(|i| self.put(i));
    }

    /// Frees what is held after a rest.
    fn rest(mut self, s: &Spec, bench: &mut Bench) -> Result<(), String> {
        bench.rest(s.n("rest"));
        release(self.alloc, &mut self.slots);
        Ok(())
    }

    /// Frees all before it.
    #[inline(never)]
    fn free_then_rest(mut self, s: &Spec, bench: &mut Bench) -> Result<(), String> {
        release(self.alloc, &mut self.slots);
        self.rest(s, bench)
    }
}

pub fn sparse(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let size = s.size("kib") << 10;
    let mut held = Held::new(bench, s.size("blocks"), (size, size))?;
    bench.timed(|| {
        held.slots.iter_mut().for_each(|slot| *slot = Slot::take(held.alloc, size, 0, 1));
        held.slots.len() as u64
    });
    held.free_then_rest(s, bench)
}

/// The size of the i-th of many classes.
fn class(i: usize) -> usize {
    16 + 3 * i * i
}

pub fn threads(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (threads, sizes, each) = (s.size("threads"), s.size("sizes"), s.size("each"));
    let alloc = bench.begin(0, 0)?;
    let (full, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let life = || {
        let mut slots = Table::<Slot>::new(sizes * each).ok();
        for (i, slot) in slots.iter_mut().flat_map(|t| t.iter_mut().enumerate()) {
            *slot = Slot::take(alloc, class(i / each), 0, 1);
            slot.mark_end(1);
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
            end.wait();
        });
        (sizes * each * threads) as u64
    });
    bench.rest(s.n("rest"));
    Ok(())
}

pub fn churn(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let mut held = Held::of_bytes(s, bench)?;
    bench.timed(|| {
        held.fill();
        for _ in 0..s.size("rounds") * held.slots.len() {
            let i = held.generator.below(held.slots.len());
            held.put(i);
        }
        held.slots.len() as u64 * (s.n("rounds") + 1)
    });
    held.free_then_rest(s, bench)
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
    let (bytes, kinds) = (s.size("mib") << 20, s.word("kinds"));
    let mut held = Held::new(bench, bytes / 100 + 1, (0, 0))?;
    bench.timed(|| {
        let mut ops = 0;
        for size in (0..s.n("rounds")).flat_map(|_| kinds.chars().map(of_kind)) {
            let count = bytes.div_ceil(size);
            held.sizes = (size, size);
            (0..count).for_each(|i| held.put(i));
            release(held.alloc, &mut held.slots[..count]);
            ops += 2 * count as u64;
        }
        ops
    });
    held.free_then_rest(s, bench)
}

pub fn idle(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let bytes = s.size("mib") << 20;
    let (low, high): (usize, usize) = match s.word("kind").as_str() {
        "large" => (4 << 20, 24 << 20),
        "medium" => (4096, 204_096),
        _ => (16, 2016),
    };
    let mut held = Held::new(bench, bytes / low.midpoint(high) * 2 + 64, (low, high))?;
    bench.timed(|| {
        let mut ops = 0;
        for _ in 0..s.n("bursts") {
            let (mut sum, mut count) = (0, 0);
            while sum < bytes && count < held.slots.len() {
                held.put(count);
                (sum, count) = (sum + held.slots[count].size, count + 1);
            }
            release(held.alloc, &mut held.slots[..count]);
            ops += 2 * count as u64;
        }
        ops
    });
    held.free_then_rest(s, bench)
}

pub fn shrink(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let size = s.size("size");
    let less = ((size as f64 * s.share("part")) as usize).max(1);
    let mut held = Held::new(bench, s.size("buffers"), (size, size))?;
    bench.timed(|| {
        for i in 0..held.slots.len() {
            held.put(i);
            if !held.slots[i].is_empty() {
                held.slots[i].resize(held.alloc, less);
            }
        }
        held.slots.len() as u64
    });
    // What is kept is what counts at rest.
    held.rest(s, bench)
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
    bench.rest(s.n("rest"));
    Ok(())
}

pub fn grow(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (from, to, rounds) = (s.size("from-kib") << 10, s.size("to-kib") << 10, s.n("rounds"));
    let alloc = bench.begin(0, 0)?;
    bench.timed_threads(&mut vec![(); s.size("threads")], |_, (), gate| {
        gate.timed(|| {
            for _ in 0..rounds {
                let mut slot = Slot::take_full(alloc, from, 0, 1);
                while !slot.is_empty() && slot.size < to {
                    let half = slot.size;
                    if !slot.resize(alloc, 2 * half) {
                        break;
                    }
                    // SAFETY: the second half of the block.
                    unsafe { slot.ptr.add(half).write_bytes(1, half) };
                }
                slot.free(alloc);
            }
            rounds
        });
    });
    bench.rest(s.n("rest"));
    Ok(())
}

pub fn survivors(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (mut held, keep) = (Held::of_bytes(s, bench)?, s.size("survivors"));
    bench.timed(|| {
        held.fill();
        for i in (0..held.slots.len()).filter(|i| i % keep != 0) {
            held.slots[i].free(held.alloc);
        }
        2 * held.slots.len() as u64
    });
    held.rest(s, bench)
}
