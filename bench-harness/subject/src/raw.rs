//! The one boundary through which every allocator under test is called.
//!
//! [`RawAllocator`] is a table of functions, each compiled once per allocator and never inlined into a workload, so that a
//! workload pays exactly one call whichever allocator it measures. Behind the call an allocator may be inlined as far as the
//! compiler likes, as in a program that sets it as `#[global_allocator]`.
//!
//! `slot` says which of the workload's slots the block is for. Real allocators ignore it; `null` returns the slot's fixed
//! block.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::memory::Mapping;

/// The alignment workloads ask for unless they say otherwise: that of most Rust collections.
pub const ALIGN: usize = 8;

type Alloc = unsafe fn(usize, usize, usize) -> *mut u8;
type Dealloc = unsafe fn(*mut u8, usize, usize);
/// Block, size, alignment and new size to a block.
type Realloc = unsafe fn(*mut u8, usize, usize, usize) -> *mut u8;

#[derive(Debug, Clone, Copy)]
pub struct Calls {
    pub alloc: Alloc,
    pub zeroed: Alloc,
    pub dealloc: Dealloc,
    pub realloc: Realloc,
}

#[derive(Debug, Clone, Copy)]
pub struct RawAllocator {
    pub name: &'static str,
    pub(crate) prepare: fn(usize, usize) -> Result<(), String>,
    pub(crate) prewarm: fn(usize) -> usize,
    /// The calls themselves, for those who pass them on.
    pub(crate) calls: Calls,
}

/// An allocator that can be measured: a `GlobalAlloc` with a name.
pub trait Subject {
    const NAME: &'static str;

    fn allocator() -> &'static (impl GlobalAlloc + 'static);

    /// Takes and populates `n` units of memory ahead of time; how many it took. Most allocators have no such thing.
    fn prewarm(_n: usize) -> usize {
        0
    }
}

impl RawAllocator {
    pub const fn of<S: Subject>() -> Self {
        let calls =
            Calls { alloc: alloc_of::<S>, zeroed: zeroed_of::<S>, dealloc: dealloc_of::<S>, realloc: realloc_of::<S> };
        Self { name: S::NAME, prepare: |_, _| Ok(()), prewarm: S::prewarm, calls }
    }

    /// Tells the allocator before the first allocation how many slots the workload has, and how large a block is at most; only
    /// `null` cares.
    pub fn prepare(&self, slots: usize, max_size: usize) -> Result<(), String> {
        (self.prepare)(slots, max_size)
    }

    pub fn prewarm(&self, n: usize) -> usize {
        (self.prewarm)(n)
    }

    /// Allocates `size` bytes for `slot`; null when there is no memory.
    #[inline(always)]
    pub fn alloc(&self, size: usize, slot: usize) -> *mut u8 {
        self.alloc_aligned(size, ALIGN, slot)
    }

    /// The same at a multiple of `align`, a power of two.
    #[inline(always)]
    pub fn alloc_aligned(&self, size: usize, align: usize, slot: usize) -> *mut u8 {
        debug_assert!(size > 0 && align.is_power_of_two());
        // SAFETY: size is at least 1 (no parameter for sizes takes 0) and below isize::MAX; align is a power of two.
        counted(unsafe { (self.calls.alloc)(size, align, slot) })
    }

    /// Allocates `size` bytes that are zero.
    #[inline(always)]
    pub fn zeroed(&self, size: usize, slot: usize) -> *mut u8 {
        // SAFETY: as for `alloc_aligned`.
        counted(unsafe { (self.calls.zeroed)(size, ALIGN, slot) })
    }

    /// Frees a block.
    ///
    /// # Safety
    /// `ptr` came from this allocator's `alloc`, `zeroed` or `realloc` with this `size`, and was not freed since.
    #[inline(always)]
    pub unsafe fn dealloc(&self, ptr: *mut u8, size: usize) {
        // SAFETY: passed on to the caller.
        unsafe { (self.calls.dealloc)(ptr, size, ALIGN) }
    }

    /// Frees a block of another alignment.
    ///
    /// # Safety
    /// As for `dealloc`, of a block from `alloc_aligned` with this `align`.
    #[inline(always)]
    pub unsafe fn dealloc_aligned(&self, ptr: *mut u8, size: usize, align: usize) {
        // SAFETY: passed on to the caller.
        unsafe { (self.calls.dealloc)(ptr, size, align) }
    }

    /// Changes the size of a block; null leaves it as it was.
    ///
    /// # Safety
    /// As for `dealloc`; `new_size` is at least 1. After a result that is not null the old pointer is gone.
    #[inline(always)]
    pub unsafe fn realloc(&self, ptr: *mut u8, size: usize, new_size: usize) -> *mut u8 {
        // SAFETY: passed on to the caller.
        counted(unsafe { (self.calls.realloc)(ptr, size, ALIGN, new_size) })
    }
}

/// Allocations of this process that were refused. Read once its threads have been joined: Relaxed.
static REFUSED: AtomicU64 = AtomicU64::new(0);

pub fn refused() -> u64 {
    REFUSED.load(Relaxed)
}

/// The block; one that was refused is counted, so that no workload has to.
#[inline(always)]
fn counted(block: *mut u8) -> *mut u8 {
    #[cold]
    fn refuse() {
        REFUSED.fetch_add(1, Relaxed);
    }
    if block.is_null() {
        refuse();
    }
    block
}

#[inline(never)]
unsafe fn alloc_of<S: Subject>(size: usize, align: usize, _slot: usize) -> *mut u8 {
    // SAFETY: the caller passes a power of two and a size from 1 to isize::MAX.
    unsafe { S::allocator().alloc(Layout::from_size_align_unchecked(size, align)) }
}

#[inline(never)]
unsafe fn zeroed_of<S: Subject>(size: usize, align: usize, _slot: usize) -> *mut u8 {
    // SAFETY: as in `alloc_of`.
    unsafe { S::allocator().alloc_zeroed(Layout::from_size_align_unchecked(size, align)) }
}

#[inline(never)]
unsafe fn dealloc_of<S: Subject>(ptr: *mut u8, size: usize, align: usize) {
    // SAFETY: the caller passes a live block and the layout it was allocated with.
    unsafe { S::allocator().dealloc(ptr, Layout::from_size_align_unchecked(size, align)) }
}

#[inline(never)]
unsafe fn realloc_of<S: Subject>(ptr: *mut u8, size: usize, align: usize, new: usize) -> *mut u8 {
    // SAFETY: the caller passes a live block, its layout, and a new size from 1 to isize::MAX.
    unsafe { S::allocator().realloc(ptr, Layout::from_size_align_unchecked(size, align), new) }
}

/// Start of null's fixed blocks and the distance between two of them. Written once, by `null_prepare`, before any thread of
/// the workload exists: Relaxed is enough.
static NULL_BASE: AtomicUsize = AtomicUsize::new(0);
static NULL_STRIDE: AtomicUsize = AtomicUsize::new(0);

/// The floor of the harness itself: hands out fixed blocks and does nothing.
pub static NULL: RawAllocator = RawAllocator {
    name: "null",
    prepare: null_prepare,
    prewarm: |_| 0,
    calls: Calls { alloc: null_alloc, zeroed: null_alloc, dealloc: null_dealloc, realloc: null_realloc },
};

fn null_prepare(slots: usize, max_size: usize) -> Result<(), String> {
    // Whole cache lines, so that neighbouring slots share none.
    let stride = max_size.next_multiple_of(64);
    let bytes = stride.checked_mul(slots.max(1)).ok_or("null: the slots are too large together")?;
    NULL_BASE.store(Mapping::anonymous(bytes, libc::MAP_NORESERVE)?.addr_for_ever(), Relaxed);
    NULL_STRIDE.store(stride, Relaxed);
    Ok(())
}

#[inline(never)]
unsafe fn null_alloc(_size: usize, _align: usize, slot: usize) -> *mut u8 {
    (NULL_BASE.load(Relaxed) + slot * NULL_STRIDE.load(Relaxed)) as *mut u8
}

#[inline(never)]
unsafe fn null_dealloc(ptr: *mut u8, _size: usize, _align: usize) {
    std::hint::black_box(ptr);
}

#[inline(never)]
unsafe fn null_realloc(ptr: *mut u8, _size: usize, _align: usize, _new: usize) -> *mut u8 {
    ptr
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::alloc::System;
    use std::cell::Cell;

    struct Counted;

    thread_local! {
        /// Allocations, frees, and bytes held, of this thread.
        pub(crate) static CALLS: Cell<(u64, u64, i64)> = const { Cell::new((0, 0, 0)) };
    }

    fn note(allocations: u64, frees: u64, bytes: i64) {
        CALLS.with(|c| c.set((c.get().0 + allocations, c.get().1 + frees, c.get().2 + bytes)));
    }

    // SAFETY: system malloc, counted.
    unsafe impl GlobalAlloc for Counted {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            note(1, 0, layout.size() as i64);
            // SAFETY: passed on.
            unsafe { System.alloc(layout) }
        }
        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            note(0, 1, -(layout.size() as i64));
            // SAFETY: passed on.
            unsafe { System.dealloc(ptr, layout) }
        }
    }

    impl Subject for Counted {
        const NAME: &'static str = "counted";
        fn allocator() -> &'static (impl GlobalAlloc + 'static) {
            &Counted
        }
    }

    pub(crate) static COUNTED: RawAllocator = RawAllocator::of::<Counted>();

    /// Held by tests that prepare `null`, whose blocks are the process's.
    pub(crate) static NULL_IN_USE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    #[test]
    fn null_gives_each_slot_its_block() {
        let _alone = NULL_IN_USE.lock().unwrap();
        NULL.prepare(3, 100).unwrap();
        let [a, b, c] = [0, 1, 2].map(|slot| NULL.alloc(100, slot) as usize);
        assert_eq!((b - a, c - b, NULL.zeroed(1, 1) as usize), (128, 128, b));
    }
}
