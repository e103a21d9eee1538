//! The kernel does not fill what went back of a superslab on huge pages.
//!
//! Behaviours imitated:
//! - a program that grew in small blocks, keeps some of each superslab, in slabs that stay full, and then waits;
//! - the same, with one block of each slab kept.
//!
//! `khugepaged` collects huge pages from memory that asked for them, even if one OS page in 512 is resident. By itself it takes
//! minutes, so the test has it run all the time meanwhile, which takes root, and a page of its own shows that it does. Where it
//! does not, the test says so and ends.

mod common;

use common::blocks::Block;
use common::child::{self, Child};
use common::{KIB, MIB, PATIENCE, mem};
use hakmem_alloc::Hakmem;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

static HAKMEM: Hakmem = Hakmem::new();

const HUGE_PAGE: usize = 2 * MIB;

/// As root, has the kernel collect huge pages all the time, and puts its pace back.
struct Pace(Vec<(PathBuf, String)>);

impl Pace {
    fn quick() -> Option<Pace> {
        let mut before = Pace(Vec::new());
        for (name, quick) in [
            ("scan_sleep_millisecs", "0"),
            ("alloc_sleep_millisecs", "0"),
            ("pages_to_scan", "100000"),
        ] {
            let path = setting(name);
            let was = fs::read_to_string(&path).ok()?;
            fs::write(&path, quick).ok()?;
            before.0.push((path, was));
        }
        Some(before)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        for (path, was) in &self.0 {
            fs::write(path, was).expect("the pace is put back");
        }
    }
}

fn setting(name: &str) -> PathBuf {
    PathBuf::from("/sys/kernel/mm/transparent_hugepage/khugepaged").join(name)
}

/// How often the kernel has gone over all memory.
fn scans() -> usize {
    let text = fs::read_to_string(setting("full_scans")).expect("a setting of the kernel");
    text.trim().parse().expect("a number")
}

/// A huge page's worth of memory that asks for huge pages, with one OS page resident. Returns how much more is in the end: 0 if
/// the kernel collects none.
fn collected(mut meanwhile: impl FnMut()) -> usize {
    let len = 2 * HUGE_PAGE;
    // SAFETY: a fresh mapping that stays, and is touched within.
    let page = unsafe {
        let (prot, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let map = libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0);
        assert_ne!(map, libc::MAP_FAILED);
        let page = (map as usize).next_multiple_of(HUGE_PAGE) as *mut u8;
        assert_eq!(
            libc::madvise(page.cast(), HUGE_PAGE, libc::MADV_NOHUGEPAGE),
            0
        );
        page.write(1);
        assert_eq!(
            libc::madvise(page.cast(), HUGE_PAGE, libc::MADV_HUGEPAGE),
            0
        );
        page
    };
    let before = resident(page);
    meanwhile();
    let first = scans();
    let end = Instant::now() + Duration::from_secs(1) * PATIENCE / 4;
    // One may be under way, and what it passes over is seen by the next.
    while scans() < first + 3 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    resident(page) - before
}

fn resident(page: *mut u8) -> usize {
    let mut pages = [0u8; HUGE_PAGE / 4096];
    // SAFETY: a mapping of that length, and a byte for each OS page of it.
    let said = unsafe { libc::mincore(page.cast(), HUGE_PAGE, pages.as_mut_ptr()) };
    assert_eq!(said, 0);
    pages.iter().filter(|page| **page & 1 != 0).count()
}

/// Grows, keeps the blocks whose addresses are such, purges, and reports by how much resident memory grows by itself.
fn play(case: &str) {
    let kept: fn(usize) -> bool = match case {
        // Whole slabs stay, and superslabs with most slots free.
        "slots" => |addr| addr % HUGE_PAGE < 256 * KIB,
        // All slabs stay, with most OS pages free.
        _ => |addr| addr % (64 * KIB) < 4 * KIB,
    };
    let blocks: Vec<_> = (0..200 * KIB)
        .map(|_| Block::new(&HAKMEM, 1000))
        .inspect(Block::touch)
        .collect();
    let full = mem::rss();
    let (kept, freed): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| kept(block.addr));
    freed.into_iter().for_each(|block| block.free(&HAKMEM));
    hakmem_alloc::purge();
    let purged = mem::rss();
    assert!(purged < full / 2, "{purged} bytes of {full} stay");
    let mut before = 0;
    let seen = collected(|| before = mem::rss());
    child::report("collected", seen);
    child::report(
        "came",
        mem::rss().saturating_sub(before + seen * mem::page_size()),
    );
    kept.into_iter().for_each(|block| block.free(&HAKMEM));
}

#[test]
fn what_went_back_stays_away() {
    if let Some(case) = child::case() {
        return play(&case);
    }
    let Some(_pace) = Pace::quick() else {
        eprintln!("not root, or a kernel without khugepaged: nothing makes it run");
        return;
    };
    for case in ["slots", "pages"] {
        let ended = Child::of("what_went_back_stays_away", case)
            .env("HAKMEM_THP", "auto")
            .run();
        let value = |key| ended.success().value::<usize>(key);
        if value("collected") == 0 {
            eprintln!("khugepaged collects nothing here: not tested");
            return;
        }
        let came = value("came");
        assert!(came <= MIB, "{case}: {came} bytes came back by themselves");
    }
}
