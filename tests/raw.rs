//! The entry points without `Layout`, and what is beyond `GlobalAlloc`: usable size, prewarm, purge.
//!
//! Behaviours imitated:
//! - a C program: blocks of zero bytes, free without a size, free of null, every byte of the usable size used;
//! - blocks allocated through one interface and freed through another, by another thread;
//! - a program that prepares memory before it is needed, and one that gives back at once what it can.

mod common;

use common::child::{self, Child};
use common::{KIB, MIB, mem, pattern, pthread};
use hakmem_alloc::{Hakmem, prewarm, purge, raw, usable_size};
use std::alloc::{GlobalAlloc, Layout};

static HAKMEM: Hakmem = Hakmem::new();

const SIZES: [usize; 16] = [
    0,
    1,
    15,
    16,
    17,
    100,
    1000,
    1024,
    1025,
    5000,
    32_768,
    32_769,
    65_537,
    MIB,
    MIB + 1,
    5 * MIB,
];

#[test]
fn blocks_of_zero_bytes_are_blocks() {
    let blocks: Vec<usize> = (0..1000).map(|_| raw::alloc(0, 1) as usize).collect();
    let mut distinct = blocks.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(
        distinct.len(),
        1000,
        "blocks of zero bytes share an address"
    );
    assert_ne!(distinct[0], 0);
    // SAFETY: live blocks, each freed once.
    blocks
        .into_iter()
        .for_each(|block| unsafe { raw::dealloc(block as *mut u8) });
    // SAFETY: null is ignored.
    unsafe { raw::dealloc(std::ptr::null_mut()) };
}

#[test]
fn every_usable_byte_is_the_callers() {
    let mut blocks = Vec::new();
    for round in 0..200u64 {
        for (i, size) in SIZES
            .into_iter()
            .enumerate()
            .filter(|&(_, size)| size < MIB || round < 4)
        {
            let align = 1 << (round % 7);
            let ptr = raw::alloc(size, align);
            assert!(
                !ptr.is_null() && (ptr as usize).is_multiple_of(align),
                "{size} at {align}: {ptr:p}"
            );
            assert!(
                size < 16 || (ptr as usize).is_multiple_of(16),
                "{size} bytes at {ptr:p}"
            );
            // SAFETY: a live block, written up to its usable size.
            let usable = unsafe {
                let usable = raw::usable_size(ptr);
                assert!(usable >= size, "{usable} usable of {size}");
                assert_eq!(usable, usable_size(ptr));
                pattern::fill(ptr, usable, round * 31 + i as u64);
                usable
            };
            blocks.push((ptr as usize, usable, round * 31 + i as u64));
        }
    }
    let check_and_free = |(addr, usable, tag): (usize, usize, u64)| {
        // SAFETY: a live block with its usable size, freed once.
        unsafe {
            pattern::check(addr as *const u8, usable, usable, tag)
                .expect("a block was overwritten");
            raw::dealloc(addr as *mut u8);
        }
    };
    // Half by this thread, half by another.
    let others = blocks.split_off(blocks.len() / 2);
    blocks.into_iter().for_each(check_and_free);
    std::thread::spawn(move || others.into_iter().for_each(check_and_free))
        .join()
        .expect("the freeing thread");
}

#[test]
fn one_allocator_behind_all_doors() {
    for size in SIZES.into_iter().filter(|&size| size > 0) {
        let layout = Layout::from_size_align(size, 32).expect("a small size");
        // SAFETY: live blocks, each freed once, with the size and alignment they were taken with where any is named.
        unsafe {
            raw::dealloc(HAKMEM.alloc(layout));
            HAKMEM.dealloc(raw::alloc(size, 32), layout);
            raw::dealloc_sized(HAKMEM.alloc_zeroed(layout), size, 32);
            let grown = raw::realloc_aligned(HAKMEM.alloc(layout), 2 * size, 32);
            assert!((grown as usize).is_multiple_of(32));
            HAKMEM.dealloc(
                grown,
                Layout::from_size_align(2 * size, 32).expect("a small size"),
            );
        }
    }
}

#[test]
fn zeroed_blocks_are_zero_after_use() {
    for size in SIZES.into_iter().filter(|&size| size > 0) {
        for _ in 0..50.min(64 * MIB / size) {
            // SAFETY: live blocks, written within their size and freed once.
            unsafe {
                let dirty: Vec<*mut u8> = (0..4).map(|_| raw::alloc(size, 16)).collect();
                dirty
                    .iter()
                    .for_each(|&block| block.write_bytes(0xFF, raw::usable_size(block)));
                dirty.into_iter().for_each(|block| raw::dealloc(block));
                let block = raw::alloc_zeroed(size, 16);
                pattern::check_zero(block, size).unwrap_or_else(|e| panic!("{size}: {e}"));
                block.write_bytes(0xFF, size);
                raw::dealloc(block);
            }
        }
    }
}

#[test]
fn realloc_keeps_what_fits() {
    for from in SIZES.into_iter().filter(|&size| size > 0) {
        for to in SIZES.into_iter().filter(|&size| size > 0) {
            // SAFETY: a live block, described by its last size and freed once.
            unsafe {
                let block = raw::alloc(from, 16);
                pattern::fill(block, from, 3);
                let moved = raw::realloc(block, to);
                assert!(
                    !moved.is_null() && raw::usable_size(moved) >= to,
                    "{from} to {to}"
                );
                pattern::check(moved, from, from.min(to), 3)
                    .unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
                assert!(raw::realloc(moved, isize::MAX as usize).is_null());
                assert!(raw::realloc(moved, usize::MAX).is_null());
                pattern::check(moved, from, from.min(to), 3)
                    .expect("a refused realloc touched the block");
                raw::dealloc(moved);
            }
        }
    }
    for size in [isize::MAX as usize, usize::MAX, usize::MAX - 4096] {
        assert!(raw::alloc(size, 16).is_null() && raw::alloc_zeroed(size, 4096).is_null());
    }
}

/// Faults of this thread while it takes and touches `bytes` in blocks of 1 KiB, chained so that no list is needed.
fn faults_of_taking(bytes: usize) -> usize {
    let before = mem::thread_faults();
    let mut head = std::ptr::null_mut::<u8>();
    for _ in 0..bytes / KIB {
        let block = raw::alloc(KIB, 16);
        assert!(!block.is_null());
        // SAFETY: a fresh block.
        unsafe { block.cast::<*mut u8>().write(head) };
        head = block;
    }
    let faults = mem::thread_faults() - before;
    while !head.is_null() {
        let block = head;
        // SAFETY: linked above, freed once.
        unsafe {
            head = block.cast::<*mut u8>().read();
            raw::dealloc(block);
        }
    }
    faults
}

#[test]
fn prewarmed_memory_is_taken_without_faults() {
    const TEST: &str = "prewarmed_memory_is_taken_without_faults";
    if let Some(case) = child::case() {
        if case == "warm" {
            child::report("superslabs", prewarm(16));
        }
        child::report("faults", faults_of_taking(24 * MIB));
        return;
    }
    // Without huge pages, where every OS page would fault.
    let run = |case| Child::of(TEST, case).env("HAKMEM_THP", "never").run();
    let (cold, warm) = (run("cold"), run("warm"));
    assert_eq!(warm.success().value::<usize>("superslabs"), 16);
    let (cold, warm): (usize, usize) = (cold.success().value("faults"), warm.value("faults"));
    assert!(
        cold >= 24 * MIB / mem::page_size(),
        "cold: {cold} faults; the comparison would mean nothing"
    );
    assert!(
        warm <= 64,
        "{warm} faults in prewarmed memory ({cold} without)"
    );
}

#[test]
fn prewarm_stops_where_memory_does() {
    const TEST: &str = "prewarm_stops_where_memory_does";
    if child::case().is_some() {
        let populated = prewarm(1000);
        child::report("superslabs", populated);
        child::report("faults", faults_of_taking(MIB));
        return;
    }
    let ended = Child::of(TEST, "limited")
        .address_space(200 * MIB as u64)
        .run();
    let populated: usize = ended.success().value("superslabs");
    assert!(
        (1..100).contains(&populated),
        "{populated} superslabs of 2 MiB in 200 MiB"
    );
}

#[test]
fn purge_gives_back_at_once() {
    const TEST: &str = "purge_gives_back_at_once";
    if child::case().is_some() {
        let _ = faults_of_taking(MIB);
        let before = mem::rss();
        let _ = faults_of_taking(100 * MIB);
        // SAFETY: a live block, freed once.
        unsafe {
            let huge = raw::alloc(10 * MIB, 16);
            huge.write_bytes(1, 10 * MIB);
            raw::dealloc(huge);
        }
        let retained = mem::rss().saturating_sub(before);
        let returned = purge();
        child::report("retained", retained);
        child::report("returned", returned);
        child::report("left", mem::rss().saturating_sub(before));
        child::report("again", purge());
        return;
    }
    let ended = Child::of(TEST, "purge").run();
    let (retained, left): (usize, usize) = (ended.success().value("retained"), ended.value("left"));
    assert!(
        left <= 2 * MIB,
        "{} KiB are still there: {ended:?}",
        left / KIB
    );
    let returned: usize = ended.value("returned");
    assert!(
        returned + 2 * MIB >= retained - left,
        "{returned} bytes claimed: {ended:?}"
    );
    assert!(ended.value::<usize>("again") <= 2 * MIB, "{ended:?}");
}

/// What was prewarmed and not used goes back as well, even if a few of its slots are in use. What comes after that is still
/// zero.
#[test]
fn purge_gives_back_what_was_prewarmed() {
    const TEST: &str = "purge_gives_back_what_was_prewarmed";
    if child::case().is_some() {
        let _ = faults_of_taking(MIB);
        purge();
        let before = mem::rss();
        child::report("prewarmed", prewarm(32) * 2 * MIB);
        let had = mem::rss().saturating_sub(before);
        // Fills the superslab begun above and reaches into one that was prewarmed.
        let held: Vec<_> = (0..3 * KIB)
            .map(|_| {
                let block = raw::alloc(KIB, 16);
                // SAFETY: a fresh block.
                unsafe { block.write_bytes(0xA5, KIB) };
                block
            })
            .collect();
        child::report("had", had);
        child::report("returned", purge());
        child::report("left", mem::rss().saturating_sub(before));
        child::report("again", purge());
        let zeroed = raw::alloc_zeroed(900 * KIB, 16);
        // SAFETY: live blocks of these sizes.
        unsafe {
            assert!(
                std::slice::from_raw_parts(zeroed, 900 * KIB)
                    .iter()
                    .all(|b| *b == 0)
            );
            for block in held {
                assert!(*block == 0xA5 && *block.add(KIB - 1) == 0xA5);
                raw::dealloc(block);
            }
        }
        return;
    }
    for thp in ["never", "auto", "always"] {
        let ended = Child::of(TEST, thp).env("HAKMEM_THP", thp).run();
        let of = |key: &str| ended.success().value::<usize>(key);
        let prewarmed = of("prewarmed");
        assert_eq!(prewarmed, 64 * MIB);
        assert!(of("had") >= prewarmed - MIB, "{thp}: {} had", of("had"));
        // Three superslabs at most are in use, of which the last is not split where it is a huge page.
        assert!(of("left") <= 8 * MIB, "{thp}: {} left", of("left"));
        assert!(
            of("returned") >= prewarmed - 6 * MIB && of("returned") <= prewarmed + 2 * MIB,
            "{thp}: {} returned",
            of("returned")
        );
        assert!(of("again") <= MIB, "{thp}: {} again", of("again"));
    }
}

static CALLED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
static ASKING: Hakmem = Hakmem::new().when_null(|| {
    CALLED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
});

#[test]
fn null_is_announced_to_whom_it_is_returned() {
    let called = || CALLED.load(std::sync::atomic::Ordering::Relaxed);
    for (size, align) in [(100, 16), (5000, 64), (3 << 20, 16)] {
        let block = raw::alloc_by(&ASKING, size, align);
        assert!(!block.is_null() && called() == 0);
        // SAFETY: allocated here, and freed once.
        unsafe { raw::dealloc(block) };
    }
    let absurd = [
        (usize::MAX, 16),
        (isize::MAX as usize, 16),
        (1 << 62, 1 << 20),
        (1, 1 << 63),
        // No powers of two.
        (100, 0),
        (100, 48),
        (5000, 3),
        (5 * MIB, 3 * MIB),
    ];
    let last = 2 * absurd.len();
    for (number, (size, align)) in absurd.into_iter().enumerate() {
        assert!(raw::alloc_by(&ASKING, size, align).is_null());
        assert_eq!(called(), 2 * number + 1, "{size:#x} {align:#x}");
        assert!(raw::alloc_zeroed_by(&ASKING, size, align).is_null());
        assert_eq!(called(), 2 * number + 2, "{size:#x} {align:#x}");
    }
    assert!(raw::alloc(usize::MAX, 16).is_null() && called() == last);
}

#[test]
fn what_unwinds_before_null_ends_the_process() {
    const TEST: &str = "what_unwinds_before_null_ends_the_process";
    static PANICS: Hakmem = Hakmem::new().when_null(|| panic!("not to be unwound"));
    static ENDS: Hakmem = Hakmem::new().when_null(|| {
        // SAFETY: on a thread of the C library's own, with nothing of Rust's below but the allocator.
        unsafe { pthread_exit(std::ptr::null_mut()) }
    });
    match child::case().as_deref() {
        None => {}
        Some("panics") => {
            let caught = std::panic::catch_unwind(|| raw::alloc_by(&PANICS, usize::MAX, 16));
            child::report("caught", caught.is_err());
            return;
        }
        Some(_) => {
            pthread::spawn(|| _ = raw::alloc_by(&ENDS, usize::MAX, 16)).join();
            return;
        }
    }
    for case in ["panics", "ends its thread"] {
        // musl ends a thread without unwinding.
        if case == "panics" || cfg!(target_env = "gnu") {
            let ended = Child::of(TEST, case).run();
            ended.killed_by(libc::SIGABRT);
            let line =
                "hakmem: when_null panicked or ended its thread instead of returning; aborting";
            assert!(ended.stderr.lines().any(|said| said == line), "{ended:?}");
        }
    }
}

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut libc::c_void) -> !;
}
