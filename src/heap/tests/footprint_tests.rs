//! How much of the allocator's own memory a thread with a few blocks touches.

use crate::base::size_class::{self, CLASSES};
use crate::heap::data::heap::{Heap, HeapRef};
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::os::sys;
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
fn places_of(heap: *mut Heap) -> Vec<usize> {
    // SAFETY: the calling thread's heap, whose bins nobody else gives places.
    (0..CLASSES)
        .filter(|&class| unsafe { !(*heap).places[class].is_null() })
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
