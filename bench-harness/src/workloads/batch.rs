//! batch: allocate n blocks, free all n, again and again, in the order of allocation, against it, or at random.
//!
//! Imitates a program that builds a structure and drops it whole: a parse tree, a frame's scene, a request's objects.
//! Last in, first out is a stack unwinding; first in, first out a queue or a vector of boxes being dropped; random order
//! a hash map. One operation is one allocation or one free. What the workload itself keeps is what such a program would: an
//! address for each block, and its size and place in the order only where these vary.

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

/// What a block is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Touch {
    /// Its first byte is written
    #[default]
    First,
    /// Nothing
    None,
}

impl Touch {
    // Serde's signature. Left out of results files, which knew no other.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_first(&self) -> bool {
        *self == Touch::First
    }
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
    /// What is written into each block: its first byte, or nothing, which leaves the allocator and a table of addresses
    #[arg(long, value_enum, default_value = "first")]
    #[serde(default, skip_serializing_if = "Touch::is_first")]
    pub touch: Touch,
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
            "{} × {sizes} B, {order}{}{}",
            self.blocks,
            match self.touch {
                Touch::First => "",
                Touch::None => ", untouched",
            },
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
            tables.push(std::sync::Mutex::new(Tables::new(self, thread)?));
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
            let mut tables = tables[thread].lock().unwrap_or_else(|e| e.into_inner());
            let base = thread * self.blocks;
            if warm {
                tables.rounds(1, alloc, base);
            }
            gate.timed(|| {
                let refused = tables.rounds(self.rounds, alloc, base);
                failed.fetch_add(refused, std::sync::atomic::Ordering::Relaxed);
                self.rounds * self.blocks as u64 * 2
            });
        });
        bench.count_failed(failed.into_inner());
        bench.settle();
        let first = tables.swap_remove(0).into_inner();
        first.unwrap_or_else(|e| e.into_inner()).verify(alloc)
    }
}

/// What one thread keeps.
struct Tables {
    blocks: Table<*mut u8>,
    size: usize,
    /// Each block's size, where they differ.
    sizes: Option<Table<u32>>,
    touch: Touch,
    order: Order,
    /// The order of freeing, where it is a random one.
    random: Option<Table<u32>>,
}

// SAFETY: the addresses are the thread's whose tables these are.
unsafe impl Send for Tables {}

impl Tables {
    fn new(batch: &Batch, thread: usize) -> Result<Tables, String> {
        let max_size = batch.max_size.unwrap_or(batch.size);
        let sizes = if max_size == batch.size {
            None
        } else {
            let mut sizes = Table::<u32>::new(batch.blocks)?;
            let mut generator = XorShift64::new(batch.seed, thread as u64);
            for size in sizes.iter_mut() {
                *size = generator.between(batch.size, max_size) as u32;
            }
            Some(sizes)
        };
        let random = if batch.order == Order::Random {
            let mut order = Table::<u32>::new(batch.blocks)?;
            for (i, place) in order.iter_mut().enumerate() {
                *place = i as u32;
            }
            order.shuffle(&mut StdRng::seed_from_u64(batch.seed));
            Some(order)
        } else {
            None
        };
        Ok(Tables {
            blocks: Table::new(batch.blocks)?,
            size: batch.size,
            sizes,
            touch: batch.touch,
            order: batch.order,
            random,
        })
    }

    fn size(&self, i: usize) -> usize {
        self.sizes
            .as_ref()
            .map_or(self.size, |sizes| sizes[i] as usize)
    }

    /// The block that is freed as the `n`th.
    fn freed(&self, n: usize) -> usize {
        match &self.random {
            Some(order) => order[n] as usize,
            None if self.order == Order::Lifo => self.blocks.len() - 1 - n,
            None => n,
        }
    }

    /// So many batches; answers how many allocations were refused.
    fn rounds(&mut self, rounds: u64, alloc: &RawAllocator, base: usize) -> u64 {
        let size = self.size;
        let all = All {
            rounds,
            alloc,
            base,
        };
        let (order, random) = (self.order, self.random.as_deref());
        match &self.sizes {
            Some(sizes) => {
                let size = |i: usize| sizes[i] as usize;
                all.in_order(&mut self.blocks, self.touch, size, order, random)
            }
            None => all.in_order(&mut self.blocks, self.touch, |_| size, order, random),
        }
    }

    fn verify(self, alloc: &RawAllocator) -> Result<(), String> {
        let mut check = Checker::default();
        let mut slots = Table::<Slot>::new(self.blocks.len())?;
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = check.fill(alloc, self.size(i), i);
        }
        for i in (0..self.blocks.len()).map(|n| self.freed(n)) {
            check.free(alloc, &mut slots[i], i);
        }
        check.verdict()
    }
}

/// What all batches of a thread have in common.
struct All<'a> {
    rounds: u64,
    alloc: &'a RawAllocator,
    /// The thread's first place.
    base: usize,
}

impl All<'_> {
    fn in_order(
        &self,
        blocks: &mut [*mut u8],
        touch: Touch,
        size: impl Fn(usize) -> usize,
        order: Order,
        random: Option<&[u32]>,
    ) -> u64 {
        let count = blocks.len();
        let run = |_| match (order, random, touch) {
            (_, Some(order), Touch::First) => self.round::<true>(blocks, of(order), &size),
            (_, Some(order), Touch::None) => self.round::<false>(blocks, of(order), &size),
            (Order::Lifo, None, Touch::First) => {
                self.round::<true>(blocks, (0..count).rev(), &size)
            }
            (Order::Lifo, None, Touch::None) => {
                self.round::<false>(blocks, (0..count).rev(), &size)
            }
            (_, None, Touch::First) => self.round::<true>(blocks, 0..count, &size),
            (_, None, Touch::None) => self.round::<false>(blocks, 0..count, &size),
        };
        (0..self.rounds).map(run).sum()
    }

    /// One batch; answers how many allocations were refused.
    #[inline(never)]
    fn round<const TOUCH: bool>(
        &self,
        blocks: &mut [*mut u8],
        freed: impl Iterator<Item = usize>,
        size: impl Fn(usize) -> usize,
    ) -> u64 {
        let mut refused = 0;
        for (i, block) in blocks.iter_mut().enumerate() {
            *block = self.alloc.alloc(size(i), self.base + i);
            if block.is_null() {
                refused += 1;
            } else if TOUCH {
                // SAFETY: the block has at least one byte.
                unsafe { block.write(i as u8) };
            }
        }
        for i in freed {
            let block = blocks[i];
            if !block.is_null() {
                // SAFETY: allocated above with this size; every place comes once.
                unsafe { self.alloc.dealloc(block, size(i)) };
            }
        }
        refused
    }
}

fn of(order: &[u32]) -> impl Iterator<Item = usize> {
    order.iter().map(|&i| i as usize)
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
                touch: Touch::First,
                threads: 1,
                seed: 1,
            };
            {
                let tables = Tables::new(&b, 0).unwrap();
                (0..100).map(|n| tables.freed(n)).collect::<Vec<_>>()
            }
        };
        let fifo: Vec<usize> = (0..100).collect();
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
