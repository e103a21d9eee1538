//! medium: blocks of 8 to 16,000 bytes, some zeroed, some aligned, a third of them freed by another thread, and a live set
//! that swings between 20 and 80 MiB.
//!
//! Imitates a database or a browser: rows, buffers and pages of the heap of middling size, of which many end in another
//! thread, while load rises and falls. Memory that a fall gave back has to be there again at the next rise, which shows in
//! page faults; memory that nobody gives back shows in the peak. One operation is one allocation or one free.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::bench::Bench;
use crate::blocks::{Slot, damaged, drawn};
use crate::memory::Table;
use crate::raw::RawAllocator;
use crate::rng::XorShift64;
use crate::spec::Spec;

/// Marks a slot's size where the block was asked for at [`BOUNDARY`].
const ALIGNED: usize = 1 << 63;
const BOUNDARY: usize = 64;

const PACKET: usize = 64;
type Packet = [Slot; PACKET];

/// How many packets wait for a thread; what comes when as many wait is freed where it is.
const WAITING: usize = 16;

const DRAWN: usize = 1 << 14;

/// Slots of each thread: the most that fit, at the mean of the sizes, and half as many again.
fn slots(s: &Spec) -> usize {
    (s.size("high-mib") << 20) / s.size("threads") / 2100 * 3 / 2 + PACKET
}

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (ops, threads) = (s.n("ops"), s.size("threads"));
    let count = slots(s);
    let sizes = drawn(DRAWN, s.n("seed"), 8, 16_000)?;
    let alloc = bench.begin(count * threads, 16_000)?;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| sync_channel::<Packet>(WAITING)).unzip();
    let worker = |(thread, mail): (usize, Receiver<Packet>)| {
        Ok(Worker {
            alloc,
            sizes: &sizes,
            generator: XorShift64::new(s.n("seed"), thread as u64 + 1),
            slots: Table::new(count)?,
            base: thread * count,
            used: 0,
            bytes: 0,
            out: [Slot::EMPTY; PACKET],
            gathered: 0,
            neighbour: senders[(thread + 1) % threads].clone(),
            mail,
            lost: 0,
        })
    };
    let mut workers = receivers.into_iter().enumerate().map(worker).collect::<Result<Vec<_>, String>>()?;
    let warm = bench.is_warm();
    let (low, high) = ((s.size("low-mib") << 20) / threads, (s.size("high-mib") << 20) / threads);
    let swing = |done: u64| {
        // Three rises and falls over the whole run, in straight lines.
        let phase = (done * 6 / ops.max(1)) % 2;
        let within = (done * 6 % ops.max(1)) as f64 / ops.max(1) as f64;
        let share = if phase == 0 { within } else { 1.0 - within };
        low + ((high - low) as f64 * share) as usize
    };
    bench.timed_threads(&mut workers, |_, worker, gate| {
        if warm {
            worker.work(ops / 4, &|_| low);
        }
        gate.timed(|| {
            worker.work(ops, &swing);
            ops
        });
        worker.hand_on();
        free_all(alloc, &mut worker.slots);
    });
    for worker in &workers {
        worker.read_mail();
        damaged(worker.lost);
    }
    Ok(())
}

struct Worker<'a> {
    alloc: &'a RawAllocator,
    sizes: &'a [u32],
    generator: XorShift64,
    slots: Table<Slot>,
    base: usize,
    used: usize,
    bytes: usize,
    out: Packet,
    gathered: usize,
    neighbour: SyncSender<Packet>,
    mail: Receiver<Packet>,
    /// Blocks that were not what was written into them.
    lost: u64,
}

impl Worker<'_> {
    #[inline(never)]
    fn work(&mut self, ops: u64, target: &dyn Fn(u64) -> usize) {
        let mut wanted = target(0);
        for done in 0..ops {
            if done % 256 == 0 {
                wanted = target(done);
                self.read_mail();
            }
            // Around the target both happen, three allocations to one free below it and the other way round above.
            let grow = (self.generator.below(4) != 0) == (self.bytes < wanted);
            if (grow || self.used == 0) && self.used < self.slots.len() { self.take() } else { self.drop_one() }
        }
    }

    fn read_mail(&self) {
        self.mail.try_iter().for_each(|mut packet| free_all(self.alloc, &mut packet));
    }

    fn take(&mut self) {
        let size = self.sizes[self.generator.below(DRAWN)] as usize;
        let i = self.base + self.used;
        let (ptr, mark) = match self.generator.below(16) {
            0 | 1 => (self.alloc.zeroed(size, i), 0),
            2 => (self.alloc.alloc_aligned(size, BOUNDARY, i), ALIGNED),
            _ => (self.alloc.alloc(size, i), 0),
        };
        if ptr.is_null() {
            return;
        }
        for offset in (0..size).step_by(4096).chain([size - 1]) {
            // SAFETY: within the block.
            unsafe { ptr.add(offset).write(1) };
        }
        self.slots[self.used] = Slot { ptr, size: size | mark };
        self.used += 1;
        self.bytes += size;
    }

    fn drop_one(&mut self) {
        let i = self.generator.below(self.used);
        self.used -= 1;
        self.slots.swap(i, self.used);
        let slot = std::mem::replace(&mut self.slots[self.used], Slot::EMPTY);
        self.bytes -= slot.size & !ALIGNED;
        self.lost += u64::from(!slot.has(1));
        if self.generator.below(3) != 0 {
            return free(self.alloc, slot);
        }
        self.out[self.gathered] = slot;
        self.gathered += 1;
        if self.gathered == PACKET {
            self.hand_on();
        }
    }

    /// Sends what was gathered to the neighbour; where too much waits there, it is freed here.
    fn hand_on(&mut self) {
        let packet = std::mem::replace(&mut self.out, [Slot::EMPTY; PACKET]);
        self.gathered = 0;
        if let Err(TrySendError::Full(mut back) | TrySendError::Disconnected(mut back)) =
            self.neighbour.try_send(packet)
        {
            free_all(self.alloc, &mut back);
        }
    }
}

fn free_all(alloc: &RawAllocator, slots: &mut [Slot]) {
    for slot in slots.iter_mut().filter(|s| !s.is_empty()) {
        free(alloc, std::mem::replace(slot, Slot::EMPTY));
    }
}

fn free(alloc: &RawAllocator, slot: Slot) {
    let size = slot.size & !ALIGNED;
    // SAFETY: allocated by `take` with this size and alignment; every slot is forgotten by who frees it.
    unsafe {
        match slot.size & ALIGNED {
            0 => alloc.dealloc(slot.ptr, size),
            _ => alloc.dealloc_aligned(slot.ptr, size, BOUNDARY),
        }
    }
}
