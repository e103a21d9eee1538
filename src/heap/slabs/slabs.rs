//! A heap's slabs, under its lock: which have room, taking blocks from them and putting them back.
//!
//! Slabs with room are listed by fullness, and the fullest is taken from first, so that sparse ones run empty. A slab of which
//! fewer than one block in 32 is free is in no list: fetching so few would not be worth a slow path.

use crate::base::account::{self, Kind};
use crate::base::size_class::{self, Class};
use crate::base::tuning::heap_cache::{GROWN_SHARE, LISTED_SHARE, SLABS_PER_REFILL};
use crate::base::units::SLOT;
use crate::base::wanted;
use crate::checked;
use crate::heap::data::heap::{BUCKETS, HeldHeap, Shared, carve_count};
use crate::heap::slabs::expected_use;
use crate::os::clock;
use crate::pool::{self, Claim};
use crate::slab::batch::Block;
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::report;
use crate::slab::slab::{Slab, Taken};
use crate::slab::superslab::Superslab;
use core::ptr;
use core::sync::atomic::Ordering;

/// Fewest free blocks for which a slab is listed.
#[inline]
fn listed_from(capacity: usize) -> usize {
    (capacity / LISTED_SHARE).max(1)
}

/// The list for a slab: 0 for none, else 1 (fullest) to [`BUCKETS`].
#[inline]
pub(crate) fn bucket(available: usize, capacity: usize) -> usize {
    if available < listed_from(capacity) {
        return 0;
    }
    let quarters = available * 4;
    1 + (quarters >= capacity) as usize
        + (quarters >= 2 * capacity) as usize
        + (quarters >= 3 * capacity) as usize
}

/// Takes a slab out of its list.
///
/// # Safety
/// The slab is one of those that the heap of `part` lists.
pub(crate) unsafe fn unlink(part: &mut Shared, slab: *mut Slab) {
    // SAFETY: the caller's promise.
    unsafe {
        let (next, prev) = ((*slab).next, (*slab).prev);
        part.holes.unlinked(slab);
        if prev.is_null() {
            part.slabs[(*slab).class.get()][(*slab).bucket as usize - 1] = next;
        } else {
            (*prev).next = next;
        }
        if !next.is_null() {
            (*next).prev = prev;
        }
        (*slab).bucket = 0;
    }
}

/// Puts the slab into the list its fullness asks for, unless pages of it are going.
pub(crate) unsafe fn relist(part: &mut Shared, slab: *mut Slab) {
    // SAFETY: the slab is the heap's.
    unsafe {
        let wanted = bucket((*slab).available(), (*slab).capacity());
        if wanted == (*slab).bucket as usize || (*slab).going {
            return;
        }
        if (*slab).bucket != 0 {
            unlink(part, slab);
        }
        if wanted != 0 {
            let head = &mut part.slabs[(*slab).class.get()][wanted - 1];
            (*slab).next = *head;
            (*slab).prev = ptr::null_mut();
            if !head.is_null() {
                (**head).prev = slab;
            }
            *head = slab;
            (*slab).bucket = wanted as u8;
        }
    }
}

/// Takes about `want` blocks from the heap's slabs, and more if they are new and the class is large. Writes their addresses from
/// `to` upwards, where there is room for `room`. Returns how many, and whether the last is zero.
///
/// # Safety
/// The caller has the room.
pub(crate) unsafe fn take(
    heap: &mut HeldHeap,
    class: Class,
    to: *mut *mut Block,
    want: usize,
    room: usize,
) -> Option<Taken> {
    debug_assert!(want <= room);
    if heap.slab_count[class] == 0 {
        // The table of lists may be untouched. It is written soon, and reading it first takes one more page fault.
        debug_assert!(heap.slabs[class].iter().all(|slab| slab.is_null()));
        return None;
    }
    // SAFETY: listed slabs belong to the heap and have room.
    unsafe {
        let mut got = Taken {
            count: 0,
            zero: false,
        };
        for _ in 0..SLABS_PER_REFILL {
            let Some(&slab) = heap.slabs[class].iter().find(|slab| !slab.is_null()) else {
                break;
            };
            let left = want - got.count;
            let before = (*slab).held_bytes();
            let mut carve = carve_count(class).min(left);
            if !heap.fed.has(class) {
                let grown = heap.slab_count[class] as usize * (*slab).capacity() / GROWN_SHARE;
                carve = carve.max(want / 2).min(left).max(grown);
            }
            carve = carve.min(room - got.count);
            let Some(taken) = (*slab).take(to.add(got.count), room - got.count, carve) else {
                break;
            };
            account(heap, slab, class, before, taken.count);
            got = Taken {
                count: got.count + taken.count,
                zero: taken.zero,
            };
            if got.count * 2 >= want || taken.zero {
                break;
            }
        }
        (got.count > 0).then_some(got)
    }
}

/// `count` blocks were taken from the slab, which held `before` bytes.
unsafe fn account(part: &mut Shared, slab: *mut Slab, class: Class, before: usize, count: usize) {
    // SAFETY: the slab is the heap's.
    unsafe {
        let carved = (*slab).held_bytes() - before;
        if carved > 0 {
            part.carved_bytes += carved;
            account::change(Kind::Blocks, 0, carved);
        }
        part.allocated_blocks[class] += count as u64;
        part.allocated_bytes += count * size_class::size(class);
        relist(part, slab);
    }
}

/// Puts the blocks at the `count` addresses up to and including `*last` back into their slab. If nothing of the slab is out then,
/// it goes back to the pool, unless the heap may keep it. [`given`] counts what one call or several gave.
///
/// # Safety
/// The caller owns the blocks, which lie in one slab of `heap`.
#[inline]
pub(crate) unsafe fn give(
    heap: &mut HeldHeap,
    last: *const *mut Block,
    count: usize,
    class: Class,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let block = *last;
        let slab = Superslab::slab_of(block as usize);
        if count > (*slab).allocated() {
            report::wrong(block, class);
        }
        debug_assert!((*slab).owner == heap.heap().id && (*slab).class.get() == class);
        if let Err(block) = (*slab).give(last, count) {
            report::wrong(block, class);
        }
        settle(heap, slab);
    }
}

/// Counts blocks that returned to slabs, before the lock is released.
#[inline]
pub(crate) fn given(heap: &mut HeldHeap, count: usize, class: Class) {
    let bytes = count * size_class::size(class);
    heap.allocated_blocks[class] -= count as u64;
    heap.allocated_bytes -= bytes;
    heap.holes.given(class, bytes);
}

/// Puts a slab to which blocks came back into the list it belongs to, or gives it back to the pool.
unsafe fn settle(heap: &mut HeldHeap, slab: *mut Slab) {
    // SAFETY: the slab is the heap's.
    unsafe {
        if (*slab).allocated() > 0 || (*slab).going {
            relist(heap, slab);
        } else if (*slab).touched() <= heap.keep_left {
            heap.keep_left -= (*slab).touched();
            heap.kept += (*slab).touched();
            heap.has_empty = true;
            relist(heap, slab);
        } else {
            retire(heap, slab);
        }
    }
}

/// Applies `change` to a slab, and counts what the slab then holds.
///
/// # Safety
/// The slab is of the heap of `part`.
pub(crate) unsafe fn changing<T>(
    part: &mut Shared,
    slab: *mut Slab,
    change: impl FnOnce(&mut Slab) -> T,
) -> T {
    // SAFETY: the caller's promise.
    unsafe {
        let was = (*slab).held_bytes();
        let done = change(&mut *slab);
        let is = (*slab).held_bytes();
        part.carved_bytes = part.carved_bytes - was + is;
        account::change(Kind::Blocks, was, is);
        done
    }
}

/// Ends the time in which pages of the slab are going.
///
/// # Safety
/// As for [`changing`]. The slab was taken out of its list when they went.
pub(crate) unsafe fn stay(heap: &mut HeldHeap, slab: *mut Slab) {
    // SAFETY: the caller's promise.
    unsafe {
        (*slab).going = false;
        settle(heap, slab);
    }
}

/// Gives the heap's empty slabs back to the pool.
pub(crate) fn retire_empty(heap: &mut HeldHeap) {
    // SAFETY: listed slabs belong to the heap.
    unsafe {
        if !core::mem::take(&mut heap.has_empty) {
            return;
        }
        for class in Class::all() {
            let mut slab = heap.slabs[class][BUCKETS - 1];
            while !slab.is_null() {
                let next = (*slab).next;
                if (*slab).allocated() == 0 {
                    retire(heap, slab);
                }
                slab = next;
            }
        }
    }
}

unsafe fn retire(heap: &mut HeldHeap, slab: *mut Slab) {
    // SAFETY: the slab is the heap's, and nothing of it is out: its tags may go (rule 2).
    unsafe {
        debug_assert!((*slab).is_valid());
        if (*slab).bucket != 0 {
            unlink(heap, slab);
        }
        let class = (*slab).class.get();
        let slots = size_class::slots(class);
        let base = (*slab).base;
        heap.slab_count[class] -= 1;
        heap.slab_bytes -= slots.bytes();
        DIRECTORY.set(base, slots, Tag::NONE);
        let superslab = DIRECTORY.descriptor(base).load(Ordering::Relaxed) as *mut Superslab;
        let slot = (base - (*superslab).base) / SLOT;
        if !size_class::is_run(class) {
            Superslab::part(superslab, slot, slots);
        }
        let used = (*slab).touched();
        expected_use::retired(class, (*slab).ever_touched());
        heap.carved_bytes -= (*slab).held_bytes();
        account::change(Kind::Blocks, (*slab).held_bytes(), 0);
        (*slab).close();
        let over = pool::release(superslab, slot, slots, used, clock::now_ms());
        heap.errands.trim_if(over);
        wanted::note();
    }
}

/// Makes claimed slots a slab of `heap`.
///
/// # Safety
/// The caller owns the claim.
pub(crate) unsafe fn open(heap: &mut HeldHeap, claim: Claim, class: Class) {
    // SAFETY: the caller's promises: nobody else knows of these slots yet.
    unsafe {
        let slab = &raw mut (*claim.superslab).slabs[claim.slot];
        let base = claim.addr();
        let slots = size_class::slots(class);
        let bits = Superslab::bits_of(claim.superslab, claim.slot, size_class::capacity(class));
        Slab::open(slab, base, class, heap.heap().id, claim.clean, bits);
        if !size_class::is_run(class) {
            Superslab::join(claim.superslab, claim.slot, slots);
        }
        DIRECTORY.set(base, slots, Tag::new(heap.heap().id, class));
        checked::slab_opened();
        heap.slab_count[class] += 1;
        heap.slab_bytes += slots.bytes();
        relist(heap, slab);
    }
}

/// Brings an idle heap's hint up to date.
pub(crate) fn note_idle_classes(heap: &HeldHeap) {
    Class::all().for_each(|class| note_idle_class(heap, class));
}

/// The same for one class. A poster that finds the heap idle comes here with each message.
pub(crate) fn note_idle_class(heap: &HeldHeap, class: Class) {
    let hint = &heap.heap().idle_classes;
    match heap.slabs[class].iter().all(|slab| slab.is_null()) {
        true => hint.remove(class),
        false => hint.add(class),
    }
}
