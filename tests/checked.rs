//! Checked blocks: each mistake with one ends the process with the line that names it, at the call that brings it to light, and
//! what is no mistake is not reported.
//!
//! Behaviours imitated:
//! - every block checked, and the hardened profile: a block freed twice, at once and after others and in another thread, its
//!   inside freed, a size that is not its own, writes past it and after its free, the usable size and realloc of a freed one;
//!   in every size, by the same thread and another;
//! - a program that does all of it right: growing and shrinking blocks, strings that fill their blocks, threads, forks;
//! - one slab in so many: a program that grows gets checked blocks, a small one none.

mod common;

use common::blocks::{alloc, free};
use common::child::{self, Child, Ended};
use common::{KIB, MIB};
use hakmem_alloc::{Hakmem, raw, stats_quick};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

const SIZES: [usize; 7] = [1, 16, 40, 1000, 40_000, 200_000, MIB];

const MISTAKES: [&str; 13] = [
    "double free",
    "double free after others",
    "inside by 1",
    "inside by 16",
    "never handed out",
    "smaller size",
    "larger size",
    "past by 1",
    "past by 3",
    "past, then realloc",
    "after free",
    "realloc of a freed block",
    "usable size of a freed block",
];

/// Runs where the case says: on this thread, or on another that was given the block.
fn elsewhere(other: bool, body: impl FnOnce() + Send + 'static) {
    if other {
        thread::spawn(body).join().expect("nothing that panics");
    } else {
        body();
    }
}

/// As many blocks are freed as wait before one is given out again, and more.
fn bring_round(size: usize) {
    let most = (4 * MIB / size.max(16)).clamp(40, 20_000);
    for _ in 0..most {
        free(alloc(size));
    }
}

/// Writes a byte that is none of the canary's or the poison's, whatever those are.
fn spoil(addr: usize) {
    let at = black_box(addr as *mut u8);
    // SAFETY: in memory of the allocator; the point of the test is that it is noticed.
    unsafe { at.write_volatile(at.read_volatile() ^ 0x20) };
}

/// Makes a mistake, or all of the same but that.
fn play(how: &'static str, size: usize, other: bool, wrong: bool) {
    let block = alloc(size);
    child::report("block", format_args!("{block:#x}"));
    let call = move || match how {
        "double free" => {
            free(block);
            if wrong {
                free(block);
            }
        }
        "double free after others" => {
            // Of the largest, no more than two wait.
            let more = if size == MIB { 1 } else { 3 };
            let more: Vec<usize> = (0..more).map(|_| alloc(size)).collect();
            free(block);
            more.into_iter().for_each(free);
            if wrong {
                free(block);
            }
        }
        "inside by 1" => free(if wrong { block + 1 } else { block }),
        "inside by 16" => free(if wrong { block + 16 } else { block }),
        // A kind of which nothing else was allocated has its blocks one behind the other.
        "never handed out" => free(if wrong { block + 10_880 } else { block }),
        "smaller size" | "larger size" => {
            let named = match (wrong, how) {
                (false, _) => size,
                (_, "smaller size") => size - 1,
                _ => size + 1,
            };
            // SAFETY: none if it is wrong.
            unsafe { raw::dealloc_sized(black_box(block as *mut u8), named, 16) };
        }
        "past by 1" | "past by 3" => {
            let past = if how == "past by 1" { 1 } else { 3 };
            if wrong {
                spoil(block + size + past - 1);
            } else {
                spoil(block + size - 1);
            }
            free(block);
        }
        "past, then realloc" => {
            if wrong {
                spoil(block + size);
            }
            // SAFETY: in use.
            let new = unsafe { raw::realloc(black_box(block as *mut u8), 2 * size + 1) };
            free(new as usize);
        }
        "after free" => {
            free(block);
            if wrong {
                spoil(block + size / 2);
            }
            bring_round(size);
        }
        "realloc of a freed block" => {
            let good = alloc(size);
            free(block);
            // SAFETY: none if it is wrong.
            unsafe {
                raw::realloc(
                    black_box(if wrong { block } else { good } as *mut u8),
                    size + 1,
                )
            };
        }
        "usable size of a freed block" => {
            let good = alloc(size);
            free(block);
            // SAFETY: none if it is wrong.
            let usable = unsafe {
                raw::usable_size(black_box(if wrong { block } else { good } as *const u8))
            };
            assert_eq!(usable, size);
        }
        _ => panic!("unknown case {how}"),
    };
    elsewhere(other, call);
}

/// How the line begins.
fn line(how: &str, size: usize, block: &str) -> String {
    let addr = usize::from_str_radix(block.trim_start_matches("0x"), 16).expect("an address");
    let twice = |asked: &str| {
        format!(
            "hakmem: {asked} of {block}: this block of {size} bytes is free already (block {block}, allocated by thread "
        )
    };
    let inside = |by: usize| {
        format!(
            "hakmem: free of {:#x}: inside a block, at byte {by} of {size} (block {block}, ",
            addr + by
        )
    };
    let past = |by: usize, asked: &str| {
        let bytes = format!(
            "hakmem: write {by} bytes past a block of {size}, found by {asked} of {block} (block {block}, "
        );
        bytes
    };
    let named = |named: usize| {
        format!(
            "hakmem: free of {block}: the size is said to be {named}, but {size} bytes were asked for (block {block}, "
        )
    };
    match how {
        "double free" | "double free after others" => twice("double free"),
        "inside by 1" => inside(1),
        "inside by 16" => inside(16),
        "never handed out" => format!(
            "hakmem: free of {:#x}: this block was never handed out; seen by thread ",
            addr + 10_880
        ),
        "smaller size" => named(size - 1),
        "larger size" => named(size + 1),
        "past by 1" => past(1, "free"),
        "past by 3" => past(3, "free"),
        "past, then realloc" => past(1, "realloc"),
        "after free" => format!(
            "hakmem: write to {:#x} after it was freed, at byte {} of a block of {size} (block {block}, allocated by thread ",
            addr + size / 2,
            size / 2
        ),
        "realloc of a freed block" => twice("realloc"),
        "usable size of a freed block" => twice("usable size"),
        _ => panic!("unknown case {how}"),
    }
}

fn table() -> Vec<(&'static str, usize, bool)> {
    let mut table = Vec::new();
    for how in MISTAKES {
        for size in SIZES {
            let fits = match how {
                "never handed out" => size == 10_000,
                "inside by 1" | "inside by 16" => size > 16,
                _ => true,
            };
            for other in [false, true] {
                if fits {
                    table.push((how, size, other));
                }
            }
        }
    }
    table.push(("never handed out", 10_500, false));
    table.push(("never handed out", 10_500, true));
    table
}

fn run(
    test: &'static str,
    settings: (&str, &str),
    wrong: bool,
    check: impl Fn(&str, usize, &Ended) -> Option<String>,
) {
    if let Some(case) = child::case() {
        let mut parts = case.split('/');
        let mut part = || parts.next().expect("mistake, size and thread");
        let how = part();
        let how = MISTAKES
            .into_iter()
            .find(|&known| known == how)
            .expect("a mistake");
        let size = part().parse().expect("a size");
        play(how, size, part() == "true", wrong);
        child::report("survived", "yes");
        return;
    }
    let mut table = table();
    if settings == HARDENED {
        // Blocks come in no order there.
        table.retain(|(how, ..)| *how != "never handed out");
    }
    let mut failed = Vec::new();
    for (how, size, other) in &table {
        let ended = Child::of(test, &format!("{how}/{size}/{other}"))
            .env(settings.0, settings.1)
            .run();
        if let Some(why) = check(how, *size, &ended) {
            failed.push(format!(
                "{how}, {size} bytes, by another thread: {other}: {why}"
            ));
        }
    }
    child::assert_none(&failed, table.len());
}

fn is_named(how: &str, size: usize, ended: &Ended) -> Option<String> {
    let block: String = ended.value("block");
    let expected = line(how, size, &block);
    let aborted = ended.status.and_then(|status| status.signal()) == Some(libc::SIGABRT);
    let first = ended.stderr.lines().next().unwrap_or_default();
    (!first.starts_with(&expected) || !aborted).then(|| format!("expected {expected}\n{ended:?}"))
}

fn is_silent(_: &str, _: usize, ended: &Ended) -> Option<String> {
    let well = ended.status.is_some_and(|status| status.success()) && ended.stderr.is_empty();
    (!well).then(|| format!("{ended:?}"))
}

const ALL: (&str, &str) = ("HAKMEM_CHECK_ONE_IN", "1");
const HARDENED: (&str, &str) = ("HAKMEM_PROFILE", "hardened");

#[test]
fn every_mistake_is_named() {
    run("every_mistake_is_named", ALL, true, is_named);
}

#[test]
fn what_is_right_is_not_reported() {
    run("what_is_right_is_not_reported", ALL, false, is_silent);
}

#[test]
fn every_mistake_is_named_by_the_hardened() {
    run(
        "every_mistake_is_named_by_the_hardened",
        HARDENED,
        true,
        is_named,
    );
}

#[test]
fn what_is_right_is_not_reported_by_the_hardened() {
    run(
        "what_is_right_is_not_reported_by_the_hardened",
        HARDENED,
        false,
        is_silent,
    );
}

fn of(test: &'static str, case: &str, settings: &[(&str, &str)]) -> Ended {
    let child = Child::of(test, case);
    settings
        .iter()
        .fold(child, |child, (key, value)| child.env(key, value))
        .run()
}

/// What was done to a block that nobody looks at again is found when the process ends.
#[test]
fn a_last_look_is_taken() {
    let test = "a_last_look_is_taken";
    match child::case().as_deref() {
        Some("past") => spoil(alloc(100) + 100),
        Some("freed") => {
            let block = alloc(100);
            free(block);
            spoil(block + 7);
        }
        Some(_) => free(alloc(100)),
        None => {
            let lines = [
                (
                    "past",
                    "hakmem: write 1 bytes past a block of 100, found by a last look of ",
                ),
                ("freed", "hakmem: write to 0x"),
            ];
            for (case, expected) in lines {
                let ended = of(test, case, &[ALL]);
                assert!(ended.stderr.starts_with(expected), "{ended:?}");
                ended.killed_by(libc::SIGABRT);
            }
            of(test, "none", &[ALL]).success();
        }
    }
}

/// Blocks of every size grow, shrink, hold what they held and are zero where that was asked for, on several threads.
#[test]
fn a_busy_program_is_left_alone() {
    let test = "a_busy_program_is_left_alone";
    if child::case().is_none() {
        for settings in [ALL, HARDENED, ("HAKMEM_CHECK_ONE_IN", "2")] {
            let ended = of(test, "busy", &[settings]);
            ended.success();
            assert!(ended.stderr.is_empty(), "{settings:?}: {ended:?}");
        }
        return;
    }
    let work = |seed: usize| {
        let mut state = seed as u64 | 1;
        let mut next = move |most: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % most
        };
        let mut live: Vec<Vec<u8>> = Vec::new();
        for round in 0..1500 {
            let size = 1 << next(18);
            let (size, fill) = (size + next(size), round as u8);
            match next(5) {
                0 if !live.is_empty() => {
                    let at = next(live.len());
                    let mut taken = live.swap_remove(at);
                    let first = taken[0];
                    taken.resize(size, first);
                    assert!(taken.iter().all(|&byte| byte == first));
                    taken.shrink_to_fit();
                    live.push(taken);
                }
                1 => {
                    let zeros = vec![0u8; size];
                    assert!(zeros.iter().all(|&byte| byte == 0));
                }
                2 | 3 if live.len() > 100 => drop(live.swap_remove(next(100))),
                _ => live.push(vec![fill; size]),
            }
        }
        live
    };
    let threads: Vec<_> = (1..4)
        .map(|seed| thread::spawn(move || work(seed)))
        .collect();
    let kept: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .collect();
    drop(kept);
    for _ in 0..3 {
        // SAFETY: the child allocates, frees, and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(work(77));
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: the child of this fork.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child of a fork");
    }
    hakmem_alloc::purge();
    child::report("done", "yes");
}

/// Children of forks in the midst of other threads' calls go on.
#[test]
fn a_fork_finds_the_checked_blocks_whole() {
    let test = "a_fork_finds_the_checked_blocks_whole";
    if child::case().is_none() {
        let ended = of(test, "fork", &[ALL]);
        ended.success();
        assert!(ended.stderr.is_empty(), "{ended:?}");
        return;
    }
    let busy = || {
        for round in 0.. {
            let blocks: Vec<usize> = (0..50)
                .map(|i| alloc(1 + (i * 97 + round) % 3000))
                .collect();
            blocks.into_iter().for_each(free);
        }
    };
    for _ in 0..3 {
        thread::spawn(busy);
    }
    for _ in 0..200 {
        // SAFETY: the child allocates, frees, and ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            (0..300).map(|i| alloc(i * 10 + 1)).for_each(free);
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: the child of this fork.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child of a fork");
    }
    child::report("done", "yes");
    // SAFETY: the other threads never end.
    unsafe { libc::_exit(0) };
}

/// Under a limit of address space allocations fail with null, and those that were made can be freed.
#[test]
fn memory_that_is_refused_is_null() {
    let test = "memory_that_is_refused_is_null";
    if child::case().is_none() {
        let ended = Child::of(test, "limit")
            .env(ALL.0, ALL.1)
            .address_space(600 * MIB as u64)
            .run();
        ended.success();
        assert!(ended.value::<usize>("blocks") > 1000, "{ended:?}");
        return;
    }
    for size in [100, 5000, 300_000] {
        let mut blocks = Vec::with_capacity(8_000_000 / 8);
        while blocks.len() < blocks.capacity() {
            let block = raw::alloc(size, 16) as usize;
            if block == 0 {
                break;
            }
            blocks.push(block);
        }
        child::report("blocks", blocks.len());
        blocks.into_iter().for_each(free);
        hakmem_alloc::purge();
    }
    free(alloc(100));
}

/// The size that was asked for is the size that is answered, in a checked block alone.
fn checked(blocks: &[usize], size: usize) -> usize {
    // SAFETY: in use.
    let exact = |&&block: &&usize| unsafe { raw::usable_size(block as *const u8) } == size;
    blocks.iter().filter(exact).count()
}

#[test]
fn one_slab_in_so_many_is_checked() {
    let test = "one_slab_in_so_many_is_checked";
    const SIZE: usize = 1001;
    if let Some(case) = child::case() {
        let blocks: Vec<usize> = (0..case.parse::<usize>().expect("MiB") * MIB / KIB)
            .map(|_| alloc(SIZE))
            .collect();
        child::report("checked", checked(&blocks, SIZE));
        let before = stats_quick();
        child::report(
            "counted",
            before
                .classes
                .iter()
                .find(|class| class.block_bytes == 1008)
                .map_or(0, |class| class.live_blocks),
        );
        child::report("blocks", blocks.len());
        blocks.into_iter().for_each(free);
        return;
    }
    let counted = |mib: &str, one_in: &str| {
        let ended = of(test, mib, &[("HAKMEM_CHECK_ONE_IN", one_in)]);
        ended.success();
        assert!(ended.stderr.is_empty(), "{ended:?}");
        (ended.value::<usize>("checked"), ended)
    };
    assert_eq!(counted("60", "0").0, 0);
    assert_eq!(counted("0", "256").0, 0, "a program below a MiB");
    let (some, ended) = counted("60", "256");
    assert!((1..=3 * 65).contains(&some), "{some} checked: {ended:?}");
    assert!(
        ended.value::<usize>("counted") >= ended.value::<usize>("blocks"),
        "{ended:?}"
    );
    let (all, ended) = counted("3", "1");
    assert_eq!(all, ended.value::<usize>("blocks"));
}
