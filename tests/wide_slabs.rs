//! Blocks between half a slot and three quarters of one: several share a slab of three slots.
//!
//! Behaviours imitated:
//! - a program with many buffers of 33 to 48 KiB, as git has with the indices of its deltas;
//! - such buffers freed in random order, by their own thread and by another, and allocated again;
//! - alignments that such a block keeps; one that grows and shrinks.
//!
//! Cases that need exact figures are child processes whose other memory comes from the system allocator.

mod common;

use common::KIB;
use common::blocks::Block;
use common::child::{self, Child};
use hakmem_alloc::{Hakmem, stats, usable_size};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::alloc::{GlobalAlloc, Layout};
use std::thread;

static HAKMEM: Hakmem = Hakmem::new();

/// A slab's bytes, and the sizes that share one, with how many blocks it has.
const SLAB: usize = 3 * 64 * KIB;
const SHARED: [(usize, usize); 4] = [(32 * KIB + 1, 5), (39_296, 5), (39_297, 4), (48 * KIB, 4)];

fn alone(test: &'static str, body: impl FnOnce()) {
    if child::case().is_some() {
        body();
        child::report("done", "yes");
    } else {
        let done: String = Child::of(test, "alone").run().success().value("done");
        assert_eq!(done, "yes");
    }
}

/// Slabs of the class that serves `size`, and its live blocks.
fn held(size: usize) -> (usize, usize) {
    let stats = stats();
    let mut classes = stats.classes.iter();
    let class = classes.find(|class| class.block_bytes >= size as u64);
    let class = class.expect("a class of that size");
    (class.slabs as usize, class.live_blocks as usize)
}

#[test]
fn several_share_a_slab() {
    alone("several_share_a_slab", || {
        for (size, each) in SHARED {
            let count = 60;
            let mut blocks: Vec<Block> = (0..count).map(|_| Block::new(&HAKMEM, size)).collect();
            assert_eq!(held(size), (count / each, count), "blocks of {size}");
            blocks.sort_by_key(|block| block.addr);
            for two in blocks.windows(2) {
                // SAFETY: a live block.
                let usable = unsafe { usable_size(two[0].addr as *const u8) };
                assert!(usable >= size && usable * each <= SLAB);
                assert!(two[0].addr + usable <= two[1].addr, "{two:?} overlap");
            }
            blocks.into_iter().for_each(|block| block.free(&HAKMEM));
            assert_eq!(held(size).1, 0);
            // One to go out again, and slabs that hold it.
            assert!(held(size).0 <= 1, "{:?} of {size}", held(size));
        }
        let one = Block::new(&HAKMEM, 48 * KIB + 1);
        // SAFETY: a live block.
        assert_eq!(unsafe { usable_size(one.addr as *const u8) }, 64 * KIB);
        one.free(&HAKMEM);
    });
}

#[test]
fn freed_at_random_by_anybody_and_taken_anew() {
    alone("freed_at_random_by_anybody_and_taken_anew", || {
        let mut random = SmallRng::seed_from_u64(7);
        let mut blocks: Vec<Block> = Vec::new();
        for round in 0..40 {
            while blocks.len() < 200 {
                let size = random.random_range(30 * KIB..66 * KIB);
                let block = Block::new(&HAKMEM, size);
                block.touch();
                blocks.push(block);
            }
            blocks.shuffle(&mut random);
            let freed = blocks.split_off(random.random_range(0..150));
            let free = || freed.into_iter().for_each(|block| block.free(&HAKMEM));
            if round % 2 == 0 {
                thread::spawn(free).join().expect("what was in the blocks");
            } else {
                free();
            }
        }
        blocks.into_iter().for_each(|block| block.free(&HAKMEM));
        for (size, _) in SHARED {
            assert_eq!(held(size).1, 0, "blocks of {size}");
        }
    });
}

#[test]
fn every_alignment_is_kept() {
    for shift in 0..=16 {
        let align = 1usize << shift;
        for size in [33_000, 34_000, 39_296, 40_000, 49_152] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            let blocks: Vec<usize> = (0..12)
                // SAFETY: the size is not zero.
                .map(|_| unsafe { HAKMEM.alloc(layout) } as usize)
                .collect();
            for block in blocks {
                assert!(block != 0 && block.is_multiple_of(align), "{layout:?}");
                // SAFETY: taken with this layout.
                unsafe { HAKMEM.dealloc(block as *mut u8, layout) };
            }
        }
    }
}

#[test]
fn content_moves_along() {
    let sizes = [
        20_000, 33_000, 39_000, 45_000, 60_000, 100_000, 48_000, 35_000, 17_000,
    ];
    let mut layout = Layout::from_size_align(10_000, 16).expect("a layout");
    // SAFETY: the block is live with `layout`, and each byte looked at lies within it.
    unsafe {
        let mut block = HAKMEM.alloc(layout);
        for i in 0..10_000 {
            *block.add(i) = (i % 251) as u8;
        }
        for size in sizes {
            block = HAKMEM.realloc(block, layout, size);
            assert!(!block.is_null());
            layout = Layout::from_size_align(size, 16).expect("a layout");
            *block.add(size - 1) = 1;
            for i in 0..10_000 {
                assert_eq!(*block.add(i), (i % 251) as u8, "byte {i} at {size}");
            }
        }
        HAKMEM.dealloc(block, layout);
    }
}
