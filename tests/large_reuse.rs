//! Large blocks are taken again from those that were freed, and not from the kernel each time.
//!
//! Behaviour imitated: image, video and matrix programs that hold a few buffers of 5 to 25 MiB and replace one after the
//! other by one of another size, or that make a few zeroed ones for each picture and drop them all. What must not
//! happen is that every free unmaps and every allocation maps and faults:
//! counted here in bytes given back and in page faults, for times vary with the machine.

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

/// Pictures of four zeroed buffers; all are gone before the next picture. Answers bytes that were not zero.
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
