//! Freed blocks that are closed, and what the kernel refuses. Uses and mistakes are tested on whole processes
//! (`tests/misuse_random.rs`).

use super::closed::{is_closed, try_closed};
use super::{alloc, free, purge_all, realloc, usable_size};
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use crate::slab::directory::DIRECTORY;
use crate::slab::known::State;

fn checked(size: usize) -> *mut u8 {
    let block = alloc(size, 16, false, true).expect("memory").ptr;
    assert_eq!(usable_size(block, "usable size"), size);
    // SAFETY: the block's ends.
    unsafe {
        block.write(1);
        block.add(size - 1).write(2);
    }
    block
}

#[test]
fn freed_blocks_are_closed_until_eight_more_are_freed() {
    if !fake::alone("large::closed_tests::freed_blocks_are_closed_until_eight_more_are_freed") {
        return;
    }
    DIRECTORY.begin();
    let (first, size) = (checked(3 << 20), 3 << 20);
    // SAFETY: blocks in use, each freed once.
    unsafe {
        free(first, Some(size));
        let last = first as usize + size - 1;
        assert!(is_closed(first as usize) && is_closed(last));
        let known = try_closed(last).flatten().expect("known");
        assert_eq!((known.state, known.start), (State::Freed, first as usize));
        assert_eq!(known.size, size);
        for left in (0..8).rev() {
            free(checked(2 << 20), None);
            assert_eq!(is_closed(last), left > 0, "{left} more");
        }
        let kept = checked(5 << 20);
        free(kept, None);
        purge_all();
        assert!(!is_closed(kept as usize));
    }
}

/// The memory is used again, as where blocks are not checked.
#[test]
fn what_the_kernel_does_not_close_is_kept() {
    if !fake::alone("large::closed_tests::what_the_kernel_does_not_close_is_kept") {
        return;
    }
    DIRECTORY.begin();
    for (call, errno) in [
        (Call::Mprotect, Errno::ENOMEM),
        (Call::Madvise, Errno::EINVAL),
    ] {
        let block = checked(3 << 20);
        fake::fail_kind(call, 1, errno);
        // SAFETY: in use, freed once.
        unsafe { free(block, None) };
        fake::clear();
        assert!(!is_closed(block as usize), "{call:?}");
        let again = checked(3 << 20);
        assert_eq!(again as usize >> 21, block as usize >> 21, "{call:?}");
        // SAFETY: as above.
        unsafe { free(again, None) };
    }
    // Not even opened again: the memory is given up.
    let block = checked(3 << 20);
    fake::fail_kind_from(Call::Mprotect, 1, Errno::ENOMEM);
    // SAFETY: as above.
    unsafe { free(block, None) };
    fake::clear();
    assert!(!is_closed(block as usize));
    // SAFETY: as above.
    unsafe { free(checked(3 << 20), None) };
}

#[test]
fn a_checked_block_is_guarded_at_every_length() {
    if !fake::alone("large::closed_tests::a_checked_block_is_guarded_at_every_length") {
        return;
    }
    DIRECTORY.begin();
    let mut block = checked(3 << 20);
    let mut old = 3 << 20;
    for new in [
        (3 << 20) + 1,
        (4 << 20) - 2048,
        9 << 20,
        (9 << 20) - 7,
        30 << 20,
        2 << 20,
    ] {
        // SAFETY: in use, of that size.
        unsafe {
            block = realloc(block, old, 16, new).expect("memory");
            assert_eq!(block.read(), 1);
            assert_eq!(usable_size(block, "usable size"), new);
            // Its bytes are the program's, and nothing else is.
            block.add(new - 1).write(3);
        }
        old = new;
        assert_eq!(usable_size(block, "usable size"), new);
    }
    // SAFETY: in use, freed once.
    unsafe { free(block, Some(old)) };
}
