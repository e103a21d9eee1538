//! What a spare stack is made of: batches and, if it is large, magazines above them.
//!
//! Most stacks hold a few batches, which cost no memory of ours. Once a stack of small blocks holds as much as a magazine does,
//! the addresses of further blocks are written into magazines. A bin that lies in a magazine goes onto the stack as it is. If no
//! magazine is available, a batch serves as well.

use crate::base::size_class;
use crate::heap::cache::budget::first_limit;
use crate::heap::data::bin::{Bin, may_be_magazine, room};
use crate::heap::data::heap::{Heap, Shared, Spare, shared};
use crate::heap::data::state::Empties;
use crate::heap::home::open;
use crate::slab::batch::{Batch, Block};
use crate::slab::depot::DEPOT;
use crate::slab::directory::DIRECTORY;
use crate::slab::magazine::{self, Magazine};
use core::ptr;

/// Largest block whose address may be kept in a magazine. A batch of larger ones is short: one or two blocks name all of it.
const MAGAZINE_TO: usize = 256;

/// Pushes a batch.
///
/// # Safety
/// The caller holds `heap`'s lock and owns the batch, of `class`.
pub(crate) unsafe fn push(heap: *mut Heap, class: usize, batch: Batch) {
    // SAFETY: the caller's promises.
    unsafe {
        let part = shared(heap);
        let spare = &raw mut (*part).spare[class];
        batch.set_link((*spare).top);
        (*spare).top = Some(batch);
        added(part, class, batch.count());
    }
}

/// Pushes the blocks at the `count` addresses from `first` on, oldest first.
///
/// # Safety
/// The caller holds `heap`'s lock and owns the blocks, all of `class`.
pub(crate) unsafe fn put(heap: *mut Heap, class: usize, first: *const *mut Block, count: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        let part = shared(heap);
        let mut done = 0;
        if is_large(&raw const (*part).spare[class], class) {
            done = fill(part, class, first, count);
            added(part, class, done);
        }
        while done < count {
            let some = (count - done).min(room(class));
            let last = first.add(done + some - 1);
            push(heap, class, Batch::of(last, some, size_class::size(class)));
            done += some;
        }
    }
}

/// Pushes the oldest `some` blocks of the bin.
///
/// # Safety
/// The caller holds `heap`'s lock and is its thread; so many are in the bin.
pub(crate) unsafe fn put_oldest(heap: *mut Heap, class: usize, some: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let (first, left) = (Bin::first(heap, class), Bin::count(heap, class) - some);
        put(heap, class, first, some);
        ptr::copy(first.add(some), first, left);
        Bin::set_count(heap, class, left);
    }
}

/// Pushes the bin's magazine if the bin lies in a full one and an empty one can take its place. Returns whether it did.
///
/// # Safety
/// The caller holds `heap`'s lock and is its thread.
pub(crate) unsafe fn put_bin(heap: *mut Heap, class: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let count = Bin::count(heap, class);
        let Some(full) = Bin::magazine(heap, class).filter(|_| count == magazine::ROOM) else {
            return false;
        };
        let Some(empty) = empty(part) else {
            return false;
        };
        Bin::lay(heap, class, Some(empty));
        Magazine::close(full, count);
        let spare = &raw mut (*part).spare[class];
        (*full).below = (*spare).magazine;
        (*spare).magazine = full;
        (*spare).in_magazines += count as u32;
        added(part, class, count);
        true
    }
}

/// Takes the newest magazine off the stack and moves the bin, which is empty, into it. Returns how many blocks are in it; 0 if
/// there is no magazine, or the class's bin may not lie in one.
///
/// # Safety
/// The caller holds `heap`'s lock and is its thread.
pub(crate) unsafe fn take_bin(heap: *mut Heap, class: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let spare = &raw mut (*part).spare[class];
        let full = (*spare).magazine;
        if full.is_null() || !may_be_magazine(class) {
            return 0;
        }
        (*spare).magazine = (*full).below;
        if let Some(empty) = Bin::magazine(heap, class) {
            list_empty(part, empty);
        }
        let count = Bin::lay(heap, class, Some(full));
        (*spare).in_magazines -= count as u32;
        took(part, class, count);
        count
    }
}

/// Moves the bin, which is empty, back into its own places, with a limit of `limit`.
///
/// # Safety
/// The caller holds `heap`'s lock and is its thread, or that is gone.
pub(crate) unsafe fn leave_magazine(heap: *mut Heap, class: usize, limit: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        debug_assert!(
            Bin::count(heap, class) == 0,
            "blocks in the bin would be lost"
        );
        if let Some(empty) = Bin::magazine(heap, class) {
            Bin::lay(heap, class, None);
            list_empty(shared(heap), empty);
        }
        Bin::set_limit(heap, class, limit);
    }
}

/// Takes the newest run off the stack: each is a batch of its own.
///
/// # Safety
/// The caller holds `heap`'s lock, and owns the run from then on. `class` is one of runs.
pub(crate) unsafe fn take_run(heap: *mut Heap, class: usize) -> Option<*mut Block> {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let spare = &raw mut (*part).spare[class];
        let run = (*spare).top?;
        let (_, next) = open::on_stack(run, class, 1);
        (*spare).top = next;
        took(part, class, 1);
        Some(run.head())
    }
}

/// Takes blocks off the stack, last in, first out: up to `most` from magazines if it has any, else a batch. Writes their
/// addresses from `to` on, the newest last. Returns how many; 0 if the stack is empty.
///
/// # Safety
/// The caller holds `heap`'s lock, and owns the blocks from then on. At `to` there are as many places as the bin of
/// `class` has outside a magazine, and `most` at least.
pub(crate) unsafe fn take(
    heap: *mut Heap,
    class: usize,
    to: *mut *mut Block,
    most: usize,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let spare = &raw mut (*part).spare[class];
        let some = most.min((*spare).in_magazines as usize);
        if some > 0 {
            drain(part, class, to.add(some), some);
            took(part, class, some);
            return some;
        }
        let Some(batch) = (*spare).top else { return 0 };
        // Freed memory: a stray write may have changed the words. What they lead to is checked before it is followed, so that
        // the report names the block that was written to.
        let most = room(class).min((*spare).blocks as usize);
        let (count, next) = open::on_stack(batch, class, most);
        (*spare).top = next;
        took(part, class, count);
        open::open(batch, class, to, room(class))
    }
}

/// Gives back magazines that were not needed since the last call.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn shrink_empties(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let empties = &raw mut (*shared(heap)).empties;
        give(empties, (*empties).low);
        (*empties).low = (*empties).count;
    }
}

/// Gives back all empty magazines.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn give_empties(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let empties = &raw mut (*shared(heap)).empties;
        give(empties, (*empties).count);
    }
}

/// Gives up to `count` empty magazines back.
unsafe fn give(empties: *mut Empties, count: u32) {
    let mut list = ptr::null_mut();
    // SAFETY: the caller holds the lock of the heap they belong to.
    unsafe {
        for _ in 0..count.min((*empties).count) {
            let magazine = (*empties).list;
            (*empties).list = (*magazine).below;
            (*magazine).below = list;
            list = magazine;
            (*empties).count -= 1;
            (*empties).held -= 1;
        }
        (*empties).low = (*empties).low.min((*empties).count);
        DEPOT.give(list);
    }
}

/// Whether further blocks are worth a magazine: the stack already holds as much as a full one.
unsafe fn is_large(spare: *const Spare, class: usize) -> bool {
    // SAFETY: the caller holds the lock of the stack's heap.
    size_class::size(class) <= MAGAZINE_TO && unsafe { (*spare).blocks } as usize >= magazine::ROOM
}

unsafe fn added(part: *mut Shared, class: usize, count: usize) {
    // SAFETY: the caller holds the lock of the heap `part` belongs to.
    unsafe {
        let spare = &raw mut (*part).spare[class];
        (*spare).blocks += count as u32;
        (*part).spare_bytes += count * size_class::size(class);
        if (*spare).limit == 0 {
            (*spare).limit = first_limit(class);
        }
    }
}

unsafe fn took(part: *mut Shared, class: usize, count: usize) {
    // SAFETY: the caller holds the lock of the heap `part` belongs to.
    unsafe {
        let spare = &raw mut (*part).spare[class];
        (*spare).blocks -= count as u32;
        (*spare).low = (*spare).low.min((*spare).blocks);
        (*part).spare_bytes -= count * size_class::size(class);
    }
}

/// Writes addresses into the class's magazines. Returns how many there was room for.
unsafe fn fill(part: *mut Shared, class: usize, first: *const *mut Block, count: usize) -> usize {
    // SAFETY: the caller holds the lock of the heap `part` belongs to; the addresses are `count`.
    unsafe {
        let spare = &raw mut (*part).spare[class];
        let mut done = 0;
        while done < count {
            let some = match (*spare).magazine.is_null() {
                true => 0,
                false => Magazine::add((*spare).magazine, first.add(done), count - done),
            };
            done += some;
            if some == 0 {
                let Some(empty) = empty(part) else { break };
                (*empty).below = (*spare).magazine;
                (*spare).magazine = empty;
            }
        }
        (*spare).in_magazines += done as u32;
        done
    }
}

/// An empty magazine, the heap's or the depot's.
unsafe fn empty(part: *mut Shared) -> Option<*mut Magazine> {
    // SAFETY: the caller holds the lock of the heap `part` belongs to.
    unsafe {
        let empties = &raw mut (*part).empties;
        let magazine = (*empties).list;
        if magazine.is_null() {
            let magazine = DEPOT.take()?;
            (*empties).held += 1;
            return Some(magazine);
        }
        (*empties).list = (*magazine).below;
        (*empties).count -= 1;
        (*empties).low = (*empties).low.min((*empties).count);
        Some(magazine)
    }
}

/// Lists an empty magazine.
unsafe fn list_empty(part: *mut Shared, magazine: *mut Magazine) {
    // SAFETY: the caller holds the lock of the heap `part` belongs to, and owns the magazine.
    unsafe {
        let empties = &raw mut (*part).empties;
        (*magazine).below = (*empties).list;
        (*empties).list = magazine;
        (*empties).count += 1;
    }
}

/// Moves the newest `count` addresses out of the class's magazines, which hold as many, to the places below `end`.
unsafe fn drain(part: *mut Shared, class: usize, mut end: *mut *mut Block, count: usize) {
    // SAFETY: the caller holds the lock of the heap `part` belongs to, and has the places.
    unsafe {
        let spare = &raw mut (*part).spare[class];
        let mut left = count;
        while left > 0 {
            let magazine = (*spare).magazine;
            let some = Magazine::take(magazine, end, left);
            left -= some;
            end = end.sub(some);
            if Magazine::count(magazine) == 0 {
                (*spare).magazine = (*magazine).below;
                list_empty(part, magazine);
            }
        }
        (*spare).in_magazines -= count as u32;
    }
}

/// Debug walker: stacks hold as many blocks as they count, of their class; a magazine that serves as a bin counts none.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn is_valid(heap: *mut Heap) -> bool {
    let mut ok = true;
    // SAFETY: the lock is held.
    unsafe {
        let part = shared(heap);
        let (mut bytes, mut held) = (0, 0);
        for (class, spare) in (*part).spare.iter().enumerate() {
            let (mut in_magazines, mut in_batches) = (0, 0);
            if let Some(bin) = Bin::magazine(heap, class) {
                // The place that holds null.
                ok &= Magazine::count(bin) == 0;
                held += 1;
            }
            let mut magazine = spare.magazine;
            while !magazine.is_null() {
                let blocks = Magazine::blocks(magazine);
                ok &= !blocks.is_empty();
                ok &= blocks
                    .iter()
                    .all(|&block| DIRECTORY.tag(block as usize).class() == class);
                in_magazines += blocks.len();
                held += 1;
                magazine = (*magazine).below;
            }
            let mut batch = spare.top;
            while let Some(at) = batch {
                ok &= DIRECTORY.tag(at.head() as usize).class() == class;
                in_batches += at.count();
                batch = at.link();
            }
            ok &= in_magazines == spare.in_magazines as usize;
            ok &= in_magazines + in_batches == spare.blocks as usize;
            bytes += spare.blocks as usize * size_class::size(class);
        }
        ok &= bytes == (*part).spare_bytes;
        let mut empties = 0;
        let mut magazine = (*part).empties.list;
        while !magazine.is_null() {
            ok &= Magazine::count(magazine) == 0;
            empties += 1;
            magazine = (*magazine).below;
        }
        let counted = &(*part).empties;
        ok &= empties == counted.count && counted.low <= empties && counted.held == held + empties;
    }
    ok
}
