//! The two fast paths, each beside its cold twin.

use crate::base::size_class::{
    self, CHECKED, CLASSES, Class, GUARDED, LARGE, MIN_ALIGN, SLAB_MAX, SMALL_MAX,
};
use crate::checked::{self, Mode};
use crate::guarded;
use crate::heap::cache::ceiling;
use crate::heap::data::bin::Bin;
use crate::heap::data::fresh::Fresh;
use crate::heap::data::heap::{Front, HeapRef, NOBODY};
use crate::heap::data::state::Outbox;
use crate::heap::data::tls;
use crate::heap::entry::caller::{heed, is_heeded};
use crate::heap::entry::free_slow::{free_checked, free_large, free_slow};
use crate::heap::entry::{chosen, threadless};
use crate::heap::slow::push::{bin_at, bin_of, push};
use crate::heap::slow::{foreign, refill, watch};
use crate::heap::thread::attach;
use crate::heap::upkeep::{maintain, shortage};
use crate::large;
use crate::os::clear::clear;
use crate::os::{findings, message, sys};
use crate::slab::batch::Block;
use crate::slab::directory::{DIRECTORY, Tag};

pub(crate) use crate::heap::entry::caller::Caller;

/// A block of at least `size` bytes at `align` (a power of two), or null. `caller` says what the caller's static asks
/// for, if it is one; the fast path does not look at it.
#[inline]
pub(crate) fn alloc(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    // Two exits to two functions: two predictable branches cost less than the one the compiler makes of a common exit.
    if size > SMALL_MAX {
        return alloc_other(size, align, caller);
    }
    if align > MIN_ALIGN {
        return alloc_aligned(size, align, caller);
    }
    let front = tls::get();
    // SAFETY: `front` is this thread's, or a read-only stand-in whose bins are empty.
    unsafe {
        // Size 0 gives class 0, whose bin is always empty: the slow path sorts it out.
        let offset = (size + 15) & !15;
        match Bin::pop(bin_at(front, offset)) {
            Some(block) => block,
            None => alloc_slow_sized(size, caller),
        }
    }
}

/// A size above [`SMALL_MAX`]. It calls nothing but at its ends, so it saves no registers.
#[inline(never)]
fn alloc_other(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    if align > MIN_ALIGN || size > SLAB_MAX {
        return alloc_rest(size, align, caller);
    }
    // SAFETY: as in `alloc`; the class is below CLASSES.
    match unsafe { Bin::pop(bin_of(tls::get(), size_class::medium(size))) } {
        Some(block) => block,
        None => alloc_slow_sized(size, caller),
    }
}

/// A block from a bin by the class of the layout, or a large block.
#[inline(never)]
fn alloc_rest(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    let Some(class) = size_class::of_layout(size, align) else {
        return alloc_large(size, align, false, caller).ptr;
    };
    // SAFETY: as in `alloc_other`.
    match unsafe { Bin::pop(bin_of(tls::get(), class)) } {
        Some(block) => block,
        None => alloc_slow(class, size, align, caller).ptr,
    }
}

/// A size up to [`SMALL_MAX`] at an alignment above [`MIN_ALIGN`].
#[inline(never)]
fn alloc_aligned(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    let rounded = (size.max(1) + align - 1) & !(align - 1);
    if rounded > SMALL_MAX {
        return alloc_rest(size, align, caller);
    }
    // A block of a small class is as large as the offset of its bin, and a multiple of what its size is a multiple of.
    // SAFETY: as in `alloc`.
    match unsafe { Bin::pop(bin_at(tls::get(), rounded)) } {
        Some(block) => block,
        None => alloc_slow(Class::new(rounded / MIN_ALIGN), size, align, caller).ptr,
    }
}

const _: () = assert!(
    size_of::<Bin>() == 16 && core::mem::offset_of!(Front, bins) == 0,
    "a size rounded up to 16 is the offset of its bin"
);

/// A block for `size` bytes, up to [`SLAB_MAX`], if the bin has none.
#[cold]
#[inline(never)]
fn alloc_slow_sized(size: usize, caller: Option<&Caller>) -> *mut u8 {
    let class = size_class::of_size(size).unwrap_or(Class::NONE);
    alloc_slow(class, size, MIN_ALIGN, caller).ptr
}

/// A block of `class`, for `size` bytes at `align`, if the bin has none.
#[cold]
#[inline(never)]
fn alloc_slow(class: Class, size: usize, align: usize, caller: Option<&Caller>) -> Fresh {
    if checked::mode() == Mode::All
        && is_heeded(caller)
        && let Some(fresh) = chosen::each(size, align)
    {
        return fresh;
    }
    let class = class.max(Class::new(1));
    let fresh = sys::preserve_errno(|| {
        heed(caller);
        if let Some(taken) = chosen::guarded(size, align).or_else(|| chosen::checked(size, align)) {
            return taken;
        }
        let fresh = from_anywhere(class);
        match size_class::in_single_slots(class) {
            Some(single) if fresh.ptr.is_null() => from_anywhere(single),
            _ => fresh,
        }
    });
    if fresh.ptr.is_null() {
        findings::memory_refused(size_class::size(class), 1);
        announce_null(caller);
    }
    fresh
}

/// Null is about to be returned.
#[cold]
fn announce_null(caller: Option<&Caller>) {
    if let Some(call) = caller.and_then(|caller| caller.when_null) {
        message::call_out(call);
    }
}

/// A block of `class`, which is not 0, from wherever there is one.
fn from_anywhere(class: Class) -> Fresh {
    // Read again, not passed on: the slow path of an outer call may have changed it (rule 10).
    let mut front = tls::get();
    if tls::is_empty(front) || tls::may_return(front) {
        attach::attach();
        front = tls::get();
    }
    // Check the bin again: size 0 looked into class 0's bin, and an adopted heap may hold its previous thread's blocks.
    // SAFETY: this thread's heap, or a stand-in, whose bins are empty.
    if let Some(ptr) = unsafe { Bin::pop(bin_of(front, class)) } {
        return Fresh { ptr, zero: false };
    }
    // SAFETY: as above.
    unsafe { watch::unless_empty(bin_of(front, class), class) };
    if tls::is_dead(front) || tls::is_empty(front) {
        return threadless::alloc(class);
    }
    // SAFETY: neither stand-in, so the front of this thread's own heap.
    unsafe { refill::refill(HeapRef::of_front(front), class) }
}

#[cold]
#[inline(never)]
fn alloc_large(size: usize, align: usize, zeroed: bool, caller: Option<&Caller>) -> Fresh {
    let block = sys::preserve_errno(|| {
        heed(caller);
        if !attach::ensure_ready() {
            return None;
        }
        let checked = checked::mode() == Mode::All;
        let take = || large::alloc(size, align, zeroed, checked);
        let block = take().or_else(|| shortage::relieve(size).then(take)?)?;
        if checked {
            // Once for each thread: none has a heap.
            threadless::thread();
        } else if tls::current().is_none() {
            maintain::noticed();
        }
        ceiling::grew();
        Some(block)
    });
    let Some(block) = block else {
        if align.is_power_of_two() {
            // An alignment takes as much room as it says.
            findings::memory_refused(size, align);
        } else {
            findings::alignment_refused(align);
        }
        announce_null(caller);
        return Fresh::NULL;
    };
    Fresh {
        ptr: block.ptr,
        zero: block.zero,
    }
}

/// As [`alloc`], with all `size` bytes zero.
pub(crate) fn alloc_zeroed(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    let fresh = match size_class::of_layout(size, align) {
        // SAFETY: as in `alloc_other`.
        Some(class) => match unsafe { Bin::pop(bin_of(tls::get(), class)) } {
            Some(ptr) => Fresh { ptr, zero: false },
            None => alloc_slow(class, size, align, caller),
        },
        None => alloc_large(size, align, true, caller),
    };
    if fresh.ptr.is_null() {
        return fresh.ptr;
    }
    let dirty = if fresh.zero {
        size.min(size_of::<Block>())
    } else {
        size
    };
    // SAFETY: the block is ours, and holds `size` bytes.
    unsafe { clear(fresh.ptr, dirty) }
}

/// Frees a block by its layout.
///
/// # Safety
/// `ptr` came from this allocator with this layout (or one that a shrink in place has led to) and is not used again.
#[inline]
pub(crate) unsafe fn dealloc(ptr: *mut u8, size: usize, align: usize) {
    if size <= SMALL_MAX {
        // The alignment need not be looked at: if the directory agrees with the class, the block is of it.
        let offset = (size + 15) & !15;
        let front = tls::get();
        // SAFETY: `front` is this thread's or a stand-in, which no tag matches. If the tag matches, the offset is that of the bin
        // of the block's class, and the block is the caller's to give.
        unsafe {
            if (DIRECTORY.tag(ptr as usize).0 ^ (*front).tag) as usize == offset {
                return push(front, ptr.cast(), offset);
            }
            return dealloc_foreign(ptr, size, align);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { dealloc_other(ptr, size, align) }
}

/// Frees a small block, mostly another heap's. In a program whose threads hand memory on, many frees come here.
#[inline(never)]
unsafe fn dealloc_foreign(ptr: *mut u8, size: usize, align: usize) {
    let tag = DIRECTORY.tag(ptr as usize);
    // SAFETY: the caller's promise. As in `dealloc`, alignment aside: a class that agrees with the tag is the block's.
    unsafe {
        let class = Class::new((size + 15) >> 4);
        if tag.class() == class && class != Class::NONE {
            let front = tls::get();
            if is_anothers(ptr, front) {
                return gather(ptr, front, tag, class);
            }
        }
        dealloc_aligned(ptr, size, align);
    }
}

/// Frees a small block, mostly one whose alignment asks for a larger class than its size.
#[inline(never)]
unsafe fn dealloc_aligned(ptr: *mut u8, size: usize, align: usize) {
    let front = tls::get();
    let rounded = (size.max(1) + align - 1) & !(align - 1);
    // SAFETY: as in `dealloc`; see `alloc_aligned`.
    unsafe {
        let offset = (DIRECTORY.tag(ptr as usize).0 ^ (*front).tag) as usize;
        if offset == rounded && rounded <= SMALL_MAX {
            return push(front, ptr.cast(), offset);
        }
        dealloc_rest(ptr, size, align);
    }
}

/// Frees a block by its address alone, mostly another heap's.
#[inline(never)]
unsafe fn free_foreign(ptr: *mut u8) {
    let tag = DIRECTORY.tag(ptr as usize);
    let class = tag.class();
    // SAFETY: the caller's promise.
    unsafe {
        if class.has_blocks() {
            let front = tls::get();
            if is_anothers(ptr, front) {
                return gather(ptr, front, tag, class);
            }
        }
        if class == CHECKED && DIRECTORY.holds(ptr as usize) {
            return free_checked(ptr, None);
        }
        free_slow(ptr, None);
    }
}

/// Whether `ptr`, which the fast path did not take, is another heap's, and the thread, whose front is `front`, has a heap that may
/// gather it: neither a stand-in nor a watched one. The fast path takes all blocks of the own heap's classes.
#[inline(always)]
fn is_anothers(ptr: *mut u8, front: *mut Front) -> bool {
    // SAFETY: this thread's front, or a stand-in.
    let own = unsafe { (*front).tag };
    own != Tag::of_owner(NOBODY).0 && DIRECTORY.holds(ptr as usize)
}

/// Adds a block to those that the thread gathers for the heap that `tag` names.
///
/// # Safety
/// The caller gives up the block at `ptr`, which [`is_anothers`]. `tag` is its own, and `class` the tag's, one of blocks.
#[inline(always)]
unsafe fn gather(ptr: *mut u8, front: *mut Front, tag: Tag, class: Class) {
    // SAFETY: the front has a tag of its own, so it is this thread's heap. The tag of an address that the directory holds is that
    // of a slab of ours.
    unsafe {
        if !Outbox::add(HeapRef::of_front(front), class, ptr.cast(), tag.owner()) {
            gather_slow(ptr);
        }
    }
}

/// [`gather`], if the outbox is empty, full, or another owner's. It finds the tag again, so that its callers keep their arguments
/// where they are.
///
/// # Safety
/// As for [`gather`].
#[inline(never)]
unsafe fn gather_slow(ptr: *mut u8) {
    let tag = DIRECTORY.tag(ptr as usize);
    // SAFETY: as in `gather`. Of a block that somebody else frees too, the tag may be another one now.
    unsafe {
        if !tag.class().has_blocks() {
            return free_slow(ptr, None);
        }
        foreign::free_foreign(ptr.cast(), HeapRef::of_front(tls::get()), tag);
    }
}

/// Frees a block of a size above [`SMALL_MAX`]. As in `dealloc`, the alignment need not be looked at if the directory agrees.
#[inline(never)]
unsafe fn dealloc_other(ptr: *mut u8, size: usize, align: usize) {
    // SAFETY: as in `dealloc`.
    unsafe {
        if size <= SLAB_MAX {
            let front = tls::get();
            let offset = size_class::medium(size).index() * size_of::<Bin>();
            if (DIRECTORY.tag(ptr as usize).0 ^ (*front).tag) as usize == offset {
                return push(front, ptr.cast(), offset);
            }
        }
        dealloc_rest(ptr, size, align);
    }
}

/// Frees a block by the class of its layout, if the directory agrees.
#[inline(never)]
unsafe fn dealloc_rest(ptr: *mut u8, size: usize, align: usize) {
    // No heap's tag carries the class LARGE: such a block takes the slow path.
    let class = size_class::of_layout(size, align).unwrap_or(LARGE);
    let front = tls::get();
    // SAFETY: as in `dealloc`.
    unsafe {
        let offset = class.index() * size_of::<Bin>();
        if (DIRECTORY.tag(ptr as usize).0 ^ (*front).tag) as usize != offset {
            return dealloc_slow(ptr, size, class);
        }
        push(front, ptr.cast(), offset);
    }
}

/// A block that is not this heap's, or not of this class. A function of its own, so that the one before needs no registers saved.
#[inline(never)]
unsafe fn dealloc_slow(ptr: *mut u8, size: usize, class: Class) {
    match DIRECTORY.own_tag(ptr as usize).class() {
        CHECKED => free_checked(ptr, Some(size)),
        GUARDED => guarded::free(ptr, Some(size)),
        LARGE => free_large(ptr, Some(size)),
        // SAFETY: the caller gives the block up.
        _ => unsafe { free_slow(ptr, Some(class)) },
    }
}

/// Frees a block by its address alone.
///
/// # Safety
/// `ptr` came from this allocator and is not used again.
#[inline]
pub(crate) unsafe fn free(ptr: *mut u8) {
    let front = tls::get();
    // SAFETY: as in `dealloc`; the class is the tag's.
    unsafe {
        let offset = (DIRECTORY.tag(ptr as usize).0 ^ (*front).tag) as usize;
        if offset >= CLASSES * size_of::<Bin>() {
            return free_foreign(ptr);
        }
        push(front, ptr.cast(), offset);
    }
}
