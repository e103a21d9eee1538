//! Layouts at the limits of `Layout`.
//!
//! Behaviours imitated:
//! - sizes near isize::MAX, as from a computation that wrapped: the result is null;
//! - a reservation of 200 GiB that is never touched, grown to 300;
//! - alignments of every power of two up to 64 GiB.

mod common;

use common::child::{self, Child};
use common::{GIB, KIB, MIB, mem, pattern};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// An emulator that is asked for pages of a size has them (`ALLOC_TEST_PAGE`), and what follows was tested with them.
#[test]
fn os_pages_have_the_size_that_was_asked_for() {
    let page = mem::page_size();
    assert!(page.is_power_of_two() && page >= 4096);
    if let Ok(asked) = std::env::var("ALLOC_TEST_PAGE") {
        assert_eq!(asked, page.to_string());
    }
}

#[test]
fn layouts_near_the_end_of_isize_answer_null() {
    const MAX: usize = isize::MAX as usize;
    let small = Layout::from_size_align(100, 8).expect("a small size");
    for align in [1, 8, 16, 4096, 2 * MIB, GIB] {
        for under in [0, 1, 15, 4095, MIB, GIB, MAX / 2] {
            let size = (MAX - (align - 1)).saturating_sub(under);
            let layout =
                Layout::from_size_align(size, align).expect("at most isize::MAX when rounded up");
            // SAFETY: sizes are not zero; the block given to realloc is live and freed once.
            unsafe {
                assert!(HAKMEM.alloc(layout).is_null(), "{layout:?} was granted");
                assert!(
                    HAKMEM.alloc_zeroed(layout).is_null(),
                    "{layout:?} was granted, zeroed"
                );
                let from = Layout::from_size_align(small.size(), align).expect("a small size");
                let block = HAKMEM.alloc(from);
                pattern::fill(block, from.size(), 9);
                assert!(
                    HAKMEM.realloc(block, from, size).is_null(),
                    "realloc to {layout:?} was granted"
                );
                pattern::check(block, from.size(), from.size(), 9)
                    .expect("a refused realloc touched the block");
                HAKMEM.dealloc(block, from);
            }
        }
    }
}

#[test]
fn a_huge_reservation_costs_nothing() {
    const TEST: &str = "a_huge_reservation_costs_nothing";
    if child::case().is_some() {
        let before = mem::rss();
        let layout = Layout::from_size_align(200 * GIB, 16).expect("far below isize::MAX");
        // SAFETY: sizes are not zero; only the ends are written; each block is freed once.
        unsafe {
            for _ in 0..3 {
                let plain = HAKMEM.alloc(layout);
                assert!(!plain.is_null(), "200 GiB refused");
                plain.write(1);
                plain.add(layout.size() - 1).write(2);
                let zeroed = HAKMEM.alloc_zeroed(layout);
                assert!(!zeroed.is_null(), "200 GiB zeroed refused");
                assert_eq!(zeroed.add(layout.size() / 2).read(), 0);
                child::report("resident", mem::rss().saturating_sub(before));
                HAKMEM.dealloc(plain, layout);
                let grown = HAKMEM.realloc(zeroed, layout, 300 * GIB);
                assert!(!grown.is_null(), "200 GiB did not grow to 300");
                HAKMEM.dealloc(
                    grown,
                    Layout::from_size_align(300 * GIB, 16).expect("far below isize::MAX"),
                );
            }
        }
        child::report("left", mem::rss().saturating_sub(before));
        child::report("mapped", mem::address_space());
        return;
    }
    let ended = Child::of(TEST, "reserve").run();
    let resident: usize = ended.success().value("resident");
    assert!(
        resident <= 8 * MIB,
        "{} KiB resident for two untouched reservations",
        resident / KIB
    );
    assert!(ended.value::<usize>("left") <= 8 * MIB, "{ended:?}");
    assert!(
        ended.value::<usize>("mapped") <= 100 * GIB,
        "freed reservations are still mapped: {ended:?}"
    );
}

#[test]
fn alignments_up_to_64_gib() {
    for shift in 0..=36 {
        for size in [1, 100, 5000, 3 * MIB + 1] {
            let layout = Layout::from_size_align(size, 1 << shift).expect("far below isize::MAX");
            // SAFETY: sizes are not zero; each block is freed once, after its last use.
            unsafe {
                let blocks = [
                    HAKMEM.alloc(layout),
                    HAKMEM.alloc_zeroed(layout),
                    HAKMEM.alloc(layout),
                ];
                for (tag, block) in (0..).zip(blocks) {
                    assert!(!block.is_null(), "{layout:?} refused");
                    assert_eq!(
                        block as usize & (layout.align() - 1),
                        0,
                        "{layout:?} answered {block:p}"
                    );
                    if tag == 1 {
                        pattern::check_zero(block, size).expect("zeroed memory");
                    }
                    pattern::fill(block, size, tag);
                }
                for (tag, block) in (0..).zip(blocks) {
                    pattern::check(block, size, size, tag).expect("blocks overlap");
                    HAKMEM.dealloc(block, layout);
                }
            }
        }
    }
}
