//! Memory for the allocator's own structures: descriptors, heaps, bins, magazines. It is bump-allocated from mappings of its own
//! and never returned; owners of freed descriptors keep them for re-use. Tables of which most stays untouched come from the end
//! of a mapping, so that the rest lies together. The `mmap` for the next 2 MiB happens under the arena's lock, a leaf. It
//! populates nothing, so it is short.

use crate::base::tuning::addresses::{META, META_SMALL};
use crate::base::units::{CACHE_LINE, round_up};
use crate::os::huge;
use crate::os::lock::Locked;
use crate::os::mapping::{self, Mapping};
use crate::os::memory;
use crate::os::sys::{self, Errno};
use core::ptr::NonNull;

struct Arena {
    next: usize,
    end: usize,
    mapped: usize,
}

static ARENA: Locked<Arena> = Locked::new(Arena {
    next: 0,
    end: 0,
    mapped: 0,
});

/// Zeroed memory for one `T` that lives as long as the process. `None` if memory ran out.
pub(crate) fn allocate<T>() -> Option<NonNull<T>> {
    allocate_bytes(size_of::<T>(), align_of::<T>(), From::Start).map(NonNull::cast)
}

/// The same on OS pages of its own, if these have 4 KiB: what is touched of it, and of what comes after it, lies on as few as it
/// can.
pub(crate) fn allocate_apart<T>() -> Option<NonNull<T>> {
    let size = size_of::<T>().next_multiple_of(APART);
    allocate_bytes(size, APART, From::Start).map(NonNull::cast)
}

/// A layout, so that no question to the kernel decides it.
const APART: usize = 4 << 10;

/// The same for a `T` of which most stays untouched.
pub(crate) fn allocate_sparse<T>() -> Option<NonNull<T>> {
    allocate_bytes(size_of::<T>(), align_of::<T>(), From::End).map(NonNull::cast)
}

/// `count` zeroed words in cache lines of their own, likewise.
pub(crate) fn allocate_lines(count: usize) -> Option<NonNull<u64>> {
    allocate_bytes(count * size_of::<u64>(), CACHE_LINE, From::Start).map(NonNull::cast)
}

/// Which end of what is left of the mapping memory comes from.
enum From {
    Start,
    End,
}

fn allocate_bytes(size: usize, align: usize, from: From) -> Option<NonNull<u8>> {
    let mut arena = ARENA.lock();
    loop {
        let start = round_up(arena.next, align)?;
        let last = arena.end.saturating_sub(size) & !(align - 1);
        if arena.next != 0 && start <= last {
            return match from {
                From::Start => {
                    arena.next = start + size;
                    NonNull::new(start as *mut u8)
                }
                From::End => {
                    arena.end = last;
                    NonNull::new(last as *mut u8)
                }
            };
        }
        let least = round_up(size + align, META_SMALL)?;
        let chunk = if memory::addresses_are_limited() {
            META_SMALL
        } else {
            META
        };
        let map = map(chunk.max(least)).or_else(|_| map(least)).ok()?;
        arena.next = map.addr;
        arena.end = map.addr + map.len;
        arena.mapped += map.len;
    }
}

fn map(len: usize) -> Result<Mapping, Errno> {
    let map = mapping::map_aligned(len, sys::page_size(), None)?;
    // SAFETY: advice on our own mapping. Metadata is sparse: if the system gives huge pages to all, one would cost a small
    // program 2 MiB.
    let _ = unsafe { huge::refuse(map.addr, map.len) };
    Ok(map)
}

/// Bytes mapped for metadata.
pub(crate) fn mapped() -> usize {
    ARENA.lock().mapped
}

/// For fork: the arena's lock.
pub(crate) fn fork_lock() -> &'static crate::os::lock::Lock {
    ARENA.raw()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_comes_from_both_ends_does_not_overlap() {
        #[repr(align(64))]
        struct Table([u8; 100_000]);
        let mut all: Vec<(usize, usize)> = Vec::new();
        for i in 0..60 {
            let (at, size) = if i % 2 == 0 {
                let table = allocate_sparse::<Table>().expect("memory");
                // SAFETY: fresh, and this thread's alone.
                assert!(unsafe { table.as_ref() }.0.iter().all(|&byte| byte == 0));
                (table.as_ptr() as usize, size_of::<Table>())
            } else {
                let count = 1000 + i;
                let lines = allocate_lines(count).expect("memory");
                // SAFETY: as above; it is not zero any more if another gets it too.
                unsafe { lines.as_ptr().write_bytes(1, count) };
                (lines.as_ptr() as usize, count * 8)
            };
            assert!(at.is_multiple_of(CACHE_LINE));
            all.push((at, at + size));
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }
}
