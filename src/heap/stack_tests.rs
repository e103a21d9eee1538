//! Spare stacks that are large: their blocks lie in magazines, come back once each, and go home in the end.

use super::bin::Bin;
use super::heap::{Heap, lock, shared};
use super::remote::{self, Sorter};
use super::{hot, maintain, stack, tls};
use crate::base::size_class;
use crate::slab::magazine;
use std::collections::HashSet;
use std::thread;
use std::vec::Vec;

/// Allocates so many blocks, checks that they are distinct and nobody else's, and frees them in the order that `places`
/// says.
fn round(size: usize, mark: usize, places: impl ExactSizeIterator<Item = usize>) {
    let count = places.len();
    let blocks: Vec<*mut usize> = (0..count)
        .map(|_| hot::alloc(size, 8, None).cast())
        .collect();
    let distinct: HashSet<_> = blocks.iter().collect();
    assert!(distinct.len() == count && blocks.iter().all(|block| !block.is_null()));
    // SAFETY: live blocks, each freed once: `places` names every one.
    unsafe {
        for (i, &block) in blocks.iter().enumerate() {
            *block = mark + i;
        }
        for i in places {
            assert_eq!(*blocks[i], mark + i, "nobody else has the block");
            hot::dealloc(blocks[i].cast(), size, 8);
        }
    }
}

fn my_heap() -> *mut Heap {
    tls::get().cast()
}

/// Blocks that the calling thread's heap has in magazines, and the bytes of all its magazines.
fn in_magazines(size: usize) -> (usize, usize) {
    let class = (size + 15) >> 4;
    // SAFETY: the thread has allocated, and so has a heap; the lock is held.
    unsafe {
        let heap = my_heap();
        let _guard = lock(heap);
        assert!(stack::is_valid(heap));
        let part = shared(heap);
        let spare = &raw const (*part).spare[class];
        ((*spare).in_magazines as usize, (*part).empties.held_bytes())
    }
}

/// Swings until a look between two rounds finds most blocks in magazines: other tests of this process may purge meanwhile.
fn swing(size: usize, count: usize) {
    for attempt in 0..50 {
        for mark in 0..4 {
            round(size, mark << 32, 0..count);
            round(size, mark << 32, (0..count).rev());
            // 7,919 is a prime that does not divide the number of blocks.
            round(size, mark << 32, (0..count).map(|i| i * 7919 % count));
        }
        let (blocks, bytes) = in_magazines(size);
        if blocks > count / 2 {
            assert!(bytes >= blocks * size_of::<usize>());
            return;
        }
        assert!(attempt < 49, "{blocks} of {count} blocks in magazines");
    }
}

#[test]
fn what_a_large_stack_holds_lies_in_magazines_and_comes_back_once() {
    for (size, count) in [(16, 20_000), (64, 20_000), (240, 6_000)] {
        thread::spawn(move || swing(size, count))
            .join()
            .expect("it passes");
    }
}

#[test]
fn magazines_nobody_needs_go_back() {
    thread::spawn(|| {
        swing(64, 20_000);
        maintain::purge_now();
        let (blocks, bytes) = in_magazines(64);
        assert_eq!(blocks, 0);
        assert!(
            bytes <= magazine::SIZE,
            "{bytes} bytes: more than the bin's"
        );
        // And all over again.
        swing(64, 20_000);
    })
    .join()
    .expect("it passes");
}

/// Whether the calling thread's bin lies in a magazine, and how many blocks it may hold.
fn bin(size: usize) -> (bool, usize) {
    let class = (size + 15) >> 4;
    // SAFETY: the thread's own heap; the lock is held.
    unsafe {
        let _guard = lock(my_heap());
        (
            Bin::magazine(my_heap(), class).is_some(),
            Bin::limit(my_heap(), class),
        )
    }
}

#[test]
fn bins_of_the_smallest_lie_in_magazines_until_they_are_flushed() {
    thread::spawn(|| {
        for (size, expected) in [(16, true), (64, true), (80, false)] {
            swing(size, 20_000);
            // Whoever purges meanwhile takes the stack's magazines, but no bin of a thread that lives.
            round(size, 0, 0..20_000);
            let (inside, limit) = bin(size);
            assert_eq!(inside, expected, "{size} B");
            assert!(limit <= magazine::ROOM);
        }
        let heap = my_heap();
        // SAFETY: the thread's own heap; the lock is held.
        unsafe {
            let _guard = lock(heap);
            let mut sorter = Sorter::new(heap, true);
            remote::flush_private(heap, &mut sorter);
            sorter.post_all();
            assert!(stack::is_valid(heap));
        }
        for size in [16, 64] {
            assert_eq!(bin(size), (false, 0), "{size} B");
        }
        swing(64, 20_000);
    })
    .join()
    .expect("it passes");
}

#[test]
fn large_blocks_and_small_stacks_have_no_magazines() {
    thread::spawn(|| {
        let few = [(48, 500), (2048, 1000)];
        for (size, count) in few {
            for _ in 0..10 {
                let blocks: Vec<*mut u8> = (0..count).map(|_| hot::alloc(size, 8, None)).collect();
                for block in blocks {
                    assert!(!block.is_null());
                    // SAFETY: just allocated.
                    unsafe { hot::dealloc(block, size, 8) };
                }
            }
        }
        // SAFETY: the thread's heap; the lock is held.
        unsafe {
            let _guard = lock(my_heap());
            let part = shared(my_heap());
            assert_eq!((*part).empties.held_bytes(), 0);
            assert!(size_class::of_layout(2048, 8).is_some_and(|class| {
                (*part).spare[class].blocks > 0 && (*part).spare[class].in_magazines == 0
            }));
        }
    })
    .join()
    .expect("it passes");
}
