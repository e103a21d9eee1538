//! The bins: a thread's free blocks of each class, as an array of addresses, the newest on top.
//!
//! A class whose usage rises and falls by thousands of blocks has its bin in a magazine. A full magazine goes onto the stack as
//! it is, and an empty one takes its place.
//!
//! The addresses are not linked through the blocks: giving a block out or taking it back touches only the bin. So a program
//! that takes many in a row does not wait for each to be read, and a block written long ago is not fetched again to be freed.

use crate::base::size_class::{self, CLASSES, Class, SIZES};
use crate::base::tuning::bins::{BYTES, FEW, FEW_BYTES, MOST, ROOM_LEAST};
use crate::base::tuning::magazines::{BIN_TO, SHELF, STACK_TO};
use crate::heap::data::heap::HeapRef;
use crate::heap::data::stand_in::{StandIn, or_nothing};
use crate::heap::data::state::OUTBOX_FIRST;
use crate::slab::batch::{self, Block};
use crate::slab::magazine::{self, Magazine};
use core::sync::atomic::{AtomicPtr, Ordering, compiler_fence};
use core::{ptr, slice};

#[path = "bin_places.rs"]
mod places;

/// A heap's free blocks of one class: last in, first out. `top` is the place of the newest. The two places below the oldest
/// hold null. So one comparison of the two topmost places finds an empty bin, and a block that was freed twice in a row.
#[repr(C)]
pub(crate) struct Bin {
    top: *mut *mut Block,
    /// Where `top` is when the bin is full.
    end: *mut *mut Block,
}

/// Most blocks of `class` in a bin outside a magazine: [`BYTES`] worth, at most [`MOST`]; of larger blocks up to [`FEW`], as far as
/// [`FEW_BYTES`] hold them. No run: nobody can empty a sleeping thread's bins.
#[inline(always)]
pub(crate) const fn bin_limit(class: Class) -> usize {
    LIMITS[class.index()] as usize
}

/// Static for the same reason as `pool::account::NONE`.
static LIMITS: [u16; CLASSES] = {
    let mut limits = [0; CLASSES];
    let mut class = 1;
    while class < CLASSES && !size_class::is_run(Class::new(class)) {
        let size = SIZES[class] as usize;
        let by_bytes = BYTES / size;
        let few = FEW_BYTES / size;
        let few = if few < FEW { few } else { FEW };
        let limit = if by_bytes > few { by_bytes } else { few };
        limits[class] = if limit < 1 {
            1
        } else if limit > MOST {
            MOST as u16
        } else {
            limit as u16
        };
        class += 1;
    }
    limits
};

/// Room of a bin of `class` outside a magazine: [`bin_limit`], at least [`ROOM_LEAST`]; 1 for a run, which passes through its bin
/// on its way out.
pub(crate) const fn room(class: Class) -> usize {
    if class.index() == 0 || size_class::is_run(class) {
        1
    } else if bin_limit(class) > ROOM_LEAST {
        bin_limit(class)
    } else {
        ROOM_LEAST
    }
}

/// Places of the shelf of `class` (`cache::shelf`): none if its blocks' addresses may lie in magazines, and none of runs.
pub(crate) const fn shelf_room(class: Class) -> usize {
    if class.index() == 0 || size_class::is_run(class) || SIZES[class.index()] as usize <= STACK_TO
    {
        0
    } else if room(class) < SHELF {
        room(class)
    } else {
        SHELF
    }
}

/// Whether the bin of `class` may lie in a magazine.
pub(crate) fn may_be_magazine(class: Class) -> bool {
    class != Class::NONE && size_class::size(class) <= BIN_TO
}

const _: () = assert!(
    magazine::ROOM <= batch::MOST && MOST <= batch::MOST,
    "the blocks of a bin become one batch"
);

const _: () = {
    let mut class = 1;
    while class < CLASSES {
        let posted = OUTBOX_FIRST[class + 1] - OUTBOX_FIRST[class];
        assert!(
            posted as usize <= room(Class::new(class)),
            "a message fits into the bin of its class: more would be taken for a damaged batch"
        );
        class += 1;
    }
};

impl Bin {
    /// The place of the newest block; in an empty bin, one that holds null. Other threads read it to count blocks (statistics,
    /// reclaiming) while the bin's thread works. So every access is atomic, and Relaxed: they read the places below it under
    /// the heap's lock, or not at all.
    ///
    /// # Safety
    /// `this` is a bin, or a stand-in.
    #[inline(always)]
    unsafe fn top(this: *mut Bin) -> *mut *mut Block {
        // SAFETY: an aligned word of a bin. That of a stand-in is never written, and may be read this way.
        unsafe { AtomicPtr::from_ptr(&raw mut (*this).top).load(Ordering::Relaxed) }
    }

    /// # Safety
    /// `this` is the calling thread's, or one whose thread is gone and whose heap's lock the caller holds.
    #[inline(always)]
    unsafe fn set_top(this: *mut Bin, top: *mut *mut Block) {
        // SAFETY: an aligned word of a bin in writable memory.
        unsafe { AtomicPtr::from_ptr(&raw mut (*this).top).store(top, Ordering::Relaxed) }
    }

    /// The place below the oldest block, which holds null.
    ///
    /// # Safety
    /// The bin is the calling thread's, or the caller holds the heap's lock: this changes only under it.
    #[inline(always)]
    unsafe fn bottom(heap: HeapRef, class: Class) -> *mut *mut Block {
        // SAFETY: a word of a heap, which lives for ever.
        unsafe { (*heap.ptr()).bottoms[class.index()] }
    }

    /// [`Bin::bottom`] of a bin in no magazine.
    ///
    /// # Safety
    /// As for [`Bin::bottom`].
    unsafe fn own(heap: HeapRef, class: Class) -> *mut *mut Block {
        // SAFETY: a word of a heap, which lives for ever.
        unsafe { or_nothing((*heap.ptr()).places[class.index()]) }
    }

    /// Makes every bin of a new heap an empty one. They have no places yet.
    ///
    /// # Safety
    /// `heap` is zeroed memory that nobody else knows of.
    pub(crate) unsafe fn init_all(heap: HeapRef) {
        let top = or_nothing(ptr::null_mut());
        for class in 0..CLASSES {
            // SAFETY: the caller's promise.
            unsafe {
                (*heap.ptr()).bottoms[class] = top;
                (*heap.ptr()).front.bins[class] = Bin { top, end: top };
            }
        }
    }

    /// The magazine that the bin lies in, if any.
    ///
    /// # Safety
    /// As for [`Bin::bottom`].
    pub(crate) unsafe fn magazine(heap: HeapRef, class: Class) -> Option<*mut Magazine> {
        // SAFETY: the caller's promise.
        unsafe {
            let bottom = Bin::bottom(heap, class);
            (bottom != Bin::own(heap, class)).then(|| Magazine::of_bottom(bottom))
        }
    }

    /// Moves the bin into `magazine`, with the blocks in it; without one, into its own places, empty. Blocks that were in the
    /// bin are the caller's from now on. Returns how many blocks the bin then holds. Its limit becomes its room.
    ///
    /// # Safety
    /// The bin is the calling thread's or one whose thread is gone, and the caller holds the heap's lock; the magazine is
    /// the caller's to give, and its blocks, of `class`, as well.
    pub(crate) unsafe fn lay(
        heap: HeapRef,
        class: Class,
        magazine: Option<*mut Magazine>,
    ) -> usize {
        // SAFETY: the caller's promises. A fork in another thread waits for the lock and sees all of it or nothing.
        unsafe {
            let (bottom, count, room) = match magazine {
                Some(magazine) => {
                    let (bottom, count) = Magazine::open(magazine);
                    (bottom, count, magazine::ROOM)
                }
                None => (Bin::own(heap, class), 0, Bin::own_room(heap, class)),
            };
            (*heap.ptr()).bottoms[class.index()] = bottom;
            (*heap.ptr()).rows[class.index()] = 0;
            let bin = &raw mut (*heap.ptr()).front.bins[class.index()];
            Bin::set_top(bin, bottom.add(count));
            (*bin).end = bottom.add(room);
            count
        }
    }

    /// Blocks that the bin has room for.
    ///
    /// # Safety
    /// As for [`Bin::bottom`].
    pub(crate) unsafe fn room(heap: HeapRef, class: Class) -> usize {
        // SAFETY: the caller's promise.
        match unsafe { Bin::magazine(heap, class) } {
            Some(_) => magazine::ROOM,
            // SAFETY: as above.
            None => unsafe { Bin::own_room(heap, class) },
        }
    }

    /// Blocks in the bin.
    ///
    /// # Safety
    /// As for [`Bin::bottom`]. Another thread's count may be off by what the bin's thread is doing at the moment.
    #[inline(always)]
    pub(crate) unsafe fn count(heap: HeapRef, class: Class) -> usize {
        // SAFETY: a word of a heap, which lives for ever.
        unsafe {
            let top = Bin::top(&raw mut (*heap.ptr()).front.bins[class.index()]);
            (top as usize).saturating_sub(Bin::bottom(heap, class) as usize)
                / size_of::<*mut Block>()
        }
    }

    /// Blocks the bin holds before a free takes the slow path.
    ///
    /// # Safety
    /// The bin is the calling thread's, or one whose thread is gone.
    #[inline(always)]
    pub(crate) unsafe fn limit(heap: HeapRef, class: Class) -> usize {
        // SAFETY: both are places of the bin.
        unsafe {
            (*heap.ptr()).front.bins[class.index()]
                .end
                .offset_from_unsigned(Bin::bottom(heap, class))
        }
    }

    /// Sets the limit, to the bin's room at most and its count at least.
    ///
    /// # Safety
    /// As for [`Bin::limit`].
    pub(crate) unsafe fn set_limit(heap: HeapRef, class: Class, limit: usize) {
        // SAFETY: inside the bin's places.
        unsafe {
            let most = Bin::room(heap, class);
            let limit = limit.max(Bin::count(heap, class)).min(most);
            (*heap.ptr()).front.bins[class.index()].end = Bin::bottom(heap, class).add(limit);
        }
    }

    /// The place of the oldest block. The others follow upwards.
    ///
    /// # Safety
    /// As for [`Bin::limit`].
    #[inline(always)]
    pub(crate) unsafe fn first(heap: HeapRef, class: Class) -> *mut *mut Block {
        // SAFETY: inside the bin's places, of which there is one at least.
        unsafe { Bin::bottom(heap, class).add(1) }
    }

    /// Says that the bin holds `count` blocks, their addresses written from [`Bin::first`] on. The caller sees to the limit.
    ///
    /// # Safety
    /// As for [`Bin::limit`]; the blocks are free, of `class`, the caller's to give, and at most as many as there is
    /// room for.
    #[inline(always)]
    pub(crate) unsafe fn set_count(heap: HeapRef, class: Class, count: usize) {
        // SAFETY: the caller's promise.
        debug_assert!(count <= unsafe { Bin::room(heap, class) });
        // SAFETY: a word of a heap whose bin the caller may change.
        unsafe { (*heap.ptr()).rows[class.index()] = 0 };
        // A fork in another thread may freeze this one anywhere. The child must find addresses of the bin's own blocks below
        // the top, and nothing else (rule 13).
        compiler_fence(Ordering::Release);
        // SAFETY: inside the bin's places.
        unsafe {
            let top = Bin::bottom(heap, class).add(count);
            Bin::set_top(&raw mut (*heap.ptr()).front.bins[class.index()], top);
        }
        compiler_fence(Ordering::Release);
    }

    /// The blocks in the bin, oldest first.
    ///
    /// # Safety
    /// As for [`Bin::limit`], as long as the slice is used.
    pub(crate) unsafe fn blocks<'a>(heap: HeapRef, class: Class) -> &'a [*mut Block] {
        // SAFETY: so many places were written.
        unsafe { slice::from_raw_parts(Bin::first(heap, class), Bin::count(heap, class)) }
    }

    /// The newest block, if it is there twice in a row.
    ///
    /// # Safety
    /// `this` is the calling thread's, or a stand-in.
    pub(crate) unsafe fn twice(this: *mut Bin) -> Option<*mut Block> {
        // SAFETY: as in `pop`.
        let (block, next) = unsafe {
            let top = Bin::top(this);
            (*top, *top.sub(1))
        };
        (!block.is_null() && block == next).then_some(block)
    }

    /// Takes the newest block, unless there is none or it is there twice in a row.
    ///
    /// # Safety
    /// `this` is the calling thread's, or a stand-in.
    #[inline(always)]
    pub(crate) unsafe fn pop(this: *mut Bin) -> Option<*mut u8> {
        // SAFETY: `top` is a place of the bin, and two at the bottom hold null; blocks in a bin are free and nobody else's.
        unsafe {
            let top = Bin::top(this);
            let (block, next) = (*top, *top.sub(1));
            // Two nulls, or a block that was freed twice in a row: one comparison finds both.
            if block == next {
                return None;
            }
            Bin::set_top(this, top.sub(1));
            fetch(next);
            Some(block.cast())
        }
    }

    /// Adds a block. Returns false if the bin is at its limit.
    ///
    /// # Safety
    /// `this` is the calling thread's; the block, of its class, is free and the caller's to give.
    #[inline(always)]
    pub(crate) unsafe fn push(this: *mut Bin, block: *mut Block) -> bool {
        // SAFETY: a place is left below the end, which lies inside the bin's places.
        unsafe {
            let top = Bin::top(this);
            if top >= (*this).end {
                return false;
            }
            let top = top.add(1);
            *top = block;
            // As in `set_count`.
            compiler_fence(Ordering::Release);
            Bin::set_top(this, top);
            true
        }
    }
}

/// Prefetches for writing the first cache line of the block that is given out next. Its user comes to it sooner or later, and
/// would wait for each of many in a row. Any address will do, null too.
#[inline(always)]
fn fetch(block: *mut Block) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which never faults.
    unsafe {
        core::arch::asm!("prefetchw byte ptr [{}]", in(reg) block, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

const _: () = assert!(
    size_of::<StandIn>() == size_of::<Bin>(),
    "a stand-in is read as a bin"
);
