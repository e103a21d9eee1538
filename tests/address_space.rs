//! Blocks are allocated at any address that the kernel returns.
//!
//! Behaviours imitated:
//! - databases, WebAssembly runtimes and garbage collectors that reserve 4 to 64 TiB, before or after their first block;
//! - a layout that grows from the bottom (`setarch -L`);
//! - more address space in large blocks than the directory's span, of which little is touched;
//! - an address of another allocator that is exactly a multiple of that span away from a live block.
//!
//! The allocator is not the process's own here, so that a reservation can come before its first block.

mod common;

use common::child::{self, Child};
use common::pattern;
use hakmem_alloc::raw;
use std::ptr::null_mut;

const TIB: usize = 1 << 40;

/// Address space that the program reserves and nobody touches.
fn reserve(len: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED nothing that exists is replaced.
    let at = unsafe { libc::mmap(null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED, "{len} bytes of address space");
}

/// Blocks of all kinds, enough for dozens of superslabs, checked and freed.
fn use_the_heap() {
    let sizes = [24, 10_000, 120_000, 3 << 20, 300 << 20];
    let counts = [20_000, 10_000, 300, 30, 20];
    let mut blocks = Vec::new();
    for (&size, &count) in sizes.iter().zip(&counts) {
        for i in 0..count {
            let block = raw::alloc(size, 16);
            assert!(!block.is_null(), "{size} bytes, number {i}");
            let written = size.min(5000);
            // SAFETY: a block of `size` bytes.
            unsafe { pattern::fill(block, written, i as u64) };
            blocks.push((block, written, i as u64));
        }
    }
    for (block, written, tag) in blocks {
        // SAFETY: filled above, and freed once.
        unsafe {
            pattern::check(block, written, written, tag).expect("nobody else has the block");
            raw::dealloc(block);
        }
    }
}

#[test]
fn terabytes_reserved_before_the_first_block() {
    const TEST: &str = "terabytes_reserved_before_the_first_block";
    if let Some(case) = child::case() {
        reserve(case.parse::<usize>().expect("TiB") * TIB);
        use_the_heap();
        return;
    }
    for tib in ["4", "8", "16", "32", "64"] {
        Child::of(TEST, tib).run().success();
    }
}

#[test]
fn terabytes_reserved_after_the_first_block() {
    const TEST: &str = "terabytes_reserved_after_the_first_block";
    if let Some(case) = child::case() {
        let first = raw::alloc(10, 16);
        reserve(case.parse::<usize>().expect("TiB") * TIB);
        use_the_heap();
        // SAFETY: allocated above, and freed once.
        unsafe { raw::dealloc(first) };
        return;
    }
    for tib in ["4", "8", "16", "32", "64"] {
        Child::of(TEST, tib).run().success();
    }
}

/// The free addresses below a reservation have the same indexes as the addresses above it. Large blocks take every index in a
/// stretch; then all addresses but that stretch, one span lower, are reserved.
#[test]
fn indexes_that_are_taken_lead_elsewhere() {
    const TEST: &str = "indexes_that_are_taken_lead_elsewhere";
    const SPAN: usize = 4 * TIB;
    /// Of addresses that have an index, and a block each.
    const SIZE: usize = 2 << 20;
    if child::case().is_some() {
        let alloc = || match raw::alloc(SIZE - (SIZE >> 2), 16) as usize {
            0 => panic!("no block"),
            block => block,
        };
        let first = alloc();
        let mut kept: Vec<usize> = (0..600).map(|_| alloc()).chain([first]).collect();
        let first = first & !(SIZE - 1);
        // The next mapping of the kernel's choice shares its index with the lowest block.
        let lowest = kept.iter().min().expect("600 blocks") & !(SIZE - 1);
        let next = next_mapping();
        assert!(
            lowest < first && next.abs_diff(lowest) < SPAN / 2,
            "{lowest:#x} {next:#x}"
        );
        reserve(
            (next + SIZE)
                .checked_sub(first - SPAN + SIZE)
                .expect("a span is lower"),
        );
        let met = next_mapping() & !(SIZE - 1);
        assert!(
            kept.iter().any(|block| (block ^ met) & (SPAN - SIZE) == 0),
            "no block has the index of {met:#x}: {first:#x} to {lowest:#x}"
        );
        kept.extend((0..600).map(|_| alloc()));
        use_the_heap();
        let mut indexes: Vec<_> = kept
            .iter()
            .map(|block| block / SIZE % (SPAN / SIZE))
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        assert_eq!(indexes.len(), kept.len(), "two blocks share an index");
        return;
    }
    Child::of(TEST, "taken").run().success();
}

/// A process without an address to spare is told so once. Before the first block it reserves all but what blocks and tables of a
/// small program take.
#[test]
fn addresses_used_up_are_named() {
    const TEST: &str = "addresses_used_up_are_named";
    if child::case().is_some() {
        let first = raw::alloc(10, 16);
        assert!(!first.is_null());
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        for len in (20..47).rev().map(|bits| 1usize << bits) {
            // SAFETY: without MAP_FIXED nothing that exists is replaced.
            while unsafe { libc::mmap(null_mut(), len, libc::PROT_NONE, flags, -1, 0) }
                != libc::MAP_FAILED
            {}
        }
        for _ in 0..2 {
            assert!(raw::alloc(64 << 20, 16).is_null(), "an address was left");
        }
        // SAFETY: allocated above, and freed once.
        unsafe { raw::dealloc(first) };
        return;
    }
    let told = Child::of(TEST, "used-up").run();
    told.success();
    let lines: Vec<_> = told
        .stderr
        .lines()
        .filter(|line| line.contains(" refused, "))
        .collect();
    assert!(
        matches!(lines[..], [line] if line.starts_with("hakmem: 67108864 bytes refused, ENOMEM: the process has mapped 127 TiB: ")),
        "{told:?}"
    );
}

/// Where the kernel would put the program's next 2 MiB.
fn next_mapping() -> usize {
    let (len, flags) = (
        2 << 20,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    );
    // SAFETY: without MAP_FIXED nothing that exists is replaced, and nobody has seen it yet.
    unsafe {
        let at = libc::mmap(null_mut(), len, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        libc::munmap(at, len);
        at as usize
    }
}

#[test]
fn addresses_that_grow_upwards() {
    const TEST: &str = "addresses_that_grow_upwards";
    if child::case().is_some() {
        // SAFETY: reads the auxiliary vector; these random bytes lie on the first thread's stack.
        child::report("stack", unsafe { libc::getauxval(libc::AT_RANDOM) });
        child::report("block", raw::alloc(10, 16) as usize);
        reserve(TIB);
        use_the_heap();
        return;
    }
    let ended = Child::of(TEST, "legacy").legacy_layout().run();
    let value = |name| ended.success().value::<usize>(name);
    // The legacy layout begins at a third of the address space; the usual one ends right below the stack.
    assert!(
        value("stack") - value("block") > TIB,
        "the layout is not from the bottom"
    );
}

#[test]
fn five_terabytes_of_large_blocks() {
    const TEST: &str = "five_terabytes_of_large_blocks";
    const SIZE: usize = 1 << 30;
    if child::case().is_some() {
        let mut blocks = Vec::new();
        for i in 0..5 * TIB / SIZE {
            let block = raw::alloc(SIZE, 16);
            if block.is_null() {
                child::report("refused", i);
                return;
            }
            // SAFETY: the block's first bytes.
            unsafe { pattern::fill(block, 64, i as u64) };
            blocks.push(block);
            if i % 16 == 0 {
                // SAFETY: allocated here, and freed once.
                unsafe { raw::dealloc(raw::alloc(1000, 16)) };
            }
        }
        for (i, block) in blocks.into_iter().enumerate() {
            // SAFETY: filled above, and freed once.
            unsafe {
                pattern::check(block, 64, 64, i as u64).expect("nobody else has the block");
                raw::dealloc(block);
            }
        }
        return;
    }
    let ended = Child::of(TEST, "live").run();
    let strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory");
    if strict.is_ok_and(|mode| mode.trim() == "2") {
        assert!(ended.success().stderr.contains("vm.overcommit_memory"));
    } else {
        let text = &ended.success().stdout;
        assert!(!text.contains("report refused"), "{text}");
    }
}

/// The tag at such an address is a live block's, and only comparing the whole address tells them apart. The thread that owns
/// the block does not free it: its free of such an address is the one case that is not detected.
#[test]
fn an_address_a_span_away_is_named() {
    const TEST: &str = "an_address_a_span_away_is_named";
    if let Some(case) = child::case() {
        let block = raw::alloc(100, 16) as usize;
        let away = (1..28)
            .map(|n| block.wrapping_sub(n * 4 * TIB))
            .find(|&at| is_free(at))
            .expect("a page that nobody has");
        std::thread::spawn(move || {
            let away = away as *mut u8;
            // SAFETY: not a block, which is found out.
            unsafe {
                match &*case {
                    "free" => raw::dealloc(away),
                    "sized" => raw::dealloc_sized(away, 100, 16),
                    "usable" => assert_eq!(raw::usable_size(away), 0),
                    _ => unreachable!(),
                }
            }
        })
        .join()
        .expect("the process ends first");
        return;
    }
    for case in ["free", "sized", "usable"] {
        let ended = Child::of(TEST, case).run();
        ended.killed_by(libc::SIGABRT);
        assert!(
            ended.stderr.contains("not a block of this allocator"),
            "{case}: {ended:?}"
        );
    }
}

/// Whether a page of the program's own can be mapped there, which is done.
fn is_free(at: usize) -> bool {
    let page = at & !0xFFFF;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: an occupied place is refused.
    let got = unsafe { libc::mmap(page as *mut _, 0x10000, libc::PROT_READ, flags, -1, 0) };
    got as usize == page
}
