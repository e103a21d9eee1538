//! hand-over: threads replace blocks of a live set at random and hand the whole set on to another thread.
//!
//! Imitates servers whose sessions outlive the threads that serve them. In mode `successors` each thread ends after its turn
//! and a new one takes the set over, so that blocks are freed by threads that never allocated them and heaps are left behind
//! full. In mode `ring` the threads stay and pass their sets round. Mode `larson` is the server of Larson and Krishnan
//! ("Memory allocation for long-running server applications", 1998): the blocks all come from the main thread at first, mixed
//! among the sets, and a thread is started by the one that ends, so that old and new overlap. One operation is one
//! replacement.

use std::sync::{Barrier, Mutex, MutexGuard};
use std::thread::Scope;

use super::prelude::*;
use crate::measure::timed_section;

struct Server<'a> {
    alloc: &'a RawAllocator,
    /// The lock is the handing over.
    sets: Vec<Mutex<Table<Slot>>>,
    threads: usize,
    live: usize,
    sizes: (usize, usize),
    replacements: u64,
    turns: u64,
    seed: u64,
}

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let (threads, live) = (s.size("threads"), s.size("live"));
    let sizes = (s.size("min-size"), s.size("max-size"));
    let sets = tables(threads, live)?.into_iter().map(Mutex::new).collect();
    let alloc = bench.begin(live * threads, sizes.1)?;
    let (replacements, turns, seed) = (s.n("replacements"), s.n("turns"), s.n("seed"));
    let server = Server { alloc, sets, threads, live, sizes, replacements, turns, seed };
    if s.is("mode", "larson") {
        server.larson(bench)
    } else {
        server.turns(bench, s.is("mode", "ring"))
    }
    for set in 0..threads {
        let mut slots = server.set(set);
        check(&slots);
        release(alloc, &mut slots);
    }
    Ok(())
}

impl Server<'_> {
    fn set(&self, set: usize) -> MutexGuard<'_, Table<Slot>> {
        self.sets[set].lock().unwrap_or_else(|e| e.into_inner())
    }

    fn turn(&self, set: usize, number: u64) {
        let mut slots = self.set(set);
        let mut generator = XorShift64::new(self.seed, number * self.threads as u64 + set as u64);
        self.live_set(set).replace(&mut slots, &mut generator, self.replacements);
    }

    fn live_set(&self, set: usize) -> LiveSet<'_> {
        LiveSet { alloc: self.alloc, sizes: self.sizes, base: set * self.live }
    }

    fn turns(&self, bench: &mut Bench, ring: bool) {
        let meeting = Barrier::new(self.threads);
        let warm = bench.is_warm();
        let by_another = |set: usize, number: u64| {
            std::thread::scope(|scope| {
                scope.spawn(|| timed_section(|| self.turn(set, number)));
            });
        };
        bench.timed_threads(&mut vec![(); self.threads], |thread, (), gate| {
            if warm {
                std::thread::scope(|scope| {
                    scope.spawn(|| self.turn(thread, 0));
                });
            }
            gate.timed(|| {
                for number in 1..=self.turns {
                    if ring {
                        self.turn((thread + number as usize) % self.threads, number);
                        meeting.wait();
                    } else {
                        by_another(thread, number);
                    }
                }
                self.turns * self.replacements
            });
        });
    }

    fn larson(&self, bench: &mut Bench) {
        if bench.is_warm() {
            self.fill();
        }
        bench.timed(|| {
            self.fill();
            std::thread::scope(|scope| {
                for set in 0..self.threads {
                    scope.spawn(move || self.serve(scope, set, 0));
                }
            });
            self.turns * self.replacements * self.threads as u64
        });
    }

    /// Main's blocks: one for every empty slot, taking turns among the sets.
    fn fill(&self) {
        let mut generator = XorShift64::new(self.seed, u64::MAX - 1);
        for i in 0..self.live {
            for set in 0..self.threads {
                let mut slots = self.set(set);
                if slots[i].is_empty() {
                    self.live_set(set).put(&mut slots[i], i, &mut generator);
                }
            }
        }
    }

    fn serve<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, set: usize, turn: u64) {
        timed_section(|| self.turn(set, turn));
        if turn + 1 < self.turns {
            scope.spawn(move || self.serve(scope, set, turn + 1));
        }
    }
}
