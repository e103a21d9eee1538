//! Threads whose destructors run after the allocator's own, in every round of destructors.
//!
//! Counted, not timed: without a heap every free is a batch of its own to the block's owner.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use hakmem_alloc::{Hakmem, stats};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

const THREADS: usize = 200;
const PAIRS: usize = 1000;

static KEY: AtomicU32 = AtomicU32::new(0);
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// The value of the key: the rounds that are still to come, plus one.
extern "C" fn ends(left: *mut c_void) {
    for i in 0..PAIRS {
        Block::new(&HAKMEM, 16 + i % 200).free(&HAKMEM);
    }
    RUNS.fetch_add(1, Ordering::Relaxed);
    set(left as usize - 1);
}

fn set(left: usize) {
    let value = std::ptr::without_provenance(left);
    // SAFETY: the key was made by the test; null ends the rounds.
    assert_eq!(
        unsafe { libc::pthread_setspecific(KEY.load(Ordering::Acquire), value) },
        0
    );
}

fn rounds(rounds: usize) {
    let mut key = 0;
    // SAFETY: a place for the key, and a destructor.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(ends)) }, 0);
    KEY.store(key, Ordering::Release);
    // What the harness needs is there.
    thread::spawn(move || set(rounds))
        .join()
        .expect("it ends well");
    let (before, runs) = (stats(), RUNS.load(Ordering::Relaxed));
    for _ in 0..THREADS {
        thread::spawn(move || set(rounds))
            .join()
            .expect("it ends well");
    }
    let after = stats();
    assert_eq!(RUNS.load(Ordering::Relaxed) - runs, THREADS * rounds);
    let posted = after.batches.posted + after.batches.drained
        - (before.batches.posted + before.batches.drained);
    assert!(
        posted < (THREADS * PAIRS / 10) as u64,
        "{posted} batches for {} pairs",
        THREADS * rounds * PAIRS
    );
    let heaps = |stats: &hakmem_alloc::Stats| stats.heaps.live + stats.heaps.idle;
    assert!(
        heaps(&after) <= heaps(&before) + 4,
        "{} heaps became {}",
        heaps(&before),
        heaps(&after)
    );
}

#[test]
fn destructors_after_ours_have_a_heap_of_their_own() {
    const TEST: &str = "destructors_after_ours_have_a_heap_of_their_own";
    if let Some(case) = child::case() {
        return rounds(case.parse().expect("a number"));
    }
    for case in ["1", "2", "4"] {
        Child::of(TEST, case)
            .limit(Duration::from_secs(120))
            .run()
            .success();
    }
}
