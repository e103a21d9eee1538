//! What a process holds once its threads have ended and everything has been freed.
//!
//! Behaviours imitated:
//! - a server whose sessions outlive the threads that serve them: threads replace blocks of a live set at random and hand it on
//!   to their successors, and a thread that allocated nothing frees all of it at the end;
//! - a thread that only frees, in any order, what dozens of ended threads allocated.
//!
//! Every case is a child process whose other memory comes from the system allocator; bounds hold for resident bytes as
//! the kernel counts them.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::pthread;
use common::{KIB, MIB, mem, scale};
use hakmem_alloc::Hakmem;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

static HAKMEM: Hakmem = Hakmem::new();

const LIVE: usize = 1000;
/// Blocks of each size that a thread of [`freed_by_another`] allocates: all together exceed the bound.
const BLOCKS: usize = 60;

type Set = Vec<Option<Block>>;

/// Replaces blocks of the set, as the previous thread left it.
fn turn(set: &mut Set, seed: u64, replacements: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..replacements {
        let slot = &mut set[rng.random_range(0..LIVE)];
        if let Some(block) = slot.take() {
            block.free(&HAKMEM);
        }
        *slot = Some(Block::new(&HAKMEM, rng.random_range(16..=512)));
    }
}

/// Like the harness's workload of this name: `threads` at a time, each followed by the next while it still ends.
fn hand_over(threads: usize) {
    let sets: Vec<Mutex<Set>> = (0..threads)
        .map(|_| Mutex::new((0..LIVE).map(|_| None).collect()))
        .collect();
    thread::scope(|scope| {
        for (number, set) in sets.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..40 {
                    thread::scope(|s| {
                        s.spawn(|| {
                            let mut set = set.lock().expect("no panic inside");
                            let seed = (round * threads + number) as u64;
                            turn(&mut set, seed, scale(50_000, 5_000));
                        });
                    });
                }
            });
        }
    });
    for set in sets {
        let set = set.into_inner().expect("no panic inside");
        set.into_iter()
            .flatten()
            .for_each(|block| block.free(&HAKMEM));
    }
}

/// Threads that run at once, each with some blocks of each size. All have ended when one thread frees the blocks, in no order.
fn freed_by_another(threads: usize) {
    let blocks = Arc::new(Mutex::new(Vec::new()));
    let start = Arc::new(std::sync::Barrier::new(threads));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (blocks, start) = (Arc::clone(&blocks), Arc::clone(&start));
            pthread::spawn(move || {
                start.wait();
                let sizes = (16..=512).step_by(16).flat_map(|size| [size; BLOCKS]);
                let own: Vec<_> = sizes.map(|size| Block::new(&HAKMEM, size)).collect();
                start.wait();
                blocks.lock().expect("no panic inside").extend(own);
            })
        })
        .collect();
    workers.into_iter().for_each(pthread::Pthread::join);
    let mut blocks = std::mem::take(&mut *blocks.lock().expect("no panic inside"));
    assert_eq!(blocks.len(), threads * 32 * BLOCKS);
    blocks.shuffle(&mut SmallRng::seed_from_u64(1));
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
}

/// Bytes by which the process grew from the start, once it is at rest: at most `bound`, or what is left after a long wait.
fn play(case: &str, bound: usize) -> usize {
    // What the runtime keeps of so many threads and lists is not charged to the case.
    thread::scope(|scope| (0..16).for_each(|_| drop(scope.spawn(thread::yield_now))));
    drop(vec![1u8; 2 * MIB]);
    let before = mem::rss();
    match case {
        "hand-over 2" => hand_over(2),
        "hand-over 8" => hand_over(8),
        "freed by another" => freed_by_another(24),
        other => panic!("unknown case {other}"),
    }
    // The main thread waits, as one that has nothing left to do: no call of its own gives anything back.
    mem::wait_for_rss(before + bound, Duration::from_secs(6)).saturating_sub(before)
}

fn at_most(test: &'static str, cases: &[(&str, usize)]) {
    if let Some(played) = child::case() {
        let (case, bound) = cases
            .iter()
            .find(|(case, _)| *case == played)
            .expect("a known case");
        return child::report("bytes", play(case, *bound));
    }
    for &(case, bound) in cases {
        let bytes: usize = Child::of(test, case).run().success().value("bytes");
        println!("{case}: {} KiB", bytes / KIB);
        assert!(
            bytes <= bound,
            "{case}: {} KiB, at most {} KiB expected",
            bytes / KIB,
            bound / KIB
        );
    }
}

#[test]
fn sets_that_were_handed_on_and_freed_leave_little() {
    at_most(
        "sets_that_were_handed_on_and_freed_leave_little",
        &[("hand-over 2", 8 * MIB), ("hand-over 8", 8 * MIB)],
    );
}

#[test]
fn what_ended_threads_took_does_not_stay_with_the_one_that_frees_it() {
    at_most(
        "what_ended_threads_took_does_not_stay_with_the_one_that_frees_it",
        &[("freed by another", 8 * MIB)],
    );
}
