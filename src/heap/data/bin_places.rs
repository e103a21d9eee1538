//! The places of bins. A thread uses most of its classes little, so a class gets few places at first, and all once its bin is filled
//! again.

use super::{Bin, bin_limit, room, shelf_room};
use crate::base::size_class::Class;
use crate::base::tuning::bins::FIRST_SHARE;
use crate::base::units::CACHE_LINE;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::stand_in::{NULLS, or_nothing};
use crate::slab::batch::Block;
use crate::slab::meta;
use core::ptr;

/// Room of the places that a bin begins with: for what the first refill brings, and to the end of their cache lines at least.
const fn first_room(class: Class) -> usize {
    let share = bin_limit(class).div_ceil(FIRST_SHARE);
    let line = CACHE_LINE / size_of::<*mut Block>() - NULLS;
    let least = if share > line { share } else { line };
    if least < room(class) {
        least
    } else {
        room(class)
    }
}

/// Fresh places for `most` blocks, above those for null, of which the upper is returned. If these are all that the bin may need,
/// the shelf's follow.
#[inline(never)]
fn new_places(class: Class, most: usize) -> Option<*mut *mut Block> {
    let shelf = if most == room(class) {
        shelf_room(class)
    } else {
        0
    };
    let lines = meta::allocate_lines(NULLS + most + shelf)?;
    // SAFETY: inside the places.
    Some(unsafe { lines.as_ptr().cast::<*mut Block>().add(NULLS - 1) })
}

impl Bin {
    /// Whether the bin has places, its own or those of a magazine.
    ///
    /// # Safety
    /// As for [`Bin::bottom`].
    #[inline(always)]
    pub(crate) unsafe fn has_places(heap: HeapRef, class: Class) -> bool {
        // SAFETY: a word of a heap, which lives for ever.
        unsafe { (*heap.ptr()).bottoms[class.index()] != or_nothing(ptr::null_mut()) }
    }

    /// Whether the bin has all the places of its own that it may ever need.
    ///
    /// # Safety
    /// As for [`Bin::bottom`].
    #[inline(always)]
    pub(crate) unsafe fn is_wide(heap: HeapRef, class: Class) -> bool {
        // SAFETY: words of a heap, which lives for ever.
        unsafe { (*heap.ptr()).wide.has(class) }
    }

    /// The places of the class's shelf, [`shelf_room`] of them, if the bin has all of its own.
    ///
    /// # Safety
    /// The caller holds the heap's lock.
    pub(crate) unsafe fn shelf(heap: HeapRef, class: Class) -> Option<*mut *mut Block> {
        // SAFETY: a word of a heap, which lives for ever; the places behind the bin's own.
        unsafe {
            Bin::is_wide(heap, class)
                .then(|| (*heap.ptr()).places[class.index()].add(1 + room(class)))
        }
    }

    /// Gives the bin a few places of its own if it has none, else all that it may need. Returns false if memory is refused and it
    /// has none. New places come with a limit of 0. A thread uses few classes, so each gets its places when it first needs them,
    /// and they lie together in the order of use.
    ///
    /// # Safety
    /// The bin is the calling thread's, and the caller holds the heap's lock.
    pub(crate) unsafe fn find_places(heap: HeapRef, class: Class) -> bool {
        // SAFETY: the caller's promises.
        unsafe {
            if Bin::has_places(heap, class) {
                Bin::widen(heap, class);
                return true;
            }
            if (*heap.ptr()).places[class.index()].is_null() {
                let Some(places) = new_places(class, first_room(class)) else {
                    return false;
                };
                (*heap.ptr()).places[class.index()] = places;
                if first_room(class) == room(class) {
                    (*heap.ptr()).wide.add(class);
                }
            }
            Bin::lay(heap, class, None);
            Bin::set_limit(heap, class, 0);
            true
        }
    }

    /// Gives the bin all the places of its own that it may ever need. Blocks in it and its limit stay. Returns false if memory is
    /// refused. The few places it had are not used again.
    ///
    /// # Safety
    /// As for [`Bin::find_places`].
    pub(crate) unsafe fn widen(heap: HeapRef, class: Class) -> bool {
        // SAFETY: the caller's promises.
        unsafe { Bin::is_wide(heap, class) || Bin::widen_slow(heap, class) }
    }

    #[cold]
    #[inline(never)]
    unsafe fn widen_slow(heap: HeapRef, class: Class) -> bool {
        let Some(places) = new_places(class, room(class)) else {
            return false;
        };
        // SAFETY: the bin is the calling thread's, so nobody pushes or pops meanwhile. Others read it under the lock, which the
        // caller holds; a fork in another thread waits for it. The new places are fresh, so those for null hold it, and there
        // are more than the old ones, all of which lie between `few` and the end of the old places.
        unsafe {
            let in_own = Bin::magazine(heap, class).is_none();
            let (count, limit) = (Bin::count(heap, class), Bin::limit(heap, class));
            let few = core::mem::replace(&mut (*heap.ptr()).places[class.index()], places);
            (*heap.ptr()).wide.add(class);
            if in_own {
                if !few.is_null() {
                    ptr::copy_nonoverlapping(few.add(1), places.add(1), count);
                }
                (*heap.ptr()).bottoms[class.index()] = places;
                let bin = &raw mut (*heap.ptr()).front.bins[class.index()];
                Bin::set_top(bin, places.add(count));
                (*bin).end = places.add(limit);
            }
            true
        }
    }

    /// Blocks that the bin has room for outside a magazine: none until it gets places.
    ///
    /// # Safety
    /// As for [`Bin::bottom`].
    pub(crate) unsafe fn own_room(heap: HeapRef, class: Class) -> usize {
        // SAFETY: words of a heap, which lives for ever.
        unsafe {
            if (*heap.ptr()).places[class.index()].is_null() {
                0
            } else if Bin::is_wide(heap, class) {
                room(class)
            } else {
                first_room(class)
            }
        }
    }
}
