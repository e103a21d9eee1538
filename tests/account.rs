//! The account of bytes against the kernel's: `stats().bytes.held` agrees with what became resident, within 3 %. On huge pages
//! the memory behind the blocks that a slab has handed out is resident as well, and a superslab's slots that no slab has yet.
//!
//! Behaviours imitated: programs that fill small, medium and large blocks, free them in any order and by other threads, shrink
//! and grow buffers, and rest.
//!
//! Every case is a child process whose other memory comes from the system allocator. Every page of a block is written, because
//! the account counts what was handed out.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, clock, mem};
use hakmem_alloc::{Hakmem, raw, stats_quick};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::alloc::Layout;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

static HAKMEM: Hakmem = Hakmem::new();

/// Live blocks. The list is written to its end beforehand, so that none of its own pages come in while it fills.
type Blocks = Vec<Block>;

fn list() -> Blocks {
    let layout = Layout::new::<u64>();
    let mut list: Blocks = (0..400_000).map(|addr| Block { addr, layout }).collect();
    list.clear();
    list
}

fn take(list: &Mutex<Blocks>, bytes: usize, sizes: Range<usize>) {
    let mut rng = SmallRng::seed_from_u64(bytes as u64);
    let mut left = bytes;
    while left > 0 {
        let block = Block::new(&HAKMEM, rng.random_range(sizes.clone()));
        touch(&block);
        left = left.saturating_sub(block.layout.size());
        list.lock().expect("no panic inside").push(block);
    }
}

/// Writes all pages that the account counts: for a block in a slab those of its class, for a large block those requested.
fn touch(block: &Block) {
    block.touch();
    if block.layout.size() > MIB {
        return;
    }
    let start = block.addr as *mut u8;
    // SAFETY: a block in use, and of those bytes the ones that are not its own.
    unsafe {
        let usable = raw::usable_size(start);
        (block.layout.size()..usable)
            .step_by(512)
            .for_each(|at| start.add(at).write(1));
    }
}

/// Frees this many in a hundred, picked at random.
fn free(list: &Mutex<Blocks>, percent: usize) {
    let mut list = list.lock().expect("no panic inside");
    list.shuffle(&mut SmallRng::seed_from_u64(1));
    let count = list.len() * percent / 100;
    list.drain(..count).for_each(|block| block.free(&HAKMEM));
}

const SMALL: Range<usize> = 16..1000;
const MEDIUM: Range<usize> = 1000..60 * KIB;
const RUNS: Range<usize> = 64 * KIB..MIB;
const LARGE: Range<usize> = MIB + 1..20 * MIB;

/// Runs one life up to its end or its middle.
fn live(case: &str, list: &Mutex<Blocks>) {
    let half_freed = |sizes| {
        take(list, 100 * MIB, sizes);
        free(list, 50);
    };
    match case {
        "small" => take(list, 100 * MIB, SMALL),
        "medium" => take(list, 100 * MIB, MEDIUM),
        "runs" => take(list, 100 * MIB, RUNS),
        "large" => take(list, 200 * MIB, LARGE),
        "small, half freed" => half_freed(SMALL),
        "medium, half freed" => half_freed(MEDIUM),
        "runs, half freed" => half_freed(RUNS),
        "large, half freed" => half_freed(LARGE),
        "all freed" => {
            for sizes in [SMALL, MEDIUM, RUNS, LARGE] {
                take(list, 50 * MIB, sizes);
                free(list, 100);
            }
        }
        "freed by others" => {
            thread::scope(|scope| {
                (0..4).for_each(|_| drop(scope.spawn(|| take(list, 20 * MIB, SMALL))));
            });
            free(list, 50);
        }
        "resized" => {
            take(list, 100 * MIB, LARGE);
            resize(&mut list.lock().expect("no panic inside"));
        }
        "rested" => {
            half_freed(SMALL);
            clock::pass(5000);
            take(list, MIB, MEDIUM);
        }
        "leak" => {
            take(list, 100 * MIB, SMALL);
            std::hint::black_box(Box::leak(vec![1u8; 32 * MIB].into_boxed_slice()));
        }
        other => panic!("unknown case {other}"),
    }
}

/// Resizes every second block to six tenths of its size, and the others to one and a half times.
fn resize(list: &mut Blocks) {
    for (i, block) in list.drain(..).enumerate() {
        let size = block.layout.size() * (if i % 2 == 0 { 6 } else { 15 }) / 10;
        // SAFETY: a block in use, which its old address no longer names.
        let moved = unsafe { raw::realloc(block.addr as *mut u8, size) };
        assert!(!moved.is_null());
        // SAFETY: a block of that size.
        unsafe { moved.write_bytes(1, size) };
    }
}

/// Bytes by which resident memory and the account grew. Neither contains the allocator's own tables, this test's lists or the
/// program's pages.
fn play(case: &str) {
    let list = Mutex::new(list());
    // What is needed once is not charged to the case.
    thread::scope(|scope| {
        scope.spawn(|| take(&list, 256 * KIB, SMALL));
    });
    free(&list, 100);
    let held = || stats_quick().bytes.held as usize;
    let before = (mem::rss(), held());
    live(case, &list);
    child::report("rss", mem::rss().saturating_sub(before.0));
    child::report("held", held().saturating_sub(before.1));
}

/// Bytes on huge pages that are resident and not held, about: half a slab of 64 KiB of each of the 62 classes of small blocks
/// in each heap, and a superslab.
fn spread(thp: &str, case: &str) -> usize {
    let heaps = if case == "freed by others" { 4 } else { 1 };
    match thp {
        "never" => 0,
        _ => heaps * 62 * 32 * KIB + 2 * MIB,
    }
}

/// The two figures of a case, and whether they agree.
fn compare(test: &'static str, case: &str, thp: &str) -> (usize, usize, bool) {
    let ended = Child::of(test, case).env("HAKMEM_THP", thp).run();
    let (rss, held): (usize, usize) = (ended.success().value("rss"), ended.value("held"));
    let apart = rss.abs_diff(held);
    println!(
        "{case}: {} KiB resident, {} KiB held",
        rss / KIB,
        held / KIB
    );
    let allowed = rss.max(held) * 3 / 100 + MIB + spread(thp, case);
    (rss, held, apart <= allowed)
}

#[test]
fn what_is_held_is_what_is_resident() {
    const TEST: &str = "what_is_held_is_what_is_resident";
    if let Some(case) = child::case() {
        return play(&case);
    }
    let cases = [
        "small",
        "medium",
        "runs",
        "large",
        "small, half freed",
        "medium, half freed",
        "runs, half freed",
        "large, half freed",
        "all freed",
        "freed by others",
        "resized",
        "rested",
    ];
    let mut apart = Vec::new();
    for thp in ["never", "auto"] {
        let compared = cases.map(|case| (thp, case, compare(TEST, case, thp)));
        apart.extend(compared.into_iter().filter(|(_, _, (_, _, agree))| !agree));
    }
    assert!(apart.is_empty(), "{apart:?}");
}

/// Memory that the account does not know of is noticed.
#[test]
fn a_planted_leak_is_seen() {
    const TEST: &str = "a_planted_leak_is_seen";
    if let Some(case) = child::case() {
        return play(&case);
    }
    let (rss, held, agree) = compare(TEST, "leak", "auto");
    assert!(!agree && rss > held, "{rss} resident, {held} held");
}
