//! What a stack is made of: batches and, above them, magazines or a shelf.
//!
//! Batches cost no memory of ours. Once a stack of small blocks holds as much as a magazine does, the addresses of further blocks
//! are written into magazines. A bin that lies in a magazine goes onto the stack as it is. If no magazine is available, a batch
//! serves as well. Of larger blocks, those that the bin shed last lie on the class's shelf (`shelf`).

use crate::base::size_class::{self, Class};
use crate::base::tuning::magazines::STACK_TO;
use crate::heap::cache::budget::first_limit;
use crate::heap::cache::shelf;
use crate::heap::data::bin::{Bin, may_be_magazine, room};
use crate::heap::data::heap::{HeldHeap, Shared, Stack};
use crate::heap::data::state::Empties;
use crate::heap::home::open;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::magazine::{self, Magazine};
use crate::slab::magazine_pool::MAGAZINES;
use crate::slab::report;
use core::{ptr, slice};

/// Pushes a batch of `count` blocks.
///
/// # Safety
/// The caller owns the batch, of `class`.
pub(crate) unsafe fn push(heap: &mut HeldHeap, class: Class, batch: Batch, count: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        debug_assert!(batch.count() == count);
        batch.link_to(count, heap.stacks[class].top);
        heap.stacks[class].top = Some(batch);
        added(heap, class, count);
    }
}

/// Pushes the blocks at the `count` addresses from `first` on, oldest first. Ends the process if no block starts at one and it
/// would lie in a magazine or on the shelf: the program freed it, and nothing has looked at it yet.
///
/// # Safety
/// The caller owns the blocks, all of `class`.
pub(crate) unsafe fn put(
    heap: &mut HeldHeap,
    class: Class,
    first: *const *mut Block,
    count: usize,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut done = 0;
        if is_large(&heap.stacks[class], class) {
            // What is in a magazine is not looked at again. The addresses in a batch are, as the program may write to them.
            report::unless_all_start(slice::from_raw_parts(first, count), class);
            done = fill(heap, class, first, count);
            added(heap, class, done);
        } else if shelf::put(heap, class, first, count) {
            return added(heap, class, count);
        }
        while done < count {
            let some = (count - done).min(room(class));
            let last = first.add(done + some - 1);
            let batch = Batch::of(last, some, size_class::size(class));
            push(heap, class, batch, some);
            done += some;
        }
    }
}

/// Pushes the oldest `some` blocks of the bin.
///
/// # Safety
/// The caller is the heap's thread; so many are in the bin.
pub(crate) unsafe fn put_oldest(heap: &mut HeldHeap, class: Class, some: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let (first, left) = (
            Bin::first(heap.heap(), class),
            Bin::count(heap.heap(), class) - some,
        );
        put(heap, class, first, some);
        ptr::copy(first.add(some), first, left);
        Bin::set_count(heap.heap(), class, left);
    }
}

/// Pushes the bin's magazine if the bin lies in a full one and an empty one can take its place. Returns whether it did.
///
/// # Safety
/// The caller is the heap's thread.
pub(crate) unsafe fn put_bin(heap: &mut HeldHeap, class: Class) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let count = Bin::count(heap.heap(), class);
        let Some(full) = Bin::magazine(heap.heap(), class).filter(|_| count == magazine::ROOM)
        else {
            return false;
        };
        let Some(empty) = empty(heap) else {
            return false;
        };
        // The same as in `put`.
        report::unless_all_start(Bin::blocks(heap.heap(), class), class);
        Bin::lay(heap.heap(), class, Some(empty));
        Magazine::close(full, count);
        (*full).below = heap.stacks[class].magazine;
        heap.stacks[class].magazine = full;
        heap.stacks[class].in_magazines += count as u32;
        added(heap, class, count);
        true
    }
}

/// Takes the newest magazine off the stack and moves the bin, which is empty, into it. Returns how many blocks are in it; 0 if
/// there is no magazine, or the class's bin may not lie in one.
///
/// # Safety
/// The caller is the heap's thread.
pub(crate) unsafe fn take_bin(heap: &mut HeldHeap, class: Class) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let full = heap.stacks[class].magazine;
        if full.is_null() || !may_be_magazine(class) {
            return 0;
        }
        heap.stacks[class].magazine = (*full).below;
        if let Some(empty) = Bin::magazine(heap.heap(), class) {
            list_empty(heap, empty);
        }
        let count = Bin::lay(heap.heap(), class, Some(full));
        heap.stacks[class].in_magazines -= count as u32;
        took(heap, class, count);
        count
    }
}

/// Moves the bin, which is empty, back into its own places, with a limit of `limit`.
///
/// # Safety
/// The caller is the heap's thread, or that is gone.
pub(crate) unsafe fn leave_magazine(heap: &mut HeldHeap, class: Class, limit: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        debug_assert!(
            Bin::count(heap.heap(), class) == 0,
            "blocks in the bin would be lost"
        );
        if let Some(empty) = Bin::magazine(heap.heap(), class) {
            Bin::lay(heap.heap(), class, None);
            list_empty(heap, empty);
        }
        Bin::set_limit(heap.heap(), class, limit);
    }
}

/// Takes the newest run off the stack: each is a batch of its own.
pub(crate) fn take_run(heap: &mut HeldHeap, class: Class) -> Option<*mut Block> {
    // SAFETY: what is on the stack is the heap's.
    unsafe {
        let run = heap.stacks[class].top?;
        let (_, next) = open::on_stack(run, class, 1);
        heap.stacks[class].top = next;
        took(heap, class, 1);
        Some(run.head())
    }
}

/// Takes blocks off the stack, mostly last in, first out: up to `most` from magazines or the shelf if any are there, else a batch.
/// Writes their addresses from `to` on, the newest last. Returns how many; 0 if the stack is empty.
///
/// # Safety
/// The caller owns the blocks from then on. At `to` there are as many places as the bin of
/// `class` has outside a magazine, and `most` at least.
pub(crate) unsafe fn take(
    heap: &mut HeldHeap,
    class: Class,
    to: *mut *mut Block,
    most: usize,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let some = most.min(heap.stacks[class].in_magazines as usize);
        if some > 0 {
            drain(heap, class, to.add(some), some);
            took(heap, class, some);
            return some;
        }
        let some = shelf::take(heap, class, to, most);
        if some > 0 {
            took(heap, class, some);
            return some;
        }
        let Some(batch) = heap.stacks[class].top else {
            return 0;
        };
        // Freed memory: a stray write may have changed the words. What they lead to is checked before it is followed, so that
        // the report names the block that was written to.
        let most = room(class).min(heap.stacks[class].blocks as usize);
        let (count, next) = open::on_stack(batch, class, most);
        heap.stacks[class].top = next;
        took(heap, class, count);
        open::open(batch, class, to, room(class))
    }
}

/// Gives back magazines that were not needed since the last call.
pub(crate) fn shrink_empties(heap: &mut HeldHeap) {
    let low = heap.empties.low;
    give(&mut heap.empties, low);
    heap.empties.low = heap.empties.count;
}

/// Gives back all empty magazines.
pub(crate) fn give_empties(heap: &mut HeldHeap) {
    give(&mut heap.empties, u32::MAX);
}

/// Gives up to `count` empty magazines back.
fn give(empties: &mut Empties, count: u32) {
    let mut list = ptr::null_mut();
    // SAFETY: listed magazines are the heap's.
    unsafe {
        for _ in 0..count.min(empties.count) {
            let magazine = empties.list;
            empties.list = (*magazine).below;
            (*magazine).below = list;
            list = magazine;
            empties.count -= 1;
            empties.held -= 1;
        }
        empties.low = empties.low.min(empties.count);
        MAGAZINES.give(list);
    }
}

/// Whether further blocks are worth a magazine: the stack already holds as much as a full one.
fn is_large(stack: &Stack, class: Class) -> bool {
    size_class::size(class) <= STACK_TO && stack.blocks as usize >= magazine::ROOM
}

fn added(part: &mut Shared, class: Class, count: usize) {
    part.stacks[class].blocks += count as u32;
    part.stack_bytes += count * size_class::size(class);
    if part.stacks[class].limit == 0 {
        part.stacks[class].limit = first_limit(class);
    }
}

fn took(part: &mut Shared, class: Class, count: usize) {
    part.stacks[class].blocks -= count as u32;
    part.stacks[class].low = part.stacks[class].low.min(part.stacks[class].blocks);
    part.stack_bytes -= count * size_class::size(class);
}

/// Writes addresses into the class's magazines. Returns how many there was room for.
unsafe fn fill(part: &mut Shared, class: Class, first: *const *mut Block, count: usize) -> usize {
    // SAFETY: the stack's magazines are the heap's; the addresses are `count`.
    unsafe {
        let mut done = 0;
        while done < count {
            let some = match part.stacks[class].magazine.is_null() {
                true => 0,
                false => Magazine::add(part.stacks[class].magazine, first.add(done), count - done),
            };
            done += some;
            if some == 0 {
                let Some(empty) = empty(part) else { break };
                (*empty).below = part.stacks[class].magazine;
                part.stacks[class].magazine = empty;
            }
        }
        part.stacks[class].in_magazines += done as u32;
        done
    }
}

/// An empty magazine, the heap's or the magazine pool's.
fn empty(part: &mut Shared) -> Option<*mut Magazine> {
    // SAFETY: listed magazines are the heap's.
    unsafe {
        let magazine = part.empties.list;
        if magazine.is_null() {
            let magazine = MAGAZINES.take()?;
            part.empties.held += 1;
            return Some(magazine);
        }
        part.empties.list = (*magazine).below;
        part.empties.count -= 1;
        part.empties.low = part.empties.low.min(part.empties.count);
        Some(magazine)
    }
}

/// Lists an empty magazine.
unsafe fn list_empty(part: &mut Shared, magazine: *mut Magazine) {
    // SAFETY: the caller owns the magazine.
    unsafe {
        (*magazine).below = part.empties.list;
        part.empties.list = magazine;
        part.empties.count += 1;
    }
}

/// Moves the newest `count` addresses out of the class's magazines, which hold as many, to the places below `end`.
unsafe fn drain(part: &mut Shared, class: Class, mut end: *mut *mut Block, count: usize) {
    // SAFETY: the stack's magazines are the heap's, and the caller has the places.
    unsafe {
        let mut left = count;
        while left > 0 {
            let magazine = part.stacks[class].magazine;
            let some = Magazine::take(magazine, end, left);
            left -= some;
            end = end.sub(some);
            if Magazine::count(magazine) == 0 {
                part.stacks[class].magazine = (*magazine).below;
                list_empty(part, magazine);
            }
        }
        part.stacks[class].in_magazines -= count as u32;
    }
}

/// Debug walker: stacks hold as many blocks as they count, of their class, and none of class 0; bins hold no more than they
/// have room for, and a magazine that serves as a bin counts none.
pub(crate) fn is_valid(heap: &HeldHeap) -> bool {
    let mut ok = true;
    // SAFETY: magazines and batches on the stacks are the heap's.
    unsafe {
        let (mut bytes, mut held) = (0, 0);
        for class in Class::all() {
            let stack = &heap.stacks[class];
            ok &= Bin::count(heap.heap(), class) <= Bin::room(heap.heap(), class);
            let (mut in_magazines, mut in_batches) = (0, 0);
            if let Some(bin) = Bin::magazine(heap.heap(), class) {
                // The place that holds null.
                ok &= Magazine::count(bin) == 0;
                held += 1;
            }
            let mut magazine = stack.magazine;
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
            let mut batch = stack.top;
            while let Some(at) = batch {
                ok &= DIRECTORY.tag(at.head() as usize).class() == class;
                in_batches += at.count();
                batch = at.link();
            }
            let on_shelf = shelf::blocks(heap, class);
            ok &= shelf::is_valid(heap, class);
            ok &= in_magazines == stack.in_magazines as usize;
            ok &= in_magazines + in_batches + on_shelf.len() == stack.blocks as usize;
            bytes += stack.blocks as usize * size_class::size(class);
        }
        ok &= bytes == heap.stack_bytes;
        // A block here would be what a request of no bytes gets.
        ok &= heap.stacks[Class::NONE].blocks == 0 && Bin::count(heap.heap(), Class::NONE) == 0;
        let mut empties = 0;
        let mut magazine = heap.empties.list;
        while !magazine.is_null() {
            ok &= Magazine::count(magazine) == 0;
            empties += 1;
            magazine = (*magazine).below;
        }
        let counted = &heap.empties;
        ok &= empties == counted.count && counted.low <= empties && counted.held == held + empties;
    }
    ok
}
