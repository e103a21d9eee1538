//! hand-over: threads replace blocks of a live set at random and hand the whole set on to another thread.
//!
//! Imitates servers whose sessions outlive the threads that serve them. In mode `successors` each thread ends after its
//! turn and a new one takes the set over, so that blocks are freed by threads that never allocated them and heaps are
//! left behind full; in mode `ring` the threads stay and pass their sets round. One operation is one replacement.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};

use serde::{Deserialize, Serialize};

use super::live_set::{LiveSet, release};
use super::{Checker, Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::measure::timed_section;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;
use crate::rng::XorShift64;

/// Who gets the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A new thread, while the old one ends
    Successors,
    /// The next of a ring of threads that stay
    Ring,
}

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct HandOver {
    /// Threads at work at a time
    #[arg(default_value_t = 2)]
    pub threads: usize,
    /// Live blocks of each
    #[arg(default_value_t = 1000)]
    pub live: usize,
    /// Replacements of each turn
    #[arg(default_value_t = 50_000)]
    pub replacements: u64,
    /// Turns: how often each set is handed on
    #[arg(default_value_t = 40)]
    pub turns: u64,
    /// Who gets the set: successors or ring
    #[arg(long, value_enum, default_value = "successors")]
    pub mode: Mode,
    /// Bytes of the smallest block
    #[arg(long, default_value_t = 16)]
    pub min_size: usize,
    /// Bytes of the largest block
    #[arg(long, default_value_t = 512)]
    pub max_size: usize,
    /// Seed of slots and sizes
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

impl Workload for HandOver {
    const NAME: &'static str = "hand-over";

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.min_size, self.max_size)?;
        check_positive("live", self.live as u64)?;
        check_positive("replacements", self.replacements)?;
        check_positive("turns", self.turns)?;
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        let mode = format!("{:?}", self.mode).to_lowercase();
        format!(
            "{} threads, {} live each, {}–{} B, {mode}",
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
        let warm = bench.series() == Series::Warm;
        let refused = AtomicU64::new(0);
        let meeting = Barrier::new(self.threads);
        let turn = |set: usize, number: u64| {
            // Locked by one turn at a time: the lock is the handing over.
            let mut slots = sets[set].lock().unwrap_or_else(|e| e.into_inner());
            let mut generator =
                XorShift64::new(self.seed, number * self.threads as u64 + set as u64);
            let live = LiveSet {
                alloc,
                sizes: (self.min_size, self.max_size),
                base: set * self.live,
            };
            let failed = live.replace(&mut slots, &mut generator, self.replacements);
            refused.fetch_add(failed, Relaxed);
        };
        bench.start();
        bench.timed_threads(self.threads, |thread, gate| {
            if warm {
                std::thread::scope(|s| {
                    s.spawn(|| turn(thread, 0));
                });
            }
            gate.timed(|| {
                for number in 1..=self.turns {
                    match self.mode {
                        Mode::Successors => std::thread::scope(|s| {
                            s.spawn(|| timed_section(|| turn(thread, number)));
                        }),
                        Mode::Ring => {
                            turn((thread + number as usize) % self.threads, number);
                            meeting.wait();
                        }
                    }
                }
                self.turns * self.replacements
            });
        });
        for set in &sets {
            release(alloc, &mut set.lock().unwrap_or_else(|e| e.into_inner()));
        }
        bench.count_failed(refused.into_inner());
        bench.settle();
        self.verify(
            alloc,
            &mut sets[0].lock().unwrap_or_else(|e| e.into_inner()),
        )
    }
}

impl HandOver {
    /// A set filled by one thread, replaced by another, freed by a third, with its contents checked.
    fn verify(&self, alloc: &RawAllocator, slots: &mut Table<Slot>) -> Result<(), String> {
        let mut check = Checker::default();
        for stream in 0..3 {
            std::thread::scope(|s| {
                s.spawn(|| {
                    let mut generator = XorShift64::new(self.seed, stream);
                    for (i, slot) in slots.iter_mut().enumerate() {
                        check.free(alloc, slot, i);
                        if stream < 2 {
                            *slot = check.fill(
                                alloc,
                                generator.between(self.min_size, self.max_size),
                                i,
                            );
                        }
                    }
                });
            });
        }
        check.verdict()
    }
}
