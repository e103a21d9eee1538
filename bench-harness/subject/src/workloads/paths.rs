//! The paths of an allocator, one at a time, for counting instructions: each is repeated often enough inside the collected
//! section that the count divided by the calls is exact to a tenth.
//!
//! A path is prepared outside the section. The same calls on `null`, which does nothing, are subtracted by the parent, so
//! that what is left is the allocator's own. `"api": "c"` goes through the C library's functions, for a preloaded library.

use serde::{Deserialize, Serialize};

use crate::blocks::Slot;
use crate::measure::timed_section;
use crate::memory::Table;
use crate::raw::{Calls, RawAllocator};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PathOrder {
    pub path: String,
    /// Whether malloc and free are called instead of the Rust interface.
    pub c: bool,
}

/// A path: its name, what is counted as one call, and how it is walked.
pub struct Path {
    pub name: &'static str,
    pub about: &'static str,
    walk: fn(&'static RawAllocator) -> u64,
}

/// Slots of a path that holds many blocks.
const MANY: usize = 4096;
const LARGEST: usize = 4 << 20;

const fn path(name: &'static str, about: &'static str, walk: fn(&'static RawAllocator) -> u64) -> Path {
    Path { name, about, walk }
}

/// All paths, in the order of the table.
pub const PATHS: [Path; 23] = [
    path("hit 48", "48 bytes allocated and freed, the block at hand", |a| pairs(a, 48, 8)),
    path("hit 1024", "the same with 1,024 bytes", |a| pairs(a, 1024, 8)),
    path("hit 32768", "the same with 32,768 bytes", |a| pairs(a, 32_768, 8)),
    path("alloc hit", "48 bytes allocated, the block at hand", |a| in_packets(a, true)),
    path("free hit", "48 bytes freed, room at hand", |a| in_packets(a, false)),
    path("first", "the first 4,096 blocks of 48 bytes, from new slabs", |a| many(a, 48, 0, false, false)),
    path("refill", "4,096 blocks of 48 bytes allocated in a row, all used before", |a| many(a, 48, 3, false, false)),
    path("refill 1024", "the same with 1,024 bytes", |a| many(a, 1024, 3, false, false)),
    path("overflow", "4,096 blocks of 48 bytes freed in a row", |a| many(a, 48, 3, false, true)),
    path("overflow 1024", "the same with 1,024 bytes", |a| many(a, 1024, 3, false, true)),
    path("foreign free", "blocks of 48 bytes freed that another, living thread allocated", |a| {
        many(a, 48, 3, true, true)
    }),
    path("taken back", "48 bytes allocated by the thread whose blocks another one freed", |a| {
        many(a, 48, 4, true, false)
    }),
    path("large", "4 MiB allocated and freed, used before", |a| pairs(a, LARGEST, 8)),
    path("medium", "100,000 bytes allocated and freed, used before", |a| pairs(a, 100_000, 8)),
    path("run", "600,000 bytes allocated and freed, used before", |a| pairs(a, 600_000, 8)),
    path("realloc in place", "40 bytes made 44 and back", |a| resized(a, 40, 44)),
    path("realloc moved", "48 bytes made 200 and back", |a| resized(a, 48, 200)),
    path("realloc large", "2 MiB made 4 MiB and back", |a| resized(a, 2 << 20, 4 << 20)),
    path("zeroed 48", "48 zeroed bytes allocated and freed", |a| zeroed(a, 48)),
    path("zeroed 4096", "4,096 zeroed bytes allocated and freed", |a| zeroed(a, 4096)),
    path("aligned 64", "48 bytes at a multiple of 64, allocated and freed", |a| pairs(a, 48, 64)),
    path("aligned 4096", "4,096 bytes at a multiple of 4,096, allocated and freed", |a| pairs(a, 4096, 4096)),
    path("thread", "a thread's first block of 48 bytes and its free", threads),
];

/// Walks a path; the answer says how many calls were collected.
pub fn child(alloc: &'static RawAllocator, order: &str) -> Result<String, String> {
    let order: PathOrder = serde_json::from_str(order).map_err(|e| e.to_string())?;
    let path = PATHS.iter().find(|p| p.name == order.path).ok_or_else(|| format!("unknown path {:?}", order.path))?;
    let alloc = if order.c && alloc.name != "null" { &C } else { alloc };
    alloc.prepare(MANY, LARGEST)?;
    // An allocator may look at a thread's first frees more closely, or learn from them: what is counted is what comes later.
    for _ in 0..1000 {
        let block = alloc.alloc(48, 0);
        // SAFETY: allocated with this size.
        unsafe { alloc.dealloc(block, 48) };
    }
    let run = crate::record::Run { ops: (path.walk)(alloc), ..Default::default() };
    serde_json::to_string(&run).map_err(|e| e.to_string())
}

static C: RawAllocator = RawAllocator {
    name: "c",
    prepare: |_, _| Ok(()),
    prewarm: |_| 0,
    calls: Calls { alloc: c_alloc, zeroed: c_zeroed, dealloc: c_dealloc, realloc: c_realloc },
};

#[inline(never)]
unsafe fn c_alloc(size: usize, align: usize, _slot: usize) -> *mut u8 {
    // SAFETY: plain calls of the C library; the place for the block is ours.
    unsafe {
        if align <= 16 {
            return libc::malloc(size).cast();
        }
        let mut block = std::ptr::null_mut();
        libc::posix_memalign(&mut block, align, size);
        block.cast()
    }
}

#[inline(never)]
unsafe fn c_zeroed(size: usize, _align: usize, _slot: usize) -> *mut u8 {
    // SAFETY: a plain call of the C library.
    unsafe { libc::calloc(1, size).cast() }
}

#[inline(never)]
unsafe fn c_dealloc(ptr: *mut u8, _size: usize, _align: usize) {
    // SAFETY: the caller's block came from the C library.
    unsafe { libc::free(ptr.cast()) }
}

#[inline(never)]
unsafe fn c_realloc(ptr: *mut u8, _size: usize, _align: usize, new: usize) -> *mut u8 {
    // SAFETY: the caller's block came from the C library.
    unsafe { libc::realloc(ptr.cast(), new).cast() }
}

/// One call after another of one kind, `count` times, each block freed at once.
fn repeated(count: u64, alloc: impl Fn() -> *mut u8, free: impl Fn(*mut u8)) -> u64 {
    let walk = |count: u64| {
        for _ in 0..count {
            free(std::hint::black_box(alloc()));
        }
        count
    };
    walk(100);
    timed_section(|| walk(count))
}

fn pairs(a: &RawAllocator, size: usize, align: usize) -> u64 {
    // SAFETY: allocated with this size and alignment.
    repeated(10_000, || a.alloc_aligned(size, align, 0), |block| unsafe { a.dealloc_aligned(block, size, align) })
}

fn zeroed(a: &RawAllocator, size: usize) -> u64 {
    // SAFETY: allocated with this size.
    repeated(2000, || a.zeroed(size, 0), |block| unsafe { a.dealloc(block, size) })
}

/// Sixteen blocks at a time, so that the bin neither runs empty nor over; only one half is collected.
fn in_packets(alloc: &RawAllocator, allocations: bool) -> u64 {
    let mut slots = [Slot::EMPTY; 16];
    take_all(alloc, &mut slots, 48);
    free_all(alloc, &slots);
    for _ in 0..500 {
        if allocations {
            timed_section(|| take_all(alloc, &mut slots, 48));
            free_all(alloc, &slots);
        } else {
            take_all(alloc, &mut slots, 48);
            timed_section(|| free_all(alloc, &slots));
        }
    }
    500 * 16
}

fn take_all(alloc: &RawAllocator, slots: &mut [Slot], size: usize) {
    for (i, slot) in slots.iter_mut().enumerate() {
        *slot = Slot { ptr: alloc.alloc(size, i), size };
    }
}

fn free_all(alloc: &RawAllocator, slots: &[Slot]) {
    for slot in slots {
        // SAFETY: every slot's block is freed once.
        unsafe { alloc.dealloc(slot.ptr, slot.size) };
    }
}

/// Many blocks at once, taken and freed so many times before: the next free or the next taking is collected. Where `other`
/// is set, another thread frees.
fn many(alloc: &'static RawAllocator, size: usize, rounds: usize, other: bool, frees: bool) -> u64 {
    let Ok(mut slots) = Table::<Slot>::new(MANY) else { return 0 };
    let free = |slots: &Table<Slot>, collected: bool| {
        let work = || if collected { timed_section(|| free_all(alloc, slots)) } else { free_all(alloc, slots) };
        if !other {
            return work();
        }
        // Joined by name: a scope alone does not wait for what the thread does at its end. A panic has been said already.
        let _ = std::thread::scope(|scope| scope.spawn(work).join());
    };
    for _ in 0..rounds {
        take_all(alloc, &mut slots, size);
        free(&slots, false);
    }
    if frees {
        take_all(alloc, &mut slots, size);
        free(&slots, true);
    } else {
        timed_section(|| take_all(alloc, &mut slots, size));
    }
    MANY as u64
}

fn resized(alloc: &RawAllocator, small: usize, large: usize) -> u64 {
    let block = alloc.alloc(small, 0);
    let walk = |mut block: *mut u8, count: u64| {
        for _ in 0..count {
            // SAFETY: a live block whose size alternates.
            unsafe {
                block = alloc.realloc(block, small, large);
                block = alloc.realloc(block, large, small);
            }
        }
        block
    };
    let block = walk(block, 10);
    timed_section(|| walk(block, 500));
    1000
}

fn threads(alloc: &'static RawAllocator) -> u64 {
    let life = |collected: bool| {
        let thread = || {
            let pair = || {
                let block = std::hint::black_box(alloc.alloc(48, 0));
                // SAFETY: allocated here with this size.
                unsafe { alloc.dealloc(block, 48) };
            };
            // The first thread's frees are the first of a heap that the others go on with.
            if collected { timed_section(pair) } else { (0..1000).for_each(|_| pair()) }
        };
        // As in `many`.
        let _ = std::thread::scope(|scope| scope.spawn(thread).join());
    };
    life(false);
    (0..20).for_each(|_| life(true));
    20
}
