//! The allocators every build can measure: `system`, `hakmem`, and `null`, the floor of the harness itself.

use std::alloc::{GlobalAlloc, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hakmem_alloc::Hakmem;

use crate::memory;
use crate::raw::{Extent, RawAllocator, Subject};

struct SystemSubject;

impl Subject for SystemSubject {
    const NAME: &'static str = "system";
    fn allocator() -> &'static (impl GlobalAlloc + 'static) {
        &System
    }
}

static HAKMEM: Hakmem = Hakmem::new();

struct HakmemSubject;

impl Subject for HakmemSubject {
    const NAME: &'static str = "hakmem";
    fn allocator() -> &'static (impl GlobalAlloc + 'static) {
        &HAKMEM
    }
    fn prewarm(n: usize) -> usize {
        hakmem_alloc::prewarm(n)
    }
}

/// Start of null's fixed blocks and the distance between two of them. Written once, by `null_prepare`, before any
/// thread of the workload exists: Relaxed is enough.
static NULL_BASE: AtomicUsize = AtomicUsize::new(0);
static NULL_STRIDE: AtomicUsize = AtomicUsize::new(0);

fn null_prepare(extent: Extent) -> Result<(), String> {
    // Whole cache lines, so that neighbouring slots share none.
    let stride = extent.max_size.next_multiple_of(64);
    let bytes = stride
        .checked_mul(extent.slots.max(1))
        .ok_or("null: the slots are too large together")?;
    NULL_BASE.store(memory::map(bytes, false)? as usize, Relaxed);
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

/// The allocators compiled in, in the order reports show them.
pub static BUILT_IN: [RawAllocator; 3] = [
    RawAllocator::of::<SystemSubject>(),
    RawAllocator::of::<HakmemSubject>(),
    RawAllocator::from_functions("null", null_prepare, null_alloc, null_dealloc, null_realloc),
];

/// The built-in allocator of that name.
pub fn find(name: &str) -> Option<&'static RawAllocator> {
    BUILT_IN.iter().find(|a| a.name() == name)
}

/// Held by tests that prepare `null`, whose blocks are the process's.
#[cfg(test)]
pub static NULL_IN_USE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_gives_each_slot_its_block() {
        let _alone = NULL_IN_USE.lock().unwrap();
        let null = find("null").unwrap();
        null.prepare(Extent {
            slots: 3,
            max_size: 100,
        })
        .unwrap();
        let [a, b, c] = [0, 1, 2].map(|slot| null.alloc(100, slot));
        assert_eq!(
            (b as usize - a as usize, c as usize - b as usize),
            (128, 128)
        );
        assert_eq!(null.alloc(1, 1), b);
        // SAFETY: c is the last slot's block of 100 bytes.
        unsafe { c.add(99).write(1) };
    }

    #[test]
    fn built_ins_allocate_and_grow() {
        for name in ["system", "hakmem"] {
            let a = find(name).unwrap();
            let p = a.alloc(100, 0);
            assert!(!p.is_null());
            // SAFETY: p has 100 bytes, q has 100,000 after a successful realloc; each is freed once.
            unsafe {
                p.write(7);
                let q = a.realloc(p, 100, 100_000);
                assert_eq!(q.read(), 7, "{name}");
                a.dealloc(q, 100_000);
            }
        }
    }
}
