//! The shelf: of a class's stack, the blocks that the heap's own bin shed last, if they are larger ones.
//!
//! A bin holds few larger blocks, so it overflows or runs empty every few calls. What it sheds lies on the shelf, places behind the
//! bin's own, and comes back by its addresses alone. A batch would be written into blocks, and read from them again. What the shelf
//! has no room for becomes a batch.

use crate::base::size_class::{self, Class};
use crate::heap::data::bin::{Bin, shelf_room};
use crate::heap::data::heap::HeldHeap;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::report;
use core::{ptr, slice};

/// Puts the blocks at `count` addresses onto the shelf, and what is in their way into a batch. Returns false if the shelf has no
/// room for so many. Ends the process if no block starts at one: the program freed it, and nothing looks at it again.
///
/// # Safety
/// The caller owns the blocks, all of `class`, and counts them.
pub(super) unsafe fn put(
    heap: &mut HeldHeap,
    class: Class,
    first: *const *mut Block,
    count: usize,
) -> bool {
    // SAFETY: the caller's promise; the places are the heap's, and so is what is on the shelf.
    unsafe {
        let Some(shelf) = Bin::shelf(heap.heap(), class) else {
            return false;
        };
        let stack = &mut heap.stacks[class];
        let mut there = stack.shelved as usize;
        if there > 0 && there + count > shelf_room(class) {
            let batch = Batch::of(shelf.add(there - 1), there, size_class::size(class));
            batch.link_to(there, stack.top);
            stack.top = Some(batch);
            there = 0;
            stack.shelved = 0;
        }
        if count > shelf_room(class) {
            return false;
        }
        report::unless_all_start(slice::from_raw_parts(first, count), class);
        ptr::copy_nonoverlapping(first, shelf.add(there), count);
        stack.shelved = (there + count) as u32;
        true
    }
}

/// Takes up to `most` blocks off the shelf, the newest, and writes their addresses from `to` on, the newest last. Returns how many.
///
/// # Safety
/// The caller owns the blocks from then on, uncounts them, and has `most` places.
pub(super) unsafe fn take(
    heap: &mut HeldHeap,
    class: Class,
    to: *mut *mut Block,
    most: usize,
) -> usize {
    let all = blocks(heap, class);
    let some = &all[all.len().saturating_sub(most)..];
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(some.as_ptr(), to, some.len()) };
    let count = some.len();
    heap.stacks[class].shelved -= count as u32;
    count
}

/// What lies on the class's shelf, oldest first.
pub(crate) fn blocks(heap: &HeldHeap, class: Class) -> &[*mut Block] {
    let count = heap.stacks[class].shelved as usize;
    if count == 0 {
        return &[];
    }
    // SAFETY: the lock is held, and so many places were written.
    unsafe {
        let shelf = Bin::shelf(heap.heap(), class);
        shelf.map_or(&[], |shelf| slice::from_raw_parts(shelf, count))
    }
}

/// Debug walker: the shelf holds as many blocks as are counted, no more than it has room for, all of its class.
pub(super) fn is_valid(heap: &HeldHeap, class: Class) -> bool {
    let blocks = blocks(heap, class);
    let of_class = |&block: &*mut Block| DIRECTORY.tag(block as usize).class() == class;
    blocks.len() == heap.stacks[class].shelved as usize
        && blocks.len() <= shelf_room(class)
        && blocks.iter().all(of_class)
}
