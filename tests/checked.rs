//! Checked blocks: each mistake with one ends the process with the line that names it, at the call that brings it to light, and
//! what is no mistake is not reported.
//!
//! Behaviours imitated:
//! - every block checked, and the hardened profile: a block freed twice, at once and after others and in another thread, its
//!   inside freed, a size that is not its own, writes past it, in front of it and after its free, the usable size and realloc of a freed one;
//!   in every size, by the same thread and another;
//! - the same without the mistake;
//! - a mistake that no call brings to light before the end.

mod common;

use common::MIB;
use common::blocks::{alloc, free};
use common::child::{self, Child, Ended};
use hakmem_alloc::{Hakmem, raw};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

const SIZES: [usize; 7] = [1, 16, 40, 1000, 40_000, 200_000, MIB];

const MISTAKES: [&str; 15] = [
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
    "in front by 1",
    "in front by 3",
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
        "in front by 1" | "in front by 3" => {
            if wrong {
                spoil(block - if how == "in front by 1" { 1 } else { 3 });
            } else {
                spoil(block);
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
    let front = |by: usize| {
        format!(
            "hakmem: write {by} bytes in front of a block of {size}, found by free of {block} (block {block}, "
        )
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
        "in front by 1" => front(1),
        "in front by 3" => front(3),
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
                let ended = Child::of(test, case).env(ALL.0, ALL.1).run();
                assert!(ended.stderr.starts_with(expected), "{ended:?}");
                ended.killed_by(libc::SIGABRT);
            }
            Child::of(test, "none").env(ALL.0, ALL.1).run().success();
        }
    }
}
