//! Large blocks are served from those that were freed, and not from the kernel each time.
//!
//! Behaviour imitated: image, video and matrix programs that hold a few buffers of 5 to 25 MiB and replace one after the other
//! by one of another size, or that allocate a few zeroed ones for each picture and drop them all; programs whose next buffer is
//! longer than any they freed. It must not happen that every free unmaps and every allocation maps and faults. Bytes given back
//! and page faults are counted, because times vary with the machine.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{MIB, mem};
use hakmem_alloc::Hakmem;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::alloc::{GlobalAlloc, Layout};

static HAKMEM: Hakmem = Hakmem::new();

const LIVE: usize = 20;
const REPLACED: usize = 400;

fn buffer(rng: &mut SmallRng) -> Block {
    let block = Block::new(&HAKMEM, rng.random_range(5 * MIB..=25 * MIB));
    // As the harness's workload does: a byte in every 64 KiB.
    for offset in (0..block.layout.size()).step_by(64 << 10).skip(1) {
        // SAFETY: within the block, and not its first word.
        unsafe { (block.addr as *mut u8).add(offset).write_volatile(1) };
    }
    block
}

fn replace_in_turn() {
    let mut rng = SmallRng::seed_from_u64(42);
    let mut live: Vec<_> = (0..LIVE).map(|_| buffer(&mut rng)).collect();
    for _ in 0..LIVE {
        let new = buffer(&mut rng);
        std::mem::replace(&mut live[rng.random_range(0..LIVE)], new).free(&HAKMEM);
    }
    let before = (hakmem_alloc::stats().bytes.returned, mem::thread_faults());
    let (mut bytes, mut touched) = (0, 0);
    for _ in 0..REPLACED {
        let place = rng.random_range(0..LIVE);
        // Freed first, so that the new one may take its place.
        let last = live.swap_remove(place);
        bytes += last.layout.size();
        last.free(&HAKMEM);
        let new = buffer(&mut rng);
        touched += new.layout.size() / (64 << 10);
        live.push(new);
    }
    let after = (hakmem_alloc::stats().bytes.returned, mem::thread_faults());
    live.into_iter().for_each(|block| block.free(&HAKMEM));
    child::report("freed", bytes);
    child::report("returned", after.0 - before.0);
    child::report("touched", touched);
    child::report("faults", after.1 - before.1);
}

/// Pictures of four zeroed buffers, all freed before the next picture. Returns how many bytes were not zero.
fn zeroed_for_each_picture(pictures: usize) -> usize {
    let mut wrong = 0;
    for picture in 0..pictures {
        let buffers: Vec<_> = (1..=4)
            .map(|i| i * 900_000 * (1 + (i + picture) % 3))
            .map(|size| Layout::from_size_align(size, 8).expect("a few megabytes"))
            // SAFETY: the size is not zero.
            .map(|layout| (unsafe { HAKMEM.alloc_zeroed(layout) }, layout))
            .collect();
        for (ptr, layout) in buffers {
            assert!(!ptr.is_null());
            // SAFETY: a live block of this size, freed once.
            unsafe {
                let bytes = std::slice::from_raw_parts_mut(ptr, layout.size());
                wrong += bytes.iter().filter(|&&b| b != 0).count();
                bytes.fill(0xA5);
                HAKMEM.dealloc(ptr, layout);
            }
        }
    }
    wrong
}

/// One buffer at a time is replaced by one of a very different size, all of it written.
/// Zeroed matrices of 24 MiB, one after the other, each touched at distances of `step`.
fn zeroed_matrices(matrices: usize, step: usize) {
    let layout = Layout::from_size_align(24 * MIB, 8).expect("a size");
    for _ in 0..matrices {
        // SAFETY: the size is not zero; written within the block, which is freed once.
        unsafe {
            let ptr = HAKMEM.alloc_zeroed(layout);
            assert!(!ptr.is_null());
            for offset in (0..layout.size()).step_by(step) {
                assert_eq!(ptr.add(offset).replace(1), 0);
            }
            HAKMEM.dealloc(ptr, layout);
        }
    }
}

fn replaced_in_full() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut live: [Option<Block>; 4] = [const { None }; 4];
    let start = mem::rss();
    let (mut most_live, mut most_held) = (0, 0);
    let mut faults = 0;
    for i in 0..200 {
        if i == 100 {
            faults = mem::thread_faults();
        }
        if let Some(block) = live[i % 4].take() {
            block.free(&HAKMEM);
        }
        let size = rng.random_range(20.0f64..24.6).exp2() as usize;
        let block = Block::new(&HAKMEM, size);
        block.touch();
        live[i % 4] = Some(block);
        let mapped = |b: &Block| b.layout.size().next_multiple_of(2 * MIB);
        most_live = most_live.max(live.iter().flatten().map(mapped).sum());
        most_held = most_held.max(mem::rss().saturating_sub(start));
    }
    child::report("faults", mem::thread_faults() - faults);
    child::report("live", most_live);
    child::report("held", most_held);
    live.into_iter()
        .flatten()
        .for_each(|block| block.free(&HAKMEM));
}

#[test]
fn a_loop_faults_next_to_nothing_in_and_holds_what_it_needs_at_most() {
    const TEST: &str = "a_loop_faults_next_to_nothing_in_and_holds_what_it_needs_at_most";
    if child::case().is_some() {
        return replaced_in_full();
    }
    let ended = Child::of(TEST, "loop")
        .env("HAKMEM_THP", "never")
        .env("HAKMEM_PURGE_DELAY_MS", "60000")
        .run();
    let value = |key| ended.success().value::<usize>(key);
    let (live, held) = (value("live"), value("held"));
    assert!(
        held <= live + 4 * MIB,
        "{} MiB held for {} MiB live at most",
        held / MIB,
        live / MIB
    );
    // A hundred blocks of 6 MiB on average would be 150,000.
    let faults = value("faults");
    assert!(faults <= 15_000, "{faults} faults");
}

fn word(block: &Block, at: usize) -> *mut usize {
    (block.addr + at) as *mut usize
}

/// Writes every OS page of the block but the words at its ends.
fn fill(block: &Block, mark: usize) {
    for at in (64..block.layout.size() - 64).step_by(4096) {
        // SAFETY: within the block.
        unsafe { word(block, at).write_unaligned(mark ^ at) };
    }
}

#[track_caller]
fn check(block: &Block, mark: usize, len: usize) {
    for at in (64..len - 64).step_by(4096) {
        // SAFETY: within the block, and written by `fill`.
        let found = unsafe { word(block, at).read_unaligned() };
        assert_eq!(found, mark ^ at, "at {at} of {block:?}");
    }
}

/// Many short buffers are freed, and a long one takes their memory; then a random life of such blocks.
fn longer_than_any_freed() {
    // Much is live, so that much may stay cached.
    let rest: Vec<_> = (0..4).map(|_| Block::new(&HAKMEM, 60 * MIB)).collect();
    let short: Vec<_> = (0..6)
        .map(|_| Block::new(&HAKMEM, 8 * MIB - (64 << 10)))
        .collect();
    short.iter().for_each(|block| fill(block, 1));
    // Every second one first, so that no two of them lie side by side when they go.
    let (even, odd): (Vec<_>, Vec<_>) = short.into_iter().partition(|b| b.addr >> 23 & 1 == 0);
    even.into_iter()
        .chain(odd)
        .for_each(|block| block.free(&HAKMEM));
    let before = mem::thread_faults();
    let long = Block::new(&HAKMEM, 40 * MIB);
    fill(&long, 2);
    child::report("faults", mem::thread_faults() - before);
    check(&long, 2, long.layout.size());
    long.free(&HAKMEM);
    let mut rng = SmallRng::seed_from_u64(7);
    let mut live: Vec<(Block, usize)> = Vec::new();
    for mark in 0..600 {
        if live.len() >= 6 {
            let (block, mark) = live.swap_remove(rng.random_range(0..6));
            check(&block, mark, block.layout.size());
            block.free(&HAKMEM);
        }
        let mut block = Block::new(&HAKMEM, rng.random_range(2 * MIB..12 * MIB));
        fill(&block, mark);
        if mark % 3 == 0 {
            let (old, new_size) = (block.layout, rng.random_range(2 * MIB..20 * MIB));
            // SAFETY: a live block with this layout; what it becomes takes its place.
            let new = unsafe { HAKMEM.realloc(block.addr as *mut u8, old, new_size) };
            assert!(!new.is_null());
            block.addr = new as usize;
            block.layout = Layout::from_size_align(new_size, 8).expect("a size");
            check(&block, mark, old.size().min(new_size));
            for at in [0, new_size - 8] {
                // SAFETY: what `Block::free` looks at.
                unsafe { word(&block, at).write_unaligned(block.addr) };
            }
            fill(&block, mark);
        }
        live.push((block, mark));
    }
    for (block, mark) in live {
        check(&block, mark, block.layout.size());
        block.free(&HAKMEM);
    }
    rest.into_iter().for_each(|block| block.free(&HAKMEM));
    let large = hakmem_alloc::stats().large;
    assert_eq!((large.live_blocks, large.live_bytes), (0, 0));
    hakmem_alloc::purge();
    assert_eq!(hakmem_alloc::stats().large.cached_bytes, 0);
}

#[test]
fn a_longer_buffer_takes_the_memory_of_shorter_ones() {
    const TEST: &str = "a_longer_buffer_takes_the_memory_of_shorter_ones";
    if child::case().is_some() {
        return longer_than_any_freed();
    }
    let ended = Child::of(TEST, "pieces")
        .env("HAKMEM_THP", "never")
        .env("HAKMEM_PURGE_DELAY_MS", "60000")
        .run();
    // 40 MiB are 10,240 OS pages; of each mapping of 8 MiB the last 64 KiB were not touched.
    let faults: usize = ended.success().value("faults");
    assert!(faults <= 200, "{faults} faults");
}

#[test]
fn zeroed_buffers_are_taken_again_and_are_zero() {
    const TEST: &str = "zeroed_buffers_are_taken_again_and_are_zero";
    if child::case().is_some() {
        let mut wrong = zeroed_for_each_picture(5);
        let before = mem::thread_faults();
        wrong += zeroed_for_each_picture(20);
        child::report("faults", mem::thread_faults() - before);
        child::report("wrong", wrong);
        return;
    }
    let ended = Child::of(TEST, "pictures")
        .env("HAKMEM_THP", "never")
        .env("HAKMEM_PURGE_DELAY_MS", "60000")
        .run();
    let value = |key| ended.success().value::<usize>(key);
    assert_eq!(value("wrong"), 0, "bytes of zeroed blocks were not zero");
    // Twenty pictures of some 17 MiB are 90,000 OS pages.
    let faults = value("faults");
    assert!(faults <= 20_000, "{faults} faults");
}

#[test]
fn replaced_buffers_are_not_unmapped_each_time() {
    const TEST: &str = "replaced_buffers_are_not_unmapped_each_time";
    if child::case().is_some() {
        return replace_in_turn();
    }
    // Small pages, so that a fault is one touched place; and no time passes for the cache.
    let ended = Child::of(TEST, "replace")
        .env("HAKMEM_THP", "never")
        .env("HAKMEM_PURGE_DELAY_MS", "60000")
        .run();
    let value = |key| ended.success().value::<usize>(key);
    let (freed, returned) = (value("freed"), value("returned"));
    assert!(
        returned <= freed / 4,
        "of {} MiB freed {} MiB went back to the system",
        freed / MIB,
        returned / MIB
    );
    let (touched, faults) = (value("touched"), value("faults"));
    assert!(
        faults <= touched / 2,
        "{faults} faults in {touched} places touched"
    );
}

/// Whether a long zeroed block takes memory that was in use goes by what became of the last one.
#[test]
fn zeroed_matrices_are_taken_again_once_one_was_filled() {
    const TEST: &str = "zeroed_matrices_are_taken_again_once_one_was_filled";
    let (page, matrices) = (mem::page_size(), 10);
    if let Some(case) = child::case() {
        let step = if case == "filled" { page } else { 4 * MIB };
        // The first ones show that they are filled, and how much comes back.
        zeroed_matrices(6, step);
        let faults = mem::thread_faults();
        zeroed_matrices(matrices, step);
        return child::report("faults", mem::thread_faults() - faults);
    }
    let pages = 24 * MIB / page;
    let faults = |case| {
        Child::of(TEST, case)
            .run()
            .success()
            .value::<usize>("faults")
    };
    let (filled, sparse) = (faults("filled"), faults("sparse"));
    println!("{matrices} of {pages} pages: {filled} faults, touched in places {sparse}");
    assert!(filled <= 2 * pages, "each is faulted in: {filled}");
    assert!(
        sparse <= 20 * matrices,
        "what was not touched is brought in: {sparse}"
    );
}

/// 60 MiB of blocks of one size, all filled and freed, then of the other, by turns.
fn sizes_by_turns(sizes: [usize; 2]) {
    let turn = |turn: usize| {
        let size = sizes[turn % 2];
        let blocks: Vec<_> = (0..60 * MIB / size)
            .map(|_| Block::new(&HAKMEM, size))
            .collect();
        blocks.iter().for_each(|block| fill(block, turn));
        for block in blocks {
            check(&block, turn, size);
            block.free(&HAKMEM);
        }
    };
    (0..8).for_each(turn);
    let before = mem::thread_faults();
    (8..16).for_each(turn);
    child::report("faults", mem::thread_faults() - before);
    hakmem_alloc::purge();
    let stats = hakmem_alloc::stats();
    assert_eq!(
        (stats.large.cached_bytes, stats.superslabs.retained),
        (0, 0)
    );
}

/// Large blocks take the memory of freed smaller ones, and the other way round.
#[test]
fn blocks_below_and_above_1_mib_take_each_others_memory() {
    const TEST: &str = "blocks_below_and_above_1_mib_take_each_others_memory";
    const PAIRS: [[usize; 2]; 3] = [[300_000, 20 * MIB], [20_000, 4 * MIB], [300_000, 4 * MIB]];
    if let Some(case) = child::case() {
        return sizes_by_turns(PAIRS[case.parse::<usize>().expect("an index")]);
    }
    for (index, pair) in PAIRS.iter().enumerate() {
        let ended = Child::of(TEST, &index.to_string())
            .env("HAKMEM_THP", "never")
            .env("HAKMEM_PURGE_DELAY_MS", "60000")
            .run();
        let faults: usize = ended.success().value("faults");
        let pages = 8 * 60 * MIB / mem::page_size();
        println!("{pair:?}: {faults} faults in {pages} pages");
        assert!(
            faults <= pages / 2,
            "{pair:?}: {faults} faults in {pages} pages"
        );
    }
}
