//! What a heap may hold because its program needs it again.

use crate::base::size_class;
use crate::base::tuning::heap_cache::AT_ONCE;
use crate::heap::cache::{budget, flush};
use crate::heap::data::heap::HeapRef;
use crate::heap::data::{bin, tls};
use crate::heap::entry::hot;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::os::{clock, fake};
use std::sync::{Barrier, mpsc};
use std::vec::Vec;
use std::{thread, vec};

const SWING: usize = 16 << 20;
/// Rounds within which a demand must be learnt.
const ROUNDS: usize = 40;

fn take(size: usize) -> Vec<usize> {
    let alloc = || hot::alloc(size, 8, None) as usize;
    (0..SWING / size)
        .map(|_| alloc())
        .inspect(|&block| assert_ne!(block, 0))
        .collect()
}

fn free(blocks: Vec<usize>, size: usize) {
    for block in blocks {
        // SAFETY: from `take`, and freed once.
        unsafe { hot::dealloc(block as *mut u8, size, 8) };
    }
}

/// What a heap keeps.
struct Kept {
    on_stacks: usize,
    learnt: usize,
    /// Bytes of its slabs that were ever handed out.
    carved: usize,
}

/// The heap of the calling thread, which has allocated.
fn mine() -> HeapRef {
    tls::current().expect("a heap")
}

fn kept() -> Kept {
    kept_by(mine())
}

fn kept_by(heap: HeapRef) -> Kept {
    let held = heap.lock();
    Kept {
        on_stacks: held.stack_bytes,
        learnt: budget::demand(&held),
        carved: held.carved_bytes,
    }
}

/// What a tick does once a period has passed.
fn look() {
    let mut held = mine().lock();
    let mut sorter = Sorter::new(&held, true);
    while !flush::shrink_unneeded(&mut held, AT_ONCE, &mut sorter).done {}
    drain::post_all(&mut held, &mut sorter);
    held.unlock().leave();
}

/// Runs the body in a process and on a thread of its own, for which no time passes.
fn alone(name: &str, body: fn()) {
    if fake::alone(name) {
        clock::stopped::stop();
        thread::spawn(body).join().expect("it passes");
    }
}

/// Bytes of two bins of the class: the one in use, and the one that last went onto the stack.
fn bins(size: usize) -> usize {
    2 * 1024 * size
}

/// As env-knobs.md has it under `HAKMEM_HEAP_CACHE_KB`.
#[test]
fn more_than_eight_threads_share_a_budget() {
    alone(
        "heap::tests::budget_tests::more_than_eight_threads_share_a_budget",
        || {
            let block = hot::alloc(100, 8, None) as usize;
            for (threads, kib) in [(1, 4096), (8, 4096), (9, 3640), (32, 1024), (300, 128)] {
                let barrier = Barrier::new(threads);
                let bound = thread::scope(|scope| {
                    let start = |_| {
                        scope.spawn(|| {
                            let block = hot::alloc(100, 8, None);
                            barrier.wait();
                            barrier.wait();
                            // SAFETY: allocated above.
                            unsafe { hot::dealloc(block, 100, 8) };
                        })
                    };
                    let others: Vec<_> = (1..threads).map(start).collect();
                    barrier.wait();
                    let bound = budget::bound(&mine().lock());
                    barrier.wait();
                    // The scope alone does not wait until the threads have given up their heaps.
                    for other in others {
                        other.join().expect("it frees its block");
                    }
                    bound
                });
                assert_eq!(bound >> 10, kib, "{threads} threads");
            }
            let blocks: Vec<_> = (0..4).map(|_| take(1000)).collect();
            let bound = budget::bound(&mine().lock());
            let eighth = 4 * SWING / 8;
            assert!((eighth..eighth * 9 / 8).contains(&bound), "{bound}");
            blocks.into_iter().for_each(|blocks| free(blocks, 1000));
            free(vec![block], 100);
        },
    );
}

#[test]
fn what_is_freed_once_goes_home() {
    alone(
        "heap::tests::budget_tests::what_is_freed_once_goes_home",
        || {
            const SIZE: usize = 64;
            free(take(SIZE), SIZE);
            let kept = kept();
            assert_eq!(kept.learnt, 0);
            let most = budget::least() + bins(SIZE);
            assert!(kept.on_stacks <= most, "{} KiB", kept.on_stacks >> 10);
        },
    );
}

#[test]
fn what_swings_beside_much_that_stays_goes_home() {
    alone(
        "heap::tests::budget_tests::what_swings_beside_much_that_stays_goes_home",
        || {
            const SIZE: usize = 64;
            let stays = [take(SIZE), take(SIZE)];
            for _ in 0..ROUNDS / 4 {
                free(take(SIZE), SIZE);
                assert_eq!(kept().learnt, 0);
            }
            stays.into_iter().for_each(|blocks| free(blocks, SIZE));
        },
    );
}

#[test]
fn what_swings_stays_until_it_does_no_more() {
    alone(
        "heap::tests::budget_tests::what_swings_stays_until_it_does_no_more",
        || {
            const SIZE: usize = 64;
            let stays = (0..ROUNDS).any(|_| {
                free(take(SIZE), SIZE);
                kept().on_stacks > SWING - bins(SIZE)
            });
            let then = kept();
            assert!(stays, "{} KiB stay", then.on_stacks >> 10);
            assert!(then.learnt >= SWING / 2, "{} KiB learnt", then.learnt >> 10);
            // The first look cannot know how long the blocks have lain there.
            (0..3).for_each(|_| look());
            assert!(kept().on_stacks <= bins(SIZE));
            (0..20).for_each(|_| look());
            assert_eq!(kept().learnt, 0);
        },
    );
}

/// The sum over all heaps counts none whose thread has ended.
#[test]
fn what_was_learnt_ends_with_the_thread() {
    alone(
        "heap::tests::budget_tests::what_was_learnt_ends_with_the_thread",
        || {
            const SIZE: usize = 48;
            let heap = thread::spawn(|| {
                assert!((0..ROUNDS).any(|_| {
                    free(take(SIZE), SIZE);
                    kept().learnt > 0
                }));
                mine()
            })
            .join()
            .expect("it passes");
            let held = heap.lock();
            // Another thread may have adopted it, and have learnt by itself.
            if heap.attended().is_idle() {
                assert_eq!(budget::demand(&held), 0);
            }
        },
    );
}

/// The most that the slabs hold of a program whose phases use different sizes in turn, each `times`. Blocks are `sort`ed before
/// they are freed.
fn phases(times: usize, sort: fn(&mut [usize])) -> usize {
    let (mut most, mut learnt) = (0, 0);
    for _ in 0..4 {
        for size in [64, 192, 320] {
            for _ in 0..times {
                let mut blocks = take(size);
                // One block of each at times, which brings a whole bin along.
                for size in [64, 192, 320] {
                    free(vec![hot::alloc(size, 8, None) as usize], size);
                }
                let now = kept();
                most = most.max(now.carved);
                learnt = learnt.max(now.learnt);
                sort(&mut blocks);
                free(blocks, size);
            }
        }
    }
    assert!(learnt > 0);
    assert!(learnt <= SWING * 3 / 2, "{} KiB learnt", learnt >> 10);
    most
}

/// What is kept for one size is reclaimed for another.
#[test]
fn what_is_kept_makes_room_for_other_sizes() {
    alone(
        "heap::tests::budget_tests::what_is_kept_makes_room_for_other_sizes",
        || {
            let most = phases(3, |_| {});
            let bound = SWING * 3 / 2 + budget::least();
            assert!(most <= bound, "{} KiB for {} live", most >> 10, SWING >> 10);
        },
    );
}

/// The few blocks of each size that stay on the stacks may lie in all of its slabs.
#[test]
fn what_is_freed_in_any_order_makes_room_for_other_sizes() {
    fn shuffle(blocks: &mut [usize]) {
        let mut state = 1_usize;
        for i in (1..blocks.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            blocks.swap(i, (state >> 33) % (i + 1));
        }
    }
    alone(
        "heap::tests::budget_tests::what_is_freed_in_any_order_makes_room_for_other_sizes",
        || {
            let most = phases(1, shuffle);
            let bound = SWING * 3 / 2 + budget::least();
            assert!(most <= bound, "{} KiB for {} live", most >> 10, SWING >> 10);
        },
    );
}

/// Nobody can empty a sleeping thread's bins, so what it keeps beyond the bound is on its stacks.
#[test]
fn bins_run_empty_with_their_class() {
    alone(
        "heap::tests::budget_tests::bins_run_empty_with_their_class",
        || {
            const SIZES: [usize; 4] = [64, 160, 400, 1000];
            let round = || {
                for blocks in SIZES.map(|size| (take(size), size)) {
                    free(blocks.0, blocks.1);
                }
            };
            assert!((0..ROUNDS).any(|_| {
                round();
                kept().learnt > SWING
            }));
            round();
            for size in SIZES {
                let class = size_class::of_layout(size, 8).expect("a small size");
                // SAFETY: as in `kept`; the bin is this thread's.
                let count = unsafe { bin::Bin::count(mine(), class) };
                assert!(count <= 1, "{count} blocks of {size} bytes");
            }
        },
    );
}

/// Threads that take turns do not each keep what one of them needs at a time.
#[test]
fn a_thread_that_waits_makes_room_for_one_that_grows() {
    alone(
        "heap::tests::budget_tests::a_thread_that_waits_makes_room_for_one_that_grows",
        || {
            const SIZE: usize = 64;
            let (to, from) = mpsc::channel();
            let (end, ends) = mpsc::channel::<()>();
            let waits = thread::spawn(move || {
                let swings = (0..ROUNDS).any(|_| {
                    free(take(SIZE), SIZE);
                    kept().on_stacks > SWING - bins(SIZE)
                });
                assert!(swings);
                to.send(mine()).expect("it listens");
                // Until the other one is done, or has failed.
                let _ = ends.recv();
            });
            let other = from.recv().expect("it learns");
            // This thread works for longer than the other needs to count as still.
            let stays = (0..ROUNDS).all(|_| {
                free(take(SIZE), SIZE);
                clock::stopped::pass(5);
                // What this thread learns must not keep it from growing.
                look();
                look();
                kept_by(other).on_stacks > bins(SIZE)
            });
            let left = kept_by(other).on_stacks;
            drop(end);
            waits.join().expect("it passes");
            assert!(!stays, "{} KiB stay", left >> 10);
        },
    );
}
