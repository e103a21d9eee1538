//! Memory for the allocator's own structures: descriptors, heaps, bins, magazines. It is bump-allocated from mappings of its own
//! and never returned; owners of freed descriptors keep them for re-use. The `mmap` for the next 2 MiB happens under the arena's
//! lock, a leaf. It populates nothing, so it is short.

use crate::base::units::{CACHE_LINE, SUPERSLAB, round_up};
use crate::os::huge;
use crate::os::lock::Locked;
use crate::os::mapping::{self, Mapping};
use crate::os::memory;
use crate::os::sys::{self, Errno};
use core::ptr::NonNull;

/// Bytes mapped at a time. Only what is used becomes resident.
const CHUNK: usize = SUPERSLAB;
/// The same where addresses are limited, or that much is refused.
const SMALL_CHUNK: usize = 128 << 10;

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
    allocate_bytes(size_of::<T>(), align_of::<T>()).map(NonNull::cast)
}

/// `count` zeroed words in cache lines of their own, likewise.
pub(crate) fn allocate_lines(count: usize) -> Option<NonNull<u64>> {
    allocate_bytes(count * size_of::<u64>(), CACHE_LINE).map(NonNull::cast)
}

fn allocate_bytes(size: usize, align: usize) -> Option<NonNull<u8>> {
    let mut arena = ARENA.lock();
    loop {
        let start = round_up(arena.next, align)?;
        if arena.next != 0 && start.checked_add(size)? <= arena.end {
            arena.next = start + size;
            return NonNull::new(start as *mut u8);
        }
        let least = round_up(size + align, SMALL_CHUNK)?;
        let chunk = if memory::addresses_are_limited() {
            SMALL_CHUNK
        } else {
            CHUNK
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
