//! Blocks on OS pages are evidence for those that follow.

use super::descriptor::descriptor_of;
use super::{alloc, free, purge_all, realloc};
use crate::base::units::SUPERSLAB;
use crate::os::fake;
use crate::os::written::is_told;
use crate::slab::directory::DIRECTORY;
use std::eprintln;

/// Whether to run the test here: in a process of its own, where the kernel knows huge pages at all, whatever its policy, and reads
/// memory for a process. If not, no block gets huge pages for what others showed.
fn begins(test: &str) -> bool {
    if !fake::alone(test) {
        return false;
    }
    DIRECTORY.begin();
    let knows = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
    if !knows {
        eprintln!("no huge pages in this kernel: which blocks ask for them was not seen");
    }
    knows && is_told()
}

/// Whether a block in use asked for huge pages.
fn is_huge(block: *mut u8) -> bool {
    // SAFETY: it has a descriptor.
    unsafe { (*descriptor_of(block as usize)).huge }
}

/// A block in fresh memory, and whether it asked for huge pages.
fn fresh(size: usize) -> (*mut u8, bool) {
    purge_all();
    let block = alloc(size, 16, false, false).expect("memory").ptr;
    (block, is_huge(block))
}

#[test]
fn blocks_are_on_huge_pages_once_others_were_found_filled() {
    if !begins("large::seen_tests::blocks_are_on_huge_pages_once_others_were_found_filled") {
        return;
    }
    // It leaves little of its last huge page.
    let size = 4 * SUPERSLAB - SUPERSLAB / 8;
    // SAFETY: blocks in use of that size, each freed once.
    unsafe {
        let (first, huge) = fresh(size);
        assert!(!huge, "nothing is known");
        let (second, huge) = fresh(size);
        assert!(!huge, "the first is empty");
        first.write_bytes(1, size);
        let (third, huge) = fresh(size);
        assert!(huge, "the first is filled");
        let (fourth, huge) = fresh(size);
        assert!(!huge, "the third is empty");
        free(third, Some(size));
        let (fifth, huge) = fresh(size);
        assert!(!huge, "it was empty when it went");
        fourth.write_bytes(1, size);
        free(fourth, Some(size));
        let (sixth, huge) = fresh(size);
        assert!(huge, "the fourth was filled when it went");
        for block in [first, second, fifth, sixth] {
            free(block, Some(size));
        }
    }
}

#[test]
fn a_block_that_was_filled_when_it_grew_is_on_huge_pages() {
    if !begins("large::seen_tests::a_block_that_was_filled_when_it_grew_is_on_huge_pages") {
        return;
    }
    let (half, size) = (2 * SUPERSLAB - SUPERSLAB / 8, 4 * SUPERSLAB - SUPERSLAB / 8);
    // SAFETY: a block in use of those sizes, freed once.
    unsafe {
        for filled in [false, true] {
            let (block, _) = fresh(half);
            if filled {
                block.write_bytes(1, half);
            }
            let block = realloc(block, half, 16, size).expect("memory");
            assert_eq!(is_huge(block), filled, "filled: {filled}");
            free(block, Some(size));
        }
    }
}

/// Memory of a block on huge pages, in the cache.
unsafe fn cache_huge(size: usize) {
    // SAFETY: blocks in use of that size, each freed once.
    unsafe {
        let (first, _) = fresh(size);
        first.write_bytes(1, size);
        let (second, huge) = fresh(size);
        assert!(huge, "the first is filled");
        second.write_bytes(1, size);
        free(second, Some(size));
        free(first, Some(size));
    }
    assert!(super::cached_bytes() > 0);
}

#[test]
fn cached_memory_on_huge_pages_is_no_evidence_for_what_is_put_behind_it() {
    if !begins(
        "large::seen_tests::cached_memory_on_huge_pages_is_no_evidence_for_what_is_put_behind_it",
    ) {
        return;
    }
    let size = 2 * SUPERSLAB - SUPERSLAB / 8;
    let long = 13 * SUPERSLAB - SUPERSLAB / 8;
    // SAFETY: blocks in use of those sizes, each freed once.
    unsafe {
        cache_huge(size);
        let block = alloc(long, 16, false, false).expect("memory").ptr;
        assert!(!is_huge(block), "much longer than what was filled");
        free(block, Some(long));
        purge_all();
        let (block, _) = fresh(size);
        cache_huge(size);
        let block = realloc(block, size, 16, long).expect("memory");
        assert!(!is_huge(block), "it was empty");
        free(block, Some(long));
    }
}

#[test]
fn a_block_that_shrinks_to_a_bad_end_leaves_huge_pages() {
    if !begins("large::seen_tests::a_block_that_shrinks_to_a_bad_end_leaves_huge_pages") {
        return;
    }
    let (size, less) = (4 * SUPERSLAB - SUPERSLAB / 8, SUPERSLAB + SUPERSLAB / 8);
    // SAFETY: blocks in use of those sizes, each freed once.
    unsafe {
        let (first, _) = fresh(size);
        first.write_bytes(1, size);
        let (block, huge) = fresh(size);
        assert!(huge);
        let block = realloc(block, size, 16, less).expect("memory");
        assert!(!is_huge(block));
        free(block, Some(less));
        free(first, Some(size));
    }
}

#[test]
fn a_short_block_at_a_large_alignment_grows() {
    if !begins("large::seen_tests::a_short_block_at_a_large_alignment_grows") {
        return;
    }
    // SAFETY: a block in use of those sizes, freed once.
    unsafe {
        let (size, more) = (100, 5 * SUPERSLAB / 2);
        let block = alloc(size, SUPERSLAB, false, false).expect("memory").ptr;
        block.write_bytes(1, size);
        let block = realloc(block, size, SUPERSLAB, more).expect("memory");
        assert!(!is_huge(block), "too short to be told filled");
        free(block, Some(more));
    }
}
