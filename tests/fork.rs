//! fork out of a process whose other threads are anywhere, inside the allocator too.
//!
//! Behaviours imitated:
//! - thousands of forks while threads allocate, free each other's blocks, allocate large blocks, start and end;
//! - a child that allocates, frees what the parent allocated (its own thread's and other threads'), starts threads of its own,
//!   forks again, and exits through the handlers or at once;
//! - several threads that fork at the same time.
//!
//! A fork that hangs ends with the time limit of the whole, which prints a backtrace of every process. The alarm of each forked
//! process ends those that no other process waits for.

// Threads come from `common::pthread`: a child of a process that starts threads with `std` cannot start any.
mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::pthread::{self, Pthread};
use common::{MIB, PATIENCE, scale};
use hakmem_alloc::Hakmem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// Seconds.
const ALARM: u32 = 60 * PATIENCE;

/// Threads that keep calling the allocator until told to stop.
struct Noise {
    stop: &'static AtomicBool,
    threads: Vec<Pthread>,
}

impl Noise {
    fn start() -> Self {
        let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        // Two that exchange blocks, so that inboxes are always in motion.
        let (a, from_a) = sync_channel::<Block>(512);
        let (b, from_b) = sync_channel::<Block>(512);
        for (out, inbox) in [(a, from_b), (b, from_a)] {
            threads.push(pthread::spawn(move || {
                for i in 0usize.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let _ = out
                        .try_send(Block::new(&HAKMEM, 16 + i % 3000))
                        .map_err(|full| match full {
                            std::sync::mpsc::TrySendError::Full(block) => block.free(&HAKMEM),
                            std::sync::mpsc::TrySendError::Disconnected(block) => {
                                block.free(&HAKMEM)
                            }
                        });
                    inbox
                        .try_iter()
                        .take(2)
                        .for_each(|block| block.free(&HAKMEM));
                }
            }));
        }
        // One whose stacks grow large, and give back what they are made of.
        threads.push(pthread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                swing();
                hakmem_alloc::purge();
            }
        }));
        // One that fills and empties slabs and takes huge blocks, one that starts and ends threads.
        threads.push(pthread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let blocks: Vec<_> = (0..300)
                    .map(|i| Block::new(&HAKMEM, 5000 + i * 100))
                    .collect();
                let huge = Block::new(&HAKMEM, 3 * MIB);
                blocks.into_iter().for_each(|block| block.free(&HAKMEM));
                huge.free(&HAKMEM);
            }
        }));
        threads.push(pthread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let blocks = of_an_ended_thread();
                blocks.into_iter().for_each(|block| block.free(&HAKMEM));
            }
        }));
        Self { stop, threads }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(Pthread::join);
    }
}

fn wait_for(pid: libc::pid_t, what: &str) {
    let mut status = 0;
    // SAFETY: a child of this process and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid, "{what}");
    assert!(
        !libc::WIFSIGNALED(status),
        "{what}: ended by signal {} (14: it hung)",
        libc::WTERMSIG(status)
    );
    assert_eq!(libc::WEXITSTATUS(status), 0, "{what}: exit code");
}

/// Forks; the child has an alarm, runs `body` and exits at once. A panic in it becomes exit code 101.
fn fork(what: &str, body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs code of this test and the allocator, which promises to work after fork.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: plain system calls.
            unsafe { libc::alarm(ALARM) };
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: leaves without running the parent's handlers.
            unsafe { libc::_exit(if ended.is_ok() { 0 } else { 101 }) }
        }
        pid => {
            assert!(pid > 0, "{what}: fork failed");
            pid
        }
    }
}

/// So many small blocks, again and again, that their stack keeps their addresses in magazines.
fn swing() {
    for size in [24, 24, 24, 72, 72, 72] {
        let blocks: Vec<_> = (0..4000).map(|_| Block::new(&HAKMEM, size)).collect();
        blocks.into_iter().for_each(|block| block.free(&HAKMEM));
    }
}

fn child_body(i: usize, blocks: Vec<Block>) {
    let fresh: Vec<_> = (0..200)
        .map(|k| Block::new(&HAKMEM, 16 + (i * 31 + k * 97) % 9000))
        .collect();
    blocks.into_iter().for_each(|block| block.free(&HAKMEM));
    fresh.into_iter().for_each(|block| block.free(&HAKMEM));
    let huge = Block::new(&HAKMEM, 4 * MIB);
    huge.touch();
    huge.free(&HAKMEM);
    if i.is_multiple_of(4) {
        let (send, receive) = sync_channel(8);
        let sender = pthread::spawn(move || {
            let sent = (0..100).try_for_each(|k| send.send(Block::new(&HAKMEM, 16 + k * 8)));
            sent.expect("nobody hangs up");
        });
        assert_eq!(
            receive.into_iter().map(|block| block.free(&HAKMEM)).count(),
            100
        );
        sender.join();
    }
    if i.is_multiple_of(16) {
        swing();
        // Adopts the heap of a thread that does not exist here.
        pthread::spawn(swing).join();
        hakmem_alloc::purge();
        swing();
    }
    if i.is_multiple_of(16) {
        let kept = Block::new(&HAKMEM, 777);
        wait_for(fork("grandchild", move || kept.free(&HAKMEM)), "grandchild");
    }
}

/// Blocks whose owner has ended.
fn of_an_ended_thread() -> Vec<Block> {
    let (send, receive) = sync_channel(1);
    let take = move || {
        let blocks: Vec<_> = (0..50).map(|i| Block::new(&HAKMEM, 40 + i)).collect();
        send.send(blocks).expect("the receiver waits");
    };
    pthread::spawn(take).join();
    receive.recv().expect("sent before the thread ended")
}

/// Blocks of this thread and of one that has ended.
fn parents_blocks(i: usize) -> Vec<Block> {
    let mut blocks: Vec<_> = (0..50)
        .map(|k| Block::new(&HAKMEM, 16 + (i + k * 113) % 20_000))
        .collect();
    if i.is_multiple_of(8) {
        blocks.extend(of_an_ended_thread());
    }
    blocks
}

fn fork_storm(forks: usize) {
    for i in 0..forks {
        let blocks = parents_blocks(i);
        // The child frees its copies, the parent its own.
        let copies = blocks
            .iter()
            .map(|b| Block {
                addr: b.addr,
                layout: b.layout,
            })
            .collect();
        let pid = fork("child", || child_body(i, copies));
        blocks.into_iter().for_each(|block| block.free(&HAKMEM));
        wait_for(pid, &format!("fork {i}"));
    }
}

#[test]
fn thousands_of_forks_out_of_a_busy_process() {
    const TEST: &str = "thousands_of_forks_out_of_a_busy_process";
    if child::case().is_some() {
        let noise = Noise::start();
        fork_storm(scale(2_000, 300));
        noise.end();
        return;
    }
    Child::of(TEST, "storm").run().success();
}

#[test]
fn several_threads_fork_at_once() {
    const TEST: &str = "several_threads_fork_at_once";
    if child::case().is_some() {
        let noise = Noise::start();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| fork_storm(scale(300, 80)));
            }
        });
        noise.end();
        return;
    }
    Child::of(TEST, "together").run().success();
}

#[test]
fn a_child_may_exit_through_the_handlers() {
    const TEST: &str = "a_child_may_exit_through_the_handlers";
    if child::case().is_some() {
        let noise = Noise::start();
        for i in 0..scale(300, 100) {
            // SAFETY: the child runs the process's exit handlers and nothing else of the parent's.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: plain calls.
                unsafe {
                    libc::alarm(ALARM);
                    drop(vec![1u8; 100_000]);
                    libc::exit(0);
                }
            }
            wait_for(pid, &format!("exiting child {i}"));
        }
        noise.end();
        return;
    }
    Child::of(TEST, "exits").run().success();
}

/// The child of a child of a busy process can itself be busy.
#[test]
fn a_child_becomes_as_busy_as_its_parent() {
    const TEST: &str = "a_child_becomes_as_busy_as_its_parent";
    if child::case().is_some() {
        let noise = Noise::start();
        for i in 0..scale(20, 8) {
            let pid = fork("busy child", || {
                let noise = Noise::start();
                fork_storm(10);
                noise.end();
            });
            wait_for(pid, &format!("busy child {i}"));
        }
        noise.end();
        return;
    }
    Child::of(TEST, "busy").run().success();
}
