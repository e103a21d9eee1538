//! Everything at once, for a checker that watches every access to memory: `.ci/run` runs this under ThreadSanitizer, with
//! `--cfg tsan`.
//!
//! Behaviours imitated:
//! - threads that allocate, resize and free blocks of every kind, hand them on to each other, and end while others begin;
//! - small blocks allocated and freed by thousands, so that their bins lie in magazines;
//! - a thread that purges, prewarms and reads the statistics all the time;
//! - a program that forks meanwhile, and children that work on with what they find.
//!
//! A block that passes from one thread to another through the allocator alone (freed here, allocated there) is written by both:
//! a missing release or acquire on its way is a race to the checker, whatever the block contains.

mod common;

#[cfg(tsan)]
use common::pthread;
use common::shadow::{Live, Model, Plan, Registry};
use common::{MIB, clock, factor, scale};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

static HAKMEM: Hakmem = Hakmem::new();

const PLACES: usize = 4;
const PLAN: Plan = Plan {
    min_size: 1,
    max_size: 3 * MIB,
    max_align: 65_536,
    budget: 16 * MIB,
    blocks: 300,
    ..Plan::SMALL
};

/// The checker is about ten times as slow, and forgets what was long ago.
const fn steps(release: usize) -> usize {
    if cfg!(tsan) { release / 8 } else { release }
}

type Boxes = [Mutex<Vec<Live>>; PLACES];

/// One thread's life: it hands one block in four on.
fn life(place: usize, seed: u64, registry: &Registry, boxes: &Boxes) {
    let steps = steps(scale(4000, 1500));
    let mut model = Model::new(&HAKMEM, registry, seed, PLAN.steps(steps));
    for step in 0..steps {
        model
            .step()
            .unwrap_or_else(|e| panic!("thread {seed}, step {step}: {e}"));
        if model.chance(4) {
            let to = model.below(PLACES);
            boxes[to]
                .lock()
                .expect("no panic inside")
                .extend(model.give());
        }
        if model.chance(16) {
            let arrived = std::mem::take(&mut *boxes[place].lock().expect("no panic inside"));
            arrived
                .into_iter()
                .for_each(|block| model.take(block).expect("handed on"));
        }
        if step % 500 == 499 {
            swing([16, 48, 64][step / 500 % 3]);
        }
    }
    model
        .finish()
        .unwrap_or_else(|e| panic!("thread {seed} at its end: {e}"));
}

/// So many small blocks that their addresses go into magazines.
fn swing(size: usize) {
    let layout = Layout::from_size_align(size, 8).expect("small");
    for _ in 0..2 {
        // SAFETY: a size that is not zero; each block is written within its size and freed once.
        unsafe {
            let blocks: Vec<_> = (0..5000)
                .map(|_| HAKMEM.alloc(layout).cast::<usize>())
                .collect();
            blocks.iter().for_each(|block| block.write(1));
            blocks
                .into_iter()
                .for_each(|block| HAKMEM.dealloc(block.cast(), layout));
        }
    }
}

fn look_on(stop: &AtomicBool) {
    let mut seen = 0;
    while !stop.load(Relaxed) {
        seen += hakmem_alloc::stats_quick().live_blocks();
        hakmem_alloc::purge();
        hakmem_alloc::prewarm(1);
        seen += hakmem_alloc::stats().live_blocks();
        clock::pass(300);
        thread::yield_now();
    }
    std::hint::black_box(seen);
}

/// What a child does with what it finds: heaps of threads that do not exist here, locks as the fork left them.
fn child_body() {
    swing(32);
    hakmem_alloc::purge();
    for size in [100, 5000, 100_000, 2 * MIB] {
        let layout = Layout::from_size_align(size, 16).expect("small");
        // SAFETY: as in `swing`.
        unsafe {
            let block = HAKMEM.alloc(layout);
            block.write(1);
            HAKMEM.dealloc(block, layout);
        }
    }
}

fn fork_and_wait(n: usize) {
    // SAFETY: the child calls this allocator and what the C library promises to work after fork.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let ended = std::panic::catch_unwind(child_body);
        // SAFETY: leaves without running the parent's handlers.
        unsafe { libc::_exit(i32::from(ended.is_err())) }
    }
    let mut status = 0;
    // SAFETY: a child of this process and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "fork {n}");
}

#[test]
fn everything_at_once() {
    let registry = Registry::default();
    let boxes = Boxes::default();
    let (stop, at_work) = (AtomicBool::new(false), AtomicUsize::new(PLACES));
    thread::scope(|scope| {
        for place in 0..PLACES {
            let (registry, boxes, at_work) = (&registry, &boxes, &at_work);
            scope.spawn(move || {
                for n in 0..4 * factor() {
                    let seed = (place * 100_000 + n) as u64;
                    thread::scope(|s| _ = s.spawn(|| life(place, seed, registry, boxes)));
                }
                at_work.fetch_sub(1, Relaxed);
            });
        }
        scope.spawn(|| look_on(&stop));
        for n in 0.. {
            if at_work.load(Relaxed) == 0 {
                break;
            }
            // Children of a checked process are slow to come.
            if n % 8 == 0 && n < steps(scale(800, 240)) {
                fork_and_wait(n);
            }
            thread::yield_now();
        }
        stop.store(true, Relaxed);
    });
    let mut model = Model::new(&HAKMEM, &registry, 1, PLAN);
    for left in boxes {
        let left = left.into_inner().expect("no panic inside");
        left.into_iter()
            .for_each(|block| model.take(block).expect("handed on"));
    }
    model.finish().expect("what was left");
    assert!(registry.is_empty(), "the model lost a block");
}

/// The checker finds what it is for: memory of a block that two threads write without order.
#[cfg(tsan)]
#[test]
fn a_planted_race_is_reported() {
    use common::child::{self, Child};
    if child::case().is_some() {
        let layout = Layout::new::<usize>();
        // SAFETY: a race, on purpose, on a block that lives until both have ended.
        unsafe {
            let word = HAKMEM.alloc(layout) as usize;
            let write =
                move |value| (0..1000).for_each(|_| (word as *mut usize).write_volatile(value));
            let threads = [1, 2].map(|value| pthread::spawn(move || write(value)));
            threads.into_iter().for_each(pthread::Pthread::join);
            HAKMEM.dealloc(word as *mut u8, layout);
        }
        return;
    }
    let ended = Child::of("a_planted_race_is_reported", "race").run();
    assert!(
        !ended.status.is_some_and(|status| status.success()),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("ThreadSanitizer: data race"),
        "{ended:?}"
    );
}
