//! Blocks of other heaps, sorted by owner and posted batch by batch.

use crate::base::size_class::{self, Class};
use crate::base::tuning::others_blocks::OWNERS;
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::state::batch_limit;
use crate::heap::home::post::post;
use crate::slab::batch::{Batch, Block};
use crate::slab::directory::Tag;

/// Gathers foreign blocks by owner and class, for fuller messages. One sorter at a time uses a heap's rows, under its lock.
pub(crate) struct Sorter {
    heap: HeapRef,
    rows: [Row; OWNERS],
    used: usize,
    /// Whether the caller can drain inboxes that nobody comes for. It cannot while it drains one.
    may_drain: bool,
    /// Heaps that nobody comes for, to which a batch was posted.
    unattended: [Option<HeapRef>; OWNERS],
    unattended_count: usize,
    /// A batch was posted to a heap that nobody comes for and that is not among those.
    leaves: bool,
}

#[derive(Clone, Copy)]
struct Row {
    owner: u32,
    class: u32,
    /// Blocks in the row.
    count: usize,
}

impl Sorter {
    /// A sorter of what the holder of `held`'s lock returns.
    pub(crate) fn new(held: &HeldHeap, may_drain: bool) -> Sorter {
        Sorter {
            heap: held.heap(),
            may_drain,
            unattended: [None; OWNERS],
            unattended_count: 0,
            leaves: false,
            rows: [Row {
                owner: 0,
                class: 0,
                count: 0,
            }; OWNERS],
            used: 0,
        }
    }

    /// Whether blocks wait to be posted.
    pub(crate) fn has_any(&self) -> bool {
        self.used > 0
    }

    /// Adds a foreign block.
    ///
    /// # Safety
    /// The caller owns `block`, whose tag is `tag`, and has held the lock of the sorter's heap since the sorter was made. No other
    /// sorter of that heap has blocks.
    pub(crate) unsafe fn add(&mut self, block: *mut Block, tag: Tag) {
        let (owner, class) = (tag.owner(), tag.class());
        let found = self.rows[..self.used]
            .iter()
            .position(|row| row.owner == owner && row.class == class.index() as u32);
        let index = match found {
            Some(index) => index,
            None => {
                let index = if self.used < OWNERS {
                    // SAFETY: the caller holds the lock.
                    let sorting = unsafe { &mut (*(*self.heap.ptr()).shared.get()).sorting };
                    debug_assert!(self.used > 0 || !*sorting, "two sorters share their rows");
                    *sorting = true;
                    self.used += 1;
                    self.used - 1
                } else {
                    let fullest = (0..OWNERS).max_by_key(|&i| self.rows[i].count);
                    let index = fullest.unwrap_or(0);
                    // SAFETY: the row's blocks are ours.
                    unsafe { self.post_row(index) };
                    index
                };
                self.rows[index] = Row {
                    owner,
                    class: class.index() as u32,
                    count: 0,
                };
                index
            }
        };
        let row = &mut self.rows[index];
        // SAFETY: the caller holds the lock; a row is posted before it has more than it has room for.
        unsafe {
            (*self.heap.ptr()).sorted[index][row.count].write(block);
        }
        row.count += 1;
        if row.count >= batch_limit(class) {
            // SAFETY: the row's blocks are ours.
            unsafe { self.post_row(index) };
        }
    }

    /// Posts everything gathered. `held` is the sorter's heap, held since the first was added.
    pub(crate) fn post_all(&mut self, held: &mut HeldHeap) {
        debug_assert!(held.heap() == self.heap, "the lock is another heap's");
        if self.used == 0 {
            return;
        }
        for index in 0..self.used {
            // SAFETY: the row's blocks are ours.
            unsafe { self.post_row(index) };
        }
        self.used = 0;
        held.sorting = false;
        if core::mem::take(&mut self.leaves) {
            held.errands.add(Errands::OPEN);
        }
    }

    unsafe fn post_row(&mut self, index: usize) {
        let row = &mut self.rows[index];
        let count = core::mem::take(&mut row.count);
        if count == 0 {
            return;
        }
        // SAFETY: the first `count` blocks of the row were written, are the caller's, and of the row's class.
        unsafe {
            let blocks = &raw const (*self.heap.ptr()).sorted[index];
            let last = blocks.cast::<*mut Block>().add(count - 1);
            let batch = Batch::of(
                last,
                count,
                size_class::size(Class::new(row.class as usize)),
            );
            if let Some(heap) = post(row.owner, batch) {
                self.note_unattended(heap);
            }
        }
    }

    /// Notes a heap that nobody comes for, to which a batch was posted. If the caller cannot drain it, that is an errand.
    fn note_unattended(&mut self, heap: HeapRef) {
        let known = &self.unattended[..self.unattended_count];
        if known.contains(&Some(heap)) {
            return;
        }
        if !self.may_drain || self.unattended_count == OWNERS {
            self.leaves = true;
            return;
        }
        self.unattended[self.unattended_count] = Some(heap);
        self.unattended_count += 1;
    }

    /// A heap that nobody comes for, to which a batch was posted; each once. The caller drains its inbox.
    pub(crate) fn pop_unattended(&mut self) -> Option<HeapRef> {
        self.unattended_count = self.unattended_count.checked_sub(1)?;
        self.unattended[self.unattended_count]
    }
}
