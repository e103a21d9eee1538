//! grow-vec: one vector of numbers pushed to, from empty to 1 GiB, doubling as `Vec` does.
//!
//! Imitates reading a large input of unknown length. Every doubling is a realloc: an allocator that copies moves the
//! whole gigabyte again, one that moves page tables does not. One operation is one number pushed.

use serde::{Deserialize, Serialize};

use super::{Workload, check_positive};
use crate::child::Bench;
use crate::fail::Fail;
use crate::raw::{Extent, RawAllocator};
use crate::record::Series;

/// Parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct GrowVec {
    /// MiB the vector grows to
    #[arg(default_value_t = 1024)]
    pub mib: usize,
}

impl Workload for GrowVec {
    const NAME: &'static str = "grow-vec";

    fn check(&mut self) -> Result<(), Fail> {
        check_positive("mib", self.mib as u64)?;
        super::check_sizes(1, self.mib.saturating_mul(1 << 20))
    }

    fn title(&self) -> String {
        format!("to {} MiB", self.mib)
    }

    fn peak_bytes(&self) -> u64 {
        // Old and new at once, where an allocator copies.
        (self.mib as u64) << 21
    }

    fn ops(&self) -> u64 {
        (self.mib as u64) << 17
    }

    fn scale(&mut self, share: f64) {
        self.mib = super::scaled(self.mib as u64, share) as usize;
    }

    fn run(&self, bench: &mut Bench) -> Result<(), String> {
        let alloc = bench.allocator();
        alloc.prepare(Extent {
            slots: 1,
            max_size: self.mib.next_power_of_two() << 20,
        })?;
        bench.start();
        if bench.series() == Series::Warm {
            drop(push(alloc, self.ops() / 10));
        }
        let mut grown = None;
        bench.timed(|| {
            let vector = push(alloc, self.ops());
            let done = vector.len as u64;
            grown = Some(vector);
            done
        });
        let intact = grown.as_ref().is_some_and(Vector::is_intact);
        bench.count_failed(u64::from(
            grown.as_ref().is_some_and(|v| v.len as u64 != self.ops()),
        ));
        drop(grown);
        bench.settle();
        if intact {
            Ok(())
        } else {
            Err("verification failed: the vector lost its contents".to_owned())
        }
    }
}

struct Vector {
    alloc: &'static RawAllocator,
    ptr: *mut u64,
    len: usize,
    capacity: usize,
}

impl Vector {
    /// Every 1000th number is still its index.
    fn is_intact(&self) -> bool {
        // SAFETY: numbers below `len` were written.
        (0..self.len)
            .step_by(1000)
            .all(|i| unsafe { self.ptr.add(i).read() } == i as u64)
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
    let mut vector = Vector {
        alloc,
        ptr: std::ptr::null_mut(),
        len: 0,
        capacity: 0,
    };
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
