//! Misuse that the check on every free can see ends in one line that names the address, then SIGABRT.
//!
//! Behaviours imitated:
//! - freeing an address on the stack, in a static, in a mapping of the program's own, and one that nobody has;
//! - freeing a block twice after its superslab or mapping is gone; a large block freed twice;
//! - freeing the inside of a large block, and of a run of slots;
//! - a Layout of a larger class, or of less than half the block;
//! - a block that is written to after it was freed.

mod common;

use common::child::{self, Child};
use common::{GIB, KIB, MIB};
use hakmem_alloc::{Hakmem, raw};
use std::alloc::{GlobalAlloc, Layout};

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

static STATIC: [u64; 8] = [0; 8];

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 16).expect("a small size")
}

fn free(addr: usize, size: usize) {
    child::report("address", format_args!("{addr:#x}"));
    // SAFETY: none: the point of this test is that misuse is found before it does harm.
    unsafe { HAKMEM.dealloc(addr as *mut u8, layout(size)) };
    child::report("survived", "yes");
}

fn alloc(size: usize) -> usize {
    // SAFETY: a size that is not zero.
    let block = unsafe { HAKMEM.alloc(layout(size)) };
    assert!(!block.is_null());
    block as usize
}

/// Commits the fault named `case`.
fn commit(case: &str) {
    match case {
        "stack" => {
            let local = [0u64; 8];
            free(std::hint::black_box(&local).as_ptr() as usize, 64);
        }
        "static" => free(STATIC.as_ptr() as usize, 64),
        "mapping" => {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a fresh mapping of our own.
            let own = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    MIB,
                    libc::PROT_READ | libc::PROT_WRITE,
                    flags,
                    -1,
                    0,
                )
            };
            assert_ne!(own, libc::MAP_FAILED);
            free(own as usize, 4096);
        }
        "nobody" => free(0x1234_5000, 64),
        "kernel" => free(0xffff_8000_0000_0010, 64),
        "large twice" => {
            let block = alloc(100 * MIB);
            // SAFETY: live, with its layout.
            unsafe { HAKMEM.dealloc(block as *mut u8, layout(100 * MIB)) };
            free(block, 100 * MIB);
        }
        "large twice, cached size" => {
            let block = alloc(5 * MIB);
            // SAFETY: live, with its layout.
            unsafe { HAKMEM.dealloc(block as *mut u8, layout(5 * MIB)) };
            free(block, 5 * MIB);
        }
        "inside huge" => free(alloc(100 * MIB) + 50 * MIB, 100 * MIB),
        "inside a run" => free(alloc(500_000) + 64 * KIB, 500_000),
        "inside a run, where slabs of several slots were" => {
            let wide: Vec<usize> = (0..40).map(|_| alloc(40_000)).collect();
            for &block in &wide {
                // SAFETY: live, with its layout.
                unsafe { HAKMEM.dealloc(block as *mut u8, layout(40_000)) };
            }
            let runs: Vec<usize> = (0..8).map(|_| alloc(500_000)).collect();
            let again = |run: &&usize| wide.contains(&(**run + 3 * 64 * KIB));
            let run = runs.iter().find(again);
            free(run.expect("slots used before") + 4 * 64 * KIB, 500_000);
        }
        "larger layout" => free(alloc(64), 4096),
        "larger layout, next class" => free(alloc(64), 80),
        "far smaller layout" => free(alloc(4096), 64),
        "small layout for a huge block" => free(alloc(64 * MIB), 64),
        "large layout for a small block" => free(alloc(64), GIB),
        other => panic!("unknown case {other}"),
    }
}

#[test]
fn misuse_is_one_line_and_an_abort() {
    const TEST: &str = "misuse_is_one_line_and_an_abort";
    if let Some(case) = child::case() {
        commit(&case);
        return;
    }
    let cases = [
        "stack",
        "static",
        "mapping",
        "nobody",
        "kernel",
        "large twice",
        "large twice, cached size",
        "inside huge",
        "inside a run",
        "inside a run, where slabs of several slots were",
        "larger layout",
        "larger layout, next class",
        "far smaller layout",
        "small layout for a huge block",
        "large layout for a small block",
    ];
    let mut wrong = Vec::new();
    for case in cases {
        let ended = Child::of(TEST, case).run();
        let address: String = ended.value("address");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let named = matches!(lines[..], [line, ..] if line.starts_with("hakmem: ") && line.contains(&address));
        let aborted = ended.status.is_some_and(|s| {
            std::os::unix::process::ExitStatusExt::signal(&s) == Some(libc::SIGABRT)
        });
        if !named || !aborted {
            wrong.push(format!("{case}: {ended:?}"));
        }
    }
    child::assert_none(&wrong, cases.len());
}

/// A Layout down to half the block is legal after a shrink in place, so it must not be reported.
#[test]
fn a_layout_down_to_half_the_block_is_accepted() {
    const TEST: &str = "a_layout_down_to_half_the_block_is_accepted";
    if child::case().is_some() {
        for size in [32, 100, 1000, 1024, 5000, 60_000, 500_000, 5 * MIB] {
            let block = alloc(size);
            // SAFETY: live, and shrunk by realloc to the size given to dealloc.
            unsafe {
                let same = HAKMEM.realloc(block as *mut u8, layout(size), size.div_ceil(2));
                HAKMEM.dealloc(same, layout(size.div_ceil(2)));
            }
        }
        child::report("survived", "yes");
        return;
    }
    let ended = Child::of(TEST, "half").run();
    assert_eq!(ended.success().value::<String>("survived"), "yes");
    assert!(!ended.stderr.contains("hakmem: "), "{ended:?}");
}

/// The line is one write and needs no memory: it also comes out when another thread holds every lock it can.
#[test]
fn misuse_is_reported_from_a_busy_process() {
    const TEST: &str = "misuse_is_reported_from_a_busy_process";
    if child::case().is_some() {
        for i in 0..4usize {
            std::thread::spawn(move || {
                for n in i.. {
                    drop(vec![1u8; 16 + (n * 97) % 300_000]);
                }
            });
        }
        let body = || commit("static");
        std::thread::spawn(body)
            .join()
            .expect("it aborts before it ends");
        return;
    }
    for _ in 0..10 {
        let ended = Child::of(TEST, "busy").run();
        ended.killed_by(libc::SIGABRT);
        let address: String = ended.value("address");
        assert!(ended.stderr.contains(&address), "{ended:?}");
    }
}

/// Blocks that are written to after they were freed. What the allocator keeps in them is checked before it is used, so that no
/// such word becomes a block.
#[test]
fn what_is_written_to_freed_blocks_is_not_given_out() {
    const TEST: &str = "what_is_written_to_freed_blocks_is_not_given_out";
    const BLOCKS: usize = 3000;
    if let Some(case) = child::case() {
        let mut words = case.split(' ').map(|word| word.parse().expect("a number"));
        let mut next = || words.next().expect("size, word and value");
        let (size, word, value, bytes) = (next(), next(), next(), next());
        let others: Vec<usize> = (1..64).map(|class| alloc(class * 16)).collect();
        let blocks: Vec<usize> = (0..BLOCKS).map(|_| alloc(size)).collect();
        for &block in &blocks {
            // SAFETY: live, with its layout.
            unsafe { HAKMEM.dealloc(block as *mut u8, layout(size)) };
        }
        for &block in &blocks {
            // SAFETY: none: a use after free, of memory that is still mapped.
            unsafe {
                let at = (block as *mut usize).add(word);
                match bytes {
                    4 => at.cast::<u32>().write_volatile(value as u32),
                    _ => at.write_volatile(value),
                }
            };
        }
        for _ in 0..BLOCKS {
            let block = alloc(size);
            assert!(!others.contains(&block), "somebody else's block");
            // SAFETY: a block of that size, if the allocator says so.
            unsafe { std::ptr::write_bytes(block as *mut u8, 0xEE, size) };
        }
        child::report("survived", "yes");
        return;
    }
    let wild = 0x4141_4141_4140_usize;
    // The second word of a batch's first block is its link and count, the third the first of the addresses it carries; the
    // smallest blocks are chained by their first.
    let cases = [
        (16, 0, wild),
        (16, 1, 0),
        (32, 2, wild),
        (112, 1, 0),
        (112, 2, wild),
    ]
    .into_iter()
    .chain([
        (112, 1, usize::MAX),
        (304, 1, wild),
        (944, 2, wild),
        (944, 5, 0x10),
    ])
    .map(|(size, word, value)| (size, word, value, 8));
    // Of a link and a count the link alone, as by a field of 32 bits.
    let halves = [(16, 1, 0x10, 4), (112, 1, 5, 4), (944, 1, 0x7FFF_FFF0, 4)];
    for (size, word, value, bytes) in cases.chain(halves) {
        let ended = Child::of(TEST, &format!("{size} {word} {value} {bytes}")).run();
        ended.killed_by(libc::SIGABRT);
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert!(
            matches!(lines[..], [line, ..] if line.starts_with("hakmem: block 0x") && line.contains("after it was freed")),
            "{ended:?}"
        );
    }
}

/// The same for blocks that wait in the inbox of a thread that ends.
#[test]
fn what_is_written_to_blocks_on_their_way_home_is_not_followed() {
    const TEST: &str = "what_is_written_to_blocks_on_their_way_home_is_not_followed";
    const SIZE: usize = 112;
    if child::case().is_some() {
        let owner = std::thread::spawn(|| {
            let blocks: Vec<usize> = (0..1000).map(|_| alloc(SIZE)).collect();
            let freed = blocks.clone();
            let other = std::thread::spawn(move || {
                for block in freed {
                    // SAFETY: handed over, with its layout.
                    unsafe { HAKMEM.dealloc(block as *mut u8, layout(SIZE)) };
                }
            });
            other.join().expect("nothing is wrong yet");
            for block in blocks {
                // SAFETY: none: a use after free, of memory that is still mapped.
                unsafe { (block as *mut u32).add(2).write_volatile(5) };
            }
        });
        let _ = owner.join();
        child::report("survived", "yes");
        return;
    }
    let ended = Child::of(TEST, "inbox").run();
    ended.killed_by(libc::SIGABRT);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(
        matches!(lines[..], [line, ..] if line.starts_with("hakmem: block 0x") && line.contains("freed")),
        "{ended:?}"
    );
}

/// The line names the function that the program called, not one that it calls inside.
#[test]
fn the_line_names_the_call() {
    const TEST: &str = "the_line_names_the_call";
    if let Some(case) = child::case() {
        let (wrong, large) = (0x10 as *mut u8, raw::alloc(5 * MIB, 16));
        // SAFETY: none is a block in use, which is found out.
        unsafe {
            match &*case {
                "free" => raw::dealloc(wrong),
                "realloc" => drop(raw::realloc(wrong, 10)),
                "realloc with a layout" => drop(HAKMEM.realloc(wrong, layout(10), 20)),
                "realloc twice" => {
                    raw::dealloc(large);
                    raw::realloc(large, 20 * MIB);
                }
                "realloc inside" => drop(raw::realloc(large.add(64), 20 * MIB)),
                "usable size" => drop(raw::usable_size(wrong)),
                other => panic!("unknown case {other}"),
            }
        }
        return;
    }
    for case in [
        "free",
        "realloc",
        "realloc with a layout",
        "realloc twice",
        "realloc inside",
        "usable size",
    ] {
        let ended = Child::of(TEST, case).run();
        ended.killed_by(libc::SIGABRT);
        let call = case.trim_end_matches(" with a layout");
        let call = call.trim_end_matches(" twice").trim_end_matches(" inside");
        let begins = format!("hakmem: {call} of 0x");
        assert!(ended.stderr.starts_with(&begins), "{case}: {ended:?}");
    }
}
