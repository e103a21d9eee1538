//! Large stacks: their blocks lie in magazines, come back once each, and return to their slabs in the end.

use crate::base::size_class::{self, Class};
use crate::heap::cache::{flush, incoming, stack};
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::tls;
use crate::heap::entry::{hot, survey};
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::upkeep::maintain;
use crate::os::fake;
use crate::slab::batch::{Batch, Block};
use crate::slab::magazine;
use std::collections::HashSet;
use std::vec::Vec;
use std::{slice, thread};

/// Allocates blocks, checks that they are distinct and nobody else's, and frees them in the order of `places`.
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

/// Gives the calling thread its heap.
fn in_use() {
    round(48, 0, 0..1);
}

fn my_heap() -> HeapRef {
    tls::current().expect("a heap")
}

/// Blocks that the calling thread's heap has in magazines, and the bytes of all its magazines.
fn in_magazines(size: usize) -> (usize, usize) {
    let class = size_class::small(size);
    let held = my_heap().lock();
    assert!(stack::is_valid(&held));
    let stack = &held.stacks[class];
    (stack.in_magazines as usize, held.empties.held_bytes())
}

/// Allocates and frees until most blocks lie in magazines between two rounds: other tests' threads may purge meanwhile.
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
        let bins = of_bins();
        assert!(bytes <= bins, "{bytes} bytes, of bins {bins}");
        // And all over again.
        swing(64, 20_000);
    })
    .join()
    .expect("it passes");
}

/// Bytes of the magazines that the calling thread's bins lie in. Its heap may come from another thread, with bins of that one.
fn of_bins() -> usize {
    // SAFETY: the thread's own heap; the lock is held.
    unsafe {
        let _held = my_heap().lock();
        let lies = |&class: &Class| Bin::magazine(my_heap(), class).is_some();
        Class::all().filter(lies).count() * magazine::SIZE
    }
}

/// Whether the calling thread's bin lies in a magazine, and how many blocks it may hold.
fn bin(size: usize) -> (bool, usize) {
    let class = size_class::small(size);
    // SAFETY: the thread's own heap; the lock is held.
    unsafe {
        let _held = my_heap().lock();
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
            // A purge meanwhile takes the stack's magazines, but no bin of a living thread.
            round(size, 0, 0..20_000);
            let (inside, limit) = bin(size);
            assert_eq!(inside, expected, "{size} B");
            assert!(limit <= magazine::ROOM);
        }
        let mut held = my_heap().lock();
        let mut sorter = Sorter::new(&held, true);
        // SAFETY: the thread's own heap.
        unsafe { flush::flush_private(&mut held, &mut sorter) };
        drain::post_all(&mut held, &mut sorter);
        assert!(stack::is_valid(&held));
        drop(held);
        for size in [16, 64] {
            assert_eq!(bin(size), (false, 0), "{size} B");
        }
        swing(64, 20_000);
    })
    .join()
    .expect("it passes");
}

/// The addresses in the calling thread's bin, oldest first.
///
/// # Safety
/// `heap` is the calling thread's.
unsafe fn in_bin(heap: HeapRef, class: Class) -> Vec<*mut Block> {
    // SAFETY: the caller's promise: so many places were written.
    unsafe { slice::from_raw_parts(Bin::first(heap, class), Bin::count(heap, class)) }.to_vec()
}

/// Fills the calling thread's bin of 64 bytes to the last place of its magazine, and puts it onto the stack. Returns whether
/// there were magazines.
fn goes_and_comes_as_it_is() -> bool {
    let class = size_class::small(64);
    swing(64, 20_000);
    let blocks: Vec<*mut u8> = (0..2_000).map(|_| hot::alloc(64, 8, None)).collect();
    let heap = my_heap();
    // SAFETY: the thread's own heap and blocks; the lock is held while the stack is looked at.
    unsafe {
        let limit = Bin::limit(heap, class);
        let (full, rest) = blocks.split_at(limit - Bin::count(heap, class));
        full.iter().for_each(|&block| hot::dealloc(block, 64, 8));
        let mut held = heap.lock();
        let in_magazines = |held: &HeldHeap| held.stacks[class].in_magazines as usize;
        let (blocks, before) = (in_bin(heap, class), in_magazines(&held));
        let magazine = Bin::magazine(heap, class);
        let went = stack::put_bin(&mut held, class);
        if went {
            assert_eq!(blocks.len(), magazine::ROOM);
            assert!(Bin::magazine(heap, class).is_some_and(|other| Some(other) != magazine));
            assert_eq!(Bin::count(heap, class), 0);
            assert_eq!(in_magazines(&held), before + blocks.len());
            assert!(stack::is_valid(&held));
            assert_eq!(stack::take_bin(&mut held, class), blocks.len());
            assert_eq!(Bin::magazine(heap, class), magazine);
            assert_eq!(in_magazines(&held), before);
        }
        assert_eq!(in_bin(heap, class), blocks);
        assert!(stack::is_valid(&held));
        drop(held);
        rest.iter().for_each(|&block| hot::dealloc(block, 64, 8));
        went
    }
}

#[test]
fn a_full_bin_goes_onto_the_stack_and_comes_back_as_it_is() {
    let body = || (0..20).any(|_| goes_and_comes_as_it_is());
    assert!(thread::spawn(body).join().expect("it passes"));
}

/// A class returns to its slabs for lack of room, and its bin with it, empty or not.
#[test]
fn a_class_that_is_emptied_leaves_its_magazine() {
    thread::spawn(|| {
        let class = size_class::small(64);
        for left in [0, 100] {
            let mut blocks = Vec::new();
            // A purge in between may leave no magazine for the bin.
            let tries = (0..20).take_while(|_| {
                swing(64, 20_000);
                blocks.extend((0..1_000).map(|_| hot::alloc(64, 8, None)));
                !bin(64).0
            });
            assert!(tries.count() < 20, "the bin lies in a magazine");
            let heap = my_heap();
            // SAFETY: the thread's own heap and blocks; the lock is held where it has to be.
            unsafe {
                while Bin::count(heap, class) > 0 {
                    blocks.push(hot::alloc(64, 8, None));
                }
                let some = blocks.split_off(blocks.len() - left);
                some.into_iter()
                    .for_each(|block| hot::dealloc(block, 64, 8));
                assert!(bin(64).0);
                let mut held = heap.lock();
                let mut sorter = Sorter::new(&held, true);
                flush::empty(&mut held, class, &mut sorter);
                drain::post_all(&mut held, &mut sorter);
                assert!(stack::is_valid(&held));
                assert_eq!(held.stacks[class].blocks, 0);
                assert_eq!(Bin::count(heap, class), 0);
                drop(held);
                assert!(!bin(64).0, "{left} blocks were in the bin");
                blocks
                    .into_iter()
                    .for_each(|block| hot::dealloc(block, 64, 8));
            }
        }
    })
    .join()
    .expect("it passes");
}

#[test]
fn large_blocks_and_small_stacks_have_no_magazines() {
    // In another test's process the heap may be one that a thread left, with magazines.
    if !fake::alone("heap::tests::stack_tests::large_blocks_and_small_stacks_have_no_magazines") {
        return;
    }
    thread::spawn(|| {
        let few = [(48, 500), (2048, 1000)];
        in_use();
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
        assert_eq!(in_magazines(48).0, 0);
        let held = my_heap().lock();
        assert!(size_class::of_layout(2048, 8).is_some_and(|class| {
            held.stacks[class].blocks > 0 && held.stacks[class].in_magazines == 0
        }));
    })
    .join()
    .expect("it passes");
}

/// A machine of a terabyte has room for more blocks of a class than 32 bits count: here as many seem to be out already.
#[test]
fn blocks_beyond_four_billion_are_counted() {
    const OTHERS: u64 = (1 << 32) - 10;
    thread::spawn(|| {
        in_use();
        let class = 48 / 16;
        let add = |more: i64| {
            let allocated = &mut my_heap().lock().allocated_blocks[class];
            *allocated = allocated.wrapping_add_signed(more);
        };
        add(OTHERS as i64);
        round(48, 0, 0..5000);
        let blocks: Vec<_> = (0..5000).map(|_| hot::alloc(48, 8, None)).collect();
        let survey = survey::survey();
        // A checked block is of the next class: a word behind it is the allocator's.
        let live = survey.live[class] + survey.live[class + 1];
        assert!(live >= OTHERS as i64 + 5000, "{live}");
        for block in blocks {
            // SAFETY: live blocks, each freed once.
            unsafe { hot::dealloc(block, 48, 8) };
        }
        add(-(OTHERS as i64));
    })
    .join()
    .expect("no panic");
}

/// A batch was posted before another heap took a slab of the receiver over. Its first block is the receiver's own, another is
/// not. A search for foreign blocks finds both.
#[test]
fn a_batch_with_blocks_of_a_slab_that_was_taken_over_is_mixed() {
    const SIZE: usize = 20_000;
    let class = size_class::of_layout(SIZE, 8).expect("a class");
    let (first, kept): (HeapRef, usize) = thread::spawn(move || {
        in_use();
        // One block of a slab stays out, so that the idle heap has a slab with room.
        (my_heap(), hot::alloc(SIZE, 8, None) as usize)
    })
    .join()
    .expect("no panic");
    let taken_from = |heap: HeapRef| heap.lock().taken_from.has(class);
    // Threads of other tests may adopt the heap first: then the slab is used where it is.
    let mut blocks = Vec::new();
    let seen = (0..200).any(|_| {
        blocks.push(hot::alloc(SIZE, 8, None));
        taken_from(first)
    });
    let adopted = !taken_from(first);
    assert!(seen || adopted);
    thread::spawn(move || {
        in_use();
        let heap = my_heap();
        // SAFETY: the thread's own heap, under its lock; two free blocks of the class as a batch, of which the second
        // might be another heap's.
        unsafe {
            let pair = [hot::alloc(SIZE, 8, None), hot::alloc(SIZE, 8, None)];
            let mut held = heap.lock();
            held.taken_from.add(class);
            assert!(!heap.mixed.has(class));
            let batch = Batch::of(
                pair.as_ptr().cast::<*mut Block>().add(1),
                2,
                size_class::size(class),
            );
            heap.inbox.post(batch);
            let mut sorter = Sorter::new(&held, false);
            incoming::open_pending(&mut held, 1, &mut sorter);
            sorter.post_all(&mut held);
            assert!(heap.mixed.has(class));
            assert!(stack::is_valid(&held));
        }
    })
    .join()
    .expect("no panic");
    for block in blocks.into_iter().chain([kept as *mut u8]) {
        // SAFETY: live blocks, each freed once.
        unsafe { hot::dealloc(block, SIZE, 8) };
    }
}
