//! `HAKMEM_SS_PREFAULT=async`, each case in a process of its own.
//!
//! Behaviours imitated:
//! - a program that grows for a while, rests, and grows again;
//! - a hello-world, and a program that uses the same few megabytes over and over;
//! - a fork in the middle of growth, whose child continues to grow.

mod common;

use common::child::{self, Child};
use common::clock;
use hakmem_alloc::Hakmem;
use std::time::{Duration, Instant};

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

fn helpers() -> usize {
    common::mem::threads_named(|name| name == "hakmem-ahead")
}

/// Allocates small blocks and writes them while no time passes; returns them and the most helper threads seen.
// A block of its own for each is the point.
#[allow(clippy::vec_box)]
fn grow(mib: usize) -> (Vec<Box<[u8; 500]>>, usize) {
    let (mut blocks, mut seen) = (Vec::new(), 0);
    clock::stop();
    for i in 0..mib << 20 >> 9 {
        blocks.push(Box::new([i as u8; 500]));
        if i % 20_000 == 0 {
            seen = seen.max(helpers());
        }
    }
    (blocks, seen)
}

/// The same for a program that should be helped: it grows until a helper has had its turn on a busy machine.
// A block of its own for each is the point.
#[allow(clippy::vec_box)]
fn grow_helped(mib: usize) -> (Vec<Box<[u8; 500]>>, usize) {
    let (mut blocks, mut seen) = grow(mib);
    while seen == 0 && blocks.len() < (8 * mib) << 20 >> 9 {
        let more = grow(mib);
        // Bytes as their place in the whole list says.
        blocks.extend((blocks.len()..).zip(more.0).map(|(i, mut block)| {
            block.fill(i as u8);
            block
        }));
        seen = more.1;
    }
    (blocks, seen)
}

fn wait_until_alone() -> bool {
    let deadline = Instant::now() + Duration::from_secs(10) * common::PATIENCE;
    while helpers() > 0 {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn sound(blocks: &[Box<[u8; 500]>]) -> bool {
    blocks
        .iter()
        .enumerate()
        .all(|(i, b)| b.iter().all(|v| *v == i as u8))
}

#[test]
fn a_growing_program_is_kept_ahead_of_and_left_alone_when_it_rests() {
    const TEST: &str = "a_growing_program_is_kept_ahead_of_and_left_alone_when_it_rests";
    if child::case().is_some() {
        let (first, seen) = grow_helped(256);
        assert!(seen == 1, "{seen} helpers while growing");
        assert!(wait_until_alone(), "the thread stays though nothing grows");
        let (second, again) = grow_helped(256);
        assert!(again == 1, "{again} helpers while growing again");
        assert!(sound(&first) && sound(&second));
        child::report("grown", "yes");
        return;
    }
    let ended = Child::of(TEST, "grow")
        .env("HAKMEM_SS_PREFAULT", "async")
        .run();
    assert!(
        ended.stdout.contains("report grown=yes"),
        "{}\n{}",
        ended.stdout,
        ended.stderr
    );
}

/// What a program prewarms while the thread works stays after the thread has ended.
#[test]
fn what_was_prewarmed_on_request_is_left_alone() {
    const TEST: &str = "what_was_prewarmed_on_request_is_left_alone";
    const WARM: usize = 40;
    if child::case().is_some() {
        let (first, seen) = grow_helped(128);
        assert!(seen == 1, "{seen} helpers while growing");
        assert_eq!(hakmem_alloc::prewarm(WARM), WARM);
        assert!(wait_until_alone(), "the thread stays though nothing grows");
        let retained = hakmem_alloc::stats_quick().superslabs.retained;
        child::report("retained", retained);
        let before = common::mem::thread_faults();
        let (second, _) = grow(WARM);
        child::report("faults", common::mem::thread_faults() - before);
        assert!(sound(&first) && sound(&second));
        return;
    }
    let ended = Child::of(TEST, "prewarm")
        .env("HAKMEM_SS_PREFAULT", "async")
        .env("HAKMEM_THP", "never")
        .run();
    let retained: usize = ended.success().value("retained");
    // Beside what was asked for, the superslabs the program left half used.
    assert!((WARM..WARM + 4).contains(&retained), "{retained} ready");
    // 40 MiB are 10,240 OS pages.
    let faults: usize = ended.value("faults");
    assert!(faults < 1000, "{faults} faults in prewarmed memory");
}

#[test]
fn what_does_not_grow_or_did_not_ask_gets_no_thread() {
    const TEST: &str = "what_does_not_grow_or_did_not_ask_gets_no_thread";
    match child::case().as_deref() {
        Some("steady") => {
            for _ in 0..20 {
                let (_blocks, seen) = grow(8);
                assert_eq!(seen, 0);
            }
            child::report("helpers", helpers());
        }
        Some(_) => {
            let (_blocks, seen) = grow(256);
            child::report("helpers", seen);
        }
        None => {
            let cases = [
                ("steady", "HAKMEM_SS_PREFAULT", "async"),
                ("not asked", "HAKMEM_SS_PREFAULT", "off"),
                ("no background", "HAKMEM_BACKGROUND", "0"),
            ];
            for (case, name, value) in cases {
                let child = Child::of(TEST, case).env("HAKMEM_SS_PREFAULT", "async");
                let ended = child.env(name, value).run();
                assert!(
                    ended.stdout.contains("report helpers=0"),
                    "{case}: {}\n{}",
                    ended.stdout,
                    ended.stderr
                );
            }
        }
    }
}

#[test]
fn a_child_forked_while_growing_grows_on_with_a_thread_of_its_own() {
    const TEST: &str = "a_child_forked_while_growing_grows_on_with_a_thread_of_its_own";
    if child::case().is_some() {
        let (before, _) = grow(128);
        // SAFETY: the child uses the allocator, which is safe after fork, and leaves by _exit.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    let (blocks, seen) = grow_helped(256);
                    let right = seen == 1 && sound(&blocks) && sound(&before);
                    libc::_exit(i32::from(!right));
                }
                child => {
                    let mut status = 0;
                    libc::waitpid(child, &mut status, 0);
                    status
                }
            }
        };
        child::report("status", status);
        return;
    }
    let ended = Child::of(TEST, "fork")
        .env("HAKMEM_SS_PREFAULT", "async")
        .run();
    assert!(
        ended.stdout.contains("report status=0"),
        "{}\n{}",
        ended.stdout,
        ended.stderr
    );
}
