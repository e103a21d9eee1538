//! Allocators that are wrong on purpose: each check of a correct one must notice each of them.

use super::script::Whole;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Faults that the model must notice.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Overlap,
    Misaligned,
    NotZeroed,
    TruncatedRealloc,
    Scribble,
    Null,
}

impl Fault {
    pub const ALL: [Self; 6] = [
        Self::Overlap,
        Self::Misaligned,
        Self::NotZeroed,
        Self::TruncatedRealloc,
        Self::Scribble,
        Self::Null,
    ];
}

impl Whole for Faulty {
    fn aside(&self, _: u8) {}
}

/// The system allocator, except that a call goes wrong at times.
pub struct Faulty {
    fault: Fault,
    every: usize,
    most: usize,
    calls: AtomicUsize,
    last: AtomicUsize,
}

impl Faulty {
    /// One call in `every` goes wrong; blocks have up to `most` bytes.
    pub fn new(fault: Fault, every: usize, most: usize) -> Self {
        Self {
            fault,
            every,
            most,
            calls: AtomicUsize::new(0),
            last: AtomicUsize::new(0),
        }
    }

    /// Every block has room for the largest: an overlapping one is written to before the model sees it.
    fn room(&self, layout: Layout) -> Layout {
        Layout::from_size_align(self.most + 64, layout.align()).expect("small")
    }

    fn strikes(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % self.every == self.every - 1
    }
}

// SAFETY: not a correct allocator on purpose; it stays within memory that the system allocator gave out, which is
// leaked where a fault makes its address unknown.
unsafe impl GlobalAlloc for Faulty {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a size that is not zero.
        let ptr = unsafe { System.alloc(self.room(layout)) };
        let strikes = self.strikes();
        let last = self.last.swap(ptr as usize, Ordering::Relaxed);
        match self.fault {
            // Wrong in nothing else: what is told first is the overlap.
            Fault::Overlap if strikes && last != 0 && last.is_multiple_of(layout.align()) => {
                last as *mut u8
            }
            // SAFETY: 64 bytes of room follow the largest block.
            Fault::Misaligned if strikes && layout.align() > 1 => unsafe {
                ptr.add(layout.align().min(32) / 2)
            },
            Fault::Null if strikes => std::ptr::null_mut(),
            Fault::Scribble if strikes => {
                // SAFETY: the first byte of a block.
                unsafe { ptr.write(!ptr.read()) };
                ptr
            }
            _ => ptr,
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Fault::Scribble = self.fault
            && self.strikes()
            && let last = self.last.load(Ordering::Relaxed)
            && last != ptr as usize
            && last != 0
        {
            // SAFETY: leaked below under this fault, so always readable memory.
            unsafe { (last as *mut u8).write(!(last as *mut u8).read()) };
        }
        // Freed memory would come back while a faulty address still points into it.
        if let Fault::NotZeroed = self.fault {
            // SAFETY: allocated with this layout by `alloc`.
            unsafe { System.dealloc(ptr, self.room(layout)) };
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises; the block is written within its size.
        unsafe {
            let ptr = self.alloc(layout);
            let dirty = matches!(self.fault, Fault::NotZeroed) && self.strikes();
            if !ptr.is_null() {
                ptr.write_bytes(0, layout.size());
            }
            if dirty {
                ptr.add(layout.size() - 1).write(1);
            }
            ptr
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let new_layout = Layout::from_size_align(new_size, layout.align()).expect("small");
        // SAFETY: as the caller promises; the copy stays within both blocks.
        unsafe {
            let new = self.alloc(new_layout);
            if new.is_null() || new == ptr {
                return new;
            }
            let mut copied = layout.size().min(new_size);
            if matches!(self.fault, Fault::TruncatedRealloc) && copied > 8 {
                copied -= 8;
            }
            new.copy_from_nonoverlapping(ptr, copied);
            self.dealloc(ptr, layout);
            new
        }
    }
}
