//! What a look at a free finds in the bin by computing is what is there.

use crate::base::size_class;
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::NOBODY;
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::heap::slow::watch;
use crate::os::fake;
use crate::slab::batch::Block;
use crate::slab::directory::Tag;
use std::thread;
use std::vec::Vec;

/// A thread whose heap stays watched takes and frees blocks of a size at random, now few, now more than a bin holds. After each
/// step every block it ever had is looked for.
fn compare(size: usize, mut seed: u64) {
    let mut random = |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let first = hot::alloc(size, 8, None);
    let heap = tls::current().expect("a heap");
    let mine = heap.ptr();
    let class = size_class::of_layout(size, 8).expect("a class");
    let (mut known, mut live) = (Vec::from([first]), Vec::from([first]));
    let (mut found, mut rows) = (0, 0);
    // SAFETY: the thread's own heap and blocks; a block is freed once each time it was handed out.
    unsafe {
        // Its heap may be one whose first frees the thread before has made.
        (*mine).watch = usize::MAX;
        (*mine).front.tag = Tag::of_owner(NOBODY).0;
        for _ in 0..40 {
            for _ in 0..random(90) {
                let block = hot::alloc(size, 8, None);
                live.push(block);
                if !known.contains(&block) {
                    known.push(block);
                }
            }
            for _ in 0..random(1 + live.len()) {
                let block = live.swap_remove(random(live.len()));
                match random(2) {
                    0 => hot::free(block),
                    _ => hot::dealloc(block, size, 8),
                }
                // Some looks come only after several allocations.
                if random(3) > 0 {
                    continue;
                }
                let in_bin: Vec<*mut Block> = Bin::blocks(heap, class).to_vec();
                for &block in &known {
                    let block = block.cast();
                    let mut left = usize::MAX;
                    let is = watch::in_bin(heap, block, class, &mut left);
                    assert_eq!(
                        is,
                        in_bin.contains(&block),
                        "{size}: {block:p} in {in_bin:?}"
                    );
                    found += usize::from(is);
                    rows += usize::from((*mine).rows[class.index()] > 1);
                }
            }
        }
        live.into_iter().for_each(|block| hot::free(block));
        (*mine).watch = 1;
        // The last look.
        hot::free(hot::alloc(size, 8, None));
        assert_eq!((*mine).watch, 0);
    }
    assert!(found > 0, "{size}: nothing was in the bin");
    assert!(rows > 0 || size > 2048, "{size}: nothing lay in a row");
}

#[test]
fn what_is_computed_to_be_in_the_bin_is_there() {
    // In a process of its own no bin is filled with what other tests left, which lies in no row, and no block is a checked one.
    if !fake::alone("heap::tests::watch_tests::what_is_computed_to_be_in_the_bin_is_there") {
        return;
    }
    for (size, seed) in [
        (16, 1),
        (48, 2),
        (64, 3),
        (208, 4),
        (1000, 5),
        (4000, 6),
        (20_000, 7),
    ] {
        thread::spawn(move || compare(size, seed))
            .join()
            .expect("as searched");
    }
}
