//! grow-vec: one vector of numbers pushed to, from empty to 1 GiB, doubling as `Vec` does.
//!
//! Imitates reading a large input of unknown length. Every doubling is a realloc: an allocator that copies moves the
//! whole gigabyte again, one that moves page tables does not. One operation is one number pushed.

use crate::bench::{self, Bench};
use crate::raw::RawAllocator;
use crate::spec::Spec;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let count = s.n("mib") << 17;
    let alloc = bench.begin(1, s.size("mib").next_power_of_two() << 20)?;
    if bench.is_warm() {
        drop(push(alloc, count / 10));
    }
    let mut grown = None;
    bench.timed(|| grown.insert(push(alloc, count)).len as u64);
    if let Some(vector) = grown {
        bench::damaged(u64::from(!vector.is_intact()));
    }
    bench.finish()
}

struct Vector {
    alloc: &'static RawAllocator,
    ptr: *mut u64,
    len: usize,
    capacity: usize,
}

impl Vector {
    fn is_intact(&self) -> bool {
        // SAFETY: numbers below `len` were written.
        (0..self.len).step_by(1000).all(|i| unsafe { self.ptr.add(i).read() } == i as u64)
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> bool {
        let capacity = (self.capacity * 2).max(4);
        let ptr = match self.capacity {
            0 => self.alloc.alloc(capacity * 8, 0),
            // SAFETY: the vector's block has `capacity` numbers; the new size is not zero.
            old => unsafe { self.alloc.realloc(self.ptr.cast(), old * 8, capacity * 8) },
        };
        if ptr.is_null() {
            return false;
        }
        (self.ptr, self.capacity) = (ptr.cast(), capacity);
        true
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: the vector's block has `capacity` numbers and is gone afterwards.
            unsafe { self.alloc.dealloc(self.ptr.cast(), self.capacity * 8) };
        }
    }
}

/// A vector of `count` numbers, or of as many as there was memory for.
#[inline(never)]
fn push(alloc: &'static RawAllocator, count: u64) -> Vector {
    let mut vector = Vector { alloc, ptr: std::ptr::null_mut(), len: 0, capacity: 0 };
    for number in 0..count {
        if vector.len == vector.capacity && !vector.grow() {
            break;
        }
        // SAFETY: `len` is below `capacity`.
        unsafe { vector.ptr.add(vector.len).write(number) };
        vector.len += 1;
    }
    vector
}
