//! Changing the size of a block: in place if its class allows it, by moving page tables if it is large, by copying otherwise. A
//! guarded block moves, so that a use of its old address faults; it stays only if there is no memory for another and it shrinks.

use crate::base::size_class::{self, CHECKED, Class, GUARDED, RUN_MAX};
use crate::base::tuning::heap_cache::{WORTH_A_MOVE, WORTH_A_MOVE_SHARE};
use crate::heap::cache::ceiling;
use crate::heap::entry::{free_slow, hot, threadless};
use crate::heap::upkeep::{shortage, tick};
use crate::large;
use crate::os::sys::ErrnoGuard;
use crate::os::{clock, findings};
use crate::{checked, guarded};
use core::ptr;

/// A block of at least `new_size` bytes at `align` with the contents of `ptr`, which is gone then. If memory is out, `ptr` itself
/// if it serves the new size as well, else null, with `ptr` as it was. `old_size` is what the caller asked for; without it the
/// block's usable size counts.
///
/// # Safety
/// `ptr` is a block of this allocator, in use, of at least `old_size` bytes and at `align`.
pub(crate) unsafe fn realloc(
    ptr: *mut u8,
    old_size: Option<usize>,
    align: usize,
    new_size: usize,
) -> *mut u8 {
    if new_size > isize::MAX as usize - align {
        return ptr::null_mut();
    }
    let class = free_slow::class_of(ptr, "realloc");
    // SAFETY: the caller's promises.
    unsafe {
        let old_size = old_size.unwrap_or_else(|| free_slow::bytes_of(ptr, class, "realloc"));
        if !class.is_of_sizes() {
            if let Some(new) = without_class(ptr, old_size, align, new_size, class) {
                return new;
            }
        } else {
            let block = size_class::size(class);
            if new_size <= block && !moves(block, new_size, align) {
                return ptr;
            }
        }
        let new = hot::alloc(new_size, align, None);
        if !new.is_null() {
            ptr::copy_nonoverlapping(ptr, new, old_size.min(new_size));
            // By address: the class in the directory is the truth, whatever size the caller last knew.
            hot::free(ptr);
        } else if stays(ptr, class, [old_size, new_size], align) {
            return ptr;
        }
        new
    }
}

/// Whether a block can serve the new size where it is: there is no memory for another.
#[cold]
fn stays(ptr: *mut u8, class: Class, [old_size, new_size]: [usize; 2], align: usize) -> bool {
    if class == CHECKED {
        return resize_checked(ptr, [old_size, new_size], align, true);
    }
    if class == GUARDED {
        return guarded::shrink(ptr, new_size);
    }
    class.is_of_sizes() && may_stay(size_class::size(class), new_size)
}

/// [`realloc`] of a block of no class, large, checked or guarded. `None` if the block has to be copied to another.
///
/// # Safety
/// As for [`realloc`]; the directory's class of the block is `class`.
#[inline(never)]
unsafe fn without_class(
    ptr: *mut u8,
    old_size: usize,
    align: usize,
    new_size: usize,
    class: Class,
) -> Option<*mut u8> {
    if class == CHECKED {
        return resize_checked(ptr, [old_size, new_size], align, false).then_some(ptr);
    }
    if class == GUARDED {
        guarded::compare(ptr, old_size);
        return None;
    }
    if new_size <= RUN_MAX {
        return None;
    }
    let _errno = ErrnoGuard::new();
    // SAFETY: the caller's promises.
    let grow = || unsafe { large::realloc(ptr, old_size, align, new_size) };
    let new = grow().or_else(|| shortage::relieve(new_size).then(grow)?);
    ceiling::grew();
    tick::pass(clock::now_ms());
    if new.is_none() {
        findings::memory_refused(new_size, 1);
    }
    Some(new.unwrap_or(ptr::null_mut()))
}

#[inline(never)]
fn resize_checked(ptr: *mut u8, sizes: [usize; 2], align: usize, anyway: bool) -> bool {
    checked::resize(ptr, sizes, align, anyway, threadless::thread())
}

/// Whether a block of `block` bytes that shrinks to `new_size` goes to a smaller class: if that saves a quarter of it, and
/// [`WORTH_A_MOVE`]. So what a program shrinks to fit does fit.
fn moves(block: usize, new_size: usize, align: usize) -> bool {
    if !may_stay(block, new_size) {
        return true;
    }
    // No class saves more: most blocks are done here.
    if block - new_size < WORTH_A_MOVE {
        return false;
    }
    let saved = size_class::of_layout(new_size, align)
        .map_or(0, |class| block.saturating_sub(size_class::size(class)));
    saved >= WORTH_A_MOVE && saved >= block / WORTH_A_MOVE_SHARE
}

/// Whether a block may serve a size it was shrunk to. Down to half of the block a free accepts the smaller layout.
fn may_stay(block: usize, new_size: usize) -> bool {
    new_size <= block && (new_size >= block / 2 || block <= 16)
}
