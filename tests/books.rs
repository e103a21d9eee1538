//! The accounting: what `stats()` says against what the program did.
//!
//! Behaviours imitated:
//! - blocks of every class allocated, kept, and freed by their thread and by others; large blocks; memory given back;
//! - threads one after another and many at once; eight owners whose blocks reach one freeing thread interleaved.
//!
//! Cases that need exact figures are child processes whose other memory comes from the system allocator.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB};
use hakmem_alloc::{Hakmem, Stats, purge, stats, usable_size};
use std::sync::Barrier;
use std::thread;

static HAKMEM: Hakmem = Hakmem::new();

/// A few blocks of every class, and some large ones.
fn one_of_each() -> Vec<Block> {
    let small = (16..=1024).step_by(16);
    let medium = (1..=64).map(|i| i * 1000);
    let runs = (1..=16).map(|i| i * 64 * KIB);
    let huge = [2 * MIB, 5 * MIB, 33 * MIB];
    let sizes = small
        .chain(medium)
        .chain(runs)
        .flat_map(|size| [size; 5])
        .chain(huge);
    sizes.map(|size| Block::new(&HAKMEM, size)).collect()
}

fn usable(blocks: &[Block]) -> u64 {
    // SAFETY: live blocks.
    blocks
        .iter()
        .map(|block| unsafe { usable_size(block.addr as *const u8) } as u64)
        .sum()
}

#[track_caller]
fn in_order(stats: &Stats) {
    let ss = &stats.superslabs;
    assert_eq!(ss.mapped, ss.in_use + ss.retained + ss.purged, "{ss:?}");
    assert!(
        stats.bytes.mapped >= stats.bytes.retained,
        "{:?}",
        stats.bytes
    );
    assert!(
        stats.bytes.mapped >= ss.mapped * 2 * MIB as u64 + stats.large.live_bytes,
        "{stats}"
    );
    assert!(stats.bytes.mapped >= stats.live_bytes(), "{stats}");
    for class in &stats.classes {
        assert!(
            class.slabs > 0 || class.live_blocks == 0,
            "blocks without a slab: {class:?}"
        );
    }
    assert!(
        stats.batches.drained <= stats.batches.posted,
        "{:?}",
        stats.batches
    );
}

/// Exact, except that a large block counts with the few cache lines in front of it.
#[track_caller]
fn same_bytes(counted: u64, usable: u64, huge: u64) {
    assert!(
        (usable..=usable + huge * 4096).contains(&counted),
        "{counted} counted, {usable} usable"
    );
}

fn alone(test: &'static str, body: impl FnOnce()) {
    if child::case().is_some() {
        body();
        child::report("done", "yes");
    } else {
        assert_eq!(
            // Counts whole blocks: of a checked one the usable size is what was asked for.
            Child::of(test, "alone")
                .env("HAKMEM_CHECK_ONE_IN", "0")
                .run()
                .success()
                .value::<String>("done"),
            "yes"
        );
    }
}

#[test]
fn live_bytes_are_exact() {
    alone("live_bytes_are_exact", || {
        // The first block makes the heap.
        Block::new(&HAKMEM, 16).free(&HAKMEM);
        let before = stats();
        for _ in 0..3 {
            let blocks = one_of_each();
            let (count, bytes) = (blocks.len() as u64, usable(&blocks));
            let held = stats();
            in_order(&held);
            assert_eq!(held.live_blocks() - before.live_blocks(), count);
            same_bytes(held.live_bytes() - before.live_bytes(), bytes, 3);
            assert_eq!(held.large.live_blocks, 3);
            assert!(held.large.live_bytes >= 40 * MIB as u64);
            // Each class on its own: five blocks of every size up to 1024.
            for class in held
                .classes
                .iter()
                .filter(|class| (16..=992).contains(&class.block_bytes))
            {
                assert_eq!(class.live_blocks, 5, "{class:?}");
                assert!(
                    class.slabs >= 1 && class.live_bytes() == 5 * class.block_bytes,
                    "{class:?}"
                );
            }
            blocks.into_iter().for_each(|block| block.free(&HAKMEM));
            let after = stats();
            in_order(&after);
            assert_eq!(
                (after.live_blocks(), after.live_bytes()),
                (before.live_blocks(), before.live_bytes())
            );
        }
    });
}

#[test]
fn live_bytes_are_exact_after_frees_by_other_threads() {
    alone("live_bytes_are_exact_after_frees_by_other_threads", || {
        Block::new(&HAKMEM, 16).free(&HAKMEM);
        let before = stats();
        for _ in 0..20 {
            let own = one_of_each();
            let others = thread::spawn(one_of_each).join().expect("a taking thread");
            let bytes = usable(&own) + usable(&others);
            same_bytes(stats().live_bytes() - before.live_bytes(), bytes, 6);
            // Joined one by one: the end of a scope does not wait for the threads' own ends.
            let freeing = [own, others].map(|blocks| {
                thread::spawn(|| blocks.into_iter().for_each(|block| block.free(&HAKMEM)))
            });
            for thread in freeing {
                thread.join().expect("a freeing thread");
            }
            let after = stats();
            in_order(&after);
            assert_eq!(
                (after.live_blocks(), after.live_bytes()),
                (before.live_blocks(), before.live_bytes())
            );
        }
    });
}

#[test]
fn threads_one_after_another_share_few_heaps() {
    alone("threads_one_after_another_share_few_heaps", || {
        for i in 0..2_000 {
            let body = move || Block::new(&HAKMEM, 16 + i).free(&HAKMEM);
            thread::Builder::new()
                .stack_size(64 * KIB)
                .spawn(body)
                .expect("a thread")
                .join()
                .expect("it ends");
        }
        let heaps = stats().heaps;
        assert!(
            (1..=4).contains(&(heaps.live + heaps.idle)),
            "2,000 threads, one at a time, left {heaps:?}"
        );
        // Fifty at once need fifty, and leave them for the next fifty.
        for _ in 0..5 {
            let barrier = Barrier::new(51);
            thread::scope(|scope| {
                let threads: Vec<_> = (0..50)
                    .map(|_| {
                        scope.spawn(|| {
                            Block::new(&HAKMEM, 100).free(&HAKMEM);
                            barrier.wait();
                            barrier.wait();
                        })
                    })
                    .collect();
                barrier.wait();
                let heaps = stats().heaps;
                assert!(heaps.live >= 50, "fifty threads hold {heaps:?}");
                barrier.wait();
                // The end of the scope waits for what they do, not for the end of the threads, which gives the heaps back.
                for one in threads {
                    one.join().expect("it ends");
                }
            });
        }
        let heaps = stats().heaps;
        assert!(
            heaps.live + heaps.idle <= 60,
            "five times fifty threads left {heaps:?}"
        );
        in_order(&stats());
    });
}

/// Blocks per message when one thread frees the interleaved blocks of eight owners that live and sleep.
fn blocks_per_message(size: usize) -> u64 {
    const EACH: usize = 20_000;
    let before = stats().batches;
    let (taken, freed) = (Barrier::new(9), Barrier::new(9));
    thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        for _ in 0..8 {
            let (send, taken, freed) = (send.clone(), &taken, &freed);
            scope.spawn(move || {
                let blocks: Vec<_> = (0..EACH).map(|_| Block::new(&HAKMEM, size)).collect();
                send.send(blocks).expect("the freeing thread");
                taken.wait();
                freed.wait();
            });
        }
        taken.wait();
        let mut columns: Vec<Vec<Block>> = (0..8)
            .map(|_| receive.recv().expect("eight columns"))
            .collect();
        for _ in 0..EACH {
            columns
                .iter_mut()
                .for_each(|column| column.pop().expect("of one length").free(&HAKMEM));
        }
        freed.wait();
    });
    let posted = stats().batches.posted - before.posted;
    assert!(posted > 0, "nothing was posted");
    8 * EACH as u64 / posted
}

#[test]
fn interleaved_blocks_travel_in_batches() {
    alone("interleaved_blocks_travel_in_batches", || {
        for size in [16, 64, 272, 500] {
            let blocks = blocks_per_message(size);
            println!("{size} bytes: {blocks} blocks to a batch");
            assert!(
                blocks >= 8,
                "{size} bytes: {blocks} blocks to a batch, at least 8 expected"
            );
        }
    });
}

#[test]
fn memory_given_back_is_accounted_for() {
    alone("memory_given_back_is_accounted_for", || {
        let blocks: Vec<_> = (0..100 * MIB / 1000)
            .map(|_| Block::new(&HAKMEM, 1000))
            .collect();
        let huge = Block::new(&HAKMEM, 20 * MIB);
        let held = stats();
        in_order(&held);
        assert!(held.superslabs.in_use >= 48, "{:?}", held.superslabs);
        blocks.into_iter().for_each(|block| block.free(&HAKMEM));
        huge.free(&HAKMEM);
        let freed = stats();
        in_order(&freed);
        assert!(freed.superslabs.in_use <= 2, "{:?}", freed.superslabs);
        purge();
        let purged = stats();
        in_order(&purged);
        assert_eq!(
            (purged.superslabs.retained, purged.large.cached_bytes),
            (0, 0),
            "{purged}"
        );
        assert!(purged.bytes.retained == 0, "{:?}", purged.bytes);
        assert!(
            purged.bytes.returned >= held.bytes.returned + 110 * MIB as u64,
            "{:?}",
            purged.bytes
        );
    });
}
