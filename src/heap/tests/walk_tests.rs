//! The debug walkers are not blind: they see what is planted in a heap's lists and counts.

use crate::heap::cache::stack;
use crate::heap::data::heap::{BUCKETS, Heap, Shared, lock, shared};
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::heap::slabs::walk;
use crate::slab::slab::Slab;
use std::thread;
use std::vec::Vec;

const SIZE: usize = 48;
const CLASS: usize = SIZE >> 4;

/// The calling thread's heap, with a listed slab and blocks on a stack.
fn heap() -> *mut Heap {
    let blocks: Vec<_> = (0..5000).map(|_| hot::alloc(SIZE, 8, None)).collect();
    for block in blocks {
        // SAFETY: allocated above, and freed once.
        unsafe { hot::dealloc(block, SIZE, 8) };
    }
    tls::get().cast()
}

unsafe fn listed(part: *mut Shared) -> *mut Slab {
    // SAFETY: the caller holds the lock.
    let buckets = unsafe { (*part).slabs[CLASS] };
    let first = buckets.into_iter().find(|slab| !slab.is_null());
    first.expect("a slab with room")
}

/// Name, fault, and what undoes it.
type Fault = (&'static str, unsafe fn(*mut Shared), unsafe fn(*mut Shared));

// SAFETY: of all: the caller holds the lock, and lets it go when the fault is undone.
const FAULTS: [Fault; 6] = [
    (
        "another owner",
        |part| unsafe { (*listed(part)).owner ^= 1 },
        |part| unsafe { (*listed(part)).owner ^= 1 },
    ),
    (
        "another class",
        |part| unsafe { (*listed(part)).class += 1 },
        |part| unsafe { (*listed(part)).class -= 1 },
    ),
    (
        "a wrong list",
        |part| unsafe { (*part).slabs[CLASS].rotate_left(1) },
        |part| unsafe { (*part).slabs[CLASS].rotate_left(BUCKETS - 1) },
    ),
    (
        "a slab whose pages are going",
        |part| unsafe { (*listed(part)).going = true },
        |part| unsafe { (*listed(part)).going = false },
    ),
    (
        "a block too few on a stack",
        |part| unsafe { (*part).spare[CLASS].blocks -= 1 },
        |part| unsafe { (*part).spare[CLASS].blocks += 1 },
    ),
    (
        "bytes too many on the stacks",
        |part| unsafe { (*part).spare_bytes += 16 },
        |part| unsafe { (*part).spare_bytes -= 16 },
    ),
];

#[test]
fn the_walkers_see_planted_faults_in_a_heap() {
    let seen = || {
        let heap = heap();
        // SAFETY: the thread's own heap; what is planted is undone before the lock is let go.
        unsafe {
            let _guard = lock(heap);
            let part = shared(heap);
            assert!((*part).spare[CLASS].blocks > 0, "nothing to be wrong in");
            let is_valid = || walk::slabs_are_valid(heap) && stack::is_valid(heap);
            assert!(is_valid());
            FAULTS.map(|(name, plant, undo)| {
                plant(part);
                let is_seen = !is_valid();
                undo(part);
                assert!(is_valid(), "{name}: undone");
                (name, is_seen)
            })
        }
    };
    for (name, is_seen) in thread::spawn(seen).join().expect("it passes") {
        assert!(is_seen, "{name} went unseen");
    }
}
