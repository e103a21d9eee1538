//! Memory runs out, in each way a kernel has for it.
//!
//! Behaviours imitated:
//! - RLIMIT_AS set before the program starts, from 64 MiB to 16 GiB: a start below the full directory's size;
//! - RLIMIT_AS lowered while the program runs, to what it holds and a little more;
//! - RLIMIT_AS reached while a thread that sleeps keeps what it had freed;
//! - `vm.max_map_count` reached, so that mmap, munmap and mprotect all fail.
//!
//! Required: alloc returns null, free does nothing, nothing panics or aborts, and everything works again once there is memory.

mod common;

use common::child::{self, Child};
use common::{GIB, MIB, clock, mem, pattern, scale};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::Barrier;
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// Blocks chained through their first word: a list that needs no memory of its own.
struct Chain {
    head: *mut u8,
    layout: Layout,
    count: usize,
}

impl Chain {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).expect("a small size");
        Self {
            head: null_mut(),
            layout,
            count: 0,
        }
    }

    /// Allocates blocks until the allocator refuses, or `most` are held.
    fn fill(&mut self, most: usize) {
        while self.count < most && self.push() {}
    }

    fn push(&mut self) -> bool {
        // SAFETY: a size that is not zero; a block has room for a pointer at its start and a word at its end.
        unsafe {
            let block = HAKMEM.alloc(self.layout);
            if block.is_null() {
                return false;
            }
            block.cast::<*mut u8>().write(self.head);
            let size = self.layout.size();
            if size >= 16 {
                block
                    .add(size - 8)
                    .cast::<usize>()
                    .write_unaligned(block as usize);
            }
            self.head = block;
        }
        self.count += 1;
        true
    }

    fn pop(&mut self) -> bool {
        if self.head.is_null() {
            return false;
        }
        let (block, size) = (self.head, self.layout.size());
        // SAFETY: pushed by `push` and live until here.
        unsafe {
            self.head = block.cast::<*mut u8>().read();
            if size >= 16 {
                assert_eq!(
                    block.add(size - 8).cast::<usize>().read_unaligned(),
                    block as usize,
                    "overwritten"
                );
            }
            HAKMEM.dealloc(block, self.layout);
        }
        self.count -= 1;
        true
    }

    fn empty(&mut self) {
        while self.pop() {}
        assert_eq!(self.count, 0);
    }
}

const SIZES: [usize; 6] = [16, 256, 1500, 20_000, 300_000, 5 * MIB];

/// Fills memory with each size in turn, twice; the second time must find what the first one freed.
fn fill_and_recover(label: &str, bytes: usize) {
    for size in SIZES {
        let mut chain = Chain::new(size);
        chain.fill(usize::MAX);
        let first = chain.count;
        chain.empty();
        chain.fill(usize::MAX);
        let second = chain.count;
        chain.empty();
        child::report(&format!("{label}.{size}"), first);
        assert!(
            first * size >= bytes / 2,
            "{size}: {first} blocks where {bytes} bytes were free"
        );
        assert!(
            second * 10 >= first * 9,
            "{size}: {first} blocks, after freeing them {second}"
        );
    }
}

#[test]
fn address_space_limited_from_the_start() {
    const TEST: &str = "address_space_limited_from_the_start";
    // Filling with blocks of 16 bytes takes its time where every step is checked.
    let limits: &[usize] = if cfg!(debug_assertions) {
        &[64, 96]
    } else {
        &[64, 128, 512]
    };
    if let Some(case) = child::case() {
        let limit: usize = case.parse::<usize>().expect("megabytes") * MIB;
        let free = limit - mem::address_space();
        // The first blocks take no addresses that a small limit needs for the next ones.
        let tables = hakmem_alloc::stats().bytes.metadata as usize;
        assert!(
            tables < MIB,
            "{tables} bytes for the allocator's own structures"
        );
        if limit < GIB {
            fill_and_recover("held", free - free.min(8 * MIB));
        } else {
            // Too much to fill: that it starts, serves and ends is the test.
            let mut chain = Chain::new(1500);
            chain.fill(100_000);
            assert_eq!(chain.count, 100_000);
            chain.empty();
        }
        return;
    }
    for limit in limits.iter().copied().chain([4096, 16_384, 1 << 20]) {
        Child::of(TEST, &limit.to_string())
            .address_space((limit * MIB) as u64)
            .run()
            .success();
    }
}

/// Below what the process needs the start may fail, but only with the loader's or std's own clear words.
#[test]
fn address_space_too_small_to_start() {
    const TEST: &str = "address_space_too_small_to_start";
    if child::case().is_some() {
        return;
    }
    // Where the files alone leave no room, the stack cannot grow: the kernel's signal comes before a line of ours runs.
    let files = mem::file_mappings() + MIB;
    for mib in [4, 8, 12, 16, 20, 24, 32, 40, 48] {
        if mib * MIB < files {
            eprintln!("{mib} MiB hold not even the program's files of {files} bytes: left out");
            continue;
        }
        let ended = Child::of(TEST, "tiny")
            .address_space((mib * MIB) as u64)
            .run();
        let words = [
            "memory allocation of",
            "cannot allocate memory",
            "error while loading",
            "failed to map segment",
        ];
        let explained = words
            .iter()
            .any(|w| ended.stderr.to_lowercase().contains(w));
        let thread_refused =
            ended.stderr.contains("failed to spawn thread") || ended.stderr.contains("OutOfMemory");
        let status = ended
            .status
            .unwrap_or_else(|| panic!("{mib} MiB: {ended:?}"));
        assert!(
            status.success()
                || explained
                || thread_refused
                || ended.stderr.contains("Resource temporarily"),
            "{mib} MiB: neither a start nor a reason: {ended:?}"
        );
    }
}

fn limit_address_space(soft: u64) {
    // SAFETY: both calls get a valid struct.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &mut limit), 0);
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
    }
}

#[test]
fn address_space_limited_while_running() {
    const TEST: &str = "address_space_limited_while_running";
    if let Some(case) = child::case() {
        let mut held = Chain::new(1000);
        held.fill(20_000);
        let room = case.parse::<usize>().expect("megabytes") * MIB;
        limit_address_space((mem::address_space() + room) as u64);
        let mut chains = SIZES.map(Chain::new);
        // All sizes at once, then freed in another order, several times.
        for round in 0..3 {
            chains.iter_mut().for_each(|chain| chain.fill(usize::MAX));
            chains.iter_mut().rev().for_each(Chain::empty);
            held.pop();
            assert!(
                held.push(),
                "round {round}: the block just freed could not be taken again"
            );
        }
        limit_address_space(libc::RLIM_INFINITY);
        let mut big = Chain::new(MIB);
        big.fill(200);
        assert_eq!(
            big.count, 200,
            "memory is back, but the allocator does not take it"
        );
        big.empty();
        held.empty();
        return;
    }
    for room in [0, 1, 3, 8, 33, scale(200, 70)] {
        Child::of(TEST, &room.to_string()).run().success();
    }
}

/// What one thread frees and takes again stays with it; another thread that has no memory left gets it.
#[test]
fn what_a_sleeping_thread_keeps_is_had_by_others() {
    const TEST: &str = "what_a_sleeping_thread_keeps_is_had_by_others";
    const KEPT: usize = 24 * MIB;
    if child::case().is_some() {
        // With time, what is not taken again becomes less.
        clock::stop();
        let (kept, done) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut chain = Chain::new(64);
                for _ in 0..6 {
                    chain.fill(KEPT / 64);
                    assert_eq!(chain.count, KEPT / 64);
                    chain.empty();
                }
                kept.wait();
                done.wait();
            });
            kept.wait();
            let retained = hakmem_alloc::stats().bytes.retained as usize;
            child::report("retained", retained);
            limit_address_space(mem::address_space() as u64);
            let small = Layout::from_size_align(1500, 8).expect("a size");
            let large = Layout::from_size_align(20 * MIB, 8).expect("a size");
            let mut chain = Chain::new(small.size());
            chain.fill(20 * MIB / small.size());
            child::report("small", chain.count * small.size());
            chain.empty();
            // SAFETY: a size that is not zero; freed once, if it was had.
            unsafe {
                let block = HAKMEM.alloc(large);
                child::report("large", usize::from(!block.is_null()));
                if !block.is_null() {
                    HAKMEM.dealloc(block, large);
                }
            }
            limit_address_space(libc::RLIM_INFINITY);
            done.wait();
        });
        return;
    }
    // To the last superslab: what checked blocks take for themselves is not had by others.
    let ended = Child::of(TEST, "kept")
        .env("HAKMEM_BACKGROUND", "0")
        .env("HAKMEM_CHECK_ONE_IN", "0")
        .run();
    let value = |name| ended.success().value::<usize>(name);
    let retained = value("retained");
    assert!(retained < 8 * MIB, "the thread keeps all but {retained}");
    assert!(value("small") > 20 * MIB - 1500, "{} bytes", value("small"));
    assert_eq!(value("large"), 1, "20 MiB at once");
}

/// Maps until mmap fails because the map count is reached; returns the range to unmap.
fn exhaust_map_entries() -> (*mut libc::c_void, usize) {
    let page = mem::page_size();
    let length = (1 << 18) * page;
    // SAFETY: a fresh mapping of our own, whose protection is then changed OS page by OS page.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let base = libc::mmap(null_mut(), length, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(base, libc::MAP_FAILED);
        let mut offset = 0;
        while libc::mprotect(base.byte_add(offset), page, libc::PROT_READ) == 0 {
            offset += 2 * page;
            assert!(
                offset < length,
                "vm.max_map_count is larger than this test expects"
            );
        }
        (base, length)
    }
}

#[test]
fn map_entries_exhausted() {
    const TEST: &str = "map_entries_exhausted";
    if child::case().is_some() {
        // Of everything some, half of it freed in the middle of the shortage, the rest after it.
        let mut before = SIZES.map(Chain::new);
        before
            .iter_mut()
            .for_each(|chain| chain.fill(16 * MIB / chain.layout.size()));
        let mut later = SIZES.map(Chain::new);
        later
            .iter_mut()
            .for_each(|chain| chain.fill(16 * MIB / chain.layout.size()));
        let (base, length) = exhaust_map_entries();
        before.iter_mut().for_each(Chain::empty);
        let mut during = SIZES.map(Chain::new);
        // Nothing but the chains allocates until the range is unmapped: a refused `Vec` would abort.
        let mut most = 0;
        for _ in 0..4 {
            for chain in &mut during {
                chain.fill(64 * MIB / chain.layout.size());
            }
            most = most.max(during.iter().map(|c| c.count * c.layout.size()).sum());
            during.iter_mut().for_each(Chain::empty);
        }
        // realloc that cannot move must leave the block alone.
        let layout = Layout::from_size_align(3 * MIB, 8).expect("a small size");
        let mut odd = Chain::new(3 * MIB);
        if odd.push() {
            // SAFETY: the block is live and refilled from end to end.
            unsafe {
                pattern::fill(odd.head, 3 * MIB, 5);
                let bigger = HAKMEM.realloc(odd.head, layout, 700 * MIB);
                let (at, size) = if bigger.is_null() {
                    (odd.head, 3 * MIB)
                } else {
                    (bigger, 700 * MIB)
                };
                pattern::check(at, 3 * MIB, 3 * MIB, 5).expect("realloc lost the content");
                HAKMEM.dealloc(at, Layout::from_size_align(size, 8).expect("a small size"));
            }
        }
        // SAFETY: the range mapped above.
        assert_eq!(unsafe { libc::munmap(base, length) }, 0);
        later.iter_mut().for_each(Chain::empty);
        child::report("held during the shortage", most);
        let mut after = Chain::new(10 * MIB);
        after.fill(50);
        assert_eq!(
            after.count, 50,
            "entries are back, but the allocator maps nothing"
        );
        after.empty();
        return;
    }
    Child::of(TEST, "exhausted").run().success();
}
