//! The one boundary through which every allocator under test is called.
//!
//! [`RawAllocator`] is a table of functions, each compiled once per allocator and never inlined into a workload, so that
//! a workload pays exactly one call whichever allocator it measures. Behind the call an allocator may be inlined as far
//! as the compiler likes, as in a program that sets it as `#[global_allocator]`.
//!
//! `slot` says which of the workload's slots the block is for. Real allocators ignore it; `null` returns the slot's
//! fixed block.

use std::alloc::{GlobalAlloc, Layout};

/// The alignment workloads ask for: that of most Rust collections.
pub const ALIGN: usize = 8;

/// Bounds of what a workload will hold, told to [`RawAllocator::prepare`] before the first allocation.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Slots are numbered from 0 to one less than this.
    pub slots: usize,
    /// No block is larger.
    pub max_size: usize,
}

/// The functions of one allocator.
#[derive(Debug, Clone, Copy)]
pub struct RawAllocator {
    name: &'static str,
    prepare: fn(Extent) -> Result<(), String>,
    prewarm: fn(usize) -> usize,
    alloc: unsafe fn(usize, usize, usize) -> *mut u8,
    dealloc: unsafe fn(*mut u8, usize, usize),
    realloc: unsafe fn(*mut u8, usize, usize, usize) -> *mut u8,
}

/// An allocator that can be measured: a `GlobalAlloc` with a name.
pub trait Subject {
    /// The name in options and reports.
    const NAME: &'static str;

    /// The allocator itself.
    fn allocator() -> &'static (impl GlobalAlloc + 'static);

    /// Takes and populates `n` units of memory ahead of time; how many it took. Most allocators have no such thing.
    fn prewarm(_n: usize) -> usize {
        0
    }
}

impl RawAllocator {
    /// The table for one subject.
    pub const fn of<S: Subject>() -> Self {
        Self {
            name: S::NAME,
            prepare: |_| Ok(()),
            prewarm: S::prewarm,
            alloc: alloc_of::<S>,
            dealloc: dealloc_of::<S>,
            realloc: realloc_of::<S>,
        }
    }

    /// A table from functions of one's own, for allocators that are no `GlobalAlloc`.
    pub const fn from_functions(
        name: &'static str,
        prepare: fn(Extent) -> Result<(), String>,
        alloc: unsafe fn(usize, usize, usize) -> *mut u8,
        dealloc: unsafe fn(*mut u8, usize, usize),
        realloc: unsafe fn(*mut u8, usize, usize, usize) -> *mut u8,
    ) -> Self {
        Self {
            name,
            prepare,
            prewarm: |_| 0,
            alloc,
            dealloc,
            realloc,
        }
    }

    /// The same allocator called through other functions, which must pass every call on.
    pub fn with_functions(
        self,
        alloc: unsafe fn(usize, usize, usize) -> *mut u8,
        dealloc: unsafe fn(*mut u8, usize, usize),
        realloc: unsafe fn(*mut u8, usize, usize, usize) -> *mut u8,
    ) -> Self {
        Self {
            alloc,
            dealloc,
            realloc,
            ..self
        }
    }

    /// The name in options and reports.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tells the allocator what the workload will hold; only `null` cares.
    pub fn prepare(&self, extent: Extent) -> Result<(), String> {
        (self.prepare)(extent)
    }

    /// Takes and populates `n` superslabs; allocators without them answer 0.
    pub fn prewarm(&self, n: usize) -> usize {
        (self.prewarm)(n)
    }

    /// Allocates `size` bytes for `slot`; null when there is no memory.
    #[inline(always)]
    pub fn alloc(&self, size: usize, slot: usize) -> *mut u8 {
        debug_assert!(size > 0);
        // SAFETY: size is at least 1 (every workload's check refuses 0) and below isize::MAX; ALIGN is a power of two.
        unsafe { (self.alloc)(size, ALIGN, slot) }
    }

    /// Frees a block.
    ///
    /// # Safety
    /// `ptr` came from this allocator's `alloc` or `realloc` with this `size`, and was not freed since.
    #[inline(always)]
    pub unsafe fn dealloc(&self, ptr: *mut u8, size: usize) {
        // SAFETY: passed on to the caller.
        unsafe { (self.dealloc)(ptr, size, ALIGN) }
    }

    /// Changes the size of a block; null leaves it as it was.
    ///
    /// # Safety
    /// As for `dealloc`; `new_size` is at least 1. After a result that is not null the old pointer is gone.
    #[inline(always)]
    pub unsafe fn realloc(&self, ptr: *mut u8, size: usize, new_size: usize) -> *mut u8 {
        // SAFETY: passed on to the caller.
        unsafe { (self.realloc)(ptr, size, ALIGN, new_size) }
    }
}

#[inline(never)]
unsafe fn alloc_of<S: Subject>(size: usize, align: usize, _slot: usize) -> *mut u8 {
    // SAFETY: the caller passes a power of two and a size from 1 to isize::MAX.
    unsafe { S::allocator().alloc(Layout::from_size_align_unchecked(size, align)) }
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
