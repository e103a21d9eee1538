//! `HAKMEM_THP=auto` makes resident what a program writes, and a bounded rest.
//!
//! Behaviours imitated:
//! - buffers of which one page is used: run-time stacks, receive buffers, arrays that are mostly empty;
//! - blocks that leave nearly half of their last slot untouched;
//! - growth in small blocks, in larger ones and in one vector, each written whole.
//!
//! Each case is a child process whose other memory comes from the system allocator. If the kernel has no huge pages, the bounds
//! on resident memory hold all the same, and faults are not counted.

mod common;

use common::child::{self, Child};
use common::{KIB, MIB, mem};
use hakmem_alloc::Hakmem;
use std::alloc::{GlobalAlloc, Layout};

static HAKMEM: Hakmem = Hakmem::new();

/// Allocates `count` blocks of `size` bytes and writes the first `written` of each. Returns by how much resident memory and the
/// thread's faults grew.
fn hold(count: usize, size: usize, written: usize, zeroed: bool) -> (usize, usize) {
    let layout = Layout::from_size_align(size, 16).expect("a layout");
    let (rss, faults) = (mem::rss(), mem::thread_faults());
    for _ in 0..count {
        // SAFETY: the layout's size is not 0, and no more is written than the block has. The process ends with it.
        unsafe {
            let block = if zeroed {
                HAKMEM.alloc_zeroed(layout)
            } else {
                HAKMEM.alloc(layout)
            };
            assert!(!block.is_null());
            block.write_bytes(1, written);
        }
    }
    (mem::rss() - rss, mem::thread_faults() - faults)
}

/// The figures of [`hold`], from a child.
fn held(
    test: &'static str,
    count: usize,
    size: usize,
    written: usize,
    zeroed: bool,
) -> (usize, usize) {
    let case = format!("{count} {size} {written} {}", u8::from(zeroed));
    let ended = Child::of(test, &case).env("HAKMEM_THP", "auto").run();
    let value = |key| ended.success().value::<usize>(key);
    (value("resident"), value("faults"))
}

/// In a child: does what its case says.
fn play() -> bool {
    let Some(case) = child::case() else {
        return false;
    };
    let numbers: Vec<usize> = case
        .split(' ')
        .map(|number| number.parse().expect("a number"))
        .collect();
    let (resident, faults) = hold(numbers[0], numbers[1], numbers[2], numbers[3] == 1);
    child::report("resident", resident);
    child::report("faults", faults);
    true
}

/// Whether a range that asks for huge pages gets them.
fn has_huge_pages() -> bool {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let policy = std::fs::read_to_string(path).unwrap_or_default();
    mem::page_size() == 4 * KIB && (policy.contains("[madvise]") || policy.contains("[always]"))
}

#[test]
fn what_is_not_written_is_not_resident() {
    if play() {
        return;
    }
    for (count, size, zeroed) in [
        (1000, 900 * KIB, false),
        (1000, 900 * KIB, true),
        (1000, 256 * KIB, false),
        (4000, 32 * KIB, false),
        (4000, 5000, false),
        (100, 8 * MIB, false),
        (20, 64 * MIB, false),
        (20, 64 * MIB, true),
    ] {
        let test = "what_is_not_written_is_not_resident";
        let (resident, _) = held(test, count, size, 1, zeroed);
        let bound = count * mem::page_size() + 4 * MIB;
        assert!(
            resident <= bound,
            "{count} blocks of {size}, zeroed: {zeroed}: {resident} bytes are resident, not {bound}"
        );
    }
}

#[test]
fn the_ends_of_blocks_are_a_small_part() {
    if play() {
        return;
    }
    for size in [65_552, 131_100, 460_000, 900_000] {
        let test = "the_ends_of_blocks_are_a_small_part";
        let (resident, _) = held(test, 100 * MIB / size, size, size, false);
        let bound = 110 * MIB;
        assert!(
            resident <= bound,
            "blocks of {size}: {resident} bytes are resident, not {bound}"
        );
    }
}

#[test]
fn what_is_written_whole_gets_huge_pages() {
    if play() || !has_huge_pages() {
        return;
    }
    for (size, total, most) in [
        // Small blocks: the first 24 MiB or so on OS pages, then hardly a fault.
        (512, 128 * MIB, 40),
        // Larger ones: those that are looked at stay on OS pages.
        (515_000, 128 * MIB, 60),
        // A vector.
        (128 * MIB, 128 * MIB, 2),
    ] {
        let test = "what_is_written_whole_gets_huge_pages";
        let (_, faults) = held(test, total / size, size, size, false);
        let percent = faults * 100 / (total / mem::page_size());
        assert!(
            percent <= most,
            "{total} bytes in blocks of {size}: {faults} faults, {percent} % of the OS pages"
        );
    }
}
