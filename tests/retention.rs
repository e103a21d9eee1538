//! What a process keeps beside what it uses: while it grows, after it has freed, and when it makes no more calls.
//!
//! Behaviours imitated, each a program of its own in the public reports these come from:
//! - phases of one kind of blocks after the other, each as large as the last: the peak is that of one phase;
//! - bursts on the only thread of a process that then sleeps, or only takes and frees one block, for ever, with a
//!   maintenance thread and without;
//! - buffers that are filled and then shrunk to what was used of them;
//! - buffers at alignments above 2 MiB in a loop;
//! - threads whose buffers grow and go, over and over.
//!
//! Bounds are in bytes and faults as the kernel counts them. Nothing depends on the machine's speed: purge delays are a minute,
//! so that no time passes, or nobody calls any more.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, PATIENCE, mem};
use hakmem_alloc::Hakmem;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::alloc::{GlobalAlloc, Layout};
use std::thread;
use std::time::Duration;

static HAKMEM: Hakmem = Hakmem::new();

/// Runs `body` in a process that never made a thread: a child of a fork. Its reports become the caller's.
fn alone(body: impl FnOnce()) {
    // SAFETY: the child runs code of this test and the allocator, which promises to work after fork.
    match unsafe { libc::fork() } {
        0 => {
            body();
            // SAFETY: leaves without the parent's handlers.
            unsafe { libc::_exit(0) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: a child of this process and a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, 0, "the child's status");
        }
    }
}

/// Blocks of sizes drawn by `size`, `bytes` in all, every OS page touched; their list is not counted.
struct Filled {
    blocks: Vec<Block>,
}

impl Filled {
    fn with_room(blocks: usize) -> Filled {
        let mut blocks = Vec::with_capacity(blocks);
        blocks.resize_with(blocks.capacity(), || Block {
            addr: 0,
            layout: Layout::new::<u8>(),
        });
        blocks.clear();
        Filled { blocks }
    }

    fn fill(&mut self, bytes: usize, mut size: impl FnMut() -> usize) {
        let mut done = 0;
        while done < bytes {
            assert!(self.blocks.len() < self.blocks.capacity(), "the list grows");
            let block = Block::new(&HAKMEM, size());
            block.touch();
            done += block.layout.size();
            self.blocks.push(block);
        }
    }

    fn free(&mut self) {
        self.blocks.drain(..).for_each(|block| block.free(&HAKMEM));
    }
}

/// Phase after phase of `mib` MiB of blocks of one size each; returns the most resident at the end of one.
fn phases(mib: usize, sizes: &[usize], rounds: usize) {
    let least = sizes.iter().min().expect("a phase");
    let mut filled = Filled::with_room(mib * MIB / least + 1);
    let before = mem::rss();
    let mut most = 0;
    for _ in 0..rounds {
        for &size in sizes {
            filled.fill(mib * MIB, || size);
            most = most.max(mem::rss().saturating_sub(before));
            filled.free();
        }
    }
    child::report("bytes", most);
}

/// Bursts of 200 MiB, and what is resident when nobody calls any more, or only takes and frees one block: at once, or
/// after a while, in which nothing happens or just that.
fn bursts(rounds: u64, size: fn(&mut SmallRng) -> usize, after: After) {
    let mut filled = Filled::with_room(210_000);
    let before = mem::rss();
    for round in 0..rounds {
        let mut rng = SmallRng::seed_from_u64(round);
        filled.fill(200 * MIB, || size(&mut rng));
        filled.free();
    }
    let pairs = || (0..1000).for_each(|_| Block::new(&HAKMEM, 100).free(&HAKMEM));
    let left = match after {
        After::AtOnce => {
            let silent = mem::rss();
            pairs();
            silent.max(mem::rss())
        }
        After::Silence(bound) => mem::wait_for_rss(before + bound, Duration::from_secs(10)),
        After::Pairs(bound) => (0..500 * PATIENCE)
            .map(|_| {
                pairs();
                mem::wait_for_rss(before + bound, Duration::from_millis(1))
            })
            .find(|&rss| rss <= before + bound)
            .unwrap_or_else(mem::rss),
    };
    child::report("bytes", left.saturating_sub(before));
}

enum After {
    AtOnce,
    /// Until so much is left.
    Silence(usize),
    Pairs(usize),
}

/// `count` buffers of `size` bytes, filled and shrunk to `kept`: what is resident beyond what was kept.
fn shrunk(size: usize, kept: usize, count: usize) {
    let before = mem::rss();
    let full = Layout::from_size_align(size, 8).expect("a size");
    let rest = Layout::from_size_align(kept, 8).expect("a size");
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        // SAFETY: the sizes are not zero, and the block is written within its size.
        unsafe {
            let block = HAKMEM.alloc(full);
            assert!(!block.is_null());
            block.write_bytes(7, size);
            let block = HAKMEM.realloc(block, full, kept);
            assert!(!block.is_null() && *block == 7 && *block.add(kept - 1) == 7);
            blocks.push(block);
        }
    }
    child::report("bytes", mem::rss().saturating_sub(before + count * kept));
    for block in blocks {
        // SAFETY: live, and freed once with its last size.
        unsafe { HAKMEM.dealloc(block, rest) };
    }
}

/// Buffers of `size` bytes at `align`, one at a time; faults of the loop.
fn aligned(size: usize, align: usize) {
    let layout = Layout::from_size_align(size, align).expect("a layout");
    let round = || {
        // SAFETY: the size is not zero, and the block is written within it and freed once.
        unsafe {
            let block = HAKMEM.alloc(layout);
            assert!(!block.is_null() && (block as usize).is_multiple_of(align));
            block.write_bytes(1, size);
            HAKMEM.dealloc(block, layout);
        }
    };
    (0..2).for_each(|_| round());
    let before = mem::thread_faults();
    (0..100).for_each(|_| round());
    child::report("faults", mem::thread_faults() - before);
}

/// Four threads that grow a buffer from 1.5 to 24 MiB, filling it, and drop it, `loops` times each; their faults.
fn grow_on_threads(loops: usize) {
    let grow = move || {
        let before = mem::thread_faults();
        for mark in 0..loops {
            let mut size = 3 * MIB / 2;
            let layout = |size| Layout::from_size_align(size, 8).expect("a size");
            // SAFETY: the sizes are not zero; the block is written within its size and freed once with its last.
            unsafe {
                let mut block = HAKMEM.alloc(layout(size));
                block.write_bytes(mark as u8, size);
                while size < 24 * MIB {
                    let old = size;
                    size *= 2;
                    block = HAKMEM.realloc(block, layout(old), size);
                    assert!(!block.is_null(), "no memory");
                    block.add(old).write_bytes(mark as u8, size - old);
                }
                let bytes = std::slice::from_raw_parts(block, size);
                let wrong = bytes.iter().step_by(4096);
                assert_eq!(wrong.filter(|&&byte| byte != mark as u8).count(), 0);
                HAKMEM.dealloc(block, layout(size));
            }
        }
        mem::thread_faults() - before
    };
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(grow)).collect();
    let faults = threads.into_iter().map(|t| t.join().expect("a thread"));
    child::report("faults", faults.sum::<usize>());
}

/// What the account says is held, at several moments of a process that writes all it takes, against the kernel's count:
/// the largest difference, in thousandths of what the kernel says.
fn account() {
    let mut small = Filled::with_room(300_000);
    let mut large = Filled::with_room(100);
    let held = || hakmem_alloc::stats_quick().bytes.held as usize;
    let before = (mem::rss(), held());
    let mut worst = 0;
    let mut check = |what: &str| {
        let kernel = (mem::rss() - before.0) as isize;
        let ours = (held() - before.1) as isize;
        child::report(what, format!("{} against {} KiB", ours >> 10, kernel >> 10));
        worst = worst.max((ours - kernel).abs() * 1000 / kernel);
    };
    let mut rng = SmallRng::seed_from_u64(1);
    small.fill(100 * MIB, || rng.random_range(16..2000));
    check("small");
    large.fill(80 * MIB, || rng.random_range(2 * MIB..7 * MIB));
    check("large");
    let mut index = 0;
    let every_second = small.blocks.extract_if(.., |_| {
        index += 1;
        index % 2 == 0
    });
    every_second.for_each(|block| block.free(&HAKMEM));
    check("holes");
    large.free();
    check("cached");
    small.fill(70 * MIB, || rng.random_range(2000..9000));
    check("again");
    child::report("thousandths", worst);
    let peak = hakmem_alloc::stats_quick().bytes.peak as usize;
    assert!(peak >= held() && peak >= 180 * MIB, "a peak of {peak}");
}

fn play(case: &str) {
    let large = |rng: &mut SmallRng| rng.random_range(4 * MIB..24 * MIB);
    let middle = |rng: &mut SmallRng| rng.random_range(4 * KIB..200 * KIB);
    let small = |rng: &mut SmallRng| rng.random_range(1000..2000);
    match case {
        "phases large small" => alone(|| phases(60, &[4 * MIB, 100], 2)),
        "phases of six sizes" => {
            let sizes = [100, 700, 4 * MIB, 20_000, 300_000, 20 * MIB];
            alone(|| phases(60, &sizes, 2));
        }
        "phases of two large sizes" => alone(|| phases(200, &[20 * MIB, 4 * MIB], 2)),
        "bursts of large" => alone(|| bursts(4, large, After::AtOnce)),
        "bursts of middle" => alone(|| bursts(6, middle, After::AtOnce)),
        "bursts of small" => alone(|| bursts(4, small, After::AtOnce)),
        "silence after large" => alone(|| bursts(4, large, After::Silence(6 * MIB))),
        "silence after middle" => alone(|| bursts(6, middle, After::Silence(20 * MIB))),
        "silence after small" => alone(|| bursts(4, small, After::Silence(20 * MIB))),
        "pairs after large" => alone(|| bursts(4, large, After::Pairs(6 * MIB))),
        "pairs after middle" => alone(|| bursts(6, middle, After::Pairs(20 * MIB))),
        "pairs after small" => alone(|| bursts(4, small, After::Pairs(20 * MIB))),
        "shrunk large" => shrunk(64 * MIB, 64 * MIB * 11 / 20, 4),
        "shrunk runs" => shrunk(800_000, 440_000, 100),
        "shrunk middle" => shrunk(30_000, 16_500, 2000),
        "shrunk small" => shrunk(1000, 550, 20_000),
        "aligned" => alone(|| aligned(6_000_000, 4 * MIB)),
        "aligned far" => alone(|| aligned(4_000_000, 64 * MIB)),
        "grow" => grow_on_threads(20),
        "account" => account(),
        other => panic!("unknown case {other}"),
    }
}

#[track_caller]
fn at_most(test: &'static str, key: &str, cases: &[(&str, usize)]) {
    at_most_with(test, key, cases, &[("HAKMEM_PURGE_DELAY_MS", "60000")]);
}

#[track_caller]
fn at_most_with(test: &'static str, key: &str, cases: &[(&str, usize)], knobs: &[(&str, &str)]) {
    if let Some(case) = child::case() {
        return play(&case);
    }
    let mut over = Vec::new();
    for &(case, bound) in cases {
        let child = Child::of(test, case).env("HAKMEM_THP", "never");
        let child = knobs
            .iter()
            .fold(child, |child, (name, value)| child.env(name, value));
        let value: usize = child.run().success().value(key);
        if value > bound {
            over.push(format!("{case}: {value} {key}, at most {bound} expected"));
        }
    }
    assert!(over.is_empty(), "{}", over.join("; "));
}

#[test]
fn phases_hold_what_one_of_them_needs() {
    at_most(
        "phases_hold_what_one_of_them_needs",
        "bytes",
        &[
            ("phases large small", 73 * MIB),
            ("phases of six sizes", 78 * MIB),
            // 215 MiB less the 1.5 that a program of nothing else holds.
            ("phases of two large sizes", 427 * MIB / 2),
        ],
    );
}

#[test]
fn a_process_that_may_have_no_maintenance_thread_keeps_little() {
    at_most_with(
        "a_process_that_may_have_no_maintenance_thread_keeps_little",
        "bytes",
        &[
            ("bursts of large", 15 * MIB / 2),
            ("bursts of middle", 34 * MIB),
            ("bursts of small", 34 * MIB),
        ],
        &[
            ("HAKMEM_PURGE_DELAY_MS", "60000"),
            ("HAKMEM_BACKGROUND", "0"),
        ],
    );
}

#[test]
fn a_process_of_one_thread_gives_back_what_its_bursts_took() {
    at_most_with(
        "a_process_of_one_thread_gives_back_what_its_bursts_took",
        "bytes",
        &[
            ("silence after large", 6 * MIB),
            ("silence after middle", 20 * MIB),
            ("silence after small", 20 * MIB),
            ("pairs after large", 6 * MIB),
            ("pairs after middle", 20 * MIB),
            ("pairs after small", 20 * MIB),
        ],
        &[],
    );
}

/// What is resident beyond what was kept.
#[test]
fn what_is_shrunk_to_fit_fits() {
    at_most(
        "what_is_shrunk_to_fit_fits",
        "bytes",
        &[
            ("shrunk large", 7 * MIB),
            ("shrunk runs", 6 * MIB),
            ("shrunk middle", 12 * MIB),
            ("shrunk small", 3 * MIB),
        ],
    );
}

#[test]
fn blocks_at_large_alignments_are_taken_again() {
    at_most(
        "blocks_at_large_alignments_are_taken_again",
        "faults",
        &[("aligned", 300), ("aligned far", 300)],
    );
}

/// They write 490,000 OS pages.
#[test]
fn buffers_grow_into_what_others_left() {
    at_most(
        "buffers_grow_into_what_others_left",
        "faults",
        &[("grow", 60_000)],
    );
}

#[test]
fn the_account_agrees_with_the_kernel() {
    at_most(
        "the_account_agrees_with_the_kernel",
        "thousandths",
        &[("account", 30)],
    );
}
