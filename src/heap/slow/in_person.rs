//! Returning blocks in person: blocks of idle heaps are sorted by owner and put into their slabs by the thread that holds them,
//! in one visit to an owner for blocks of all classes.

use crate::base::size_class::{self, Class};
use crate::base::tuning::others_blocks::{IDLE_OWNERS, IN_PERSON};
use crate::heap::cache::stack;
use crate::heap::data::bin::{Bin, room};
use crate::heap::data::heap::HeldHeap;
use crate::heap::data::registry::heap as by_id;
use crate::heap::home::sorter::Sorter;
use crate::heap::home::{drain, open, post};
use crate::slab::batch::{self, Batch, Block};
use crate::slab::directory::DIRECTORY;
use crate::slab::report::damaged;
use core::ptr;

/// Whether the heap is idle. A hint: a thread may adopt it at any time, and gets back what is sent all the same.
pub(crate) fn is_idle(owner: u32) -> bool {
    by_id(owner).is_some_and(|heap| heap.attended().is_idle())
}

/// Blocks of one owner, of all classes, chained; blocks of one class are neighbours.
#[derive(Clone, Copy)]
struct Row {
    owner: u32,
    chain: *mut Block,
}

/// What is gathered for idle owners.
pub(crate) struct Rows {
    rows: [Row; IDLE_OWNERS],
    used: usize,
}

impl Rows {
    pub(crate) const NONE: Rows = Rows {
        rows: [Row {
            owner: 0,
            chain: ptr::null_mut(),
        }; IDLE_OWNERS],
        used: 0,
    };

    /// Sifts the bin and the stack of `class`. Returns how many blocks went.
    ///
    /// # Safety
    /// The caller is the heap's thread.
    pub(crate) unsafe fn sift_class(&mut self, heap: &mut HeldHeap, class: Class) -> usize {
        // SAFETY: the caller's promise. What was taken off the stack is ours until it is pushed.
        unsafe {
            let count = Bin::count(heap.heap(), class);
            let stay = self.sift(heap, Bin::first(heap.heap(), class), count, class);
            Bin::set_count(heap.heap(), class, stay);
            let mut went = count - stay;
            let low = heap.stacks[class].low;
            let mut left: Option<Batch> = None;
            // Nothing done with a block meanwhile uses this heap's scratch: other heaps open batches in their own.
            let first = heap.scratch();
            loop {
                let count = stack::take(heap, class, first, room(class));
                if count == 0 {
                    break;
                }
                let stay = self.sift(heap, first, count, class);
                if stay > 0 {
                    let batch = Batch::of(first.add(stay - 1), stay, size_class::size(class));
                    batch.set_link(left);
                    left = Some(batch);
                }
                went += count - stay;
            }
            while let Some(batch) = left {
                let (count, next) = batch.header();
                left = next;
                stack::push(heap, class, batch, count);
            }
            // Sifting does not mean that blocks were needed: the low mark stays.
            heap.stacks[class].low = low.min(heap.stacks[class].blocks);
            went
        }
    }

    /// Gathers the blocks of idle owners, and returns the heap's own to their slabs. The blocks that stay move to the first of
    /// the `count` places. Returns how many stay.
    ///
    /// # Safety
    /// The caller owns the blocks at the addresses, at most [`batch::MOST`] and all of `class`.
    unsafe fn sift(
        &mut self,
        heap: &mut HeldHeap,
        addresses: *mut *mut Block,
        count: usize,
        class: Class,
    ) -> usize {
        let mut own = [ptr::null_mut(); IN_PERSON];
        let (mut owned, mut stay) = (0, 0);
        // The heap's own blocks are not foreign, so nothing is posted.
        let none = &mut Sorter::new(heap, false);
        // SAFETY: the blocks are the caller's; each address is checked before it is followed.
        unsafe {
            for i in 0..count {
                let block = *addresses.add(i);
                let tag = DIRECTORY.tag(block as usize);
                if tag.class() != class {
                    damaged(block);
                }
                if tag.owner() == heap.heap().id {
                    own[owned] = block;
                    owned += 1;
                    if owned == IN_PERSON {
                        open::blocks(heap, own.as_ptr(), owned, class, none);
                        owned = 0;
                    }
                } else if is_idle(tag.owner()) {
                    self.add(tag.owner(), block, heap);
                } else {
                    *addresses.add(stay) = block;
                    stay += 1;
                }
            }
            open::blocks(heap, own.as_ptr(), owned, class, none);
        }
        stay
    }

    /// Puts a block in front of its owner's others.
    ///
    /// # Safety
    /// The block is the caller's.
    pub(crate) unsafe fn add(&mut self, owner: u32, block: *mut Block, heap: &mut HeldHeap) {
        let found = self.rows[..self.used]
            .iter()
            .position(|row| row.owner == owner);
        let index = found.unwrap_or_else(|| {
            if self.used == IDLE_OWNERS {
                self.visit_all(heap);
            }
            self.rows[self.used] = Row {
                owner,
                chain: ptr::null_mut(),
            };
            self.used += 1;
            self.used - 1
        });
        // SAFETY: the block is ours.
        unsafe { batch::chain(block, self.rows[index].chain) };
        self.rows[index].chain = block;
    }

    /// Returns each owner's blocks to it. `heap`'s lock is the only one held.
    pub(crate) fn visit_all(&mut self, heap: &mut HeldHeap) {
        for row in &self.rows[..self.used] {
            // SAFETY: the chain is ours, and given up.
            unsafe { visit(row.owner, row.chain, heap) };
        }
        self.used = 0;
    }
}

/// Returns blocks of all classes to their slabs in the idle heap `owner`, and with them what waits in its inbox. If its lock is
/// held, or a thread has adopted it, they are posted: the lock's holder or that thread comes for them.
///
/// # Safety
/// The caller owns the chain.
unsafe fn visit(owner: u32, chain: *mut Block, from: &mut HeldHeap) {
    let Some(heap) = by_id(owner) else { return };
    // It leaves the draining to the errands, because a lock is held throughout.
    let mut sorter = Sorter::new(from, false);
    // A second heap is locked by try only. Whose a block is holds for as long as that heap's lock does (rule 5), and `open` asks
    // under it: what belongs to a third by now, since a slab was taken over, goes to the sorter.
    let mut held = heap.try_lock().filter(|_| heap.attended().is_idle());
    let mut at = chain;
    while !at.is_null() {
        let class = post::class_of(at);
        let mut addresses = [ptr::null_mut(); IN_PERSON];
        let mut count = 0;
        while !at.is_null() && count < IN_PERSON && post::class_of(at) == class {
            addresses[count] = at;
            count += 1;
            // SAFETY: the chain is the caller's.
            let next = unsafe { batch::chained(at) };
            if !next.is_null() && open::class_at(next) == Class::NONE {
                damaged(at);
            }
            at = next;
        }
        // Without the owner's lock all go to the sorter, except what is `from`'s own by now.
        let place = held.as_mut().unwrap_or(from);
        // SAFETY: the blocks are the caller's, and `from`, the sorter's heap, is held.
        unsafe { open::blocks(place, addresses.as_ptr(), count, class, &mut sorter) };
    }
    if let Some(held) = held {
        from.errands.add(drain::drain_and_release(held));
    }
    sorter.post_all(from);
}
