//! How much stays resident, while blocks are live and after they are freed.
//!
//! Behaviours imitated:
//! - a burst of 1 GiB of small blocks on four threads that then end, and a process that sleeps afterwards;
//! - 64 threads that once used 50 MiB each and now sleep;
//! - a heap of 64-byte blocks freed in random order, then rebuilt of 1500-byte blocks;
//! - an owner that sleeps while another thread frees its blocks and takes as much itself;
//! - single-threaded programs of 1 to 300 MiB, and what they hold after freeing it all;
//! - large buffers used once; a program that hardly allocates at all.
//!
//! Every case is a child process whose other memory comes from the system allocator; bounds hold for resident bytes
//! as the kernel counts them, not for time.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::clock;
use common::{KIB, MIB, mem, scale};
use hakmem_alloc::Hakmem;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

static HAKMEM: Hakmem = Hakmem::new();

/// Milliseconds after which demand is forgotten, wherever in an epoch they begin: a purge delay and a quarter of it.
const FORGOTTEN: u64 = 1250;

/// Blocks of sizes drawn by `size`, up to `bytes` in all, every byte's OS page touched.
fn take(bytes: usize, seed: u64, mut size: impl FnMut(&mut SmallRng) -> usize) -> Vec<Block> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut blocks = Vec::new();
    let mut taken = 0;
    while taken < bytes {
        let block = Block::new(&HAKMEM, size(&mut rng));
        block.touch();
        taken += block.layout.size();
        blocks.push(block);
    }
    blocks
}

fn free(blocks: Vec<Block>) {
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
}

fn small(rng: &mut SmallRng) -> usize {
    rng.random_range(16..=1024)
}

/// Log-uniform from 16 bytes to 32 KiB.
fn mixed(rng: &mut SmallRng) -> usize {
    rng.random_range(4.0f64..15.0).exp2() as usize
}

/// One child's life: its figures, in bytes.
fn play(case: &str) -> usize {
    // Whatever the runtime needs once is not charged to the case.
    free(take(64 * KIB, 1, small));
    let before = mem::rss();
    match case.split(' ').next().expect("a word") {
        "burst" => burst(before, 4, 1, scale(256, 64) * MIB),
        // What a thread came back for ends with it.
        "swung-burst" => burst(before, 2, 6, scale(64, 24) * MIB),
        "crossed" => {
            // Each thread's blocks are freed by the next one.
            let taken: Vec<_> = (0..4)
                .map(|i| thread::spawn(move || take(scale(128, 32) * MIB, i, small)))
                .collect();
            let taken: Vec<_> = taken
                .into_iter()
                .map(|t| t.join().expect("a taking thread"))
                .collect();
            let freeing: Vec<_> = taken
                .into_iter()
                .map(|blocks| thread::spawn(|| free(blocks)))
                .collect();
            freeing
                .into_iter()
                .for_each(|t| t.join().expect("a freeing thread"));
            mem::wait_for_rss(before + 16 * MIB, Duration::from_secs(6)) - before.min(mem::rss())
        }
        "sleepers" => sleepers(before, 64, 1, scale(50, 8) * MIB),
        "swung-sleepers" => sleepers(before, 64, 5, scale(10, 3) * MIB),
        // Over before a period has passed, and nobody comes again.
        "short-swung-sleepers" => sleepers(before, 2, 4, 24 * MIB),
        "few-swung-sleepers" => sleepers(before, 4, 5, scale(50, 16) * MIB),
        "refill" => {
            let blocks = shuffled(take(scale(512, 128) * MIB, 1, |_| 64), 2);
            free(blocks);
            let live = take(scale(400, 100) * MIB, 3, |_| 1500);
            let rss = mem::rss() - before - live.capacity() * size_of::<Block>();
            free(live);
            rss
        }
        "join" => {
            let blocks = take(400 * MIB, 1, small);
            let list = blocks.capacity() * size_of::<Block>();
            let other = thread::spawn(move || {
                let mut blocks = blocks;
                free(std::mem::take(&mut blocks));
                let live = take(400 * MIB, 2, small);
                let rss = mem::rss() - before - live.capacity() * size_of::<Block>();
                free(live);
                rss
            });
            child::report("list", list);
            other.join().expect("the other thread")
        }
        "live" => {
            let bytes: usize = case
                .split(' ')
                .nth(1)
                .expect("megabytes")
                .parse()
                .expect("a number");
            let live = take(bytes * MIB, 5, mixed);
            let rss = mem::rss() - before - live.len() * size_of::<Block>();
            free(live);
            rss
        }
        "freed" => {
            let sizes = if case == "freed mixed" { mixed } else { small };
            free(shuffled(take(300 * MIB, 6, sizes), 7));
            let at_once = mem::rss().saturating_sub(before);
            child::report("at once", at_once);
            given_back_after_the_delay(before)
        }
        "buffers" => {
            let buffers: Vec<_> = (0..20)
                .map(|i| Block::new(&HAKMEM, (5 + i) * MIB))
                .collect();
            buffers.iter().for_each(Block::touch);
            free(buffers);
            given_back_after_the_delay(before)
        }
        "runs" => {
            // Blocks of 64 KiB to 1 MiB: runs of slots.
            free(shuffled(
                take(400 * MIB, 9, |rng| rng.random_range(64 * KIB..MIB)),
                10,
            ));
            given_back_after_the_delay(before)
        }
        "sparse" => {
            // Every second run of a grown heap, so that no superslab runs empty or nearly so.
            let mut live = take(400 * MIB, 11, |_| 60 * KIB);
            let mut index = 0;
            free(
                live.extract_if(.., |_| {
                    index += 1;
                    index % 2 == 0
                })
                .collect(),
            );
            clock::pass(FORGOTTEN);
            free(take(MIB, 8, mixed));
            // One call gives back some of it, and the maintenance thread the rest.
            let bytes = live.len() * 64 * KIB;
            let bound = before + bytes + bytes / 8 + 16 * MIB;
            let held = mem::wait_for_rss(bound, Duration::from_secs(6)) - before;
            free(live);
            held.saturating_sub(bytes)
        }
        "swing" => {
            // The same memory again and again: the rounds after the first ones fault next to nothing in. What time takes away
            // meanwhile is another matter.
            clock::stop();
            let round = |i| free(shuffled(take(100 * MIB, 20 + i, mixed), i));
            (0..4).for_each(round);
            let faults = mem::thread_faults();
            (4..12).for_each(round);
            (mem::thread_faults() - faults) * 4 * KIB / 8
        }
        "swung" => {
            // What swings taught is forgotten when nobody comes for it. A slow machine would forget between them.
            clock::stop();
            (0..6).for_each(|i| free(shuffled(take(100 * MIB, 20 + i, mixed), i)));
            clock::pass(FORGOTTEN);
            free(take(4 * MIB, 8, mixed));
            given_back(before)
        }
        "zeroed" => {
            // Blocks the cache would not serve teach it nothing: it does not grow with each of them.
            (0..20).for_each(|_| {
                let layout = Layout::from_size_align(48 * MIB, 8).expect("a size");
                // SAFETY: a size that is not zero; written within it, freed once.
                unsafe {
                    let ptr = HAKMEM.alloc_zeroed(layout);
                    assert!(!ptr.is_null());
                    ptr.write_bytes(1, layout.size());
                    HAKMEM.dealloc(ptr, layout);
                }
            });
            given_back(before)
        }
        "zeroed-again" => {
            // Tables that are asked for zeroed, touched in one place each, and freed, again and again.
            let round = |round: usize| {
                let sizes = (0..100)
                    .map(|i| Layout::from_size_align((300 + 29 * i) * KIB, 8).expect("a size"));
                let tables: Vec<_> = sizes
                    .map(|layout| {
                        // SAFETY: a size that is not zero; written within it.
                        let ptr = unsafe { HAKMEM.alloc_zeroed(layout) };
                        assert!(!ptr.is_null());
                        // SAFETY: as above.
                        unsafe {
                            let place = ptr.add((round * 97 * KIB) % layout.size());
                            assert_eq!(*place, 0);
                            place.write(1);
                        }
                        (ptr, layout)
                    })
                    .collect();
                let held = mem::rss().saturating_sub(before);
                // SAFETY: each came with its layout, and is freed once.
                tables
                    .into_iter()
                    .for_each(|(ptr, layout)| unsafe { HAKMEM.dealloc(ptr, layout) });
                held
            };
            (0..6).map(round).max().expect("six rounds")
        }
        "prewarmed" => {
            // A wholly free superslab that was populated and only partly used goes back whole, and the counts follow.
            assert_eq!(hakmem_alloc::prewarm(1), 1, "a superslab to populate");
            free((0..16).map(|_| Block::new(&HAKMEM, 120_000)).collect());
            clock::pass(FORGOTTEN);
            (0..20).for_each(|i| free(take(MIB, i, |_| 64)));
            let held = mem::rss();
            let given = hakmem_alloc::purge();
            let counts = hakmem_alloc::stats().superslabs;
            assert_eq!(counts.retained, 0, "{counts:?}");
            assert_eq!(counts.in_use + counts.purged, counts.mapped, "{counts:?}");
            given.saturating_sub(held.saturating_sub(mem::rss()))
        }
        "leak" => {
            let thread = thread::spawn(|| std::mem::forget(take(32 * MIB, 1, small)));
            thread.join().expect("a thread that forgets");
            mem::rss().saturating_sub(before)
        }
        other => panic!("unknown case {other}"),
    }
}

/// What is left of much: one call gives back some of it, and the maintenance thread the rest.
fn given_back(before: usize) -> usize {
    mem::wait_for_rss(before + 8 * MIB, Duration::from_secs(6)).saturating_sub(before)
}

/// The same once the purge delay has passed, and the program made a few calls.
fn given_back_after_the_delay(before: usize) -> usize {
    clock::pass(FORGOTTEN);
    free(take(MIB, 8, mixed));
    given_back(before)
}

fn shuffled(mut blocks: Vec<Block>, seed: u64) -> Vec<Block> {
    blocks.shuffle(&mut SmallRng::seed_from_u64(seed));
    blocks
}

/// Threads that use `bytes` each, so many times, and end.
fn burst(before: usize, threads: u64, times: u64, bytes: usize) -> usize {
    let round = move |i, time| free(shuffled(take(bytes, i + 100 * time, small), i));
    let threads: Vec<_> = (0..threads)
        .map(|i| thread::spawn(move || (0..times).for_each(|time| round(i, time))))
        .collect();
    threads
        .into_iter()
        .for_each(|t| t.join().expect("a thread of the burst"));
    mem::wait_for_rss(before + 16 * MIB, Duration::from_secs(6)) - before.min(mem::rss())
}

/// Threads that used `bytes` each, so many times, and sleep.
fn sleepers(before: usize, threads: usize, times: u64, bytes: usize) -> usize {
    let used = Barrier::new(threads + 1);
    let measured = Barrier::new(threads + 1);
    let mut held = 0;
    thread::scope(|scope| {
        for i in 0..threads as u64 {
            let (used, measured) = (&used, &measured);
            let body = move || {
                (0..times).for_each(|time| free(shuffled(take(bytes, i + 100 * time, small), i)));
                used.wait();
                measured.wait();
            };
            thread::Builder::new()
                .stack_size(256 * KIB)
                .spawn_scoped(scope, body)
                .expect("a thread");
        }
        used.wait();
        let bound = before + (threads * MIB).max(16 * MIB);
        held = mem::wait_for_rss(bound, Duration::from_secs(8)).saturating_sub(before);
        measured.wait();
    });
    held
}

/// The premise of all these bounds: memory that nobody gives back is noticed.
#[test]
fn a_planted_leak_is_seen() {
    if child::case().is_some() {
        return child::report("bytes", play("leak"));
    }
    let ended = Child::of("a_planted_leak_is_seen", "leak").run();
    assert!(ended.success().value::<usize>("bytes") >= 32 * MIB);
}

#[track_caller]
fn at_most(test: &'static str, cases: &[(&str, usize)]) {
    if let Some(case) = child::case() {
        child::report("bytes", play(&case));
        return;
    }
    let mut over = Vec::new();
    for &(case, bound) in cases {
        let ended = Child::of(test, case).run();
        let bytes: usize = ended.success().value("bytes");
        println!("{case}: {} of {} KiB", bytes / KIB, bound / KIB);
        if bytes > bound {
            over.push(format!(
                "{case}: {} KiB, at most {} KiB expected",
                bytes / KIB,
                bound / KIB
            ));
        }
    }
    assert!(over.is_empty(), "{}", over.join("; "));
}

#[test]
fn a_burst_on_four_threads_is_given_back() {
    at_most(
        "a_burst_on_four_threads_is_given_back",
        &[
            ("burst", 16 * MIB),
            ("swung-burst", 16 * MIB),
            ("crossed", 16 * MIB),
        ],
    );
}

#[test]
fn sleeping_threads_hold_a_mebibyte_each() {
    at_most(
        "sleeping_threads_hold_a_mebibyte_each",
        &[
            ("sleepers", 64 * MIB),
            ("swung-sleepers", 64 * MIB),
            ("few-swung-sleepers", 24 * MIB),
            ("short-swung-sleepers", 16 * MIB),
        ],
    );
}

#[test]
fn a_randomly_freed_heap_serves_another_size() {
    at_most(
        "a_randomly_freed_heap_serves_another_size",
        &[("refill", scale(600, 150) * MIB)],
    );
}

#[test]
fn a_sleeping_owner_does_not_hold_what_others_freed() {
    at_most(
        "a_sleeping_owner_does_not_hold_what_others_freed",
        &[("join", 480 * MIB)],
    );
}

#[test]
fn live_blocks_cost_little_more_than_their_bytes() {
    let bound = |mib: usize| (mib * MIB * 13 / 10).max((mib + 2) * MIB);
    let cases = [
        ("live 1", bound(1)),
        ("live 5", bound(5)),
        ("live 20", bound(20)),
        ("live 100", bound(100)),
        ("live 300", bound(300)),
    ];
    at_most("live_blocks_cost_little_more_than_their_bytes", &cases);
}

#[test]
fn freed_memory_is_given_back_by_one_thread() {
    let cases = [
        ("freed small", 8 * MIB),
        ("freed mixed", 8 * MIB),
        ("buffers", 8 * MIB),
        ("runs", 8 * MIB),
        ("swung", 12 * MIB),
        ("zeroed", 8 * MIB),
    ];
    at_most("freed_memory_is_given_back_by_one_thread", &cases);
}

/// An eighth of what is in use may be retained; the rest of a huge page is split off, as far as it has to be.
#[test]
fn a_heap_half_freed_holds_little_more_than_its_live_half() {
    let cases = [("sparse", 200 * MIB / 8 + 16 * MIB)];
    at_most(
        "a_heap_half_freed_holds_little_more_than_its_live_half",
        &cases,
    );
}

/// Where blocks are cleared, 170 MiB in all, memory is not brought in for it.
#[test]
fn zeroed_blocks_take_memory_where_they_are_touched() {
    at_most(
        "zeroed_blocks_take_memory_where_they_are_touched",
        &[("zeroed-again", 24 * MIB)],
    );
}

/// Bytes faulted in per round of 100 MiB.
#[test]
fn memory_that_comes_and_goes_stays_resident() {
    at_most(
        "memory_that_comes_and_goes_stays_resident",
        &[("swing", 30 * MIB)],
    );
}

/// By how much `purge()` promised too much: it counts what was handed out, not what the program wrote to.
#[test]
fn purge_says_what_it_gave() {
    at_most("purge_says_what_it_gave", &[("prewarmed", 256 * KIB)]);
}
