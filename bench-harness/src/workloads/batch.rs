//! batch: allocate n blocks, free all n, again and again, in the order of allocation, against it, or at random.
//!
//! Imitates a program that builds a structure and drops it whole: a parse tree, a frame's scene, a request's objects.
//! Last in, first out is a stack unwinding; first in, first out a queue or a vector of boxes being dropped; random order
//! a hash map. One operation is one allocation or one free.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{Checker, Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift64;

/// The order in which a batch is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// First in, first out
    Fifo,
    /// Last in, first out
    Lifo,
    /// One random order, the same in every round
    Random,
}

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Batch {
    /// Blocks of a batch
    #[arg(default_value_t = 50_000)]
    pub blocks: usize,
    /// Bytes of a block, or of the smallest where --max-size is larger
    #[arg(default_value_t = 64)]
    pub size: usize,
    /// Batches per thread
    #[arg(default_value_t = 100)]
    pub rounds: u64,
    /// Order of freeing: fifo, lifo or random
    #[arg(long, value_enum, default_value = "fifo")]
    pub order: Order,
    /// Bytes of the largest block: sizes are drawn at random up to it [default: SIZE]
    #[arg(long)]
    pub max_size: Option<usize>,
    /// Threads, each with batches of its own
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Seed of sizes and random order
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for Batch {
    const NAME: &'static str = "batch";

    fn check(&mut self) -> Result<(), Fail> {
        let max = *self.max_size.get_or_insert(self.size);
        check_sizes(self.size, max)?;
        check_positive("blocks", self.blocks as u64)?;
        check_positive("rounds", self.rounds)?;
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        let order = format!("{:?}", self.order).to_lowercase();
        let sizes = match self.max_size {
            Some(max) if max != self.size => format!("{}–{max}", self.size),
            _ => self.size.to_string(),
        };
        format!(
            "{} × {sizes} B, {order}{}",
            self.blocks,
            super::threads_title(self.threads)
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.threads * self.blocks * (self.max_size.unwrap_or(self.size) + 32)) as u64
    }

    fn ops(&self) -> u64 {
        self.rounds * (2 * self.blocks * self.threads) as u64
    }

    fn scale(&mut self, share: f64) {
        self.rounds = super::scaled(self.rounds, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut tables = Vec::new();
        for thread in 0..self.threads {
            tables.push(std::sync::Mutex::new((
                self.slots(thread)?,
                self.freeing_order()?,
            )));
        }
        let alloc = bench.allocator();
        let max_size = self.max_size.unwrap_or(self.size);
        alloc.prepare(Extent {
            slots: self.blocks * self.threads,
            max_size,
        })?;
        bench.start();
        let warm = bench.series() == Series::Warm;
        let failed = std::sync::atomic::AtomicU64::new(0);
        bench.timed_threads(self.threads, |thread, gate| {
            // Nobody else ever locks it; a poisoned lock means that this thread has panicked already.
            let mut table = tables[thread].lock().unwrap_or_else(|e| e.into_inner());
            let (slots, order) = &mut *table;
            let base = thread * self.blocks;
            if warm {
                round(alloc, slots, order, base);
            }
            gate.timed(|| {
                let refused = (0..self.rounds)
                    .map(|_| round(alloc, slots, order, base))
                    .sum();
                failed.fetch_add(refused, std::sync::atomic::Ordering::Relaxed);
                self.rounds * self.blocks as u64 * 2
            });
        });
        bench.count_failed(failed.into_inner());
        bench.settle();
        let mut first = tables
            .swap_remove(0)
            .into_inner()
            .unwrap_or_else(|e| e.into_inner());
        verify(alloc, &mut first.0, &first.1)
    }
}

impl Batch {
    fn slots(&self, thread: usize) -> Result<Table<Slot>, String> {
        let mut slots = Table::<Slot>::new(self.blocks)?;
        let mut generator = XorShift64::new(self.seed, thread as u64);
        for slot in slots.iter_mut() {
            slot.size = generator.between(self.size, self.max_size.unwrap_or(self.size));
        }
        Ok(slots)
    }

    fn freeing_order(&self) -> Result<Table<u32>, String> {
        let mut order = Table::<u32>::new(self.blocks)?;
        for (i, place) in order.iter_mut().enumerate() {
            *place = i as u32;
        }
        match self.order {
            Order::Fifo => {}
            Order::Lifo => order.reverse(),
            Order::Random => order.shuffle(&mut StdRng::seed_from_u64(self.seed)),
        }
        Ok(order)
    }
}

/// One batch; answers how many allocations were refused.
#[inline(never)]
fn round(alloc: &RawAllocator, slots: &mut [Slot], order: &[u32], base: usize) -> u64 {
    let mut refused = 0;
    for (i, slot) in slots.iter_mut().enumerate() {
        slot.ptr = alloc.alloc(slot.size, base + i);
        if slot.ptr.is_null() {
            refused += 1;
        } else {
            // SAFETY: the block has at least one byte.
            unsafe { slot.ptr.write(i as u8) };
        }
    }
    for &i in order {
        let slot = &slots[i as usize];
        if !slot.ptr.is_null() {
            // SAFETY: allocated above with this size; `order` names every slot once.
            unsafe { alloc.dealloc(slot.ptr, slot.size) };
        }
    }
    refused
}

fn verify(alloc: &RawAllocator, slots: &mut [Slot], order: &[u32]) -> Result<(), String> {
    let mut check = Checker::default();
    for (i, slot) in slots.iter_mut().enumerate() {
        *slot = check.fill(alloc, slot.size, i);
    }
    for &i in order {
        check.free(alloc, &mut slots[i as usize], i as usize);
    }
    check.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_name_every_slot_once() {
        let of = |order| {
            let b = Batch {
                blocks: 100,
                size: 1,
                rounds: 1,
                order,
                max_size: None,
                threads: 1,
                seed: 1,
            };
            b.freeing_order().unwrap().to_vec()
        };
        let fifo: Vec<u32> = (0..100).collect();
        assert_eq!(of(Order::Fifo), fifo);
        assert_eq!(
            of(Order::Lifo),
            fifo.iter().rev().copied().collect::<Vec<_>>()
        );
        let mut random = of(Order::Random);
        assert_ne!(random, fifo);
        random.sort_unstable();
        assert_eq!(random, fifo);
    }
}
