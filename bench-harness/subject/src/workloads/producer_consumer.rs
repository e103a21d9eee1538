//! producer-consumer: one thread allocates and writes blocks, another reads and frees them.
//!
//! Imitates pipelines and message passing: a reader that parses packets and a worker that consumes them. No block is
//! ever freed by the thread that allocated it, which is the case per-thread caches were not made for. Blocks go through
//! a bounded channel in packets of 32, as through a real queue of work, so that the allocator and not the queue is measured.
//! One operation is one block allocated, passed on and freed.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::prelude::*;

const PACKET: usize = 32;
type Packet = [Slot; PACKET];

/// How many packets a channel holds.
const PACKETS: usize = 128;

/// The most blocks on their way: besides the channel's, a packet at each end.
const PLACES: usize = (PACKETS + 2) * PACKET;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (blocks, threads) = (s.size("blocks"), s.size("threads"));
    let sizes = (s.size("min-size"), s.size("max-size"));
    let alloc = bench.begin(threads / 2 * PLACES, sizes.1)?;
    let warm = if bench.is_warm() { blocks / 10 } else { 0 };
    let pair = |i: usize| {
        let (sender, receiver) = sync_channel::<Packet>(PACKETS);
        let generator = XorShift64::new(s.n("seed"), 2 * i as u64);
        [
            Part::Producer(Producer { alloc, sender, generator, sizes, base: i * PLACES, next: 0 }),
            Part::Consumer(receiver),
        ]
    };
    let mut parts: Vec<Part> = (0..threads / 2).flat_map(pair).collect();
    bench.timed_threads(&mut parts, |_, part, gate| match part {
        Part::Producer(producer) => {
            producer.produce(warm);
            gate.timed(|| {
                producer.produce(blocks);
                blocks as u64
            });
        }
        Part::Consumer(receiver) => {
            consume(alloc, receiver, warm);
            // Only producers count operations, so that a block counts once.
            gate.timed(|| {
                consume(alloc, receiver, blocks);
                0
            });
        }
    });
    Ok(())
}

enum Part<'a> {
    Producer(Producer<'a>),
    Consumer(Receiver<Packet>),
}

struct Producer<'a> {
    alloc: &'a RawAllocator,
    sender: SyncSender<Packet>,
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
                *slot = Slot::take(self.alloc, size, self.base + self.next % PLACES, size as u8);
                self.next += 1;
            }
            // The channel lives as long as the run: nobody hangs up.
            let _ = self.sender.send(packet);
        }
    }
}

#[inline(never)]
fn consume(alloc: &RawAllocator, receiver: &Receiver<Packet>, count: usize) {
    for mut packet in receiver.iter().take(count.div_ceil(PACKET)) {
        packet.iter().for_each(|slot| slot.must_have(slot.size as u8));
        release(alloc, &mut packet);
    }
}
