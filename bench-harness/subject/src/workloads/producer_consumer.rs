//! producer-consumer: one thread allocates and writes blocks, another reads and frees them.
//!
//! Imitates pipelines and message passing: a reader that parses packets and a worker that consumes them. No block is
//! ever freed by the thread that allocated it, which is the case per-thread caches were not made for. Blocks go through
//! a bounded single-producer single-consumer ring that is published in packets of 32, as a real queue of work would be,
//! so that the allocator and not the queue is measured. One operation is one block allocated, passed on and freed.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::blocks::take;
use crate::bench::{self, Bench};
use crate::memory::{Slot, Table};
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

const PLACES: usize = 4096;
const PACKET: usize = 32;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (blocks, threads) = (s.n("blocks"), s.size("threads"));
    let (min, max) = (s.size("min-size"), s.size("max-size"));
    let rings = (0..threads / 2).map(|_| Ring::new()).collect::<Result<Vec<_>, _>>()?;
    let alloc = bench.begin(rings.len() * PLACES, max)?;
    let warm = if bench.is_warm() { blocks / 10 } else { 0 };
    bench.timed_threads(threads, |thread, gate| {
        let ring = &rings[thread / 2];
        let base = thread / 2 * PLACES;
        if thread % 2 == 0 {
            let mut generator = XorShift64::new(s.n("seed"), thread as u64);
            let mut producer = Producer { ring, alloc, base, seen: 0, next: 0 };
            producer.produce(warm, &mut generator, min, max);
            gate.timed(|| {
                producer.produce(blocks, &mut generator, min, max);
                blocks
            });
        } else {
            let mut consumer = Consumer { ring, alloc, next: 0, wrong: 0 };
            consumer.consume(warm);
            // Only producers count operations, so that a block counts once.
            gate.timed(|| {
                consumer.consume(blocks);
                0
            });
            bench::damaged(u64::from(consumer.wrong));
        }
    });
    bench.finish()
}

/// An index in a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Index(AtomicUsize);

/// Blocks on their way. `head - tail` places are full; only the producer moves `head`, only the consumer `tail`.
struct Ring {
    places: UnsafeCell<Table<Slot>>,
    head: Index,
    tail: Index,
}

// SAFETY: a place belongs to the producer until `head` (Release, paired with the consumer's Acquire) has passed it, and
// to the consumer until `tail` has, the same way round.
unsafe impl Sync for Ring {}

impl Ring {
    fn new() -> Result<Self, String> {
        let places = UnsafeCell::new(Table::new(PLACES)?);
        Ok(Self { places, head: Index(AtomicUsize::new(0)), tail: Index(AtomicUsize::new(0)) })
    }

    fn place(&self, index: usize) -> *mut Slot {
        // SAFETY: only a shared look at the table's base address; the place is within it.
        unsafe { (*self.places.get()).as_ptr().add(index % PLACES).cast_mut() }
    }
}

struct Producer<'a> {
    ring: &'a Ring,
    alloc: &'a RawAllocator,
    base: usize,
    seen: usize,
    next: usize,
}

impl Producer<'_> {
    #[inline(never)]
    fn produce(&mut self, count: u64, generator: &mut XorShift64, min: usize, max: usize) {
        for _ in 0..count {
            if self.next - self.seen == PLACES {
                self.ring.head.0.store(self.next, Ordering::Release);
                self.seen = wait_until(|| Some(self.ring.tail.0.load(Ordering::Acquire)).filter(|t| *t != self.seen));
            }
            let size = generator.between(min, max);
            let slot = take(self.alloc, size, self.base + self.next % PLACES, size as u8);
            // SAFETY: the place is the producer's: less than PLACES are full.
            unsafe { self.ring.place(self.next).write(slot) };
            self.next += 1;
            if self.next.is_multiple_of(PACKET) {
                self.ring.head.0.store(self.next, Ordering::Release);
            }
        }
        self.ring.head.0.store(self.next, Ordering::Release);
    }
}

struct Consumer<'a> {
    ring: &'a Ring,
    alloc: &'a RawAllocator,
    next: usize,
    wrong: u8,
}

impl Consumer<'_> {
    #[inline(never)]
    fn consume(&mut self, count: u64) {
        let end = self.next + count as usize;
        while self.next < end {
            let next = self.next;
            let head = wait_until(|| Some(self.ring.head.0.load(Ordering::Acquire)).filter(|h| *h > next));
            while self.next < head.min(end) {
                // SAFETY: the place is the consumer's: `head` has passed it.
                let slot = unsafe { self.ring.place(self.next).read() };
                if !slot.ptr.is_null() {
                    // SAFETY: the block came from this allocator with this size, and the producer has let go of it.
                    unsafe {
                        self.wrong |= slot.ptr.read() ^ slot.size as u8;
                        self.alloc.dealloc(slot.ptr, slot.size);
                    }
                }
                self.next += 1;
                if self.next.is_multiple_of(PACKET) {
                    self.ring.tail.0.store(self.next, Ordering::Release);
                }
            }
            self.ring.tail.0.store(self.next, Ordering::Release);
        }
    }
}

/// Spins a little, then lets others run: there may be fewer processors than threads.
fn wait_until<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let mut tries = 0u32;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        tries += 1;
        if tries < 200 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}
