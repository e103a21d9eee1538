//! The batches in the making: blocks that a thread frees for one other heap each class, until they are worth a message.

use super::bin::{counted, starts};
use super::heap::{Heap, NOBODY};
use crate::base::size_class::{CLASSES, SIZES};
use crate::slab::batch::{Batch, Block};
use core::sync::atomic::Ordering::{self, Relaxed};
use core::sync::atomic::compiler_fence;

/// Most blocks in a batch for another heap.
pub(super) const MOST_BATCHED: usize = 64;

/// Blocks in a batch for another heap: [`MOST_BATCHED`], or a few KiB.
#[inline(always)]
pub(super) fn batch_limit(class: usize) -> usize {
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
static FIRST: [u16; CLASSES + 1] = starts(LIMITS);

/// The places of all classes of a heap.
pub(super) type Places = [*mut Block; FIRST[CLASSES] as usize];

/// A batch in the making for one other heap.
#[repr(C)]
pub(super) struct Out {
    /// The place for the next block.
    next: *mut *mut Block,
    /// The last place: the block that goes there makes the batch full.
    last: *mut *mut Block,
    /// [`NOBODY`] where nothing has been gathered.
    owner: u32,
}

impl Out {
    /// # Safety
    /// `heap` is a heap.
    #[inline(always)]
    unsafe fn first(heap: *mut Heap, class: usize) -> *mut *mut Block {
        // SAFETY: inside the heap's places.
        unsafe {
            (&raw mut (*heap).out_places)
                .cast::<*mut Block>()
                .add(usize::from(FIRST[class]))
        }
    }

    /// Makes all of a new heap's empty.
    ///
    /// # Safety
    /// `heap` is zeroed memory that nobody else knows of.
    pub(super) unsafe fn init_all(heap: *mut Heap) {
        for class in 0..CLASSES {
            // SAFETY: the caller's promise.
            unsafe {
                let first = Out::first(heap, class);
                (*heap).out[class] = Out {
                    next: first,
                    last: first.add(batch_limit(class) - 1),
                    owner: NOBODY,
                };
            }
        }
    }

    /// Blocks gathered.
    ///
    /// # Safety
    /// `heap` is a heap. From outside its thread the answer may be off by what that thread is doing at the moment.
    #[inline(always)]
    pub(super) unsafe fn count(heap: *mut Heap, class: usize) -> usize {
        // SAFETY: a word of a heap, which lives for ever.
        unsafe {
            let next = counted(&raw mut (*heap).out[class].next).load(Relaxed);
            (next as usize).saturating_sub(Out::first(heap, class) as usize)
                / size_of::<*mut Block>()
        }
    }

    /// Whose blocks were gathered, if any.
    ///
    /// # Safety
    /// `heap` is the calling thread's.
    pub(super) unsafe fn owner(heap: *mut Heap, class: usize) -> Option<u32> {
        // SAFETY: the caller's promise.
        let owner = unsafe { (*heap).out[class].owner };
        (owner != NOBODY).then_some(owner)
    }

    /// Adds a block of `owner` where the batch is for that one and does not get full by it.
    ///
    /// # Safety
    /// `heap` is the calling thread's; the block, of `class` and `owner`, is free and the caller's to give.
    #[inline(always)]
    pub(super) unsafe fn add(heap: *mut Heap, class: usize, block: *mut Block, owner: u32) -> bool {
        // SAFETY: `next` is below `last`, which is the last of the class's places.
        unsafe {
            let out = &raw mut (*heap).out[class];
            let next = (*out).next;
            if (*out).owner != owner || next == (*out).last {
                return false;
            }
            *next = block;
            // A fork in another thread may freeze this one anywhere: what is counted is there (rule 13).
            compiler_fence(Ordering::Release);
            counted(&raw mut (*out).next).store(next.add(1), Relaxed);
            true
        }
    }

    /// Adds a block of `owner`, the first or one that makes the batch full; the batch, if it is.
    ///
    /// # Safety
    /// As for [`Out::add`], and nothing of another owner was gathered.
    pub(super) unsafe fn add_end(
        heap: *mut Heap,
        class: usize,
        block: *mut Block,
        owner: u32,
    ) -> Option<Batch> {
        // SAFETY: `next` is at most `last`; the caller's promises.
        unsafe {
            let out = &raw mut (*heap).out[class];
            let next = (*out).next;
            (*out).owner = owner;
            *next = block;
            if next != (*out).last {
                compiler_fence(Ordering::Release);
                counted(&raw mut (*out).next).store(next.add(1), Relaxed);
                return None;
            }
            let batch = Batch::of(next, batch_limit(class), SIZES[class] as usize);
            Out::clear(heap, class);
            Some(batch)
        }
    }

    /// The gathered blocks' places and number, which are given up: they are to be read before anything else is gathered.
    ///
    /// # Safety
    /// `heap` is the calling thread's, or one whose thread is gone.
    pub(super) unsafe fn take(heap: *mut Heap, class: usize) -> (*const *mut Block, usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let count = Out::count(heap, class);
            Out::clear(heap, class);
            (Out::first(heap, class), count)
        }
    }

    unsafe fn clear(heap: *mut Heap, class: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let out = &raw mut (*heap).out[class];
            counted(&raw mut (*out).next).store(Out::first(heap, class), Relaxed);
            (*out).owner = NOBODY;
        }
        // A fork may freeze this thread: the blocks must not be found both here and where they go.
        compiler_fence(Ordering::Release);
    }
}
