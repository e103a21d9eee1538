//! The plain state that a heap holds for the layers above, which alone give it a meaning.
//!
//! A heap's *budget* bounds what it holds free: in its slabs, on its stacks, as magazines (`cache::budget`).

use crate::base::size_class;
use crate::base::size_class::{CLASSES, Class, SIZES};
use crate::base::tuning::others_blocks::{BATCH_BYTES, MOST_BATCHED, OWNERS};
use crate::slab::batch::Block;
use crate::slab::magazine;
use crate::slab::magazine::Magazine;
use core::mem::MaybeUninit;
use core::ptr;

/// Blocks in a batch for another heap: [`BATCH_BYTES`] worth, at least 1 and at most [`MOST_BATCHED`].
#[inline(always)]
pub(crate) fn batch_limit(class: Class) -> usize {
    usize::from(LIMITS[class])
}

static LIMITS: [u16; CLASSES] = {
    let mut limits = [1; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        limits[class] = match BATCH_BYTES / SIZES[class] as usize {
            0 => 1,
            blocks if blocks > MOST_BATCHED => MOST_BATCHED as u16,
            blocks => blocks as u16,
        };
        class += 1;
    }
    limits
};

/// Where each class's places in [`OutboxPlaces`] begin.
pub(crate) static OUTBOX_FIRST: [u16; CLASSES + 1] = size_class::starts(LIMITS);

/// The places of a heap's outboxes, class after class.
pub(crate) type OutboxPlaces = [*mut Block; OUTBOX_FIRST[CLASSES] as usize];

/// An outbox: a batch in the making for one other heap. All-zero is an empty one.
#[repr(C)]
pub(crate) struct Outbox {
    /// The place for the next block; null before the first.
    pub(crate) next: *mut *mut Block,
    /// The last place: the block put there fills the batch.
    pub(crate) last: *mut *mut Block,
    /// 0, which is no heap's id, while nothing is gathered.
    pub(crate) owner: u32,
    /// Refills of the class that found blocks here.
    pub(crate) refills: u32,
}

/// The blocks in a `Sorter`'s rows, each of which is for one owner and class. They lie in the heap, since a thread's stack may be
/// small.
pub(crate) type Rows = [[MaybeUninit<*mut Block>; MOST_BATCHED]; OWNERS];

/// What a heap knows of its budget. Under the lock; all-zero is nothing known.
#[repr(C)]
pub(crate) struct Budget {
    /// Bytes beyond the bound that the heap may hold, since the program needed them again.
    pub(crate) demand: usize,
    /// Most bytes held free since the last look.
    pub(crate) most: usize,
    /// Most bytes live since the last look, and least since that peak, as `budget::share` saw them.
    pub(crate) peak: usize,
    pub(crate) trough: usize,
    /// Blocks missed, large ones as several, less those that time has made cheap and those learnt from; and when they were counted,
    /// in milliseconds.
    pub(crate) paid: u64,
    pub(crate) paid_at: u64,
    /// Whether any class's `Stack::cut` is above 0.
    pub(crate) any_cut: bool,
    /// Most bytes there could have been free since the last look if no block had returned to its slab.
    pub(crate) could: usize,
    /// `Shared::slow_ops` as another thread that grows last saw it, and when it was first seen so.
    pub(crate) seen: u32,
    pub(crate) seen_ms: u64,
}

/// A heap's empty magazines. `count` of them are listed. `low` is the least since the last look: so many were not needed.
/// `held` counts all magazines of the heap, those in a stack or serving as a bin too.
#[repr(C)]
pub(crate) struct Empties {
    pub(crate) list: *mut Magazine,
    pub(crate) count: u32,
    pub(crate) low: u32,
    pub(crate) held: u32,
}

impl Empties {
    /// Bytes of all magazines of the heap.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held as usize * magazine::SIZE
    }
}

/// What a heap knows of foreign blocks in its bins. Its thread's alone; all-zero is a heap that never had any.
#[repr(C)]
pub(crate) struct IdleOwners {
    /// Bytes of foreign blocks that may still come before the next look.
    pub(crate) left: isize,
    /// The `left` that the last look set.
    pub(crate) look_at: usize,
    /// Bytes held in classes with foreign blocks after the last look, from the second on (`idle_owners::bytes_held`).
    pub(crate) held: usize,
    /// Bytes returned to slabs for lack of room since then.
    pub(crate) returned: usize,
    /// Looks since the thread last needed blocks.
    pub(crate) looks: u32,
    pub(crate) turn: Turn,
}

/// Blocks of one owner that a thread frees in a row while their outboxes are other owners' (`slow::foreign`).
#[repr(C)]
pub(crate) struct Turn {
    pub(crate) owner: u32,
    pub(crate) blocks: u32,
    /// How many more than usual must come before an outbox is emptied for them.
    pub(crate) wait: u32,
    /// The last one's class, 0 if it was the first, and where its outbox would have put the next block.
    pub(crate) class: u32,
    pub(crate) next: *mut *mut Block,
}

impl IdleOwners {
    pub(crate) const NONE: IdleOwners = IdleOwners {
        left: 0,
        look_at: 0,
        held: 0,
        returned: 0,
        looks: 0,
        turn: Turn {
            owner: 0,
            blocks: 0,
            wait: 0,
            class: 0,
            next: ptr::null_mut(),
        },
    };
}
