//! realloc: what stays in place, what moves, and what never copies.
//!
//! Behaviours imitated:
//! - a vector that grows by doubling from 16 bytes to 1 GiB, and shrinks back;
//! - a block shrunk to half and freed with the smaller Layout, by its owner and by another thread;
//! - a buffer resized back and forth by a few bytes;
//! - a large block with a large alignment that grows.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{GIB, KIB, MIB, mem, pattern};
use hakmem_alloc::{Config, Hakmem};
use std::alloc::{GlobalAlloc, Layout};

#[global_allocator]
// A checked block has one byte more at least than was asked for: what shares its class differs.
static HAKMEM: Hakmem = Hakmem::with_config(Config::new().check_one_in(0));

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("far below isize::MAX")
}

#[test]
fn a_size_of_the_same_class_stays_in_place() {
    // Up to 1024 bytes classes are 16 apart: sizes that round up alike share one.
    for top in (16..=1024).step_by(16) {
        let from = layout(top - 15, 8);
        // SAFETY: sizes are not zero, and the block is freed once with its last size.
        unsafe {
            let block = HAKMEM.alloc(from);
            pattern::fill(block, from.size(), 1);
            let same = HAKMEM.realloc(block, from, top);
            assert_eq!(same, block, "{} to {top} moved", from.size());
            pattern::check(same, from.size(), from.size(), 1).expect("content");
            HAKMEM.dealloc(same, layout(top, 8));
        }
    }
}

/// In place if a copy would save little, or if the tail can be cut off.
#[test]
fn a_shrink_to_half_keeps_what_is_left() {
    // Sizes of whole classes: half of the size is half of the block.
    for size in [
        32,
        64,
        112,
        512,
        1024,
        2048,
        5120,
        16_384,
        32_768,
        65_536,
        196_608,
        MIB,
        3 * MIB,
        40 * MIB,
    ] {
        let from = layout(size, 16);
        let half = size.div_ceil(2);
        // SAFETY: sizes are not zero, and each block is freed once with its last size.
        unsafe {
            let block = HAKMEM.alloc(from);
            pattern::fill(block, size, 2);
            let same = HAKMEM.realloc(block, from, half);
            assert!(
                same == block || (256..=MIB).contains(&size),
                "{size} to {half} moved"
            );
            pattern::check(same, size, half, 2).expect("content");
            HAKMEM.dealloc(same, layout(half, 16));
            // What comes back is whole again.
            let again = HAKMEM.alloc(from);
            pattern::fill(again, size, 3);
            let others: Vec<_> = (0..64).map(|_| Block::new(&HAKMEM, half)).collect();
            pattern::check(again, size, size, 3).expect("a shrunk block came back twice");
            others.into_iter().for_each(|block| block.free(&HAKMEM));
            HAKMEM.dealloc(again, from);
        }
    }
}

#[test]
fn shrunk_blocks_are_freed_by_others_with_the_smaller_layout() {
    for size in [64, 300, 1000, 4000, 30_000, 250_000] {
        let count = (32 * MIB / size).min(20_000);
        let take = move || {
            let shrink = |_| {
                let block = Block::new(&HAKMEM, size);
                // SAFETY: live, with its layout; the size is not zero.
                let same = unsafe { HAKMEM.realloc(block.addr as *mut u8, block.layout, size / 2) };
                // SAFETY: a live block of half the size.
                unsafe { pattern::fill(same, size / 2, same as u64) };
                (same as usize, size / 2)
            };
            (0..count).map(shrink).collect::<Vec<_>>()
        };
        let free = move |blocks: Vec<(usize, usize)>| {
            for (addr, size) in blocks {
                // SAFETY: live until here, freed once, with its last size.
                unsafe {
                    pattern::check(addr as *const u8, size, size, addr as u64).expect("content");
                    HAKMEM.dealloc(addr as *mut u8, layout(size, 8));
                }
            }
        };
        free(take());
        free(
            std::thread::spawn(take)
                .join()
                .expect("a short-lived thread"),
        );
        let own = take();
        std::thread::spawn(move || free(own))
            .join()
            .expect("a short-lived thread");
        // Twice over the same slabs, now as blocks of the full size.
        let whole: Vec<_> = (0..count).map(|_| Block::new(&HAKMEM, size)).collect();
        whole.into_iter().for_each(|block| block.free(&HAKMEM));
    }
}

#[test]
fn growth_by_doubling_keeps_content_and_alignment() {
    for align in [1, 16, 64, 4096, 64 * KIB, 2 * MIB, 64 * MIB] {
        let mut from = layout(16, align);
        // SAFETY: sizes are not zero; the block is live until the end and always described by its last layout.
        unsafe {
            let mut block = HAKMEM.alloc(from);
            pattern::fill(block, 16, 4);
            while from.size() < GIB / 4 {
                let size = from.size() * 2;
                let grown = HAKMEM.realloc(block, from, size);
                assert!(!grown.is_null(), "{from:?} to {size}");
                assert_eq!(
                    grown as usize % align,
                    0,
                    "{from:?} to {size} lost its alignment: {grown:p}"
                );
                pattern::check(grown, from.size(), from.size(), 4)
                    .unwrap_or_else(|e| panic!("{from:?} to {size}: {e}"));
                pattern::fill(grown, size, 4);
                (block, from) = (grown, layout(size, align));
            }
            while from.size() > 1 {
                let size = from.size() / 3 + 1;
                let shrunk = HAKMEM.realloc(block, from, size);
                assert!(!shrunk.is_null(), "{from:?} to {size}");
                assert_eq!(
                    shrunk as usize % align,
                    0,
                    "{from:?} to {size} lost its alignment: {shrunk:p}"
                );
                pattern::check(shrunk, from.size(), size, 4)
                    .unwrap_or_else(|e| panic!("{from:?} to {size}: {e}"));
                pattern::fill(shrunk, size, 4);
                (block, from) = (shrunk, layout(size, align));
                if size == 2 {
                    break;
                }
            }
            HAKMEM.dealloc(block, from);
        }
    }
}

/// A move of page tables causes no fault for a page that was resident: a copy would fault once per OS page of the target.
#[test]
fn a_huge_block_grows_without_copying() {
    const TEST: &str = "a_huge_block_grows_without_copying";
    if child::case().is_some() {
        for align in [16, 4096, 2 * MIB] {
            let (mut size, goal) = (64 * MIB, GIB);
            // SAFETY: sizes are not zero; the block is described by its last layout and freed once.
            unsafe {
                let mut block = HAKMEM.alloc(layout(size, align));
                block.write_bytes(7, size);
                while size < goal {
                    let before = mem::thread_faults();
                    let grown = HAKMEM.realloc(block, layout(size, align), 2 * size);
                    let faults = mem::thread_faults() - before;
                    assert!(!grown.is_null() && (grown as usize).is_multiple_of(align));
                    // Copying 64 MiB takes 16,384 faults, or 32 with huge pages. The first growth of a process also faults
                    // the allocator's own code and tables in.
                    assert!(
                        faults <= 16,
                        "{} to {} MiB, align {align}: {faults} faults",
                        size / MIB,
                        2 * size / MIB
                    );
                    assert!(
                        grown.add(size - 1).read() == 7 && grown.read() == 7,
                        "content"
                    );
                    // The end of the new half, for the next round to find.
                    grown.add(2 * size - 1).write(7);
                    (block, size) = (grown, 2 * size);
                }
                HAKMEM.dealloc(block, layout(size, align));
            }
            child::report("grew", align);
        }
        return;
    }
    let ended = Child::of(TEST, "grow").run();
    assert_eq!(ended.success().value::<usize>("grew"), 2 * MIB);
}

/// Doubling must not need the old and the new block resident at once.
#[test]
fn a_growing_vector_holds_one_copy() {
    const TEST: &str = "a_growing_vector_holds_one_copy";
    if child::case().is_some() {
        let mut vector: Vec<u64> = Vec::new();
        vector.extend(0..(512 * MIB / 8) as u64 + 1);
        let sum = vector
            .iter()
            .step_by(4096)
            .fold(0u64, |s, &x| s.wrapping_add(x));
        child::report("sum", sum);
        // SAFETY: getrusage fills the struct it is given.
        let peak = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
            usage.ru_maxrss as usize * KIB
        };
        child::report("peak", peak);
        return;
    }
    let ended = Child::of(TEST, "vector").run();
    let peak: usize = ended.success().value("peak");
    let n = (512 * MIB / 8 / 4096) as u64;
    assert_eq!(
        ended.value::<u64>("sum"),
        4096 * (n * (n + 1) / 2),
        "content"
    );
    assert!(
        peak <= 560 * MIB,
        "peak of {} MiB for a vector of 512",
        peak / MIB
    );
}

#[test]
fn back_and_forth_by_a_few_bytes() {
    for base in [100, 1000, 4090, 65_530, MIB - 3, 4 * MIB] {
        let mut size = base;
        // SAFETY: sizes are not zero; the block is described by its last layout and freed once.
        unsafe {
            let mut block = HAKMEM.alloc(layout(size, 8));
            pattern::fill(block, size, 6);
            for i in 0..200 {
                let next = base + (i * 7) % 13;
                block = HAKMEM.realloc(block, layout(size, 8), next);
                pattern::check(block, size, size.min(next), 6)
                    .unwrap_or_else(|e| panic!("{size} to {next}: {e}"));
                pattern::fill(block, next, 6);
                size = next;
            }
            HAKMEM.dealloc(block, layout(size, 8));
        }
    }
}

/// The tail that a shrink cuts off may start in a part of the directory that was never used.
#[test]
fn the_rest_of_a_shrunk_block_serves_the_next() {
    // SAFETY: sizes are not zero; each block is freed once with its last layout, and only first bytes are written.
    unsafe {
        let big = HAKMEM.alloc(layout(8 * GIB, 16));
        let cut = HAKMEM.alloc(layout(6 * GIB, 16));
        assert!(!big.is_null() && !cut.is_null(), "address space");
        let kept = HAKMEM.realloc(cut, layout(6 * GIB, 16), 2 * GIB);
        assert_eq!(kept, cut, "a shrink stays in place");
        let next = HAKMEM.alloc(layout(3 * MIB, 16));
        next.write(1);
        HAKMEM.dealloc(next, layout(3 * MIB, 16));
        HAKMEM.dealloc(kept, layout(2 * GIB, 16));
        HAKMEM.dealloc(big, layout(8 * GIB, 16));
    }
}
