//! Which large blocks have the word in front of them, and what closing a freed one asks of the kernel.

use super::descriptor::{Descriptor, descriptor_of};
use super::{alloc, free, realloc};
use crate::base::tuning::UNSEEN_BLOCK;
use crate::base::units::SUPERSLAB;
use crate::os::fake::{self, Call};
use crate::os::huge::{Thp, system_thp};
use crate::os::{memory, sys};
use crate::slab::directory::DIRECTORY;
use std::eprintln;

fn of<'a>(block: *mut u8) -> &'a Descriptor {
    // SAFETY: a block in use has one, and descriptors are never unmapped.
    unsafe { &*descriptor_of(block as usize) }
}

/// Resident bytes of the first 2 MiB of the block's mapping.
fn resident(block: *mut u8) -> usize {
    fake::resident(of(block).run.map.addr, SUPERSLAB)
}

fn word_is_written(block: *mut u8) -> bool {
    // SAFETY: what lies in front of the block is its mapping's.
    unsafe { block.cast::<u64>().sub(1).read() == 0xE5E5_E5E5_E5E5_E5E5 }
}

/// Whether the block, which nobody touched, is as it has to be: no page is resident if that could be a huge one, else one.
fn untouched(block: *mut u8, what: &str) {
    let huge = of(block).huge || system_thp() == Thp::Always;
    let most = if huge { 0 } else { sys::page_size() };
    assert_eq!(resident(block), most, "{what}");
    assert_eq!(of(block).marked, !huge, "{what}");
}

#[test]
fn the_word_makes_no_huge_page_resident() {
    if !fake::alone("large::guard_tests::the_word_makes_no_huge_page_resident") {
        if system_thp() == Thp::Never {
            eprintln!("no huge pages here: what would be resident of one was not seen");
        }
        return;
    }
    DIRECTORY.begin();
    // Whole superslabs have nothing in front of them.
    let (small, long) = (3 << 20, 2 * UNSEEN_BLOCK - (8 << 10));
    let fresh = |size| alloc(size, 16, false, false).expect("memory").ptr;
    let block = fresh(small);
    untouched(block, "short");
    let zeroed = alloc(long, 16, true, false).expect("memory").ptr;
    untouched(zeroed, "zeroed");
    let mut huge = fresh(long);
    untouched(huge, "long");
    // SAFETY: blocks in use of those sizes, each freed once. What is in front of a block without the word is nobody's.
    unsafe {
        // A check of the word that is not there would touch the page too.
        let marked = of(huge).marked;
        huge = realloc(huge, long, 16, 2 * long).expect("memory");
        // It was empty, and left huge pages.
        assert_eq!(of(huge).marked, marked);
        let most = if marked { sys::page_size() } else { 0 };
        assert_eq!(resident(huge), most, "grown");
        assert!(!marked || word_is_written(huge));
        huge = realloc(huge, 2 * long, 16, long).expect("memory");
        if !marked {
            huge.sub(1).write(7);
        }
        huge.write_bytes(1, long);
        free(huge, Some(long));
        // Memory from the cache counts as resident.
        let again = fresh(long);
        assert!(of(again).marked && word_is_written(again), "used before");
        free(again, Some(long));
        free(zeroed, Some(long));
        free(block, Some(small));
    }
}

#[test]
fn where_addresses_are_limited_nothing_is_purged_to_be_closed() {
    if !fake::alone(
        "large::guard_tests::where_addresses_are_limited_nothing_is_purged_to_be_closed",
    ) {
        return;
    }
    DIRECTORY.begin();
    memory::note_limits(Some(1 << 40));
    let block = alloc(3 << 20, 16, false, true).expect("memory").ptr;
    fake::clear();
    // SAFETY: in use, freed once.
    unsafe { free(block, None) };
    let calls = fake::calls();
    assert_eq!((calls.of(Call::Madvise), calls.of(Call::Mprotect)), (0, 0));
}
