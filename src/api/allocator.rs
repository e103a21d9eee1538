//! `allocator-api2`'s `Allocator` for `&Hakmem`, behind the feature of that name: for collections that take an allocator, in a
//! program whose global one is another.

use super::global::Hakmem;
use crate::os::clear::clear;
use allocator_api2::alloc::{AllocError, Allocator};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

/// A block of no bytes: an aligned address that nobody dereferences.
fn nothing(layout: Layout) -> NonNull<[u8]> {
    let address = ptr::without_provenance_mut(layout.align());
    NonNull::slice_from_raw_parts(NonNull::new(address).unwrap_or(NonNull::dangling()), 0)
}

fn block(start: *mut u8, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    let start = NonNull::new(start).ok_or(AllocError)?;
    Ok(NonNull::slice_from_raw_parts(start, layout.size()))
}

// SAFETY: a block stays valid until it is freed, whatever happens to the handle. All handles serve from the same memory, so any
// copy may free what another allocated.
unsafe impl Allocator for &Hakmem {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        // SAFETY: the layout has a size.
        block(unsafe { self.alloc(layout) }, layout)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(nothing(layout));
        }
        // SAFETY: the layout has a size.
        block(unsafe { self.alloc_zeroed(layout) }, layout)
    }

    #[inline]
    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(start.as_ptr(), layout) }
        }
    }

    #[inline]
    unsafe fn grow(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { resize(self, start, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise; the new bytes belong to the block.
        unsafe {
            let grown = resize(self, start, old, new)?;
            let fresh = grown.cast::<u8>().add(old.size());
            clear(fresh.as_ptr(), new.size() - old.size());
            Ok(grown)
        }
    }

    #[inline]
    unsafe fn shrink(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { resize(self, start, old, new) }
    }
}

/// Resizes in place or by moving page tables if the alignment stays, else by a copy. On failure the block is unchanged.
///
/// # Safety
/// `start` is a block in use of layout `old`.
unsafe fn resize(
    hakmem: &Hakmem,
    start: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    // SAFETY: the caller's promise. A size of 0 has no block and takes the second branch, in which nothing is copied or freed
    // for it.
    unsafe {
        if old.align() == new.align() && old.size() != 0 && new.size() != 0 {
            return block(hakmem.realloc(start.as_ptr(), old, new.size()), new);
        }
        let moved = hakmem.allocate(new)?;
        let bytes = old.size().min(new.size());
        ptr::copy_nonoverlapping(start.as_ptr(), moved.cast().as_ptr(), bytes);
        hakmem.deallocate(start, old);
        Ok(moved)
    }
}
