//! Blocks as plain values that can be sent between threads, for tests that place every call to the allocator
//! themselves.

use hakmem_alloc::raw;
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

/// A block of the allocator, by its address.
#[track_caller]
pub fn alloc(size: usize) -> usize {
    let block = raw::alloc(size, 16);
    assert!(!block.is_null());
    block as usize
}

/// Frees a block, or in tests of misuse whatever is at the address: the compiler does not know which.
pub fn free(addr: usize) {
    // SAFETY: in use; or none, where the point of the test is that misuse is found before it does harm.
    unsafe { raw::dealloc(black_box(addr as *mut u8)) };
}

/// An allocated block. Only [`Block::free`] frees it, so that a test chooses the thread.
#[derive(Debug)]
pub struct Block {
    pub addr: usize,
    pub layout: Layout,
}

impl Block {
    /// Takes a block from `from` and writes its address into its first and last words (when it has room).
    #[track_caller]
    pub fn new(from: &impl GlobalAlloc, size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).expect("a small size");
        // SAFETY: the size is not zero.
        let ptr = unsafe { from.alloc(layout) };
        assert!(!ptr.is_null(), "no memory for {layout:?}");
        let block = Self {
            addr: ptr as usize,
            layout,
        };
        for word in block.ends() {
            // SAFETY: both words lie within the block.
            unsafe { word.write_unaligned(block.addr) };
        }
        block
    }

    /// Writes one byte per 4 KiB, so that the block is resident, but none of the words at its ends.
    pub fn touch(&self) {
        for offset in (8..self.layout.size().saturating_sub(8)).step_by(4096) {
            // SAFETY: the offset lies within the block.
            unsafe { (self.addr as *mut u8).add(offset).write_volatile(1) };
        }
    }

    /// Checks the words written by [`Block::new`] and frees the block.
    #[track_caller]
    pub fn free(self, to: &impl GlobalAlloc) {
        for word in self.ends() {
            // SAFETY: both words lie within the block, which is still out.
            let found = unsafe { word.read_unaligned() };
            assert_eq!(found, self.addr, "the content of {self:?} was overwritten");
        }
        // SAFETY: taken with this layout, and freed once because `self` is consumed.
        unsafe { to.dealloc(self.addr as *mut u8, self.layout) };
    }

    fn ends(&self) -> impl Iterator<Item = *mut usize> + use<> {
        let (addr, size) = (self.addr, self.layout.size());
        let count = [0, 1, 2][(size / 8).min(2)];
        [addr, addr + size.saturating_sub(8)]
            .into_iter()
            .take(count)
            .map(|a| a as *mut usize)
    }
}
