//! The debug walkers are not blind: they see what is planted in a heap's lists and counts.

use crate::base::size_class::Class;
use crate::heap::cache::stack;
use crate::heap::data::heap::{BUCKETS, HeapRef, HeldHeap, Shared};
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::heap::slabs::walk;
use crate::slab::slab::Slab;
use std::thread;
use std::vec::Vec;

const SIZE: usize = 48;
const CLASS: usize = SIZE >> 4;

/// The calling thread's heap, with a listed slab and blocks on a stack.
fn heap() -> HeapRef {
    let blocks: Vec<_> = (0..5000).map(|_| hot::alloc(SIZE, 8, None)).collect();
    for block in blocks {
        // SAFETY: allocated above, and freed once.
        unsafe { hot::dealloc(block, SIZE, 8) };
    }
    tls::current().expect("a heap")
}

fn listed(part: &mut Shared) -> *mut Slab {
    let first = part.slabs[CLASS].into_iter().find(|slab| !slab.is_null());
    first.expect("a slab with room")
}

/// Moves the class of the listed slab by `by`.
unsafe fn another_class(part: &mut Shared, by: isize) {
    let slab = listed(part);
    // SAFETY: a slab of the heap's, whose lock the caller holds.
    unsafe {
        let class = (*slab).class.get().index();
        (*slab).class = Class::new(class.wrapping_add_signed(by)).byte();
    }
}

/// Has class 0's bin, which has no places, hold `by` blocks more.
unsafe fn grow_bin_of_none(by: isize) {
    let heap = tls::current().expect("a heap").ptr();
    // SAFETY: the calling thread's heap, whose lock the caller holds.
    unsafe { (*heap).bottoms[0] = (*heap).bottoms[0].wrapping_offset(-by) };
}

/// Name, fault, and what undoes it.
type Fault = (&'static str, fn(&mut Shared), fn(&mut Shared));

// SAFETY: of all: a listed slab, or the calling thread's heap; the caller holds the lock, and lets it go when the fault is undone.
const FAULTS: [Fault; 9] = [
    (
        "another owner",
        |part| unsafe { (*listed(part)).owner ^= 1 },
        |part| unsafe { (*listed(part)).owner ^= 1 },
    ),
    (
        "another class",
        |part| unsafe { another_class(part, 1) },
        |part| unsafe { another_class(part, -1) },
    ),
    (
        "a wrong list",
        |part| part.slabs[CLASS].rotate_left(1),
        |part| part.slabs[CLASS].rotate_left(BUCKETS - 1),
    ),
    (
        "a slab whose pages are going",
        |part| unsafe { (*listed(part)).going = true },
        |part| unsafe { (*listed(part)).going = false },
    ),
    (
        "a block too few on a stack",
        |part| part.stacks[CLASS].blocks -= 1,
        |part| part.stacks[CLASS].blocks += 1,
    ),
    (
        "bytes too many on the stacks",
        |part| part.stack_bytes += 16,
        |part| part.stack_bytes -= 16,
    ),
    (
        "a slab of class 0",
        |part| part.slabs.swap(0, CLASS),
        |part| part.slabs.swap(0, CLASS),
    ),
    (
        "a block of class 0 on a stack",
        |part| part.stacks[0].blocks += 1,
        |part| part.stacks[0].blocks -= 1,
    ),
    (
        "a block of class 0 in a bin",
        |_| unsafe { grow_bin_of_none(1) },
        |_| unsafe { grow_bin_of_none(-1) },
    ),
];

#[test]
fn the_walkers_see_planted_faults_in_a_heap() {
    let seen = || {
        // What is planted is undone before the lock is let go.
        let mut held = heap().lock();
        assert!(held.stacks[CLASS].blocks > 0, "nothing to be wrong in");
        let is_valid = |held: &HeldHeap| walk::slabs_are_valid(held) && stack::is_valid(held);
        assert!(is_valid(&held));
        FAULTS.map(|(name, plant, undo)| {
            plant(&mut held);
            let is_seen = !is_valid(&held);
            undo(&mut held);
            assert!(is_valid(&held), "{name}: undone");
            (name, is_seen)
        })
    };
    for (name, is_seen) in thread::spawn(seen).join().expect("it passes") {
        assert!(is_seen, "{name} went unseen");
    }
}
