//! larson: server threads that hand their blocks on to new threads, blocks that main allocated first.
//!
//! Imitates a long-running server as Larson and Krishnan did ("Memory allocation for long-running server applications",
//! 1998): each thread replaces random blocks of its set, starts its successor with the whole set, and ends. Unlike
//! hand-over, the blocks all come from the main thread at first, mixed among the sets, and a thread is started by the one
//! that ends, so that old and new overlap. One operation is one replacement.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::Scope;

use serde::{Deserialize, Serialize};

use super::live_set::{LiveSet, is_intact, release};
use super::{Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::measure::timed_section;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::rng::XorShift64;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Larson {
    /// Threads at work at a time
    #[arg(default_value_t = 2)]
    pub threads: usize,
    /// Live blocks of each
    #[arg(default_value_t = 1000)]
    pub live: usize,
    /// Replacements before a thread starts its successor
    #[arg(default_value_t = 100_000)]
    pub replacements: u64,
    /// Threads one after another on each set
    #[arg(default_value_t = 30)]
    pub turns: u64,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 8)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 1000)]
    pub max_size: usize,
    /// Seed of slots and sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for Larson {
    const NAME: &'static str = "larson";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("live", self.live as u64)?;
        check_positive("replacements", self.replacements)?;
        check_positive("turns", self.turns)?;
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        format!(
            "{} threads, {} live each, {}–{} B",
            self.threads, self.live, self.min_size, self.max_size
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.threads * self.live * (self.max_size + 64)) as u64 + (self.threads as u64) * (4 << 20)
    }

    fn ops(&self) -> u64 {
        self.turns * self.replacements * self.threads as u64
    }

    fn scale(&mut self, share: f64) {
        self.turns = super::scaled(self.turns, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut sets = Vec::new();
        for _ in 0..self.threads {
            sets.push(Mutex::new(Table::<Slot>::new(self.live)?));
        }
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.live * self.threads,
            max_size: self.max_size,
        })?;
        let server = Server {
            larson: self,
            alloc,
            sets: &sets,
            refused: AtomicU64::new(0),
        };
        bench.start();
        if bench.series() == crate::record::Series::Warm {
            server.fill();
        }
        bench.timed(|| {
            server.fill();
            std::thread::scope(|scope| {
                for set in 0..self.threads {
                    let server = &server;
                    scope.spawn(move || server.serve(scope, set, 0));
                }
            });
            self.ops()
        });
        let (refused, wrong) = (server.refused.into_inner(), self.release(alloc, &sets));
        bench.count_failed(refused);
        bench.settle();
        if wrong {
            Err("verification failed: a block lost its contents".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Larson {
    /// Frees everything; whether any block's first byte was not its slot's.
    fn release(&self, alloc: &RawAllocator, sets: &[Mutex<Table<Slot>>]) -> bool {
        let mut wrong = false;
        for set in sets {
            let mut slots = set.lock().unwrap_or_else(|e| e.into_inner());
            wrong |= !is_intact(&slots);
            release(alloc, &mut slots);
        }
        wrong
    }
}

struct Server<'a> {
    larson: &'a Larson,
    alloc: &'a RawAllocator,
    sets: &'a [Mutex<Table<Slot>>],
    refused: AtomicU64,
}

impl Server<'_> {
    /// Main's blocks: one for every empty slot, taking turns among the sets.
    fn fill(&self) {
        let w = self.larson;
        let mut generator = XorShift64::new(w.seed, u64::MAX - 1);
        for i in 0..w.live {
            for (number, set) in self.sets.iter().enumerate() {
                let mut slots = set.lock().unwrap_or_else(|e| e.into_inner());
                if slots[i].ptr.is_null() {
                    let live = self.live_set(number);
                    let failed = live.put(&mut slots[i], i, &mut generator);
                    self.refused.fetch_add(failed, Relaxed);
                }
            }
        }
    }

    fn serve<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, set: usize, turn: u64) {
        let w = self.larson;
        timed_section(|| {
            let mut slots = self.sets[set].lock().unwrap_or_else(|e| e.into_inner());
            let mut generator = XorShift64::new(w.seed, turn * w.threads as u64 + set as u64);
            let live = self.live_set(set);
            let failed = live.replace(&mut slots, &mut generator, w.replacements);
            self.refused.fetch_add(failed, Relaxed);
        });
        if turn + 1 < w.turns {
            scope.spawn(move || self.serve(scope, set, turn + 1));
        }
    }

    fn live_set(&self, set: usize) -> LiveSet<'_> {
        LiveSet {
            alloc: self.alloc,
            sizes: (self.larson.min_size, self.larson.max_size),
            base: set * self.larson.live,
        }
    }
}
