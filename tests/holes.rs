//! OS pages inside slabs in use: what goes back while some blocks of every slab stay live.
//!
//! Behaviours imitated:
//! - many short-lived blocks with a long-lived one in between: of one size, of several, of any; freed by the thread that
//!   allocated them, by another one, or by one that ends;
//! - the same at a call (`purge`), and in a process that never calls again;
//! - blocks of several OS pages each, of which every slab keeps one;
//! - a program that allocates as much again, again and again: nothing is lost, and what it holds falls each time.
//!
//! Every case is a child process whose other memory comes from the system allocator. What may stay is counted from the
//! addresses of the blocks that stay: the OS pages they touch.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, mem};
use hakmem_alloc::Hakmem;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

static HAKMEM: Hakmem = Hakmem::new();

/// What bins hold and pin, what stays free for the next request, and metadata.
const REST: usize = 5 * MIB;

/// Blocks of which `every`-th will stay, up to `bytes` in all, each written from end to end.
fn take(bytes: usize, seed: u64, mut size: impl FnMut(&mut SmallRng) -> usize) -> Vec<Block> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut left = bytes;
    let mut blocks = Vec::with_capacity(bytes / 256);
    while left > 0 {
        let block = Block::new(&HAKMEM, size(&mut rng));
        block.touch();
        left = left.saturating_sub(block.layout.size());
        blocks.push(block);
    }
    blocks
}

/// Every so-many-th block, and the others.
fn split(blocks: Vec<Block>, every: usize) -> (Vec<Block>, Vec<Block>) {
    let mut at = 0;
    blocks.into_iter().partition(|_| {
        at += 1;
        at % every == 1
    })
}

fn free(blocks: Vec<Block>) {
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
}

/// Bytes of the OS pages that hold the blocks.
fn pages(blocks: &[Block]) -> usize {
    let page = mem::page_size();
    let of = |block: &Block| block.addr / page..=(block.addr + block.layout.size() - 1) / page;
    blocks.iter().flat_map(of).collect::<HashSet<_>>().len() * page
}

fn small(rng: &mut SmallRng) -> usize {
    rng.random_range(64..=2048)
}

/// The memory of the test's own lists is allocated before, and not counted.
struct Before(usize);

impl Before {
    fn now() -> Self {
        Before(mem::rss())
    }

    fn held(&self) -> usize {
        mem::rss().saturating_sub(self.0)
    }

    /// Waits until some thread sees time pass, at most until so much is held. Reports what is held then, and the bound.
    fn wait(&self, kept: &[Block], lists: usize) {
        let bound = pages(kept) + lists + REST;
        let limit = Duration::from_secs(12);
        let held = mem::wait_for_rss(self.0 + bound, limit).saturating_sub(self.0);
        report(held, bound);
    }

    /// Reports what is held after a purge.
    fn purge(&self, kept: &[Block], lists: usize) {
        hakmem_alloc::purge();
        report(self.held(), pages(kept) + lists + REST);
    }
}

fn report(held: usize, bound: usize) {
    child::report("held", held);
    child::report("bound", bound);
}

/// The lists of a case, all of which may be resident.
fn lists(bytes: usize) -> usize {
    bytes / 256 * size_of::<Block>() * 3
}

/// `threads` threads take, one of them or the calling one frees, and all sleep.
fn by_several(threads: u64, bytes: usize, freed_by_another: bool) {
    let before = Before::now();
    let (results, kept) = channel();
    let (end, ends): (Vec<_>, Vec<_>) = (0..threads).map(|_| channel::<()>()).unzip();
    let workers: Vec<_> = ends
        .into_iter()
        .zip(0..)
        .map(|(end, seed)| {
            let results = results.clone();
            thread::spawn(move || {
                let (stay, go) = split(take(bytes, seed, small), 40);
                if freed_by_another {
                    results.send((stay, go)).expect("it is received");
                } else {
                    free(go);
                    results.send((stay, Vec::new())).expect("it is received");
                }
                // Alive, and silent.
                let _ = end.recv();
            })
        })
        .collect();
    let mut all = Vec::new();
    for _ in 0..threads {
        let (stay, go) = kept.recv().expect("every worker sends");
        all.extend(stay);
        free(go);
    }
    before.wait(&all, threads as usize * lists(bytes));
    drop(end);
    workers
        .into_iter()
        .for_each(|w| w.join().expect("a worker"));
    free(all);
}

fn play(case: &str) {
    free(take(64 * KIB, 1, small));
    let before = Before::now();
    let one = |bytes, size: usize, every| split(take(bytes, 3, |_| size), every);
    match case {
        "one size" => {
            let (stay, go) = one(128 * MIB, 1024, 64);
            free(go);
            before.wait(&stay, lists(128 * MIB));
        }
        "three sizes" => {
            let mut stay = Vec::new();
            for (size, count) in [(512, 75_000), (1024, 50_000), (2048, 25_000)] {
                let (some, go) = one(size * count, size, 20);
                stay.extend(some);
                free(go);
            }
            before.wait(&stay, lists(140 * MIB));
        }
        "any size" => {
            let (stay, go) = split(take(100 * MIB, 7, small), 30);
            free(go);
            before.wait(&stay, lists(100 * MIB));
        }
        "several pages" => {
            let sizes = |rng: &mut SmallRng| rng.random_range(6 * KIB..48 * KIB);
            let (stay, go) = split(take(160 * MIB, 9, sizes), 4);
            free(go);
            before.wait(&stay, lists(160 * MIB));
        }
        "one end" => {
            // The last quarter of each slab's worth goes, so that most of every slab stays.
            let blocks = take(64 * MIB, 3, |_| 1024);
            let (go, stay) = blocks
                .into_iter()
                .partition(|b| b.addr % (64 * KIB) >= 48 * KIB);
            free(go);
            before.wait(&stay, lists(64 * MIB));
        }
        "sleepers" => by_several(4, 32 * MIB, false),
        "another" => by_several(4, 32 * MIB, true),
        "ended" => {
            let bytes = 64 * MIB;
            let taken = thread::spawn(move || split(take(bytes, 5, small), 40));
            let (stay, go) = taken.join().expect("the taking thread");
            free(go);
            before.wait(&stay, lists(bytes));
        }
        "at a call" => {
            let (stay, go) = split(take(128 * MIB, 7, small), 30);
            free(go);
            before.purge(&stay, lists(128 * MIB));
        }
        "again" => {
            let mut all = Vec::new();
            for seed in 0..4 {
                let (stay, go) = split(take(48 * MIB, seed, small), 30);
                all.extend(stay);
                free(go);
                hakmem_alloc::purge();
                assert!(before.held() <= pages(&all) + lists(96 * MIB) + REST);
            }
            before.purge(&all, lists(96 * MIB));
            free(all);
        }
        other => panic!("unknown case {other}"),
    }
}

fn at_most(test: &'static str, cases: &[&str]) {
    if let Some(case) = child::case() {
        return play(&case);
    }
    for case in cases {
        let ended = Child::of(test, case).env("HAKMEM_BACKGROUND", "2").run();
        let (held, bound): (usize, usize) = (ended.success().value("held"), ended.value("bound"));
        println!("{case}: {} of {} KiB", held / KIB, bound / KIB);
        assert!(
            held <= bound,
            "{case}: {} KiB, at most {} KiB expected",
            held / KIB,
            bound / KIB
        );
    }
}

#[test]
fn between_survivors_little_stays() {
    at_most(
        "between_survivors_little_stays",
        &["one size", "three sizes", "any size", "one end"],
    );
}

#[test]
fn inside_of_blocks_of_several_pages_little_stays() {
    at_most(
        "inside_of_blocks_of_several_pages_little_stays",
        &["several pages"],
    );
}

#[test]
fn whoever_took_and_whoever_freed_little_stays() {
    at_most(
        "whoever_took_and_whoever_freed_little_stays",
        &["sleepers", "another", "ended"],
    );
}

#[test]
fn at_a_call_it_goes_at_once() {
    at_most("at_a_call_it_goes_at_once", &["at a call", "again"]);
}
