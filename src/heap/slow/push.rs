//! Putting a freed block into its bin, which may be full.

use crate::base::size_class::{self, Class};
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::{Front, HeapRef};
use crate::heap::slow::overflow;
use crate::os::sys::ErrnoGuard;
use crate::slab::batch::Block;

/// The bin `offset` bytes into the front.
///
/// # Safety
/// `front` is a heap's or a stand-in's; `offset` is that of a bin.
#[inline(always)]
pub(crate) unsafe fn bin_at(front: *mut Front, offset: usize) -> *mut Bin {
    // SAFETY: the caller's promise.
    unsafe { front.cast::<u8>().add(offset).cast() }
}

/// The bin of a class.
///
/// # Safety
/// `front` is a heap's or a stand-in's; `class` is none of the four that stand for no class.
#[inline(always)]
pub(crate) unsafe fn bin_of(front: *mut Front, class: Class) -> *mut Bin {
    // SAFETY: the caller's promise.
    unsafe { bin_at(front, class.index() * size_of::<Bin>()) }
}

/// Puts a block into the bin `offset` bytes into the front.
///
/// # Safety
/// The front is the calling thread's own; the block, of that bin's class, was just freed and belongs to nobody else.
#[inline(always)]
pub(crate) unsafe fn push(front: *mut Front, block: *mut Block, offset: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        if !Bin::push(bin_at(front, offset), block) {
            overflow(block, HeapRef::of_front(front), offset);
        }
    }
}

/// Puts a block of another heap into the bin. Blocks may lie in any bin: the way back sorts them.
///
/// # Safety
/// `heap` is the calling thread's; `block`, of `class`, is the caller's to give.
pub(crate) unsafe fn push_foreign(heap: HeapRef, block: *mut Block, class: Class) {
    // SAFETY: the caller's promises; a heap starts with its front.
    unsafe { push(heap.ptr().cast(), block, class.index() * size_of::<Bin>()) }
}

/// The block is the first argument, as in the callers of `free`, so that it need not be moved.
#[cold]
#[inline(never)]
unsafe fn overflow(block: *mut Block, heap: HeapRef, offset: usize) {
    let _errno = ErrnoGuard::new();
    // SAFETY: the caller's: its own heap, its own block.
    unsafe {
        match Class::new(offset / size_of::<Bin>()) {
            class if size_class::is_run(class) => overflow::run(heap, block, class),
            class => overflow::overflow(heap, block, class),
        }
    }
}
