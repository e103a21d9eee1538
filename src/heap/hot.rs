//! The two fast paths, each beside its cold twin.

use super::attach;
use super::heap::{Front, Heap};
use super::{refill, remote, shared, tls};
use crate::base::size_class::{self, HUGE, MIN_ALIGN, SMALL_MAX};
use crate::knobs::{self, Config};
use crate::large;
use crate::os::sys::ErrnoGuard;
use crate::slab::batch::Block;
use crate::slab::directory::{DIRECTORY, Tag};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering, compiler_fence};

/// What the layer above wants: its configuration, and a call once the allocator works.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) config: Config,
    pub(crate) when_ready: fn(),
}

/// A block from a slow path, and whether everything past its first word is known to be zero.
#[derive(Clone, Copy)]
pub(crate) struct Fresh {
    pub(crate) ptr: *mut u8,
    pub(crate) zero: bool,
}

impl Fresh {
    pub(crate) const NULL: Fresh = Fresh {
        ptr: ptr::null_mut(),
        zero: false,
    };
}

/// A block of at least `size` bytes at `align` (a power of two), or null. `caller` says what the caller's static asks
/// for, if it is one; the fast path does not look at it.
#[inline]
pub(crate) fn alloc(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    if size <= SMALL_MAX && align <= MIN_ALIGN {
        // Size 0 gives class 0, whose bin is always empty: the slow path sorts it out.
        return alloc_class((size + 15) >> 4, caller);
    }
    alloc_other(size, align, caller)
}

#[inline(never)]
fn alloc_other(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    match size_class::of_layout(size, align) {
        Some(class) => alloc_class(class, caller),
        None => alloc_huge(size, align, false, caller).ptr,
    }
}

#[inline(always)]
fn alloc_class(class: usize, caller: Option<&Caller>) -> *mut u8 {
    let front = tls::get();
    // SAFETY: `front` is this thread's (or a read-only stand-in whose bins are empty), `class` is below CLASSES.
    unsafe {
        let bin = (&raw mut (*front).bins)
            .cast::<super::heap::Bin>()
            .add(class);
        let head = (*bin).head;
        if head.is_null() {
            return alloc_slow(class, caller).ptr;
        }
        let next = (*head).next.get();
        (*bin).head = next;
        prefetch(next);
        let room = &(*bin).room;
        room.store(room.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        head.cast()
    }
}

/// Asks for the cache line of the block that will be handed out next: a program that takes many blocks in a row
/// otherwise waits for each link in turn.
#[inline(always)]
fn prefetch(block: *mut Block) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address will do.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(block.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

/// A block of `class` where the bin has none.
#[cold]
#[inline(never)]
fn alloc_slow(class: usize, caller: Option<&Caller>) -> Fresh {
    heed(caller);
    let class = class.max(1);
    // Read again, not passed on: the slow path of an outer call may have changed it (rule 10).
    let mut front = tls::get();
    if tls::is_empty(front) {
        attach::attach();
        front = tls::get();
    }
    if tls::is_dead(front) || tls::is_empty(front) {
        return shared::alloc(class);
    }
    // SAFETY: neither stand-in, so the front of this thread's own heap.
    unsafe { refill::refill(front.cast::<Heap>(), class) }
}

/// The first word on the configuration counts; later ones are only compared with it.
fn heed(caller: Option<&Caller>) {
    if let Some(caller) = caller {
        knobs::init(&caller.config);
        attach::when_ready(caller.when_ready);
    }
}

#[cold]
#[inline(never)]
fn alloc_huge(size: usize, align: usize, zeroed: bool, caller: Option<&Caller>) -> Fresh {
    let _errno = ErrnoGuard::new();
    heed(caller);
    if !attach::ensure_ready() {
        return Fresh::NULL;
    }
    match large::alloc(size, align, zeroed) {
        Some(block) => Fresh {
            ptr: block.ptr,
            zero: block.zero,
        },
        None => Fresh::NULL,
    }
}

/// As [`alloc`], with all `size` bytes zero.
pub(crate) fn alloc_zeroed(size: usize, align: usize, caller: Option<&Caller>) -> *mut u8 {
    let fresh = match size_class::of_layout(size, align) {
        Some(class) => {
            let front = tls::get();
            // SAFETY: as in `alloc_class`.
            let empty = unsafe { (*front).bins[class].head.is_null() };
            if empty {
                alloc_slow(class, caller)
            } else {
                Fresh {
                    ptr: alloc_class(class, caller),
                    zero: false,
                }
            }
        }
        None => alloc_huge(size, align, true, caller),
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
    unsafe { ptr::write_bytes(fresh.ptr, 0, dirty) };
    fresh.ptr
}

/// Frees a block by its layout.
///
/// # Safety
/// `ptr` came from this allocator with this layout (or one that a shrink in place has led to) and is not used again.
#[inline]
pub(crate) unsafe fn dealloc(ptr: *mut u8, size: usize, align: usize) {
    if size <= SMALL_MAX && align <= MIN_ALIGN {
        // SAFETY: the caller's promise.
        return unsafe { free_class(ptr, (size + 15) >> 4) };
    }
    // SAFETY: the caller's promise.
    unsafe { dealloc_other(ptr, size, align) }
}

#[inline(never)]
unsafe fn dealloc_other(ptr: *mut u8, size: usize, align: usize) {
    let class = size_class::of_layout(size, align).unwrap_or(HUGE as usize);
    // SAFETY: the caller's promise. No heap's tag carries the class HUGE: such a block takes the slow path.
    unsafe { free_class(ptr, class) }
}

#[inline(always)]
unsafe fn free_class(ptr: *mut u8, class: usize) {
    let front = tls::get();
    // SAFETY: `front` is this thread's or a stand-in, which no tag matches; where the tag matches, `class` is a class
    // of a slab of ours, and the block the caller's to give.
    unsafe {
        if DIRECTORY.tag(ptr as usize).0 != (*front).tag | class as u32 {
            return free_slow(ptr, Some(class));
        }
        push(front, ptr.cast(), class);
    }
}

/// Frees a block by its address alone.
///
/// # Safety
/// `ptr` came from this allocator and is not used again.
#[inline]
pub(crate) unsafe fn free(ptr: *mut u8) {
    let front = tls::get();
    // SAFETY: as in `free_class`.
    unsafe {
        let class = DIRECTORY.tag(ptr as usize).0 ^ (*front).tag;
        if class > 0xFF {
            return free_slow(ptr, None);
        }
        push(front, ptr.cast(), class as usize);
    }
}

#[inline(always)]
unsafe fn push(front: *mut Front, block: *mut Block, class: usize) {
    // SAFETY: the front is the thread's own; the block was just freed and belongs to nobody else.
    unsafe {
        let bin = (&raw mut (*front).bins)
            .cast::<super::heap::Bin>()
            .add(class);
        let room = (*bin).room();
        if room == 0 {
            return overflow(front.cast(), block, class);
        }
        (*block).next.set((*bin).head);
        // A fork in another thread may freeze this one anywhere: the child must find a chain that ends (rule 13).
        compiler_fence(Ordering::Release);
        (*bin).head = block;
        (*bin).room.store(room - 1, Ordering::Relaxed);
    }
}

/// Puts a block of another heap into the bin: blocks may sit anywhere, and the way back sorts.
///
/// # Safety
/// `heap` is the calling thread's; `block`, of `class`, is the caller's to give.
pub(super) unsafe fn push_foreign(heap: *mut Heap, block: *mut Block, class: usize) {
    // SAFETY: the caller's promises; a heap starts with its front.
    unsafe { push(heap.cast(), block, class) }
}

#[cold]
#[inline(never)]
unsafe fn overflow(heap: *mut Heap, block: *mut Block, class: usize) {
    let _errno = ErrnoGuard::new();
    // SAFETY: the caller's: its own heap, its own block.
    unsafe { super::spare::overflow(heap, block, class) }
}

/// A free whose tag is not the calling heap's with the class the caller named.
#[cold]
#[inline(never)]
unsafe fn free_slow(ptr: *mut u8, named: Option<usize>) {
    if ptr.is_null() {
        return;
    }
    let tag = DIRECTORY.tag(ptr as usize);
    if tag == Tag::NONE || !DIRECTORY.covers(ptr as usize) {
        if is_foreign(ptr) {
            return;
        }
        not_ours(ptr, "not a block of this allocator, or freed already");
    }
    if tag.class() == HUGE as usize {
        let _errno = ErrnoGuard::new();
        if named.is_some_and(|class| !legal(class, HUGE as usize, ptr)) {
            not_ours(ptr, "the layout's size is not this huge block's");
        }
        // SAFETY: the caller gives the block up.
        return unsafe { large::free(ptr) };
    }
    let class = tag.class();
    if class >= size_class::CLASSES {
        not_ours(ptr, "inside memory of this allocator, but no block");
    }
    if named.is_some_and(|named| !legal(named.max(1), class, ptr)) {
        not_ours(ptr, "the layout's size class is not the block's");
    }
    // SAFETY: a block of `class` that the caller gives up.
    unsafe { route(ptr.cast(), tag) }
}

/// Whether a block of class `actual` may be freed under a layout of class `named`: the same, or smaller down to half,
/// where a shrink stayed in place.
fn legal(named: usize, actual: usize, ptr: *mut u8) -> bool {
    if named == actual {
        return true;
    }
    if actual == HUGE as usize {
        // SAFETY: the tag says that the address is a huge block's.
        let usable = unsafe { large::usable_size(ptr) };
        return named < size_class::CLASSES && size_class::size(named) * 2 >= usable;
    }
    named < actual && size_class::size(named) * 2 >= size_class::size(actual)
}

/// Puts a freed block of a slab where it belongs, whoever owns it.
unsafe fn route(block: *mut Block, tag: Tag) {
    let mut front = tls::get();
    if tls::is_empty(front) {
        attach::attach();
        front = tls::get();
    }
    // SAFETY: the block is the caller's; a front that is no stand-in is this thread's heap.
    unsafe {
        if tls::is_dead(front) || tls::is_empty(front) {
            let _errno = ErrnoGuard::new();
            return remote::post_single(block, tag);
        }
        if (*front).tag == tag.0 & !0xFF {
            return push(front, block, tag.class());
        }
        remote::free_foreign(front.cast::<Heap>(), block, tag);
    }
}

/// Bytes the block at `ptr` holds from there on.
///
/// # Safety
/// `ptr` is a block of this allocator, in use.
pub(crate) unsafe fn usable_size(ptr: *const u8) -> usize {
    let tag = DIRECTORY.tag(ptr as usize);
    if tag.class() == HUGE as usize {
        // SAFETY: the caller's promise.
        return unsafe { large::usable_size(ptr.cast_mut()) };
    }
    if tag == Tag::NONE || tag.class() >= size_class::CLASSES || !DIRECTORY.covers(ptr as usize) {
        not_ours(ptr.cast_mut(), "not a block of this allocator");
    }
    size_class::size(tag.class())
}

/// Whom to ask about an address that is not ours before it is called an error.
static FOREIGN: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Sets the question: true means that the block is somebody else's, known, and may be forgotten.
pub(crate) fn set_foreign(known: fn(*mut u8) -> bool) {
    FOREIGN.store(known as *mut (), Ordering::Release);
}

fn is_foreign(ptr: *mut u8) -> bool {
    let known = FOREIGN.load(Ordering::Acquire);
    if known.is_null() {
        return false;
    }
    // SAFETY: only ever set to such a function.
    let known = unsafe { core::mem::transmute::<*mut (), fn(*mut u8) -> bool>(known) };
    known(ptr)
}

#[cold]
fn not_ours(ptr: *mut u8, why: &str) -> ! {
    crate::os::message::fatal!("free of {ptr:p}: {why}; stopping before memory is damaged")
}
