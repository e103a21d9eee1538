//! The bits of slabs with holes against a model that looks at every block and every byte.

use super::*;
use crate::base::size_class::{Class, capacity, size, slots};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::vec::Vec;

/// Every class on OS pages of 4, 16 and 64 KiB. Miri, a thousand times as slow, tries a few.
fn grids() -> impl Iterator<Item = Grid> {
    Class::all_of_slabs()
        .step_by(if cfg!(miri) { 31 } else { 1 })
        .flat_map(|class| {
            assert!(slots(class).bytes() <= 64 << 12);
            [12, 14, 16].map(|page_shift| Grid {
                size: size(class),
                capacity: capacity(class),
                page_shift,
            })
        })
}

/// The pages of a block, byte by byte.
fn pages_of(grid: Grid, at: usize) -> Pages {
    (at * grid.size..(at + 1) * grid.size)
        .step_by(16)
        .fold(0, |pages, byte| pages | 1 << (byte >> grid.page_shift))
}

/// Free blocks of a slab. On average `most` of every 64 are not free.
fn random_map(grid: Grid, rng: &mut SmallRng, most: u32) -> Vec<u64> {
    let mut map = std::vec![0; bits::words(grid.capacity)];
    for at in 0..grid.capacity {
        if rng.random_range(0..64) >= most {
            assert!(bits::set(&mut map, at));
        }
    }
    map
}

fn is_free(map: &[u64], at: usize) -> bool {
    map[at / 64] >> (at % 64) & 1 != 0
}

#[test]
fn the_pages_that_can_go_are_those_without_a_used_block() {
    let mut rng = SmallRng::seed_from_u64(1);
    for grid in grids() {
        for used in [0, 1, 2, 8, 32, 64] {
            let map = random_map(grid, &mut rng, used);
            let mut expected = (0..grid.capacity).fold(0, |pages, at| pages | pages_of(grid, at));
            for at in (0..grid.capacity).filter(|&at| !is_free(&map, at)) {
                expected &= !pages_of(grid, at);
            }
            assert_eq!(
                grid.free_pages(&map),
                expected,
                "{grid:?}, {used} in 64 used"
            );
        }
    }
}

#[test]
fn resident_blocks_are_taken_first_and_each_once() {
    let mut rng = SmallRng::seed_from_u64(2);
    for grid in grids() {
        let mut free = random_map(grid, &mut rng, 3);
        let mut gone = grid.free_pages(&free);
        let mut left = free.clone();
        let (mut away, mut count, all) = (gone, 0, bits::count(&free));
        loop {
            let mut found = Vec::new();
            let taken = grid.take(&mut free, &mut gone, 7, 3, |at| found.push(at));
            assert_eq!(taken, found.len());
            assert!(found.is_sorted());
            if taken == 0 {
                break;
            }
            let resident = |at: usize| pages_of(grid, at) & away == 0;
            if resident(found[0]) {
                assert!(found.iter().all(|&at| resident(at)) && taken <= 7);
            } else {
                let free = (0..grid.capacity).filter(|&at| is_free(&left, at));
                assert!(!free.into_iter().any(resident), "resident ones come first");
                assert!(taken <= 3);
            }
            for at in found {
                assert!(is_free(&left, at), "block {at} was free");
                bits::clear(&mut left, at);
                away &= !pages_of(grid, at);
                count += 1;
            }
            assert_eq!((gone, &free), (away, &left));
        }
        assert_eq!(count, all);
        assert_eq!(away, 0, "where all blocks are out no page is gone");
    }
}
