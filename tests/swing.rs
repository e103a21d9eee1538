//! Threads that allocate and free their smallest blocks by thousands, so that their bins lie in magazines, in a process that
//! forks.
//!
//! Behaviours imitated:
//! - threads that allocate and free 16, 48 and 64 bytes by thousands, in any order, and hand some on to be freed by others;
//! - threads that end with full bins and stacks, and others that begin with what those left;
//! - a thread that only frees what several others left;
//! - a thread that purges now and then;
//! - a child in which none of those threads exists, which adopts their heaps wherever the fork froze them, while their blocks
//!   stay as they are, and are freed in the end.
//!
//! Every block carries a mark that nothing else writes, so that a block that is handed out twice is noticed.
//! `ALLOC_TEST_FACTOR` multiplies the number of forks.

mod common;

use common::child::{self, Child};
use common::pthread::{self, Pthread};
use common::{PATIENCE, factor, scale};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::Duration;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

const THREADS: usize = 4;
const MOST: usize = 6_000;
const SIZES: [usize; 3] = [16, 48, 64];
/// Seconds.
const ALARM: u32 = 30 * PATIENCE;

/// What one thread holds, where a fork's child finds it: address, mark and size of each block; address 0 for none.
struct Held {
    blocks: [[AtomicUsize; 3]; MOST],
}

static HELD: [Held; THREADS] = [const {
    Held {
        blocks: [const { [const { AtomicUsize::new(0) }; 3] }; MOST],
    }
}; THREADS];

/// Blocks on their way from one thread to another.
static EXCHANGE: [AtomicUsize; 256] = [const { AtomicUsize::new(0) }; 256];

static MARKS: AtomicUsize = AtomicUsize::new(1);
static STOP: AtomicBool = AtomicBool::new(false);

/// A block of `size` bytes with `mark` in its first word and the size in its second.
fn take(size: usize, mark: usize) -> usize {
    let layout = Layout::from_size_align(size, 8).expect("a small size");
    // SAFETY: the size is not zero, and the block holds two words.
    unsafe {
        let block = HAKMEM.alloc(layout).cast::<usize>();
        assert!(!block.is_null(), "no memory");
        block.write_volatile(mark);
        block.add(1).write_volatile(size);
        block as usize
    }
}

fn check(block: usize, mark: usize, size: usize) {
    // SAFETY: a live block of two words at least.
    let found = unsafe { *(block as *const [usize; 2]) };
    assert_eq!(
        found,
        [mark, size],
        "somebody else has the block {block:#x}"
    );
}

fn free(block: usize, mark: usize, size: usize) {
    check(block, mark, size);
    let layout = Layout::from_size_align(size, 8).expect("a small size");
    // SAFETY: live until now, of this layout, and freed once by whoever took it out of its place.
    unsafe { HAKMEM.dealloc(block as *mut u8, layout) };
}

impl Held {
    fn put(&self, at: usize, size: usize) {
        let mark = MARKS.fetch_add(1, Relaxed);
        let block = take(size, mark);
        let [address, its_mark, its_size] = &self.blocks[at];
        its_mark.store(mark, Relaxed);
        its_size.store(size, Relaxed);
        // Release, and the same where it goes: a child that finds the address finds the rest.
        address.store(block, Release);
    }

    /// The block of that place, which is empty from then on.
    fn remove(&self, at: usize) -> Option<[usize; 3]> {
        let [address, mark, size] = &self.blocks[at];
        let block = address.swap(0, AcqRel);
        (block != 0).then(|| [block, mark.load(Relaxed), size.load(Relaxed)])
    }

    fn check(&self) {
        for [address, mark, size] in &self.blocks {
            let block = address.load(Relaxed);
            if block != 0 {
                check(block, mark.load(Relaxed), size.load(Relaxed));
            }
        }
    }

    fn free(&self, at: usize) {
        if let Some([block, mark, size]) = self.remove(at) {
            free(block, mark, size);
        }
    }
}

/// Puts a block where another thread takes it; frees what was there.
fn hand_on(at: usize, size: usize) {
    let block = take(size, 0);
    // SAFETY: live.
    unsafe { (block as *mut usize).write_volatile(!block) };
    free_handed(EXCHANGE[at % EXCHANGE.len()].swap(block, AcqRel));
}

fn free_handed(block: usize) {
    if block != 0 {
        // SAFETY: live, and its second word says the size.
        let size = unsafe { *(block as *const usize).add(1) };
        assert!(SIZES.contains(&size), "{block:#x}: {size} bytes");
        free(block, !block, size);
    }
}

/// Takes all there is room for, and frees it in one of several orders.
fn swing(held: &Held, size: usize, order: usize) {
    for at in 0..MOST {
        held.put(at, size);
        if at % 7 == 0 {
            hand_on(at / 7 + order, size);
        }
    }
    for i in 0..MOST {
        let at = match order % 3 {
            0 => i,
            1 => MOST - 1 - i,
            // 2,741 is a prime that does not divide the number of blocks.
            _ => i * 2741 % MOST,
        };
        held.free(at);
        // Up and down on the way, so that bins are filled and emptied by halves as well.
        if i % 500 == 499 {
            (0..at % 900).for_each(|_| free(take(size, 1), 1, size));
        }
    }
}

/// One thread after another in the same place; what each still holds the next one frees.
fn successors(place: usize) {
    for life in 0.. {
        let one = pthread::spawn(move || {
            let held = &HELD[place];
            (0..MOST).for_each(|at| held.free(at));
            for round in 0..6 {
                if STOP.load(Relaxed) {
                    return;
                }
                swing(
                    held,
                    SIZES[(place + round / 3 + life) % SIZES.len()],
                    life + round,
                );
            }
            (0..MOST)
                .step_by(3)
                .for_each(|at| held.put(at, SIZES[life % 3]));
        });
        one.join();
        if STOP.load(Relaxed) {
            return;
        }
    }
}

fn start() -> Vec<Pthread> {
    let purge = || {
        while !STOP.load(Relaxed) {
            hakmem_alloc::purge();
            // Stacks that are purged all the time never grow large.
            thread::sleep(Duration::from_millis(20));
        }
    };
    let mut threads: Vec<_> = (0..THREADS)
        .map(|place| pthread::spawn(move || successors(place)))
        .collect();
    threads.push(pthread::spawn(purge));
    threads
}

/// What blocks the child takes for itself, in a process whose other threads are gone.
fn childs_own(size: usize) {
    let blocks: Vec<_> = (0..MOST)
        .map(|_| {
            let mark = MARKS.fetch_add(1, Relaxed);
            (take(size, mark), mark)
        })
        .collect();
    for (block, mark) in blocks {
        free(block, mark, size);
    }
}

fn child_body(i: usize) {
    let check = || HELD.iter().for_each(Held::check);
    check();
    if i.is_multiple_of(2) {
        // What was frozen returns to its slabs before anybody adopts it.
        hakmem_alloc::purge();
        check();
    }
    // Each adopts a heap of a thread that does not exist here. ThreadSanitizer's runtime does not support threads in the
    // child of a process of several threads, and crashes at times.
    let sizes = SIZES.into_iter().filter(|_| !cfg!(tsan));
    let threads: Vec<_> = sizes
        .map(|size| pthread::spawn(move || childs_own(size)))
        .collect();
    childs_own(64);
    threads.into_iter().for_each(Pthread::join);
    hakmem_alloc::purge();
    check();
    for place in &EXCHANGE {
        free_handed(place.swap(0, Relaxed));
    }
    for held in &HELD {
        (0..MOST).for_each(|at| held.free(at));
    }
    hakmem_alloc::purge();
    SIZES.into_iter().for_each(childs_own);
}

fn fork_and_wait(i: usize) {
    // SAFETY: the child runs code of this test and the allocator, which promises to work after fork.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: a plain system call.
        unsafe { libc::alarm(ALARM) };
        let ended = std::panic::catch_unwind(|| child_body(i));
        // SAFETY: leaves without running the parent's handlers.
        unsafe { libc::_exit(if ended.is_ok() { 0 } else { 101 }) }
    }
    assert!(pid > 0, "fork failed");
    let mut status = 0;
    // SAFETY: a child of this process and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "fork {i}: status {status:#x} (signal 14: it hung)"
    );
}

#[test]
fn bins_in_magazines_survive_threads_forks_and_purges() {
    const TEST: &str = "bins_in_magazines_survive_threads_forks_and_purges";
    if child::case().is_none() {
        Child::of(TEST, "storm").run().success();
        return;
    }
    let threads = start();
    for i in 0..scale(60, 10) * factor() {
        thread::sleep(Duration::from_millis(i as u64 % 7));
        fork_and_wait(i);
    }
    STOP.store(true, Relaxed);
    threads.into_iter().for_each(Pthread::join);
    HELD.iter().for_each(Held::check);
}

/// A thread whose bin lies in a magazine frees what others left that have ended, in turns: theirs are sorted out of it.
#[test]
fn what_ended_threads_left_goes_through_a_bin_in_a_magazine() {
    const EACH: usize = 12_000;
    let leave = |first: usize| {
        thread::spawn(move || {
            let blocks = (0..EACH).map(|i| (take(16, first + i), first + i));
            blocks.collect::<Vec<_>>()
        })
        .join()
        .expect("it takes some")
    };
    let swings = || {
        let blocks: Vec<_> = (0..3 * EACH).map(|i| (take(16, !i), !i)).collect();
        for (block, mark) in blocks {
            free(block, mark, 16);
        }
    };
    let body = move || {
        for _ in 0..scale(20, 4) {
            (0..4).for_each(|_| swings());
            let left = [1, 2, 3].map(|owner| leave(owner * EACH));
            // Some of its own bin first, so that it is one that came from a magazine.
            free(take(16, 7), 7, 16);
            for i in 0..EACH {
                left.iter()
                    .for_each(|blocks| free(blocks[i].0, blocks[i].1, 16));
            }
            swings();
        }
    };
    thread::spawn(body).join().expect("it passes");
}
