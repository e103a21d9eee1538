//! The plain state that a heap holds for the layers above, which alone know what it means.

use crate::base::size_class;
use crate::base::size_class::{CLASSES, SIZES};
use crate::slab::batch::Block;
use crate::slab::magazine;
use crate::slab::magazine::Magazine;
use core::mem::MaybeUninit;

/// Most blocks in a batch for another heap.
pub(crate) const MOST_BATCHED: usize = 64;

/// Blocks in a batch for another heap: [`MOST_BATCHED`], or a few KiB.
#[inline(always)]
pub(crate) fn batch_limit(class: usize) -> usize {
    usize::from(LIMITS[class])
}

static LIMITS: [u16; CLASSES] = {
    let mut limits = [1; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        limits[class] = match (8 << 10) / SIZES[class] as usize {
            0 => 1,
            blocks if blocks > MOST_BATCHED => MOST_BATCHED as u16,
            blocks => blocks as u16,
        };
        class += 1;
    }
    limits
};

/// Where each class's places begin.
pub(crate) static OUT_FIRST: [u16; CLASSES + 1] = size_class::starts(LIMITS);

/// The places of all classes of a heap.
pub(crate) type OutPlaces = [*mut Block; OUT_FIRST[CLASSES] as usize];

/// A batch in the making for one other heap. All-zero is nothing.
#[repr(C)]
pub(crate) struct Out {
    /// The place for the next block; null before the first.
    pub(crate) next: *mut *mut Block,
    /// The last place: the block that goes there makes the batch full.
    pub(crate) last: *mut *mut Block,
    /// 0, which is no heap's id, while nothing is gathered.
    pub(crate) owner: u32,
}

/// Owners told apart on a walk home.
pub(crate) const OWNERS: usize = 8;

/// The blocks of a [`Sorter`]'s rows; on no stack, for a thread may have little.
pub(crate) type Rows = [[MaybeUninit<*mut Block>; MOST_BATCHED]; OWNERS];

/// What one heap knows of its slack; under its lock. All-zero is nothing.
#[repr(C)]
pub(crate) struct Slack {
    /// Bytes beyond the bound that the program was seen to come back for.
    pub(crate) learnt: usize,
    /// Most there was since the last look.
    pub(crate) most: usize,
    /// Most bytes live since the last look, and least since then, as seen by frees.
    pub(crate) peak: usize,
    pub(crate) trough: usize,
    /// Blocks missed, less those that time has made cheap and those learnt from, and when, in milliseconds, they were last
    /// looked at.
    pub(crate) paid: u64,
    pub(crate) paid_at: u64,
    /// Some class's `cut` is not 0.
    pub(crate) any_cut: bool,
    /// Most there could have been since the last look, had nothing gone home.
    pub(crate) could: usize,
    /// `Shared::slow_ops` as another thread that grows saw it last, and when that had changed.
    pub(crate) seen: u32,
    pub(crate) seen_ms: u64,
}

/// Magazines of a heap that are empty. `count` is how many are listed, `low` the least since the last look: what was not
/// needed. `held` counts those that lie in a stack or serve as a bin as well.
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

/// What a heap knows of others' blocks in its bins; its thread's alone. All-zero is a heap that never saw any.
#[repr(C)]
pub(crate) struct Strays {
    /// Bytes of them that may be freed until the next look.
    pub(crate) left: isize,
    /// How many that were at the last look.
    pub(crate) look_at: usize,
    /// What [`held`] answered after the last look, from the second on.
    pub(crate) held: usize,
    /// Bytes that went home since for want of room.
    pub(crate) homed: usize,
    /// Looks since the thread last needed blocks.
    pub(crate) looks: u32,
    /// At the last of them, of more than two, all that came was still there or had gone home: it only frees.
    pub(crate) grew: bool,
}

impl Strays {
    pub(crate) const NONE: Strays = Strays {
        left: 0,
        look_at: 0,
        held: 0,
        homed: 0,
        looks: 0,
        grew: false,
    };
}
