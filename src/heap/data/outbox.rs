//! The outboxes: blocks that a thread frees for one other heap per class, gathered until they are worth a message.

use crate::base::size_class::{Class, SIZES};
use crate::base::tuning::heap_cache::TURN_AFTER;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::state::{OUTBOX_FIRST, Outbox, batch_limit};
use crate::slab::batch::{Batch, Block};
use core::slice;
use core::sync::atomic::{AtomicPtr, Ordering, compiler_fence};

impl Outbox {
    /// The place for the next block. Atomic and Relaxed, as a bin's `top` is: other threads count what lies below it.
    ///
    /// # Safety
    /// `this` is a heap's.
    #[inline(always)]
    unsafe fn next(this: *mut Outbox) -> *mut *mut Block {
        // SAFETY: an aligned word of a heap.
        unsafe { AtomicPtr::from_ptr(&raw mut (*this).next).load(Ordering::Relaxed) }
    }

    /// # Safety
    /// `this` is the calling thread's, or one whose thread is gone.
    #[inline(always)]
    unsafe fn set_next(this: *mut Outbox, next: *mut *mut Block) {
        // SAFETY: an aligned word of a heap.
        unsafe { AtomicPtr::from_ptr(&raw mut (*this).next).store(next, Ordering::Relaxed) }
    }

    /// # Safety
    /// `heap` is a heap.
    #[inline(always)]
    unsafe fn first(heap: HeapRef, class: Class) -> *mut *mut Block {
        // SAFETY: inside the heap's places.
        unsafe {
            (&raw mut (*heap.ptr()).outbox_places)
                .cast::<*mut Block>()
                .add(usize::from(OUTBOX_FIRST[class.index()]))
        }
    }

    /// Blocks gathered.
    ///
    /// # Safety
    /// `heap` is a heap. Another thread's count may be off by what the heap's thread is doing at the moment.
    #[inline(always)]
    pub(crate) unsafe fn count(heap: HeapRef, class: Class) -> usize {
        // SAFETY: a word of a heap, which lives for ever.
        unsafe {
            let next = Outbox::next(&raw mut (*heap.ptr()).outboxes[class.index()]);
            (next as usize).saturating_sub(Outbox::first(heap, class) as usize)
                / size_of::<*mut Block>()
        }
    }

    /// The blocks gathered.
    ///
    /// # Safety
    /// `heap` is the calling thread's, which gathers nothing as long as the slice is used.
    pub(crate) unsafe fn blocks<'a>(heap: HeapRef, class: Class) -> &'a [*mut Block] {
        // SAFETY: so many places were written.
        unsafe { slice::from_raw_parts(Outbox::first(heap, class), Outbox::count(heap, class)) }
    }

    /// The heap whose blocks are gathered, if any.
    ///
    /// # Safety
    /// `heap` is the calling thread's.
    pub(crate) unsafe fn owner(heap: HeapRef, class: Class) -> Option<u32> {
        // SAFETY: the caller's promise.
        let owner = unsafe { (*heap.ptr()).outboxes[class.index()].owner };
        (owner != 0).then_some(owner)
    }

    /// Notes that a block of `owner` found the outbox another owner's. Returns whether the outbox should be emptied for it: enough
    /// blocks of `owner` found theirs so in a row, and as far as the class's outbox shows, it got none meanwhile.
    ///
    /// # Safety
    /// `heap` is the calling thread's.
    pub(crate) unsafe fn turns_to(heap: HeapRef, class: Class, owner: u32) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let turn = &mut (*heap.ptr()).idle_owners.turn;
            if turn.owner != owner {
                (turn.owner, turn.blocks, turn.class) = (owner, 1, 0);
                return false;
            }
            let next = Outbox::next(&raw mut (*heap.ptr()).outboxes[class.index()]);
            if turn.class == class.index() as u32 && turn.next != next {
                turn.blocks = 0;
            }
            (turn.class, turn.next) = (class.index() as u32, next);
            // Blocks of several classes may count on for ever. Around the end of the count an outbox makes way later.
            turn.blocks = turn.blocks.wrapping_add(1);
            turn.blocks > TURN_AFTER + turn.wait
        }
    }

    /// Adds a block of `owner`. Returns false if the batch is another owner's, or if the block would fill it.
    ///
    /// # Safety
    /// `heap` is the calling thread's; the block, of `class` and `owner`, is free and the caller's to give.
    #[inline(always)]
    pub(crate) unsafe fn add(heap: HeapRef, class: Class, block: *mut Block, owner: u32) -> bool {
        // SAFETY: `next` is below `last`, which is the last of the class's places.
        unsafe {
            let outbox = &raw mut (*heap.ptr()).outboxes[class.index()];
            let next = Outbox::next(outbox);
            if (*outbox).owner != owner || next == (*outbox).last {
                return false;
            }
            *next = block;
            // A fork in another thread may freeze this one anywhere: every counted place holds its block (rule 13).
            compiler_fence(Ordering::Release);
            Outbox::set_next(outbox, next.add(1));
            true
        }
    }

    /// Adds a block of `owner` that is the first or fills the batch. Returns the batch if it is full.
    ///
    /// # Safety
    /// As for [`Outbox::add`], and nothing of another owner was gathered.
    pub(crate) unsafe fn add_end(
        heap: HeapRef,
        class: Class,
        block: *mut Block,
        owner: u32,
    ) -> Option<Batch> {
        // SAFETY: `next` is at most `last`; the caller's promises.
        unsafe {
            let outbox = &raw mut (*heap.ptr()).outboxes[class.index()];
            if (*outbox).owner == 0 {
                let first = Outbox::first(heap, class);
                (*outbox).last = first.add(batch_limit(class) - 1);
                Outbox::set_next(outbox, first);
                (*outbox).owner = owner;
            }
            let next = Outbox::next(outbox);
            *next = block;
            if next != (*outbox).last {
                compiler_fence(Ordering::Release);
                Outbox::set_next(outbox, next.add(1));
                return None;
            }
            let batch = Batch::of(next, batch_limit(class), SIZES[class] as usize);
            Outbox::clear(heap, class);
            Some(batch)
        }
    }

    /// Gives up the newest of the gathered blocks, up to `most`. Returns their places and number, to be read before anything else is
    /// gathered.
    ///
    /// # Safety
    /// `heap` is the calling thread's, or one whose thread is gone.
    pub(crate) unsafe fn take(
        heap: HeapRef,
        class: Class,
        most: usize,
    ) -> (*const *mut Block, usize) {
        // SAFETY: the caller's promise; so many places were written.
        unsafe {
            let outbox = &raw mut (*heap.ptr()).outboxes[class.index()];
            let gathered = Outbox::count(heap, class);
            let from = Outbox::first(heap, class).add(gathered.saturating_sub(most));
            if gathered <= most {
                Outbox::clear(heap, class);
            } else {
                Outbox::set_next(outbox, from);
                // As in `clear`.
                compiler_fence(Ordering::Release);
            }
            (from, gathered.min(most))
        }
    }

    unsafe fn clear(heap: HeapRef, class: Class) {
        // SAFETY: the caller's promise.
        unsafe {
            let outbox = &raw mut (*heap.ptr()).outboxes[class.index()];
            Outbox::set_next(outbox, Outbox::first(heap, class));
            (*outbox).owner = 0;
        }
        // A fork may freeze this thread: the child must not find the blocks both here and where they go.
        compiler_fence(Ordering::Release);
    }
}
