//! Magazines: addresses of free blocks, in memory of the allocator's own.
//!
//! A batch names its blocks in the words of a few of them. That costs nothing to hold, but the words are written and read again
//! each time. A stack that grows and shrinks by thousands of blocks pays for it with every free and every allocation, so its
//! addresses are kept in magazines, eight bytes for each block. A bin can lie in a magazine, so that its blocks go onto the
//! stack and come back without being copied.

use super::batch::Block;
use core::mem::{MaybeUninit, offset_of};
use core::ptr;

/// Bytes of a magazine: the smallest OS page there is, so that a free one can be purged.
pub(crate) const SIZE: usize = 4096;
/// Addresses a magazine has room for.
pub(crate) const ROOM: usize = (SIZE - 2 * size_of::<usize>()) / size_of::<*mut Block>();

/// A stack of addresses. All-zero is empty.
#[repr(C, align(4096))]
pub(crate) struct Magazine {
    /// The next in a list of magazines. Null while a bin lies here: a bin has two places that hold null.
    pub(crate) below: *mut Magazine,
    /// How many of `blocks` are written. 0 while a bin lies here: this is the place below its oldest block, which holds null.
    count: usize,
    blocks: [MaybeUninit<*mut Block>; ROOM],
}

const _: () = assert!(
    size_of::<Magazine>() == SIZE,
    "a magazine can be purged alone"
);
const _: () = assert!(
    offset_of!(Magazine, below) == 0
        && offset_of!(Magazine, count) == size_of::<usize>()
        && offset_of!(Magazine, count) + size_of::<usize>() == offset_of!(Magazine, blocks)
        && size_of::<usize>() == size_of::<*mut Block>(),
    "link and count are the places below the oldest"
);

impl Magazine {
    /// Makes it an empty magazine, in no list.
    ///
    /// # Safety
    /// `this` is the caller's.
    pub(super) unsafe fn empty(this: *mut Magazine) {
        // SAFETY: the caller's promise.
        unsafe {
            (*this).below = ptr::null_mut();
            (*this).count = 0;
        }
    }

    /// # Safety
    /// `this` is the caller's.
    pub(crate) unsafe fn count(this: *mut Magazine) -> usize {
        // SAFETY: the caller's promise.
        unsafe { (*this).count }
    }

    /// Makes it serve as a bin, in no list. Returns the upper place that holds null, with [`ROOM`] places above it, and how
    /// many of those are taken.
    ///
    /// # Safety
    /// `this` is the caller's.
    pub(crate) unsafe fn open(this: *mut Magazine) -> (*mut *mut Block, usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let count = core::mem::take(&mut (*this).count);
            (*this).below = ptr::null_mut();
            let bottom = this.byte_add(offset_of!(Magazine, count)).cast();
            (bottom, count)
        }
    }

    /// Makes it a magazine again: the first `count` places of the bin are taken.
    ///
    /// # Safety
    /// `this` is the caller's; so many were written.
    pub(crate) unsafe fn close(this: *mut Magazine, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { (*this).count = count };
    }

    /// The magazine that a bin lies in, from the bin's upper place that holds null.
    ///
    /// # Safety
    /// `bottom` came from [`Magazine::open`].
    pub(crate) unsafe fn of_bottom(bottom: *mut *mut Block) -> *mut Magazine {
        // SAFETY: the caller's promise.
        unsafe { bottom.byte_sub(offset_of!(Magazine, count)).cast() }
    }

    /// The addresses in it, oldest first.
    ///
    /// # Safety
    /// `this` is the caller's, as long as the slice is used.
    pub(crate) unsafe fn blocks<'a>(this: *mut Magazine) -> &'a [*mut Block] {
        // SAFETY: the first `count` were written.
        unsafe {
            let first = (&raw const (*this).blocks).cast::<*mut Block>();
            core::slice::from_raw_parts(first, (*this).count)
        }
    }

    /// Adds the `count` addresses from `from` on, as far as there is room. Returns how many.
    ///
    /// # Safety
    /// `this` is the caller's, and `from` leads to so many addresses.
    pub(crate) unsafe fn add(this: *mut Magazine, from: *const *mut Block, count: usize) -> usize {
        // SAFETY: inside the places, of which `ROOM - count` are left.
        unsafe {
            let some = count.min(ROOM - (*this).count);
            let first = (&raw mut (*this).blocks).cast::<*mut Block>();
            ptr::copy_nonoverlapping(from, first.add((*this).count), some);
            (*this).count += some;
            some
        }
    }

    /// Moves the newest addresses, at most `most`, to the places below `end`, the newest highest. Returns how many.
    ///
    /// # Safety
    /// `this` is the caller's, and there are `most` places below `end`.
    pub(crate) unsafe fn take(this: *mut Magazine, end: *mut *mut Block, most: usize) -> usize {
        // SAFETY: the last `some` of what was written.
        unsafe {
            let some = most.min((*this).count);
            (*this).count -= some;
            let first = (&raw const (*this).blocks).cast::<*mut Block>();
            ptr::copy_nonoverlapping(first.add((*this).count), end.sub(some), some);
            some
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn addresses(count: usize) -> Vec<*mut Block> {
        (1..=count).map(|i| (i * 16) as *mut Block).collect()
    }

    #[test]
    fn what_goes_in_comes_out_newest_first() {
        let mut memory = std::boxed::Box::new(MaybeUninit::<Magazine>::zeroed());
        let magazine = memory.as_mut_ptr();
        let blocks = addresses(ROOM + 5);
        let mut out: Vec<*mut Block> = std::vec![ptr::null_mut(); 300];
        // SAFETY: ours.
        unsafe {
            assert_eq!(Magazine::add(magazine, blocks.as_ptr(), 200), 200);
            let (rest, left) = (blocks[200..].as_ptr(), blocks.len() - 200);
            assert_eq!(Magazine::add(magazine, rest, left), ROOM - 200);
            assert_eq!(Magazine::blocks(magazine), &blocks[..ROOM]);
            let end = out.as_mut_ptr().add(300);
            assert_eq!(Magazine::take(magazine, end, 300), 300);
            assert_eq!(out, &blocks[ROOM - 300..ROOM]);
            assert_eq!(Magazine::take(magazine, end, 300), ROOM - 300);
            assert_eq!(out[600 - ROOM..], blocks[..ROOM - 300]);
            assert_eq!(Magazine::take(magazine, end, 300), 0);
        }
    }
}
