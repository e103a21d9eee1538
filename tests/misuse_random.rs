//! Random mistakes with blocks of all sizes, where every block is checked, against a model of what is allocated.
//!
//! Each case is a number from which everything follows: a program that allocates, resizes and frees blocks of 1 byte to 16 MiB, in
//! part on other threads; then one mistake with one of its blocks, by the same thread or another; then more of the program, and its
//! end. The report's first line must be the one that the model expects. The same without the mistake must be silent. Without
//! checks, mistakes of the kinds that checks find must go unnoticed: the test would see it.

mod common;

use common::blocks::{alloc, free};
use common::child::{self, Child, Ended};
use common::{KIB, MIB};
use hakmem_alloc::{Hakmem, raw};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::thread;

#[global_allocator]
static HAKMEM: Hakmem = Hakmem::new();

/// Cases of each kind.
const CASES: u64 = 14;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    DoubleFree,
    Inside,
    WrongSize,
    Behind,
    Front,
    AfterFree,
    ReallocFreed,
    SizeOfFreed,
    /// A write behind a block that is found by a realloc.
    BehindRealloc,
    /// A free of where a block was before a realloc moved it.
    OldAddress,
}

const KINDS: [Kind; 10] = [
    Kind::DoubleFree,
    Kind::Inside,
    Kind::WrongSize,
    Kind::Behind,
    Kind::Front,
    Kind::AfterFree,
    Kind::ReallocFreed,
    Kind::SizeOfFreed,
    Kind::BehindRealloc,
    Kind::OldAddress,
];

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    /// Sizes of all orders of magnitude alike.
    fn size(&mut self, least: u32) -> usize {
        let order = least as usize + self.below(24 - least as usize);
        ((1 << order) + self.below(1 << order)).min(16 * MIB)
    }
}

/// A block that the program has, and what it wrote to both ends of it.
#[derive(Clone, Copy)]
struct Block {
    addr: usize,
    size: usize,
    mark: u8,
}

impl Block {
    fn new(addr: usize, size: usize, mark: u8) -> Block {
        let block = Block { addr, size, mark };
        for at in block.ends() {
            // SAFETY: in the block.
            unsafe { (at as *mut u8).write(mark) };
        }
        block
    }

    fn ends(&self) -> [usize; 2] {
        [self.addr, self.addr + self.size - 1]
    }

    fn check(&self) {
        for at in self.ends() {
            // SAFETY: in the block.
            assert_eq!(unsafe { (at as *const u8).read() }, self.mark, "{at:#x}");
        }
    }
}

/// The model: blocks in use do not overlap and hold what was written.
struct Model {
    random: Random,
    live: Vec<Block>,
}

impl Model {
    fn add(&mut self, addr: usize, size: usize) {
        let apart = |other: &Block| addr + size <= other.addr || other.addr + other.size <= addr;
        assert!(self.live.iter().all(apart), "{addr:#x} is in use");
        let mark = self.random.below(256) as u8;
        self.live.push(Block::new(addr, size, mark));
    }

    fn take(&mut self) -> Block {
        let at = self.random.below(self.live.len());
        let block = self.live.swap_remove(at);
        block.check();
        block
    }

    /// Some of a program's calls.
    fn run(&mut self, calls: usize) {
        for _ in 0..calls {
            match self.random.below(8) {
                0..=3 => {
                    let size = self.random.size(0);
                    self.add(alloc(size), size);
                }
                4 if !self.live.is_empty() => {
                    let (block, size) = (self.take(), self.random.size(0));
                    // SAFETY: in use.
                    let new = unsafe { raw::realloc(block.addr as *mut u8, size) } as usize;
                    // SAFETY: in the block.
                    assert_eq!(unsafe { (new as *const u8).read() }, block.mark);
                    self.add(new, size);
                }
                5 if !self.live.is_empty() => {
                    let block = self.take();
                    // SAFETY: in use.
                    let usable = unsafe { raw::usable_size(block.addr as *const u8) };
                    assert!(usable >= block.size);
                    // SAFETY: in use, of that size.
                    unsafe { raw::dealloc_sized(block.addr as *mut u8, block.size, 16) };
                }
                6 if !self.live.is_empty() => {
                    let block = self.take();
                    elsewhere(true, move || free(block.addr));
                }
                _ if self.live.len() > 40 => free(self.take().addr),
                _ => {}
            }
        }
    }
}

fn elsewhere(other: bool, body: impl FnOnce() + Send + 'static) {
    match other {
        true => thread::spawn(body).join().expect("nothing that panics"),
        false => body(),
    }
}

/// Changes bytes that are not the program's.
fn spoil(addr: usize, bytes: usize) {
    for at in addr..addr + bytes {
        let at = black_box(at as *mut u8);
        // SAFETY: in memory of the allocator, or without access: the point of the test is that it is noticed.
        unsafe { at.write_volatile(at.read_volatile() ^ 0x24) };
    }
}

/// Writes a byte, without a read that would be reported first.
fn write(addr: usize) {
    // SAFETY: as above.
    unsafe { black_box(addr as *mut u8).write_volatile(0x24) };
}

fn play(kind: Kind, number: u64, wrong: bool) {
    let mut model = Model {
        random: Random(number * 0x9E37_79B9 + 77),
        live: Vec::new(),
    };
    model.run(150);
    let random = &mut model.random;
    let (size, other) = (random.size(4), random.below(2) == 1);
    let by = match random.below(3) {
        0 => 1,
        1 => 1 + random.below(size - 1),
        _ => 16.min(size - 1),
    };
    let few = 1 + random.below(4);
    let named = match random.below(3) {
        0 => size + 1,
        1 => size - 1,
        _ => size + random.below(size),
    };
    let named = if named == size { size + 2 } else { named };
    // Neighbours that are in use, free, or none.
    for _ in 0..random.below(4) {
        let mine = alloc(size);
        model.add(mine, size);
    }
    let addr = alloc(size);
    let behind = model.random.below(3);
    for _ in 0..behind {
        let mine = alloc(size);
        model.add(mine, size);
    }
    child::report("addr", addr);
    child::report("size", size);
    child::report("by", by);
    child::report("few", few);
    child::report("named", named);
    elsewhere(other, move || {
        let block = addr as *mut u8;
        match kind {
            Kind::DoubleFree => {
                free(addr);
                if wrong {
                    free(addr);
                }
            }
            Kind::Inside => free(if wrong { addr + by } else { addr }),
            Kind::WrongSize => {
                // SAFETY: none if it is wrong.
                unsafe { raw::dealloc_sized(block, if wrong { named } else { size }, 16) };
            }
            Kind::Behind => {
                if wrong {
                    spoil(addr + size, few);
                }
                free(addr);
            }
            Kind::Front => {
                if wrong {
                    spoil(addr - few, few);
                }
                free(addr);
            }
            Kind::AfterFree => {
                free(addr);
                if wrong {
                    write(addr + by);
                }
            }
            Kind::ReallocFreed => {
                let good = alloc(size);
                free(addr);
                // SAFETY: none if it is wrong.
                let new = unsafe {
                    raw::realloc(if wrong { block } else { good as *mut u8 }, size + size / 2)
                };
                free(new as usize);
            }
            Kind::SizeOfFreed => {
                let good = alloc(size);
                free(addr);
                let asked = if wrong { addr } else { good };
                // SAFETY: none if it is wrong.
                assert_eq!(unsafe { raw::usable_size(asked as *const u8) }, size);
                free(good);
            }
            Kind::BehindRealloc => {
                if wrong {
                    spoil(addr + size, few);
                }
                // SAFETY: in use.
                free(unsafe { raw::realloc(block, size * 2 + 64) } as usize);
            }
            Kind::OldAddress => {
                // SAFETY: in use.
                let new = unsafe { raw::realloc(block, size * 3 + 64) } as usize;
                child::report("moved", new != addr);
                free(new);
                if wrong {
                    free(addr);
                }
            }
        }
    });
    model.run(60);
    while !model.live.is_empty() {
        free(model.take().addr);
    }
}

/// How the first line begins, one of these.
fn lines(kind: Kind, ended: &Ended) -> Vec<String> {
    let value = |key: &str| ended.value::<usize>(key);
    let (addr, size, by, few) = (value("addr"), value("size"), value("by"), value("few"));
    // Above the largest class of checked slabs.
    let large = size > MIB;
    let bytes = format!("{few} byte{}", if few == 1 { "" } else { "s" });
    let twice = |asked: &str, addr: usize| {
        format!("hakmem: {asked} of {addr:#x}: this block of {size} bytes is free already ")
    };
    let gone = |asked: &str, addr: usize| {
        format!("hakmem: {asked} of {addr:#x}: not a block of this allocator, or freed already;")
    };
    // A block that is larger than all that may wait together goes back at once, and what was there is not known any more.
    let freed = |asked: &str| {
        let mut all = vec![twice(asked, addr)];
        if size > 512 * KIB && !large {
            all.push(gone(asked.trim_start_matches("double "), addr));
        }
        all
    };
    let behind = |asked: &str| match large {
        false => format!(
            "hakmem: write {few} bytes past a block of {size}, found by {asked} of {addr:#x} "
        ),
        true => format!(
            "hakmem: {asked} of {addr:#x}: written {bytes} past this block of {size} bytes "
        ),
    };
    let one = match kind {
        Kind::DoubleFree => return freed("double free"),
        Kind::ReallocFreed => return freed("realloc"),
        Kind::SizeOfFreed => return freed("usable size"),
        Kind::OldAddress => return vec![twice("double free", addr), gone("free", addr)],
        Kind::Inside => format!(
            "hakmem: free of {:#x}: inside a block, at byte {by} of {size} ",
            addr + by
        ),
        Kind::WrongSize if large => format!(
            "hakmem: free of {addr:#x}: the layout has {} bytes, this block {size} ",
            value("named")
        ),
        Kind::WrongSize => format!(
            "hakmem: free of {addr:#x}: the size is said to be {}, but {size} bytes were asked for ",
            value("named")
        ),
        Kind::Behind => behind("free"),
        Kind::BehindRealloc => behind("realloc"),
        Kind::Front if large => {
            format!("hakmem: free of {addr:#x}: written {bytes} before this block of {size} bytes ")
        }
        Kind::Front => format!(
            "hakmem: write {few} bytes in front of a block of {size}, found by free of {addr:#x} "
        ),
        Kind::AfterFree if large => {
            let what = if cfg!(target_arch = "x86_64") {
                "write to"
            } else {
                "access to"
            };
            format!(
                "hakmem: {what} {:#x}: inside a block, at byte {by} of {size} after it was freed ",
                addr + by
            )
        }
        Kind::AfterFree => format!(
            "hakmem: write to {:#x} after it was freed, at byte {by} of a block of {size} ",
            addr + by
        ),
    };
    vec![one]
}

fn is_named(kind: Kind, ended: &Ended) -> bool {
    let aborted = ended.status.and_then(|status| status.signal()) == Some(libc::SIGABRT);
    let first = ended.stderr.lines().next().unwrap_or_default();
    let lines = lines(kind, ended);
    aborted && lines.iter().any(|line| first.starts_with(line))
}

/// Runs a case. `one_in` is the setting of checks.
fn of(test: &'static str, kind: Kind, number: u64, one_in: &str) -> Ended {
    let at = KINDS.iter().position(|&other| other == kind);
    let case = format!("{}/{number}", at.expect("one of them"));
    // No block is guarded, but faults are reported.
    Child::of(test, &case)
        .env("HAKMEM_CHECK_ONE_IN", one_in)
        .env("HAKMEM_GUARD_EVERY", "100000000")
        .run()
}

/// In a child: plays its case and returns true.
fn is_child(wrong: bool) -> bool {
    let Some(case) = child::case() else {
        return false;
    };
    let (kind, number) = case.split_once('/').expect("kind and number");
    let kind = KINDS[kind.parse::<usize>().expect("a kind")];
    play(kind, number.parse().expect("a number"), wrong);
    true
}

/// Runs every case with all blocks checked. `fault` says what is wrong with how one ended.
fn for_all(test: &'static str, fault: impl Fn(Kind, &Ended) -> Option<String>) {
    let cases = |kind| (0..CASES).map(move |number| (kind, number));
    let failed = KINDS
        .into_iter()
        .flat_map(cases)
        .filter_map(|(kind, number)| {
            let ended = of(test, kind, number, "1");
            Some(format!(
                "{kind:?} {number}: {}\n{ended:?}",
                fault(kind, &ended)?
            ))
        });
    let failed: Vec<String> = failed.collect();
    child::assert_none(&failed, KINDS.len() * CASES as usize);
}

#[test]
fn every_random_mistake_is_named() {
    if is_child(true) {
        return;
    }
    for_all("every_random_mistake_is_named", |kind, ended| {
        // A block that grew where it was is freed once.
        let is_right = kind == Kind::OldAddress && !ended.value::<bool>("moved");
        let expected = || format!("expected {:?}", lines(kind, ended));
        (!is_right && !is_named(kind, ended)).then(expected)
    });
}

#[test]
fn the_same_without_the_mistake_is_silent() {
    if is_child(false) {
        return;
    }
    for_all("the_same_without_the_mistake_is_silent", |_, ended| {
        let well = ended.status.is_some_and(|status| status.success());
        (!well || !ended.stderr.is_empty()).then(|| "expected silence".to_owned())
    });
}

/// The test is not blind: where the checks are off, it misses the lines.
#[test]
fn without_checks_the_lines_are_missed() {
    if is_child(true) {
        return;
    }
    for kind in [
        Kind::WrongSize,
        Kind::Behind,
        Kind::Front,
        Kind::AfterFree,
        Kind::BehindRealloc,
    ] {
        let test = "without_checks_the_lines_are_missed";
        let named = |&number: &u64| is_named(kind, &of(test, kind, number, "0"));
        let named = (0..4).filter(named).count();
        // Of large blocks a size that is wrong is noticed in any case.
        assert!(named < 4, "{kind:?}: {named} are named without checks");
    }
}
