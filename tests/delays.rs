//! How long freed memory waits, as env-knobs.md has it under `HAKMEM_PURGE_DELAY_MS`, where no maintenance thread sees time pass:
//! in a process of several threads and in the child of a fork.
//!
//! Behaviours imitated: servers and desktop programs that free a few MiB and go on with little else. The clock is the test's own,
//! so nothing depends on the machine's speed.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, clock, mem};
use hakmem_alloc::Hakmem;
use std::hint::black_box;

static HAKMEM: Hakmem = Hakmem::new();

/// Milliseconds, as `HAKMEM_PURGE_DELAY_MS` has it by default.
const DELAY: u64 = 1000;
/// Bytes that are freed, and the least that must be gone of them, or be there. The test's own memory is the difference.
const FREED: usize = 4 * MIB;
const MOST_OF: usize = FREED * 5 / 8;

/// What is freed: `blocks` of one size.
#[derive(Clone, Copy)]
enum Store {
    Large,
    Slots,
}

impl Store {
    fn fill(self) -> Vec<Block> {
        let (size, count) = match self {
            // The refills take a superslab of it for their slab, and leave what they do not need to the pool: the last one, which is
            // mostly empty.
            Store::Large => (FREED + 64 * KIB, 1),
            Store::Slots => (32 * KIB, FREED / (32 * KIB)),
        };
        let blocks: Vec<_> = (0..count).map(|_| Block::new(&HAKMEM, size)).collect();
        blocks.iter().for_each(Block::touch);
        blocks
    }
}

fn free(blocks: Vec<Block>) {
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
}

/// Takes blocks until 64 calls have found none at hand: one in so many of those looks at the clock. At most 256 blocks are at hand
/// after each. They stay, so that their way back is none of the calls.
fn find_no_block_at_hand() {
    for _ in 0..64 * 256 {
        black_box(Block::new(&HAKMEM, 16));
    }
}

/// Whether memory waits for the delay, and for at most a quarter of it more.
fn waits(store: Store, by_large: bool) -> bool {
    clock::stop();
    // Blocks that stay lie between the others. They are never written to, and half of their bytes may be kept.
    let (mut large, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        large.push(Block::new(&HAKMEM, 2 * MIB));
        beside.push(Block::new(&HAKMEM, 20 * MIB));
    }
    let blocks = store.fill();
    // Freed mappings join their neighbours, and the joined one waits from the mean of the times of their frees, by length.
    let far = |block: &Block| block.addr.abs_diff(blocks[0].addr) > 2 * FREED;
    let (mut far, near): (Vec<_>, Vec<_>) = large.into_iter().partition(far);
    let mut call = || {
        if by_large {
            far.pop().expect("most are far").free(&HAKMEM);
        } else {
            find_no_block_at_hand();
        }
    };
    let held = mem::rss();
    free(blocks);
    clock::pass(DELAY * 3 / 4);
    call();
    let waiting = mem::rss();
    clock::pass(DELAY / 2);
    call();
    let gone = mem::rss();
    free(beside);
    free(near);
    let (kept, left) = (waiting + FREED - MOST_OF >= held, gone + MOST_OF <= held);
    if !(kept && left) {
        eprintln!(
            "{} KiB, {} KiB after three quarters of the delay, {} KiB after five",
            held >> 10,
            waiting >> 10,
            gone >> 10
        );
    }
    kept && left
}

/// Whether memory goes with the call that frees it.
fn goes_at_once(store: Store) -> bool {
    clock::stop();
    let blocks = store.fill();
    let held = mem::rss();
    free(blocks);
    mem::rss() + MOST_OF <= held
}

/// Runs `body` in the child of a fork, which has one thread.
fn in_a_child(body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs code of this test and the allocator, which promises to work after fork, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let code = i32::from(!body());
            // SAFETY: leaves without the parent's handlers.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: a child of this process and a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            status == 0
        }
    }
}

fn play(case: &str) {
    let held = match case {
        "large by large" => waits(Store::Large, true),
        "large by refills" => waits(Store::Large, false),
        "slots by large" => waits(Store::Slots, true),
        "slots by refills" => waits(Store::Slots, false),
        "large by large, alone" => in_a_child(|| waits(Store::Large, true)),
        "large by refills, alone" => in_a_child(|| waits(Store::Large, false)),
        "slots by large, alone" => in_a_child(|| waits(Store::Slots, true)),
        "slots by refills, alone" => in_a_child(|| waits(Store::Slots, false)),
        "large at once" => goes_at_once(Store::Large),
        "slots at once" => goes_at_once(Store::Slots),
        other => panic!("unknown case {other}"),
    };
    child::report("held", held);
}

fn hold(test: &'static str, cases: &[&str], knobs: &[(&str, &str)]) {
    if let Some(case) = child::case() {
        return play(&case);
    }
    let mut wrong = Vec::new();
    for &case in cases {
        // Freed blocks go to the pool, which may keep them all.
        let child = Child::of(test, case)
            .env("HAKMEM_THP", "never")
            .env("HAKMEM_HEAP_CACHE_KB", "0")
            .env("HAKMEM_GUARD_EVERY", "0");
        let child = knobs
            .iter()
            .fold(child, |child, (name, value)| child.env(name, value));
        let ended = child.run();
        if !ended.success().value::<bool>("held") {
            wrong.push(format!("{case}: {}", ended.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}

#[test]
fn freed_memory_waits_for_the_delay_and_goes_with_the_next_calls() {
    hold(
        "freed_memory_waits_for_the_delay_and_goes_with_the_next_calls",
        &[
            "large by large",
            "large by refills",
            "slots by large",
            "slots by refills",
            "large by large, alone",
            "large by refills, alone",
            "slots by large, alone",
            "slots by refills, alone",
        ],
        &[("HAKMEM_BACKGROUND", "0"), ("HAKMEM_SS_RETAIN_MB", "16")],
    );
}

#[test]
fn without_a_delay_memory_goes_at_once() {
    hold(
        "without_a_delay_memory_goes_at_once",
        &["large at once", "slots at once"],
        &[("HAKMEM_PURGE_DELAY_MS", "0")],
    );
}
