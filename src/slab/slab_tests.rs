use super::*;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashSet;

#[test]
fn take_and_give_keep_the_equation() {
    // An interpreter, a thousand times as slow, takes a few classes.
    for class in (1..size_class::SLAB_CLASSES).step_by(if cfg!(miri) { 20 } else { 1 }) {
        let layout = Layout::from_size_align(size_class::slots(class) * SLOT, SLOT).unwrap();
        // SAFETY: as many slots of memory of our own as the slab has, freed below.
        unsafe {
            let base = alloc_zeroed(layout) as usize;
            let mut slab: Slab = core::mem::zeroed();
            Slab::open(&raw mut slab, base, class, 7, true);
            let mut seen = HashSet::new();
            let mut blocks = std::vec::Vec::new();
            let mut to = [ptr::null_mut::<Block>(); 10];
            let mut scratch = Addresses::new();
            while let Some(taken) = slab.take(to.as_mut_ptr(), 10, 4, &mut scratch) {
                assert!(taken.zero && taken.count <= 4);
                for &at in &to[..taken.count] {
                    assert!(slab.is_block(at as usize) && seen.insert(at as usize));
                    blocks.push(at);
                }
            }
            assert_eq!(
                (blocks.len(), slab.out(), slab.available()),
                (slab.capacity(), slab.capacity(), 0)
            );
            for &block in blocks.iter().rev().skip(1) {
                slab.give(&block, 1);
            }
            assert!(slab.is_valid());
            assert_eq!(slab.out(), 1);
            if slab.capacity() > 1 {
                let one = slab.take(to.as_mut_ptr(), 1, 1, &mut scratch).unwrap();
                assert_eq!((one.count, slab.out()), (1, 2));
                slab.give(&to[0], 1);
                let again = slab.take(to.as_mut_ptr(), 3, 4, &mut scratch).unwrap();
                let all = slab.capacity() - 1;
                let count = all.min(3);
                assert_eq!(again, Taken { count, zero: false });
                assert!(slab.is_valid() && slab.out() == 1 + count);
                slab.give(&to[0], 1);
                assert!(slab.is_valid());
                let wrong = Batch::from_head((base + 1) as *mut Block);
                slab.free.unwrap().set_link(wrong);
                assert!(!slab.is_valid(), "a damaged free list is seen");
            }
            dealloc(base as *mut u8, layout);
        }
    }
}

#[test]
fn a_slab_begins_with_a_single_page() {
    let layout = Layout::from_size_align(64 * SLOT, SLOT).unwrap();
    // SAFETY: sixty-four slots of our own, freed below.
    unsafe {
        let memory = alloc_zeroed(layout) as usize;
        for (slot, class) in (0..64).flat_map(|slot| (1..65).map(move |class| (slot, class))) {
            let mut slab: Slab = core::mem::zeroed();
            Slab::open(&raw mut slab, memory + slot * SLOT, class, 7, false);
            let size = size_class::size(class);
            let mut to = [ptr::null_mut::<Block>(); UNIT / 16];
            let mut scratch = Addresses::new();
            let first = slab
                .take(to.as_mut_ptr(), to.len(), UNIT / size, &mut scratch)
                .unwrap();
            let start = to[first.count - 1] as usize;
            let fit = (UNIT - start % UNIT) / size;
            assert_eq!(
                first.count,
                if fit >= FEW { fit } else { UNIT / size },
                "class {class}"
            );
        }
        dealloc(memory as *mut u8, layout);
    }
}
