//! grow-vec: one vector of numbers pushed to, from empty to 1 GiB, doubling as `Vec` does.
//!
//! Imitates reading a large input of unknown length. Every doubling is a realloc: an allocator that copies moves the
//! whole gigabyte again, one that moves page tables does not. One operation is one number pushed.

use crate::bench::Bench;
use crate::blocks::{Slot, damaged};
use crate::raw::RawAllocator;
use crate::spec::Spec;

pub fn run(s: &Spec, bench: &mut Bench) -> Result<(), String> {
    let count = s.n("mib") << 17;
    let alloc = bench.begin(1, s.size("mib").next_power_of_two() << 20)?;
    if bench.is_warm() {
        push(alloc, count / 10).0.free(alloc);
    }
    let mut vector = (Slot::EMPTY, 0);
    bench.timed(|| {
        vector = push(alloc, count);
        vector.1 as u64
    });
    let (mut slot, len) = vector;
    let numbers = slot.ptr.cast::<u64>();
    // SAFETY: numbers below `len` were written.
    let intact = (0..len).step_by(1000).all(|i| unsafe { numbers.add(i).read() } == i as u64);
    damaged(u64::from(!intact));
    slot.free(alloc);
    Ok(())
}

/// Doubles the block of a vector; false where there is no memory for it.
#[cold]
#[inline(never)]
fn grow(vector: &mut Slot, alloc: &RawAllocator) -> bool {
    if !vector.is_empty() {
        return vector.resize(alloc, 2 * vector.size);
    }
    *vector = Slot::take(alloc, 32, 0, 0);
    !vector.is_empty()
}

/// A vector of `count` numbers, or of as many as there was memory for: its block, and how many there are.
#[inline(never)]
fn push(alloc: &RawAllocator, count: u64) -> (Slot, usize) {
    let (mut vector, mut len) = (Slot::EMPTY, 0);
    for number in 0..count {
        if len == vector.size / 8 && !grow(&mut vector, alloc) {
            break;
        }
        // SAFETY: the block has room for more than `len` numbers.
        unsafe { vector.ptr.cast::<u64>().add(len).write(number) };
        len += 1;
    }
    (vector, len)
}
