//! The way home: batches are opened, and blocks put back into their slabs or sorted by owner.

use crate::base::size_class;
use crate::base::units::SLOT_SHIFT;
use crate::heap::data::heap::{Heap, shared};
use crate::heap::home::post;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::slabs;
use crate::slab::batch::{self, Batch, Block};
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::inbox::COUNTLESS;
use crate::slab::slab::damaged;
use crate::slab::{check, report};

/// The count of a batch, which is 1 to `most`.
///
/// # Safety
/// The caller owns the batch.
pub(crate) unsafe fn plausible(batch: Batch, most: usize) -> usize {
    // SAFETY: the caller's promise.
    let count = unsafe { batch.count() };
    if count == 0 || count > most {
        damaged(batch.head());
    }
    count
}

/// The class of what lies where a link leads, before that is followed; 0 where no first block of a batch can be.
pub(crate) fn class_at(batch: Batch) -> usize {
    let at = batch.head() as usize;
    if at.is_multiple_of(size_of::<Block>()) {
        DIRECTORY.own_tag(at).class()
    } else {
        0
    }
}

/// The batch after this one of those that were posted.
///
/// # Safety
/// The caller owns the batch.
pub(crate) unsafe fn next_posted(batch: Batch) -> Option<Batch> {
    // SAFETY: the caller's promise.
    let next = unsafe { batch.link()? };
    if !(1..size_class::CLASSES).contains(&class_at(next)) {
        damaged(batch.head());
    }
    Some(next)
}

/// Puts every block of a batch back where it belongs.
///
/// # Safety
/// The caller holds `heap`'s lock and owns the batch, of `class`.
pub(crate) unsafe fn batch(heap: *mut Heap, batch: Batch, class: usize, sorter: &mut Sorter) {
    // SAFETY: the caller's promises.
    unsafe {
        let first = (*shared(heap)).scratch.first();
        let count = open(batch, class, first, batch::MOST);
        blocks(heap, first, count, class, sorter);
    }
}

/// Puts the blocks at `count` addresses back where they belong: the heap's own into their slabs, foreign ones into
/// `sorter`.
///
/// # Safety
/// The caller holds `heap`'s lock and owns the blocks, all of `class`.
pub(crate) unsafe fn blocks(
    heap: *mut Heap,
    addresses: *const *mut Block,
    count: usize,
    class: usize,
    sorter: &mut Sorter,
) {
    let mut done = 0;
    // SAFETY: the caller owns the blocks; every address that was kept in one is checked against the directory.
    unsafe {
        while done < count {
            let first = *addresses.add(done);
            done += 1;
            let tag = DIRECTORY.tag(first as usize);
            if tag.class() != class {
                damaged(first);
            }
            if tag.owner() != (*heap).id {
                sorter.add(first, tag);
                continue;
            }
            // What follows in the same slot is of the same slab, and goes back with it.
            let mut together = 1;
            while done < count
                && (*addresses.add(done) as usize) >> SLOT_SHIFT == (first as usize) >> SLOT_SHIFT
            {
                together += 1;
                done += 1;
            }
            slabs::give(heap, addresses.add(done - 1), together, class);
        }
    }
}

/// Writes the addresses of a batch's blocks from `first` on, the one to be given out first last; answers how many.
///
/// # Safety
/// The caller owns the batch, of `class`, and has room for `most` of them.
pub(crate) unsafe fn open(
    batch: Batch,
    class: usize,
    first: *mut *mut Block,
    most: usize,
) -> usize {
    let size = size_class::size(class);
    // SAFETY: the caller's promises. What a block names is a block of the class if the directory says so.
    let (count, opened) = unsafe {
        let count = plausible(batch, most);
        let last = first.add(count - 1);
        let opened = batch.open(count, last, size, |some, read| {
            if read {
                return some.iter().all(|&block| {
                    DIRECTORY.own_tag(block as usize).class() == class
                        && check::is_start(block, class)
                });
            }
            let (mut bits, mut tags) = (0, 0);
            for &block in some {
                bits |= block as usize;
                tags |= DIRECTORY.tag(block as usize).0 ^ Tag::new(0, class as u8).0;
            }
            // Words that were not concealed by us have some of the high bits.
            bits >> 48 == 0 && Tag(tags).class() == 0 && {
                report::unless_all_start(some, class);
                true
            }
        });
        (count, opened)
    };
    opened.unwrap_or_else(|block| damaged(block));
    count
}

/// Takes what is in the inbox over to the pending batches. Each is looked at first: a batch that was posted twice leads back
/// to itself, and the inbox would have no end.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn gather_pending(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let Some((taken, count)) = (*heap).inbox.take_all() else {
            return;
        };
        let (mut last, mut walked) = (taken, 1);
        while let Some(next) = next_posted(last) {
            if walked >= count.min(MOST_POSTED) {
                posted_twice(taken, next);
            }
            walked += 1;
            last = next;
        }
        if walked != count && count != COUNTLESS {
            damaged(last.head());
        }
        last.set_link((*part).pending);
        (*part).pending = Some(taken);
        (*part).pending_count += walked;
    }
}

/// More batches than any inbox holds.
const MOST_POSTED: usize = 1 << 32;

/// Ends the process: the batches from `first` on come to `inside` and round again.
#[cold]
#[inline(never)]
unsafe fn posted_twice(first: Batch, inside: Batch) -> ! {
    // SAFETY: the caller owns the batches, and walked over each.
    unsafe {
        let next = |at: Batch| at.link().unwrap_or_else(|| damaged(at.head()));
        // As far ahead as the ring is long, another walker comes to where the ring begins at the same time.
        let (mut ahead, mut at) = (next(first), next(inside));
        while at != inside {
            (ahead, at) = (next(ahead), next(at));
        }
        let mut behind = first;
        while behind != ahead {
            (behind, ahead) = (next(behind), next(ahead));
        }
        report::free_already("free", behind.head(), class_at(behind));
    }
}

/// The next of the pending batches, which is the caller's from then on, and its class.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn next_pending(heap: *mut Heap) -> Option<(Batch, usize)> {
    // SAFETY: the caller's promise; posted batches are nobody else's.
    unsafe {
        let part = shared(heap);
        let batch = (*part).pending?;
        let class = post::class_of(batch.head());
        (*part).pending = next_posted(batch);
        (*part).pending_count -= 1;
        // Posted once more meanwhile, it leads elsewhere.
        if (*part).pending.is_some() != ((*part).pending_count > 0) {
            report::free_already("free", batch.head(), class);
        }
        (*part).drained += 1;
        Some((batch, class))
    }
}
