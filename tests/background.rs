//! The maintenance thread exists when a process of several threads retains much, and not otherwise.
//!
//! Behaviours imitated:
//! - a server whose workers allocated and freed much while the rest stays live, and that then waits;
//! - the same with `HAKMEM_BACKGROUND=0`;
//! - a process of one thread, which has no such thread while its usage rises and falls by little, and can end it to call
//!   unshare;
//! - a child of a fork, which has no maintenance thread until it needs one;
//! - a process that relies on where its signals are delivered.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::pthread;
use common::{MIB, PATIENCE, clock, mem};
use hakmem_alloc::Hakmem;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

static HAKMEM: Hakmem = Hakmem::new();

fn take(bytes: usize) -> Vec<Block> {
    (0..bytes / 1000)
        .map(|_| Block::new(&HAKMEM, 1000))
        .collect()
}

fn free(blocks: Vec<Block>) {
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
}

fn tasks() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/proc/self/task").expect("proc is mounted");
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// 500 MiB that stay live, so that much may be retained.
fn hold() -> Vec<Block> {
    take(500 * MIB)
}

/// Two workers that free 192 MiB while no time passes, and are then idle.
fn busy_and_then_idle() {
    clock::stop();
    let workers: Vec<_> = (0..2)
        .map(|_| pthread::spawn(|| free(take(96 * MIB))))
        .collect();
    workers.into_iter().for_each(pthread::Pthread::join);
    clock::resume();
}

/// The status of the maintenance thread. It starts during such work and ends a few seconds later, on a busy machine before this
/// thread has its turn.
fn maintenance_thread(known: &BTreeSet<String>) -> Option<String> {
    (0..PATIENCE).find_map(|_| {
        busy_and_then_idle();
        let thread = newcomer(known)?;
        std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()
    })
}

/// 300 MiB of small blocks and of large ones, taken and freed.
fn swing_alone() {
    free(take(300 * MIB));
    free((0..30).map(|_| Block::new(&HAKMEM, 10 * MIB)).collect());
}

/// The first thread that was not there before, if one appears in time.
fn newcomer(known: &BTreeSet<String>) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        if let Some(new) = tasks().difference(known).next() {
            return Some(new.clone());
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Forks, and returns what `body` returned in the child.
fn in_a_child(body: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs code of this test and the allocator, which promises to work after fork.
    match unsafe { libc::fork() } {
        // SAFETY: leaves without the parent's handlers.
        0 => unsafe { libc::_exit(if body() { 0 } else { 1 }) },
        pid => {
            let mut status = 0;
            // SAFETY: a child of this process and a place for its status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert!(libc::WIFEXITED(status), "ended with status {status:#x}");
            libc::WEXITSTATUS(status) == 0
        }
    }
}

fn play(case: &str) {
    let known = tasks();
    let before = mem::rss();
    match case {
        "wanted" => {
            let held = hold();
            let status = maintenance_thread(&known).expect("a maintenance thread");
            let blocked = status
                .lines()
                .find_map(|l| l.strip_prefix("SigBlk:"))
                .expect("a line SigBlk:");
            let blocked = u64::from_str_radix(blocked.trim(), 16).expect("hexadecimal");
            // All of 1..=31 but SIGKILL and SIGSTOP, which nobody can block.
            let all = 0x7fff_ffff & !(1 << (libc::SIGKILL - 1)) & !(1 << (libc::SIGSTOP - 1));
            assert_eq!(
                blocked & all,
                all,
                "signals may reach the maintenance thread: {blocked:#x}"
            );
            // What it is for: nobody calls the allocator while this thread waits.
            let bound = before + 500 * MIB * 11 / 10 + 16 * MIB;
            let left = mem::wait_for_rss(bound, Duration::from_secs(6));
            assert!(left <= bound, "{} MiB resident", left / MIB);
            free(held);
            let left = mem::wait_for_rss(before + 24 * MIB, Duration::from_secs(6));
            assert!(
                left <= before + 24 * MIB,
                "{} MiB resident after freeing all",
                (left - before) / MIB
            );
        }
        "off" => {
            let held = hold();
            busy_and_then_idle();
            assert_eq!(
                newcomer(&known),
                None,
                "HAKMEM_BACKGROUND=0, and yet a thread"
            );
            free(held);
        }
        "one thread, little" => {
            assert!(in_a_child(|| {
                let swing = |_| {
                    free(take(20 * MIB));
                    mem::threads() == 1
                };
                (0..20).all(swing)
            }));
        }
        "one thread, much" => {
            assert!(in_a_child(|| {
                let known = tasks();
                let came = (0..PATIENCE).any(|_| {
                    swing_alone();
                    newcomer(&known).is_some()
                });
                let (alone, unshared) = hakmem_alloc::raw::without_helper(|| {
                    let alone = mem::threads() == 1;
                    // SAFETY: a plain call, in a process that ends with the test.
                    (alone, unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0)
                });
                // A sandbox may forbid it; EINVAL is what a process of several threads gets.
                let may = std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL);
                came && alone && (unshared || may)
            }));
        }
        "one thread, allowed" => {
            assert!(in_a_child(|| {
                let before = mem::rss();
                (0..3).for_each(|_| swing_alone());
                let two = mem::threads() == 2;
                let left = mem::wait_for_rss(before + 24 * MIB, Duration::from_secs(6));
                two && left <= before + 24 * MIB
            }));
        }
        "after a fork" => {
            let held = hold();
            maintenance_thread(&known).expect("a maintenance thread");
            assert!(
                in_a_child(|| mem::threads() == 1),
                "a fork copies one thread"
            );
            assert!(
                in_a_child(|| {
                    let known = tasks();
                    let more = hold();
                    let came = maintenance_thread(&known).is_some();
                    free(more);
                    came
                }),
                "the child has no maintenance thread of its own"
            );
            free(held);
        }
        other => panic!("unknown case {other}"),
    }
    child::report("done", "yes");
}

fn run(test: &'static str, case: &str, variables: &[(&str, &str)]) {
    if let Some(case) = child::case() {
        return play(&case);
    }
    let child = variables
        .iter()
        .fold(Child::of(test, case), |child, (key, value)| {
            child.env(key, value)
        });
    assert_eq!(child.run().success().value::<String>("done"), "yes");
}

#[test]
fn a_maintenance_thread_where_it_is_wanted() {
    run("a_maintenance_thread_where_it_is_wanted", "wanted", &[]);
}

#[test]
fn none_where_it_is_turned_off() {
    run(
        "none_where_it_is_turned_off",
        "off",
        &[("HAKMEM_BACKGROUND", "0")],
    );
}

#[test]
fn none_in_a_process_of_one_thread_that_swings_by_little() {
    run(
        "none_in_a_process_of_one_thread_that_swings_by_little",
        "one thread, little",
        &[],
    );
}

#[test]
fn one_in_a_process_of_one_thread_that_swings_by_much_and_none_while_it_unshares() {
    run(
        "one_in_a_process_of_one_thread_that_swings_by_much_and_none_while_it_unshares",
        "one thread, much",
        &[],
    );
}

/// What is retained there waits for the delay, as in any process with the thread.
#[test]
fn one_in_a_process_of_one_thread_that_asks_for_it() {
    run(
        "one_in_a_process_of_one_thread_that_asks_for_it",
        "one thread, allowed",
        &[("HAKMEM_BACKGROUND", "2")],
    );
}

#[test]
fn a_new_one_in_the_child_of_a_fork() {
    run("a_new_one_in_the_child_of_a_fork", "after a fork", &[]);
}
