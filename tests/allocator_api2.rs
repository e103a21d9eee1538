//! `&Hakmem` as an `Allocator` of allocator-api2: that crate's own conformance test and the rules of the trait, each run
//! against the system's allocator as well, which has to pass them too.

use allocator_api2::alloc::{Allocator, Global};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hakmem_alloc::{Hakmem, stats_quick, usable_size};
use std::alloc::Layout;
use std::hint::black_box;
use std::ptr::NonNull;

/// Not the global allocator: that is the system's here, and the control.
static HAKMEM: Hakmem = Hakmem::new();

mod conformance {
    use super::{Global, HAKMEM};
    allocator_api2_tests::make_test! { test_sizes(&HAKMEM), test_vec(&HAKMEM), test_many_boxes(&HAKMEM) }
    mod of_the_system {
        use super::Global;
        allocator_api2_tests::make_test! { test_sizes(Global), test_vec(Global), test_many_boxes(Global) }
    }
}

const SIZES: [usize; 8] = [0, 1, 17, 100, 1_024, 4_097, 70_000, 1_100_000];
const ALIGNS: [usize; 4] = [1, 16, 4_096, 2 << 20];

fn layouts() -> impl Iterator<Item = Layout> {
    let each = |size| ALIGNS.map(|align| Layout::from_size_align(size, align).expect("small"));
    SIZES.into_iter().flat_map(each)
}

/// As many bytes as the largest block, each unlike its neighbours.
fn pattern() -> std::vec::Vec<u8> {
    (0..1_100_000).map(|i| (i % 251) as u8).collect()
}

fn is_fit(block: NonNull<[u8]>, layout: Layout) -> bool {
    block.len() >= layout.size()
        && block
            .cast::<u8>()
            .addr()
            .get()
            .is_multiple_of(layout.align())
}

/// # Safety
/// The block has that many bytes, and nobody else uses them.
unsafe fn bytes<'a>(block: NonNull<[u8]>, len: usize) -> &'a mut [u8] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(block.cast().as_ptr(), len) }
}

/// Every size and alignment into every other: blocks fit, contents and zeros are kept.
fn every_layout_becomes_every_other(allocator: impl Allocator + Copy) {
    let (pattern, zeros) = (pattern(), vec![0; 1_100_000]);
    for old in layouts() {
        for new in layouts() {
            // SAFETY: each block is used within its layout and freed once, by a copy of the allocator.
            unsafe {
                let block = allocator.allocate(old).expect("memory");
                assert!(is_fit(block, old), "{old:?}");
                bytes(block, old.size()).copy_from_slice(&pattern[..old.size()]);
                let (start, copy) = (block.cast(), allocator);
                let zeroed = old.align() == 16;
                let resized = match new.size() >= old.size() {
                    true if zeroed => copy.grow_zeroed(start, old, new),
                    true => copy.grow(start, old, new),
                    false => copy.shrink(start, old, new),
                }
                .expect("memory");
                assert!(is_fit(resized, new), "{old:?} to {new:?}");
                let kept = old.size().min(new.size());
                let (same, fresh) = bytes(resized, new.size()).split_at(kept);
                assert!(*same == pattern[..kept], "{old:?} to {new:?}");
                assert!(
                    !zeroed || *fresh == zeros[..fresh.len()],
                    "{old:?} to {new:?}"
                );
                copy.deallocate(resized.cast(), new);
            }
        }
    }
}

fn fresh_memory_is_zero_if_asked(allocator: impl Allocator + Copy) {
    let zeros = vec![0; 1_100_000];
    for layout in layouts() {
        // SAFETY: as above.
        unsafe {
            let dirty = allocator.allocate(layout).expect("memory");
            bytes(dirty, layout.size()).fill(0xA5);
            allocator.deallocate(dirty.cast(), layout);
            let zero = allocator.allocate_zeroed(layout).expect("memory");
            assert!(
                is_fit(zero, layout) && *bytes(zero, layout.size()) == zeros[..layout.size()],
                "{layout:?}"
            );
            allocator.deallocate(zero.cast(), layout);
        }
    }
}

fn a_refusal_is_an_error_and_leaves_the_block(allocator: impl Allocator + Copy) {
    let small = Layout::from_size_align(100, 8).expect("small");
    let most = Layout::from_size_align(isize::MAX as usize - 7, 8).expect("the largest");
    // A block that nobody looks at need not be allocated: where it is the control's, the compiler leaves that out.
    assert!(black_box(allocator.allocate(most)).is_err());
    assert!(black_box(allocator.allocate_zeroed(most)).is_err());
    // SAFETY: as above.
    unsafe {
        let block = allocator.allocate(small).expect("memory");
        bytes(block, 100).fill(7);
        assert!(allocator.grow(block.cast(), small, most).is_err());
        assert!(bytes(block, 100).iter().all(|b| *b == 7));
        allocator.deallocate(block.cast(), small);
    }
}

#[test]
fn rules_of_the_trait() {
    every_layout_becomes_every_other(&HAKMEM);
    fresh_memory_is_zero_if_asked(&HAKMEM);
    a_refusal_is_an_error_and_leaves_the_block(&HAKMEM);
}

#[test]
fn rules_of_the_trait_hold_for_the_control() {
    every_layout_becomes_every_other(Global);
    fresh_memory_is_zero_if_asked(Global);
    a_refusal_is_an_error_and_leaves_the_block(Global);
}

#[test]
fn collections_hold_blocks_of_hakmem() {
    let before = stats_quick().live_bytes();
    let mut numbers: Vec<u64, &Hakmem> = Vec::new_in(&HAKMEM);
    numbers.extend(0..300_000);
    let text: Box<[u8; 3_000], &Hakmem> = Box::new_in([7; 3_000], &HAKMEM);
    // SAFETY: both are blocks of hakmem in use.
    let sizes = unsafe {
        (
            usable_size(numbers.as_ptr().cast()),
            usable_size(text.as_ptr()),
        )
    };
    assert!(sizes.0 >= 2_400_000 && sizes.1 >= 3_000, "{sizes:?}");
    assert!(stats_quick().live_bytes() >= before + 2_400_000);
    assert_eq!(numbers.iter().sum::<u64>(), 299_999 * 150_000);
}
