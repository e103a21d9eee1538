//! Holes in a heap's slabs: what goes, when, and that no block is lost. Each test is alone in its process, and its clock
//! stands.

use super::*;
use crate::base::account::{self, Kind};
use crate::base::size_class::Class;
use crate::base::units::SUPERSLAB;
use crate::heap::cache::flush;
use crate::heap::data::tls;
use crate::heap::entry::hot;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::walk;
use crate::heap::upkeep::maintain;
use crate::os::clock::stopped;
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use std::collections::HashSet;
use std::format;
use std::vec::Vec;

const SIZE: usize = 1024;
const DELAY: u64 = 1000;

/// Blocks in four OS pages.
fn four_pages() -> usize {
    4 * sys::page_size() / SIZE
}

fn alone(name: &str) -> bool {
    if sys::page_size() == SLOT {
        // An OS page is a whole slab, and goes with it.
        std::eprintln!("{name}: no slab can have holes with OS pages of {SLOT} bytes");
        return false;
    }
    let alone = fake::alone(&format!("heap::upkeep::pages::tests::{name}"));
    if alone {
        // The heap exists, and the test's own lists take no block of its size.
        free(take(SIZE, 1));
        stopped::stop();
    }
    alone
}

fn my_heap() -> HeapRef {
    tls::current().expect("a heap")
}

/// Blocks that hold their own addresses.
fn take(size: usize, count: usize) -> Vec<*mut usize> {
    let one = |_| {
        let block: *mut usize = hot::alloc(size, 8, None).cast();
        assert!(!block.is_null());
        // SAFETY: just allocated, and large enough.
        unsafe {
            for word in 0..size / 8 {
                *block.add(word) = block as usize;
            }
        }
        block
    };
    (0..count).map(one).collect()
}

fn is_whole(block: *mut usize, size: usize) -> bool {
    // SAFETY: a block that is out.
    (0..size / 8).all(|word| unsafe { *block.add(word) } == block as usize)
}

fn free_of(size: usize, blocks: Vec<*mut usize>) {
    for block in blocks {
        assert!(is_whole(block, size), "{block:p} was written to");
        // SAFETY: it is out, and freed once.
        unsafe { hot::dealloc(block.cast(), size, 8) };
    }
}

fn free(blocks: Vec<*mut usize>) {
    free_of(SIZE, blocks);
}

/// Frees all but one of each `every` blocks, and returns those. The others are then in their slabs, but for those of a bin.
fn thin_out(blocks: Vec<*mut usize>, every: usize) -> Vec<*mut usize> {
    let (kept, gone): (Vec<_>, Vec<_>) = blocks
        .into_iter()
        .enumerate()
        .partition(|(i, _)| i % every == 0);
    let bare = |some: Vec<(usize, *mut usize)>| {
        some.into_iter().map(|(_, block)| block).collect::<Vec<_>>()
    };
    free(bare(gone));
    return_all();
    bare(kept)
}

fn return_all() {
    let mut held = my_heap().lock();
    let mut sorter = Sorter::new(&held, true);
    flush::flush_all(&mut held, &mut sorter);
    sorter.post_all(&mut held);
}

/// Returns what the bins hold to its slabs, too.
fn empty_bins() {
    let mut held = my_heap().lock();
    let mut sorter = Sorter::new(&held, true);
    // SAFETY: the thread's own heap.
    unsafe { flush::flush_private(&mut held, &mut sorter) };
    sorter.post_all(&mut held);
    drop(held);
    return_all();
}

/// Goes on with passes of the heap until there is no more to do. Returns the bytes that went.
fn pass(when: When) -> usize {
    let mut bytes = 0;
    loop {
        let piece = some(my_heap(), when);
        bytes += piece.bytes;
        if !piece.more {
            break;
        }
    }
    assert!(is_valid());
    bytes
}

fn after(ms: u64) -> usize {
    stopped::pass(ms);
    pass(When::Aged(clock::now_ms()))
}

fn is_valid() -> bool {
    walk::slabs_are_valid(&my_heap().lock())
}

fn resident() -> usize {
    account::of(Kind::Blocks)
}

#[test]
fn pages_go_after_a_delay_without_use_and_no_block_is_lost() {
    if !alone("pages_go_after_a_delay_without_use_and_no_block_is_lost") {
        return;
    }
    let kept = thin_out(take(SIZE, 4000), four_pages());
    let (before, returned) = (resident(), pool::counts().returned);
    assert_eq!(after(DELAY), 0, "a first look marks");
    assert_eq!(after(DELAY - 10), 0, "not yet");
    let went = after(10 + DELAY);
    // Of four pages one stays; some of the rest are in the bin.
    let freed = 4000 * SIZE / 4 * 3;
    assert!(went > freed / 10 * 8 && went <= freed, "{went} of {freed}");
    // What was never carved of the last slab goes along.
    let off = (before - resident()).abs_diff(went);
    assert!(off <= SLOT, "the account is off by {off} bytes");
    assert_eq!(pool::counts().returned - returned, went as u64);
    fake::clear();
    assert_eq!(after(10 * DELAY), 0, "nothing is left to do");
    assert_eq!(fake::calls().of(Call::Madvise), 0);
    let again = take(SIZE, 4000 - kept.len());
    let distinct: HashSet<_> = again.iter().chain(&kept).collect();
    assert_eq!(distinct.len(), 4000);
    assert!(
        resident() + freed / 20 >= before,
        "what is used again counts again"
    );
    assert!(is_valid());
    free(kept);
    free(again);
    return_all();
    assert!(is_valid());
}

#[test]
fn what_is_in_use_stays() {
    if !alone("what_is_in_use_stays") {
        return;
    }
    let mut kept = thin_out(take(SIZE, 4000), 8);
    empty_bins();
    let slab = |block: &*mut usize| *block as usize / SLOT;
    for _ in 0..4 {
        assert_eq!(after(DELAY), 0, "every slab was used since the last look");
        // A block of each slab returns, and at least one stays.
        let mut seen = HashSet::new();
        let (gone, left): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|block| seen.insert(slab(block)));
        assert!(!left.is_empty());
        free(gone);
        empty_bins();
        kept = left;
    }
    after(DELAY);
    assert!(after(DELAY) > 0, "and now none was");
    free(kept);
}

#[test]
fn every_class_survives_its_holes() {
    if !alone("every_class_survives_its_holes") {
        return;
    }
    for class in Class::all_of_slabs().step_by(3) {
        let size = size_class::size(class);
        let count = 6 * size_class::capacity(class);
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for (i, block) in take(size, count).into_iter().enumerate() {
            if i % (size_class::capacity(class) / 3 + 1) == 0 {
                kept.push(block);
            } else {
                gone.push(block);
            }
        }
        free_of(size, gone);
        return_all();
        let went = pass(When::Now);
        assert!(went > 0, "{class:?} of {size} bytes");
        let again = take(size, count);
        let distinct: HashSet<_> = again.iter().chain(&kept).collect();
        assert_eq!(distinct.len(), count + kept.len());
        free_of(size, kept);
        free_of(size, again);
        return_all();
        assert!(is_valid());
    }
}

#[test]
fn a_purge_that_fails_changes_nothing_and_is_not_repeated() {
    if !alone("a_purge_that_fails_changes_nothing_and_is_not_repeated") {
        return;
    }
    let kept = thin_out(take(SIZE, 1000), four_pages());
    let before = resident();
    fake::fail_kind_from(Call::Madvise, 1, Errno::EINVAL);
    assert_eq!(pass(When::Now), 0);
    assert!(
        resident().abs_diff(before) <= SLOT,
        "what was never carved counts now"
    );
    fake::clear();
    assert_eq!(pass(When::Now), 0);
    assert_eq!(fake::calls().of(Call::Madvise), 0);
    let again = take(SIZE, 1000);
    free(again);
    free(kept);
    return_all();
    assert!(is_valid());
}

/// A fork finds a thread while the kernel takes pages. The child has the slabs, and all blocks in them.
#[test]
fn a_fork_between_leaves_the_slabs_whole() {
    if !alone("a_fork_between_leaves_the_slabs_whole") {
        return;
    }
    let kept = thin_out(take(SIZE, 1000), four_pages());
    let last = kept[kept.len() - 1];
    // SAFETY: the thread's own heap; the lock is held where it has to be. Nobody else is in the process.
    unsafe {
        let mut held = my_heap().lock();
        assert!(held.holes.begin(When::Now));
        let more = gather(&mut held, When::Now);
        held.holes.by = thread::me() + 1;
        let (going, count) = (held.holes.going, held.holes.count);
        assert!(count > 1, "{count} slabs, {more}");
        drop(held);
        assert!(going[..count].iter().all(|going| (*going.slab).bucket == 0));
        // Some pages went, and meanwhile blocks return: the last of one of the slabs.
        assert!(purge(&going[0]) != 0);
        free(kept[..kept.len() - 1].to_vec());
        return_all();
        after_fork(my_heap());
        assert_eq!(my_heap().lock().holes.count, 0);
    }
    assert!(is_valid());
    let again = take(SIZE, 2000);
    free(std::vec![last]);
    free(again);
    return_all();
    assert!(is_valid());
}

/// A huge page is split if enough of it is free, and stays otherwise.
#[test]
fn a_huge_page_is_split_where_much_of_it_is_free() {
    if !alone("a_huge_page_is_split_where_much_of_it_is_free") {
        return;
    }
    let blocks = take(SIZE, 64 << 10);
    let huge = pool::counts().huge_requested;
    if huge == 0 {
        // None are asked for if the machine has none.
        free(blocks);
        return;
    }
    // One slab of each superslab runs nearly empty.
    let in_first_slot = |block: &*mut usize| (*block as usize >> 16) % 32 == 7;
    let (first, others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(in_first_slot);
    let mut kept = thin_out(first, four_pages());
    after(0);
    after(DELAY);
    after(DELAY);
    assert_eq!(
        pool::counts().huge_requested,
        huge,
        "a slot of 32 is little"
    );
    kept.extend(thin_out(others, four_pages()));
    let went: usize = (0..4).map(|_| after(DELAY)).sum();
    assert!(went > 0, "those that were held are seen again");
    let left = pool::counts().huge_requested;
    assert!(left < huge / 4, "{left} of {huge} bytes");
    let refuse = pool::counts().left_huge * SUPERSLAB;
    assert_eq!(refuse, huge - left, "those that were split");
    assert!(pool::is_valid());
    free(kept);
    return_all();
    maintain::purge_now();
    assert!(is_valid() && pool::is_valid());
}
