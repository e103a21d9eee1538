//! false-sharing: threads write to small objects of their own; do two of them lie in one cache line?
//!
//! The cache-thrash (active) and cache-scratch (passive) tests of Hoard (Berger and others, 2000). Active: each thread
//! allocates its objects itself. Passive: main allocates neighbouring objects and gives one to each thread, which frees
//! it and allocates its next: an allocator that re-uses the freed piece makes two threads write to one cache line.
//! Imitates per-thread counters and small state in multi-threaded programs. One operation is one object written 100
//! times. The bound is on how many times as long it takes as objects with cache lines of their own, which are made by the
//! same loop afterwards, outside the clock.

use std::sync::Barrier;

use serde::{Deserialize, Serialize};

use super::{Bound, Workload, check_positive, check_sizes, check_threads};
use crate::child::Bench;
use crate::fail::Fail;
use crate::measure::now_ns;
use crate::memory::{Slot, Table};
use crate::raw::{Extent, RawAllocator};

/// Writes per object.
const WRITES: u32 = 100;

/// Bytes of an object that shares no cache line, nor a pair of lines that the processor fetches together.
const PRIVATE: usize = 256;

/// Who allocates first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each thread for itself
    Active,
    /// Main, for all threads
    Passive,
}

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct FalseSharing {
    /// Who allocates first: active (each thread) or passive (main)
    #[arg(value_enum, default_value = "passive")]
    pub mode: Mode,
    /// Objects per thread
    #[arg(default_value_t = 300_000)]
    pub objects: u64,
    /// Bytes of an object
    #[arg(default_value_t = 16)]
    pub size: usize,
    /// Threads
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Passive: objects that main gives to each thread, neighbours of the other threads' objects
    #[arg(long, default_value_t = 1)]
    #[serde(default = "one")]
    pub given: usize,
}

fn one() -> usize {
    1
}

impl Workload for FalseSharing {
    const NAME: &'static str = "false-sharing";
    const BOUND: Option<Bound> = Some(Bound::at_most(
        1.3,
        "times as long as with private cache lines",
    ));

    fn check(&mut self) -> Result<(), Fail> {
        check_sizes(self.size, self.size)?;
        check_positive("objects", self.objects)?;
        check_positive("--given", self.given as u64)?;
        check_threads(self.threads)
    }

    fn title(&self) -> String {
        let given = match self.given {
            1 => String::new(),
            n => format!(", {n} given to each"),
        };
        format!(
            "{} {} B, {} threads{given}",
            format!("{:?}", self.mode).to_lowercase(),
            self.size,
            self.threads
        )
    }

    fn peak_bytes(&self) -> u64 {
        (self.threads as u64) << 20
    }

    fn ops(&self) -> u64 {
        self.objects * self.threads as u64
    }

    fn scale(&mut self, share: f64) {
        self.objects = super::scaled(self.objects, share);
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let mut first = Table::<Slot>::new(self.threads * self.given)?;
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: self.threads * self.given,
            max_size: self.size.max(PRIVATE),
        })?;
        bench.start();
        if self.mode == Mode::Passive {
            for (i, slot) in first.iter_mut().enumerate() {
                *slot = Slot {
                    ptr: alloc.alloc(self.size, i),
                    size: self.size,
                };
            }
        }
        bench.timed_threads(self.threads, |thread, gate| {
            let given = first.iter().skip(thread).step_by(self.threads);
            gate.timed(|| {
                for given in given.filter(|g| !g.ptr.is_null()) {
                    // SAFETY: main's block for this thread, with this size, freed once.
                    unsafe { alloc.dealloc(given.ptr, given.size) };
                }
                write_objects(alloc, self.size, thread, self.objects)
            });
        });
        let private = self.private_secs(alloc);
        bench.note_figure(bench.secs() / private);
        bench.settle();
        Ok(())
    }
}

impl FalseSharing {
    /// Seconds the same loop takes on all threads with objects that share nothing.
    fn private_secs(&self, alloc: &'static RawAllocator) -> f64 {
        let ready = Barrier::new(self.threads);
        let times: Vec<f64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|thread| {
                    let ready = &ready;
                    scope.spawn(move || {
                        ready.wait();
                        let start = now_ns();
                        write_objects(alloc, self.size.max(PRIVATE), thread, self.objects);
                        (now_ns() - start) as f64 / 1e9
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| t.join().unwrap_or(f64::NAN))
                .collect()
        });
        times.into_iter().fold(f64::NAN, f64::max)
    }
}

#[inline(never)]
fn write_objects(alloc: &RawAllocator, size: usize, slot: usize, objects: u64) -> u64 {
    for done in 0..objects {
        let ptr = alloc.alloc(size, slot);
        if ptr.is_null() {
            return done;
        }
        for n in 0..WRITES {
            // SAFETY: the object has at least one byte.
            unsafe { ptr.write_volatile(ptr.read_volatile().wrapping_add(n as u8)) };
        }
        // SAFETY: allocated above with this size.
        unsafe { alloc.dealloc(ptr, size) };
    }
    objects
}
