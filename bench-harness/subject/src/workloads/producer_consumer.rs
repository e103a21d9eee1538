//! producer-consumer: one thread allocates and writes blocks, another reads and frees them.
//!
//! Imitates pipelines and message passing: a reader that parses packets and a worker that consumes them. No block is
//! ever freed by the thread that allocated it, which is the case per-thread caches were not made for. Blocks go through
//! a bounded channel in packets of 32, as through a real queue of work, so that the allocator and not the queue is measured.
//! One operation is one block allocated, passed on and freed.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::blocks::{release, take};
use crate::bench::{self, Bench};
use crate::memory::Slot;
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

const PACKET: usize = 32;
type Packet = [Slot; PACKET];

/// How many packets a channel holds.
const PACKETS: usize = 128;

/// The most blocks on their way: besides the channel's, a packet at each end.
const PLACES: usize = (PACKETS + 2) * PACKET;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (blocks, threads) = (s.size("blocks"), s.size("threads"));
    let sizes = (s.size("min-size"), s.size("max-size"));
    let channel = |_| {
        let (sender, receiver) = sync_channel::<Packet>(PACKETS);
        (sender, Mutex::new(receiver))
    };
    let channels: Vec<_> = (0..threads / 2).map(channel).collect();
    let alloc = bench.begin(channels.len() * PLACES, sizes.1)?;
    let warm = if bench.is_warm() { blocks / 10 } else { 0 };
    bench.timed_threads(threads, |thread, gate| {
        let (sender, receiver) = &channels[thread / 2];
        if thread % 2 == 0 {
            let generator = XorShift64::new(s.n("seed"), thread as u64);
            let mut producer = Producer { alloc, sender, generator, sizes, base: thread / 2 * PLACES, next: 0 };
            producer.produce(warm);
            gate.timed(|| {
                producer.produce(blocks);
                blocks as u64
            });
        } else {
            // Nobody else ever locks it.
            let receiver = receiver.lock().unwrap_or_else(|e| e.into_inner());
            let mut lost = consume(alloc, &receiver, warm);
            // Only producers count operations, so that a block counts once.
            gate.timed(|| {
                lost += consume(alloc, &receiver, blocks);
                0
            });
            bench::damaged(lost);
        }
    });
    bench.finish()
}

struct Producer<'a> {
    alloc: &'a RawAllocator,
    sender: &'a SyncSender<Packet>,
    generator: XorShift64,
    sizes: (usize, usize),
    base: usize,
    next: usize,
}

impl Producer<'_> {
    #[inline(never)]
    fn produce(&mut self, count: usize) {
        for start in (0..count).step_by(PACKET) {
            let mut packet = [Slot::EMPTY; PACKET];
            for slot in &mut packet[..PACKET.min(count - start)] {
                let size = self.generator.between(self.sizes.0, self.sizes.1);
                *slot = take(self.alloc, size, self.base + self.next % PLACES, size as u8);
                self.next += 1;
            }
            // The channel lives as long as the run: nobody hangs up.
            let _ = self.sender.send(packet);
        }
    }
}

/// Reads and frees so many blocks; answers how many lost their contents.
#[inline(never)]
fn consume(alloc: &RawAllocator, receiver: &Receiver<Packet>, count: usize) -> u64 {
    let mut lost = 0;
    for mut packet in receiver.iter().take(count.div_ceil(PACKET)) {
        // SAFETY: a block has at least one byte, and its producer has let go of it.
        let wrong = |s: &&Slot| !s.ptr.is_null() && unsafe { s.ptr.read() } != s.size as u8;
        lost += packet.iter().filter(wrong).count() as u64;
        release(alloc, &mut packet);
    }
    lost
}
