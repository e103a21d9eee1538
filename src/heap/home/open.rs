//! Returns: opens batches, and puts blocks back into their slabs or sorts them by owner.

use crate::base::size_class::{self, Class};
use crate::base::units::{SLOT, SLOT_SHIFT};
use crate::heap::data::heap::HeldHeap;
use crate::heap::home::post;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::slabs;
use crate::slab::batch::{self, Batch, Block, MAX_COUNT};
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::report;
use crate::slab::report::damaged;

/// The count of a batch, which must be 1 to `most`, and the batch it links to.
///
/// # Safety
/// The caller owns the batch, of a class that is in the directory.
#[inline]
pub(crate) unsafe fn plausible(batch: Batch, most: usize) -> (usize, Option<Batch>) {
    // SAFETY: the caller's promise.
    let (count, link) = unsafe { batch.header() };
    if count == 0 || count > most {
        // It is marked as waiting in an inbox, but was found elsewhere: it was freed, and posted, once more.
        // What a program wrote there leads anywhere.
        let leads_on = link.is_none_or(|link| class_at(link.head()) != Class::NONE);
        if (1..=most).contains(&(count & MAX_COUNT)) && leads_on {
            twice(batch);
        }
        damaged(batch.head());
    }
    (count, link)
}

/// The class at the address that a link leads to, before the link is followed; none if no batch can begin there.
pub(crate) fn class_at(first: *mut Block) -> Class {
    let at = first as usize;
    if at.is_multiple_of(size_of::<Block>()) {
        DIRECTORY.own_tag(at).class()
    } else {
        Class::NONE
    }
}

/// [`plausible`], for a batch on a stack of `class`: the next one must be of that class.
///
/// # Safety
/// The caller owns the batch.
#[inline]
pub(crate) unsafe fn on_stack(batch: Batch, class: Class, most: usize) -> (usize, Option<Batch>) {
    // SAFETY: the caller's promise.
    let (count, next) = unsafe { plausible(batch, most) };
    if next.is_some_and(|next| class_at(next.head()) != class) {
        damaged(batch.head());
    }
    (count, next)
}

/// Ends the process: a batch, or the block it consists of, was freed twice.
#[cold]
#[inline(never)]
fn twice(batch: Batch) -> ! {
    report::free_already("free", batch.head(), class_at(batch.head()))
}

/// Returns every block of a batch.
///
/// # Safety
/// The caller owns the batch, of `class`.
pub(crate) unsafe fn batch(heap: &mut HeldHeap, batch: Batch, class: Class, sorter: &mut Sorter) {
    // SAFETY: the caller's promises.
    unsafe {
        let first = heap.scratch();
        let count = open(batch, class, first, batch::MOST);
        blocks(heap, first, count, class, sorter);
    }
}

/// Takes in the blocks at `count` addresses: the heap's own into their slabs, foreign ones into `sorter`.
///
/// # Safety
/// The caller owns the blocks, all of `class`.
pub(crate) unsafe fn blocks(
    heap: &mut HeldHeap,
    addresses: *const *mut Block,
    count: usize,
    class: Class,
    sorter: &mut Sorter,
) {
    let (mut done, mut own) = (0, 0);
    // SAFETY: the caller owns the blocks; every address that was kept in one is checked against the directory.
    unsafe {
        while done < count {
            let first = *addresses.add(done);
            done += 1;
            let tag = DIRECTORY.tag(first as usize);
            if tag.class() != class {
                damaged(first);
            }
            if tag.owner() != heap.heap().id {
                sorter.add(first, tag);
                continue;
            }
            // The blocks that follow in the same slot are of the same slab, and return together.
            let mut together = 1;
            while done < count
                && (*addresses.add(done) as usize) >> SLOT_SHIFT == (first as usize) >> SLOT_SHIFT
            {
                together += 1;
                done += 1;
            }
            slabs::give(heap, addresses.add(done - 1), together, class);
            own += together;
        }
    }
    if own > 0 {
        slabs::given(heap, own, class);
    }
}

/// Writes the addresses of a batch's blocks from `first` on, the one to be given out first last. Returns how many. Each was
/// freed in a slab of `class`. Whether a block starts there is checked when it is given out or returns to its slab.
///
/// # Safety
/// The caller owns the batch, of `class`, and has room for `most` of them.
pub(crate) unsafe fn open(
    batch: Batch,
    class: Class,
    first: *mut *mut Block,
    most: usize,
) -> usize {
    let size = size_class::size(class);
    // SAFETY: the caller's promises. What a block names is a block of the class if the directory says so.
    let (count, opened) = unsafe {
        let (count, _) = plausible(batch, most);
        let last = first.add(count - 1);
        let opened = batch.open(count, last, size, |some, read| {
            if read {
                // What is read of a block must end within its slot.
                return some.iter().all(|&block| {
                    class_at(block) == class && block as usize % SLOT + size <= SLOT
                });
            }
            let view = DIRECTORY.view();
            let (mut bits, mut tags) = (0, 0);
            for &block in some {
                bits |= block as usize;
                tags |= view.tag(block as usize).0 ^ Tag::new(0, class).0;
            }
            // Words that the allocator did not conceal have some of the high bits.
            bits >> 48 == 0 && Tag(tags).class() == Class::NONE
        });
        (count, opened)
    };
    opened.unwrap_or_else(|block| damaged(block));
    count
}

/// Makes what is in the inbox the pending batches, of which there are none.
pub(crate) fn gather_pending(heap: &mut HeldHeap) {
    debug_assert!(heap.pending.is_none(), "pending batches would be lost");
    heap.pending = heap.heap().inbox.take_all();
}

/// Takes the next pending batch, and returns it with its class. If a batch was posted twice, some link leads to a batch that was
/// taken before. Its mark as posted is cleared, so the process ends.
pub(crate) fn next_pending(heap: &mut HeldHeap) -> Option<(Batch, Class)> {
    let batch = heap.pending?;
    let class = post::class_of(batch.head());
    // SAFETY: posted batches are nobody else's.
    unsafe {
        let (count, next) = batch.header();
        if !(1..=batch::MOST).contains(&(count & MAX_COUNT))
            || next.is_some_and(|next| !class_at(next.head()).has_blocks())
        {
            damaged(batch.head());
        }
        if count <= MAX_COUNT {
            twice(batch);
        }
        batch.end_posted();
        heap.pending = next;
    }
    Some((batch, class))
}

/// Calls `found` for the pending batches, and for those that came in before the last of them was taken. The batches are `found`'s.
pub(crate) fn each_pending(
    heap: &mut HeldHeap,
    mut found: impl FnMut(&mut HeldHeap, Batch, Class),
) {
    let mut is_last = false;
    loop {
        while let Some((batch, class)) = next_pending(heap) {
            found(heap, batch, class);
        }
        if is_last {
            return;
        }
        // Later posts are for the next call: the lock is not held for as long as others keep posting.
        gather_pending(heap);
        is_last = true;
    }
}
