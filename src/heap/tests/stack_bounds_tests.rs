//! What stacks may hold, whichever way they grew.

use crate::base::size_class::{self, Class};
use crate::base::tuning::bins::BYTES;
use crate::base::tuning::heap_cache::RUNS;
use crate::heap::cache::{budget, flush, stack};
use crate::heap::data::tls;
use crate::heap::entry::hot;
use std::sync::mpsc::channel;
use std::thread;
use std::vec::Vec;

fn alloc(size: usize) -> usize {
    let block = hot::alloc(size, 8, None);
    assert!(!block.is_null());
    block as usize
}

/// # Safety
/// `block` is live, of `size` bytes, and not used again.
unsafe fn free(block: usize, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { hot::dealloc(block as *mut u8, size, 8) }
}

/// Bytes on the stacks of the calling thread's heap, bytes of its magazines, and bytes it learnt.
fn held() -> (usize, usize, usize) {
    let held = tls::current().expect("a heap").lock();
    assert!(stack::is_valid(&held));
    let magazines = held.empties.held_bytes();
    (held.stack_bytes, magazines, budget::demand(&held))
}

/// Another thread frees what this one took, class after class, a little at a time, while this one takes slow paths. All of it
/// comes through the inbox.
#[test]
fn stacks_that_grow_through_the_inbox_stay_within_what_a_heap_may_keep() {
    const CLASSES: usize = 32;
    const EACH: usize = 2 << 20;
    /// Too large for a bin or a stack, so that each takes the slow path.
    const LARGE: usize = 300 << 10;
    let (to, from) = channel::<(Vec<usize>, usize)>();
    let (done, wait) = channel();
    let other = thread::spawn(move || {
        for (blocks, size) in from {
            for block in blocks {
                // SAFETY: handed over.
                unsafe { free(block, size) };
            }
            done.send(()).expect("somebody waits");
        }
    });
    let mut most = 0;
    for class in 0..CLASSES {
        let size = 512 + 16 * class;
        for _ in 0..3 {
            let blocks: Vec<usize> = (0..EACH / size).map(|_| alloc(size)).collect();
            for some in blocks.chunks((64 << 10) / size) {
                to.send((some.to_vec(), size)).expect("somebody comes");
                wait.recv().expect("they are freed");
                // SAFETY: just allocated.
                unsafe { free(alloc(LARGE), LARGE) };
                most = most.max(held().0);
            }
        }
    }
    drop(to);
    other.join().expect("it passes");
    let may_keep = budget::least();
    // Besides, two bins of each class and the batches of one refill.
    let bins = CLASSES * 2 * BYTES + 16 * (8 << 10);
    assert!(most > 64 << 10, "they did come through the inbox");
    assert!(most <= may_keep + bins, "{} KiB on stacks", most >> 10);
}

/// The smallest blocks need the most magazines: half as many bytes as the blocks.
#[test]
fn magazines_count_among_what_a_heap_may_keep() {
    thread::spawn(|| {
        const SIZE: usize = 16;
        let count = (8 << 20) / SIZE;
        let may_keep = budget::least();
        let mut most = 0;
        let mut learns = 0;
        for _ in 0..6 {
            let blocks: Vec<usize> = (0..count).map(|_| alloc(SIZE)).collect();
            for (i, block) in blocks.into_iter().enumerate() {
                // SAFETY: just allocated.
                unsafe { free(block, SIZE) };
                if i % 1000 == 0 {
                    let (blocks, magazines, learnt) = held();
                    most = most.max((blocks + magazines).saturating_sub(learnt));
                    learns = learns.max(learnt);
                }
            }
        }
        let bin = size_class::size(Class::new(1)) * 1024;
        assert!(most > 128 << 10, "{} KiB: they swing", most >> 10);
        assert!(most <= may_keep + 2 * bin, "{} KiB", most >> 10);
        // What rises and falls, and half as much in magazines.
        assert!(learns <= count * SIZE * 3 / 2, "{} KiB", learns >> 10);
    })
    .join()
    .expect("it passes");
}

/// A run that is freed stays on the stack for the next that is wanted, if it is short. A longer one returns to the pool, which
/// serves every class with its memory. So does what waited for long, and on a slow machine this thread may be put aside for so
/// long at any moment: it tries a few times.
#[test]
fn a_short_run_that_is_freed_serves_the_next() {
    thread::spawn(|| {
        // SAFETY: just allocated.
        unsafe { free(alloc(8), 8) };
        for size in [60 << 10, 100 << 10, 130 << 10, 300 << 10, 1 << 20] {
            let class = size_class::size(size_class::of_layout(size, 8).expect("a run"));
            let serves = || {
                let none = held().0;
                let block = alloc(size);
                // SAFETY: in use, each time.
                unsafe {
                    free(block, size);
                    let kept = held().0;
                    if class > RUNS {
                        return kept == none;
                    }
                    let again = alloc(size);
                    free(again, size);
                    kept == none + class && again == block
                }
            };
            let tries = (0..20).any(|_| {
                let served = serves();
                flush_class(size);
                served
            });
            assert!(tries, "{size} bytes");
        }
    })
    .join()
    .expect("it passes");
}

fn flush_class(size: usize) {
    let class = size_class::of_layout(size, 8).expect("a run");
    flush::return_stack(&mut tls::current().expect("a heap").lock(), class);
}
