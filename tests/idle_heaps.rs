//! What heaps keep after their threads have ended: bins as the thread left them, for the next one.
//!
//! Behaviours imitated:
//! - a server that starts a thread for each request, all of the same kind;
//! - threads that free what two other threads allocated, and end before they have returned it;
//! - many threads that end at once, and a program that continues with one thread.
//!
//! Every case is a child process whose other memory comes from the system allocator, so that figures are exact.

mod common;

use common::KIB;
use common::blocks::Block;
use common::child::{self, Child};
use common::clock;
use hakmem_alloc::{Hakmem, Stats, purge, stats};
use std::sync::Barrier;
use std::thread;

static HAKMEM: Hakmem = Hakmem::new();

fn live(stats: &Stats) -> i64 {
    stats.classes.iter().map(|c| c.live_blocks as i64).sum()
}

fn slabs(stats: &Stats) -> u64 {
    stats.classes.iter().map(|c| c.slabs).sum()
}

fn work(seed: usize, count: usize) {
    let blocks: Vec<_> = (0..count)
        .map(|i| Block::new(&HAKMEM, 16 + (i * 37 + seed * 101) % 1000))
        .collect();
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
}

fn ended(body: impl FnOnce() + Send + 'static) {
    thread::spawn(body).join().expect("a thread that ends well");
}

/// Threads of a kind find what the ones before left: neither the heap nor its slabs change, and nothing is lost.
fn one_after_another() {
    (0..50).for_each(|i| ended(move || work(i, 100)));
    let before = stats();
    (0..500).for_each(|i| ended(move || work(i, 100)));
    let after = stats();
    assert_eq!((live(&before), live(&after)), (0, 0));
    assert_eq!(after.heaps.idle, before.heaps.idle);
    assert!(
        slabs(&after) <= slabs(&before) + 8,
        "{} slabs became {}",
        slabs(&before),
        slabs(&after)
    );
    // A thread's blocks are those of the thread before it, without a detour.
    let taken = |size| {
        let place = thread::spawn(move || {
            let block = Block::new(&HAKMEM, size);
            let addr = block.addr;
            block.free(&HAKMEM);
            addr
        });
        place.join().expect("a thread")
    };
    for size in [16, 100, 1000] {
        assert_eq!(taken(size), taken(size), "{size} bytes");
    }
    purge();
    assert_eq!(stats().superslabs.in_use, 0, "purge empties idle heaps");
}

/// A thread that ends returns the blocks of other heaps, whatever it keeps of its own.
fn foreign() {
    let handed = Barrier::new(3);
    let freed = Barrier::new(3);
    thread::scope(|scope| {
        let owners: Vec<_> = (0..2)
            .map(|_| {
                let (handed, freed) = (&handed, &freed);
                let (to, from) = std::sync::mpsc::channel();
                let owner = scope.spawn(move || {
                    // More than one class, fewer than a message of each.
                    let blocks: Vec<_> = (0..40)
                        .map(|i| Block::new(&HAKMEM, 32 << (i % 4)))
                        .collect();
                    to.send(blocks).expect("the other side listens");
                    handed.wait();
                    freed.wait();
                    // Own blocks alone are out or in bins: the books say so once the inbox was seen to.
                    work(1, 400);
                });
                (owner, from)
            })
            .collect();
        let mut mixed: Vec<_> = owners.iter().map(|(_, from)| from.recv()).collect();
        handed.wait();
        let posted = stats().batches.posted;
        let both: Vec<Block> = {
            let second = mixed.pop().expect("two").expect("blocks");
            let first = mixed.pop().expect("two").expect("blocks");
            first
                .into_iter()
                .zip(second)
                .flat_map(|(a, b)| [a, b])
                .collect()
        };
        let scoped = thread::scope(|s| {
            s.spawn(|| {
                work(2, 100);
                both.into_iter().for_each(|block| block.free(&HAKMEM));
            })
            .join()
        });
        scoped.expect("the freeing thread");
        let now = stats();
        assert!(
            now.batches.posted >= posted + 8,
            "four classes of two owners: {} messages",
            now.batches.posted - posted
        );
        assert_eq!(live(&now), 0);
        freed.wait();
        owners
            .into_iter()
            .for_each(|(owner, _)| owner.join().expect("an owner"));
    });
    purge();
    assert_eq!(stats().superslabs.in_use, 0);
}

/// Many threads that end at once keep no more than a few may, and what no thread takes returns to its slabs as others work on.
fn a_crowd() {
    const THREADS: usize = 64;
    let all = Barrier::new(THREADS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|i| {
                let all = &all;
                scope.spawn(move || {
                    work(i, 100);
                    all.wait();
                })
            })
            .collect();
        // Joined one by one: the end of the scope does not wait for destructors.
        threads
            .into_iter()
            .for_each(|t| t.join().expect("one of the crowd"));
    });
    let at_once = stats();
    assert_eq!((live(&at_once), at_once.heaps.idle), (0, THREADS as u64));
    assert!(
        slabs(&at_once) > 250,
        "{} slabs: nothing was kept",
        slabs(&at_once)
    );
    // 6 MiB in slabs of which each holds an OS page at least.
    let most = (6 << 20) / (4 * KIB) as u64;
    assert!(slabs(&at_once) <= most, "{} slabs", slabs(&at_once));
    let mut seed = 0;
    while slabs(&stats()) > 200 {
        seed += 1;
        // Enough for the slow paths, where somebody looks at the clock.
        work(seed, 5000);
        clock::pass(20);
        assert!(
            seed < 1000,
            "{} slabs are still with idle heaps",
            slabs(&stats())
        );
    }
    child::report("left", slabs(&stats()));
    assert_eq!(live(&stats()), 0);
}

#[test]
fn threads_find_what_the_one_before_left() {
    const TEST: &str = "threads_find_what_the_one_before_left";
    // What is kept is kept, however long the threads take to come and go.
    clock::stop();
    match child::case().as_deref() {
        None => {
            for case in ["one after another", "foreign", "a crowd"] {
                Child::of(TEST, case).run().success();
            }
        }
        Some("foreign") => foreign(),
        Some("a crowd") => a_crowd(),
        Some(_) => one_after_another(),
    }
}
