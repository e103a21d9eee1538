//! Random sequences of alloc, alloc_zeroed, realloc and dealloc held against a shadow model.
//!
//! Behaviours imitated:
//! - sizes log-uniform from 1 byte to 64 MiB, a few up to 512 MiB, with powers of two and their neighbours;
//! - alignments up to 64 MiB, a few of 1 GiB;
//! - many small blocks (slabs that fill and empty), medium ones (runs of slots), those of which several share a slab of
//!   several slots, everything mixed;
//! - one thread; many threads that hand blocks to each other, so that most frees and reallocs are remote;
//! - a purge at random moments, so that most slabs have holes, which are filled again.
//!
//! The model's bookkeeping lives in the system allocator. `ALLOC_TEST_SEED` repeats a run; `ALLOC_TEST_FACTOR`
//! multiplies its length.

mod common;

use common::faulty::{Fault, Faulty};
use common::scale;
use common::shadow::{Live, Model, Plan, Registry};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

static HAKMEM: Hakmem = Hakmem::new();

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: expected a number")),
    )
}

/// The given seed, or a constant one and one that differs from run to run.
fn seeds() -> Vec<u64> {
    let fresh = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos() as u64
    };
    number("ALLOC_TEST_SEED").map_or_else(|| vec![42, fresh()], |seed| vec![seed])
}

fn alone(plan: Plan) {
    let steps = plan.steps * number("ALLOC_TEST_FACTOR").unwrap_or(1) as usize;
    for seed in seeds() {
        let registry = Registry::default();
        let result = Model::new(&HAKMEM, &registry, seed, plan.steps(steps)).run();
        result.unwrap_or_else(|e| panic!("ALLOC_TEST_SEED={seed}: {e}"));
        assert!(
            registry.is_empty(),
            "ALLOC_TEST_SEED={seed}: the model lost a block"
        );
    }
}

#[test]
fn everything_on_one_thread() {
    alone(Plan::EVERYTHING.steps(scale(20_000, 8_000)));
}

#[test]
fn small_blocks_on_one_thread() {
    alone(Plan::SMALL.steps(scale(2_000_000, 200_000)));
}

#[test]
fn medium_blocks_on_one_thread() {
    alone(Plan::MEDIUM.steps(scale(200_000, 30_000)));
}

/// Every thread runs its own sequence; one step in `give_every` hands a block to a random thread.
fn together<A: GlobalAlloc + Sync>(
    alloc: &A,
    threads: usize,
    plan: Plan,
    give_every: u32,
    seed: u64,
) -> Result<(), String> {
    let registry = Registry::default();
    let boxes: Vec<Mutex<Vec<Live>>> = (0..threads).map(|_| Mutex::default()).collect();
    let running = AtomicUsize::new(threads);
    let (failed, failures) = mpsc::channel();
    std::thread::scope(|scope| {
        for id in 0..threads {
            let (registry, boxes, running, failed) = (&registry, &boxes, &running, failed.clone());
            scope.spawn(move || {
                let mut model = Model::new(alloc, registry, seed.wrapping_add(id as u64), plan);
                let mut body = || -> Result<(), String> {
                    for _ in 0..plan.steps {
                        model.step()?;
                        if model.chance(give_every) {
                            let to = model.below(threads);
                            boxes[to]
                                .lock()
                                .expect("no panic inside")
                                .extend(model.give());
                        }
                        if model.chance(16) {
                            let arrived =
                                std::mem::take(&mut *boxes[id].lock().expect("no panic inside"));
                            arrived
                                .into_iter()
                                .try_for_each(|block| model.take(block))?;
                        }
                    }
                    Ok(())
                };
                let mut result = body();
                // The last thread to get here frees what is left in the boxes.
                if running.fetch_sub(1, Ordering::AcqRel) == 1 {
                    for mailbox in boxes {
                        let left = std::mem::take(&mut *mailbox.lock().expect("no panic inside"));
                        result = result.and_then(|()| {
                            left.into_iter().try_for_each(|block| model.take(block))
                        });
                    }
                }
                if let Err(e) = result.and_then(|()| model.finish()) {
                    failed
                        .send(format!("thread {id}: {e}"))
                        .expect("the receiver is alive");
                }
            });
        }
    });
    drop(failed);
    failures.iter().next().map_or(Ok(()), Err)?;
    if registry.is_empty() {
        Ok(())
    } else {
        Err("the model lost a block".to_owned())
    }
}

fn many(threads: usize, plan: Plan, give_every: u32) {
    for seed in seeds() {
        let result = together(&HAKMEM, threads, plan, give_every, seed);
        result.unwrap_or_else(|e| panic!("ALLOC_TEST_SEED={seed}: {e}"));
    }
}

#[test]
fn everything_on_four_threads() {
    let plan = Plan {
        budget: Plan::EVERYTHING.budget / 2,
        ..Plan::EVERYTHING
    };
    many(4, plan.steps(scale(6_000, 2_500)), 4);
}

#[test]
fn small_blocks_on_eight_threads() {
    let plan = Plan {
        blocks: 2_000,
        ..Plan::SMALL
    };
    many(8, plan.steps(scale(150_000, 20_000)), 3);
}

#[test]
fn medium_blocks_on_four_threads() {
    let plan = Plan {
        blocks: 300,
        ..Plan::MEDIUM
    };
    many(4, plan.steps(scale(40_000, 8_000)), 3);
}

#[test]
fn wide_blocks_on_one_thread() {
    alone(Plan::WIDE.steps(scale(20_000, 4_000)));
}

#[test]
fn wide_blocks_on_six_threads() {
    let plan = Plan {
        blocks: 60,
        ..Plan::WIDE
    };
    many(6, plan.steps(scale(6_000, 1_500)), 2);
}

/// The allocator, of which every so-many-th free is followed by a purge.
struct Purging {
    every: usize,
    frees: AtomicUsize,
    returned: AtomicUsize,
}

impl Purging {
    fn each(every: usize) -> Self {
        Purging {
            every,
            frees: AtomicUsize::new(0),
            returned: AtomicUsize::new(0),
        }
    }
}

// SAFETY: every call goes to the allocator as it came.
unsafe impl GlobalAlloc for Purging {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { HAKMEM.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { HAKMEM.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { HAKMEM.dealloc(ptr, layout) };
        // Relaxed: a count.
        let before = self.frees.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(self.every) {
            self.returned
                .fetch_add(hakmem_alloc::purge(), Ordering::Relaxed);
        }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { HAKMEM.realloc(ptr, layout, size) }
    }
}

#[test]
fn small_blocks_between_holes() {
    let plan = Plan {
        blocks: 3_000,
        ..Plan::SMALL
    };
    for seed in seeds() {
        let (alloc, registry) = (Purging::each(499), Registry::default());
        let result = Model::new(&alloc, &registry, seed, plan.steps(scale(200_000, 20_000))).run();
        result.unwrap_or_else(|e| panic!("ALLOC_TEST_SEED={seed}: {e}"));
        assert!(registry.is_empty(), "ALLOC_TEST_SEED={seed}");
        let returned = alloc.returned.load(Ordering::Relaxed);
        assert!(returned > 0, "ALLOC_TEST_SEED={seed}: no page ever went");
    }
}

#[test]
fn blocks_of_all_sizes_between_holes_on_four_threads() {
    let plan = Plan {
        blocks: 500,
        max_size: 100_000,
        budget: 16 << 20,
        ..Plan::SMALL
    };
    for seed in seeds() {
        let alloc = Purging::each(997);
        let result = together(&alloc, 4, plan.steps(scale(40_000, 4_000)), 3, seed);
        result.unwrap_or_else(|e| panic!("ALLOC_TEST_SEED={seed}: {e}"));
    }
}

#[test]
fn the_model_catches_planted_faults() {
    // A few blocks are up to eight times as large.
    let plan = Plan {
        max_size: 4096,
        max_align: 64,
        blocks: 200,
        ..Plan::SMALL
    };
    let expected = [
        (Fault::Overlap, "overlap"),
        (Fault::Misaligned, "alignment"),
        (Fault::NotZeroed, "zeroing"),
        (Fault::TruncatedRealloc, "content"),
        (Fault::Scribble, "content"),
        (Fault::Null, "null"),
    ];
    for (fault, word) in expected {
        let registry = Registry::default();
        let found = Model::new(
            &Faulty::new(fault, 1000, 8 * 4096),
            &registry,
            7,
            plan.steps(50_000),
        )
        .run();
        let message = found.expect_err(&format!("{fault:?} went unseen"));
        assert!(
            message.contains(word),
            "{fault:?} was reported as: {message}"
        );
        let found = together(
            &Faulty::new(fault, 1000, 8 * 4096),
            3,
            plan.steps(20_000),
            3,
            7,
        );
        found.expect_err(&format!("{fault:?} went unseen on three threads"));
    }
}
