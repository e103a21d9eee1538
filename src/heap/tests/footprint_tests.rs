//! How much of the allocator's own memory a thread with a few blocks touches.

use crate::base::size_class::{self, CLASSES, Class};
use crate::heap::cache::stack;
use crate::heap::data::bin::{Bin, room};
use crate::heap::data::heap::{Heap, HeapRef};
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::os::fake::{self, Call};
use crate::os::sys::{self, Errno};
use crate::slab::meta;
use std::collections::HashSet;
use std::thread;
use std::vec::Vec;

/// How many sizes a thread asks for: a few KiB in all, of twenty classes.
const SIZES: usize = 20;

/// Runs `test` on a thread whose heap is new. Heaps that other tests' threads left are kept from it: threads adopt them
/// meanwhile. A thread whose first block is a checked one has no heap yet.
fn on_new_heap(test: fn(*mut Heap)) {
    let one = move || {
        let block = hot::alloc(16, 8, None);
        assert!(!block.is_null());
        let heap = tls::current().map(HeapRef::ptr);
        if let Some(heap) = heap
            && places_of(heap).len() == 1
        {
            test(heap);
        } else {
            on_new_heap(test);
        }
        // SAFETY: allocated above.
        unsafe { hot::dealloc(block, 16, 8) };
    };
    thread::spawn(one).join().expect("the test passed");
}

/// The classes whose bins have places.
fn places_of(heap: *mut Heap) -> Vec<Class> {
    // SAFETY: the calling thread's heap, whose bins nobody else gives places.
    (0..CLASSES)
        .map(Class::new)
        .filter(|&class| unsafe { !(*heap).places[class.index()].is_null() })
        .collect()
}

/// OS pages wholly inside the heap that were touched.
fn touched(heap: *mut Heap) -> usize {
    let page = sys::page_size();
    let start = (heap as usize).next_multiple_of(page);
    // 0 if an OS page is larger than a heap.
    let pages = (heap as usize + size_of::<Heap>()).saturating_sub(start) / page;
    if pages == 0 {
        return 0;
    }
    let mut seen = std::vec![0_u8; pages];
    // SAFETY: a mapped range, and a byte for each page of it.
    let answer = unsafe { libc::mincore(start as *mut _, pages * page, seen.as_mut_ptr()) };
    assert_eq!(answer, 0);
    seen.iter().filter(|&&byte| byte & 1 != 0).count()
}

#[test]
fn a_thread_touches_of_its_heap_what_its_classes_need() {
    on_new_heap(|heap| {
        let size = |i: usize| 16 + 3 * i * i;
        let blocks: Vec<_> = (0..SIZES).map(|i| hot::alloc(size(i), 8, None)).collect();
        let mut classes: Vec<_> = (0..SIZES)
            .map(|i| size_class::small(size(i).min(1024)))
            .collect();
        classes.push(size_class::of_size(size(SIZES - 1)).expect("a class"));
        let stray = places_of(heap)
            .into_iter()
            .filter(|class| !classes.contains(class));
        // The test's own allocations go elsewhere: to the system's allocator.
        assert_eq!(stray.count(), 0, "bins of other classes have places");
        // The front, two rows of pointers and what belongs to a class lie together, in 15 KiB.
        let pages = touched(heap);
        let most = ((16 << 10) / sys::page_size()).max(2);
        assert!(pages <= most, "{pages} pages, {most} allowed");
        for (i, block) in blocks.into_iter().enumerate() {
            // SAFETY: allocated above, and freed once.
            unsafe { hot::dealloc(block, size(i), 8) };
        }
    });
}

#[test]
fn a_bin_gets_all_its_places_when_it_is_filled_again() {
    on_new_heap(|_| {
        let heap = tls::current().expect("a heap");
        // SAFETY: the calling thread's heap.
        let is_wide = |class| unsafe { Bin::is_wide(heap, class) };
        let class = size_class::small(112);
        let mut blocks = std::vec![hot::alloc(112, 8, None)];
        assert!(!is_wide(class));
        while !is_wide(class) {
            blocks.push(hot::alloc(112, 8, None));
            assert!(blocks.len() <= room(class), "filled twice by now");
        }
        // A bin that holds blocks keeps them, and its limit.
        let class = size_class::small(128);
        let other = hot::alloc(128, 8, None);
        // SAFETY: the calling thread's heap; the lock is held where it has to be.
        unsafe {
            let state = || (Bin::blocks(heap, class).to_vec(), Bin::limit(heap, class));
            let before = state();
            assert!(!before.0.is_empty() && !is_wide(class));
            let held = heap.lock();
            assert!(Bin::widen(heap, class));
            drop(held);
            assert_eq!(state(), before);
            assert_eq!(Bin::room(heap, class), room(class));
            hot::dealloc(other, 128, 8);
            blocks
                .into_iter()
                .for_each(|block| hot::dealloc(block, 112, 8));
        }
    });
}

#[test]
fn a_bin_with_few_places_serves_while_no_more_memory_comes() {
    if !fake::alone(
        "heap::tests::footprint_tests::a_bin_with_few_places_serves_while_no_more_memory_comes",
    ) {
        return;
    }
    on_new_heap(|_| {
        const BLOCKS: usize = 400;
        let heap = tls::current().expect("a heap");
        let class = size_class::small(112);
        let first = hot::alloc(112, 8, None);
        fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
        while meta::allocate_lines(1).is_some() {}
        for _ in 0..3 {
            let blocks: Vec<_> = (0..BLOCKS).map(|_| hot::alloc(112, 8, None)).collect();
            let others: HashSet<_> = blocks.iter().filter(|at| !at.is_null()).collect();
            assert!(others.len() == BLOCKS && !others.contains(&first));
            // SAFETY: the calling thread's heap and blocks.
            unsafe {
                assert!(!Bin::is_wide(heap, class));
                // One batch has more blocks than there are places, as one from another thread may.
                let (batch, others) = blocks.split_at(room(class));
                others.iter().for_each(|&block| hot::dealloc(block, 112, 8));
                stack::put(&mut heap.lock(), class, batch.as_ptr().cast(), batch.len());
            }
            let held = heap.lock();
            assert!(held.stacks[class].blocks as usize >= room(class));
            assert!(stack::is_valid(&held));
        }
        fake::clear();
        // SAFETY: allocated above.
        unsafe { hot::dealloc(first, 112, 8) };
    });
}
