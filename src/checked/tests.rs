//! The store by itself: every planted mistake is found, nothing else is, and the counts are the sums.

use super::geometry::Kind;
use super::record::State;
use super::report::What;
use super::site::Call;
use super::store::{Need, STORE, Store};
use super::walk::each_class;
use super::{calls, table};
use crate::base::size_class::RUN_MAX;
use crate::base::tuning::checked::{SLOWEST, TURNS};
use crate::os::lock::LockedGuard;
use crate::slab::directory::DIRECTORY;
use std::format;
use std::string::String;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use std::vec::Vec;

static ALONE: Mutex<()> = Mutex::new(());

/// No other test of this file runs meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    DIRECTORY.begin();
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn store() -> LockedGuard<'static, Store> {
    STORE.lock()
}

fn alloc(size: usize, align: usize) -> *mut u8 {
    let taken = calls::alloc(size, align, 7).expect("memory");
    assert!((taken.ptr as usize).is_multiple_of(align));
    taken.ptr
}

/// What the program is told about a free.
fn free_says(block: *mut u8, named: Option<usize>) -> String {
    match store().give(block as usize, named, &Call::by(9)) {
        Ok(_) => String::from("nothing"),
        Err(finding) => format!("{finding}"),
    }
}

#[track_caller]
fn freed(block: *mut u8) {
    assert_eq!(free_says(block, None), "nothing");
}

const SIZES: [usize; 11] = [
    0, 1, 15, 16, 40, 1000, 5000, 40_000, 65_536, 300_000, RUN_MAX,
];

#[test]
fn second_frees_and_addresses_inside_are_told() {
    let _alone = alone();
    for size in SIZES {
        let block = alloc(size, 16);
        let other = alloc(size, 16);
        for inside in [1, 8, 16, size / 2, size.saturating_sub(1)] {
            if inside == 0 || inside > size {
                continue;
            }
            let said = free_says(block.wrapping_add(inside), None);
            let expected = format!("inside a block, at byte {inside} of {size}");
            assert!(said.contains(&expected), "{size}: {said}");
        }
        let said = free_says(other, Some(size + 1));
        let expected = format!(
            "the size is said to be {}, but {size} bytes were asked for",
            size + 1
        );
        assert!(said.contains(&expected), "{said}");
        assert_eq!(free_says(other, Some(size)), "nothing");
        freed(block);
        // What is larger than all that may wait goes back at once, and is no block any more.
        if Kind::of(size, 16).is_some_and(|kind| kind.stride() <= RUN_MAX / 2) {
            let said = free_says(block, None);
            let start = format!(
                "double free of {:#x}: this block of {size} bytes is free already",
                block as usize
            );
            assert!(said.starts_with(&start), "{said}");
            assert!(
                said.contains("allocated by thread 7 ") && said.contains("freed by thread 9 "),
                "{said}"
            );
        }
        assert!(store().is_valid());
    }
}

#[test]
fn every_byte_behind_a_block_and_in_a_freed_one_is_guarded() {
    let _alone = alone();
    for size in SIZES {
        let kind = Kind::of(size, 16).expect("a kind");
        let block = alloc(size, 16);
        // The next block may be nobody's, or allocated: then what is nearer to it is in front of that one.
        let last = ((kind.stride() - size) / 2).min(1000);
        for past in [1, 3, last] {
            let at = block.wrapping_add(size + past - 1);
            if past > last {
                continue;
            }
            // SAFETY: in memory of the slab, which is this test's.
            unsafe {
                let was = at.read();
                at.write(was ^ 0x41);
                let said = free_says(block, None);
                let start = format!(
                    "write {past} bytes past a block of {size}, found by free of {:#x}",
                    block as usize
                );
                assert!(said.starts_with(&start), "{said}");
                at.write(was);
            }
        }
        // A slab of one block may go as it is freed, and another must not take its place here.
        if kind.is_run() || size == 0 {
            freed(block);
            continue;
        }
        freed(block);
        for byte in [0, size / 2, size - 1] {
            let at = block.wrapping_add(byte);
            let mut store = store();
            let (slab, number) = found(&mut store, block);
            // SAFETY: the block waits, and the lock is held.
            unsafe {
                assert!(store.unchanged(slab, number, "the test").is_ok());
                let was = at.read();
                at.write(was ^ 0x80);
                let finding = store
                    .unchanged(slab, number, "the test")
                    .expect_err("a changed byte");
                let What::Written(damage) = finding.what else {
                    panic!("{finding}");
                };
                assert_eq!((damage.first, damage.last), (byte, byte));
                at.write(was);
            }
        }
    }
}

/// In front of the first block of a slab, of one behind a block that was never handed out, that is allocated, or that waits.
#[test]
fn every_byte_in_front_of_a_block_is_guarded() {
    let _alone = alone();
    for size in SIZES {
        let blocks: Vec<*mut u8> = (0..20).map(|_| alloc(size, 16)).collect();
        for (i, &block) in blocks.iter().enumerate() {
            for bytes in [1, 3] {
                let at = block.wrapping_sub(bytes);
                // SAFETY: in memory of the slab, which is this test's.
                unsafe {
                    let was = at.read();
                    at.write(was ^ 0x41);
                    let said = free_says(block, None);
                    let start = format!(
                        "write {bytes} bytes in front of a block of {size}, found by free of {:#x} (block {:#x}, ",
                        block as usize, block as usize
                    );
                    assert!(said.starts_with(&start), "{i}: {said}");
                    let mut store = store();
                    let (slab, number) = found(&mut store, block);
                    assert!(store.look_over(slab).is_err(), "the last look");
                    at.write(was);
                    assert!(store.look_over(slab).is_ok());
                    // Whichever of the two blocks the program frees first.
                    if number > 0 && (*slab).record(number - 1).state == State::Allocated {
                        at.write(was ^ 0x41);
                        let before = (*slab).block(number - 1);
                        drop(store);
                        let said = free_says(before, None);
                        let start = format!(
                            "write {bytes} bytes in front of a block of {size}, found by free of {:#x} (block {:#x}, ",
                            before as usize, block as usize
                        );
                        assert!(said.starts_with(&start), "{i}: {said}");
                        at.write(was);
                    }
                }
            }
            if i % 3 == 0 {
                freed(block);
            }
        }
        let left = blocks.iter().enumerate().filter(|(i, _)| i % 3 != 0);
        left.for_each(|(_, &block)| freed(block));
        assert!(store().is_valid());
    }
}

fn found(store: &mut Store, block: *mut u8) -> (*mut super::slab::Checked, usize) {
    for number in 0..table::count() {
        let slab = table::get(number);
        // SAFETY: the lock is held.
        let open = unsafe { &mut *slab };
        let offset = (block as usize).wrapping_sub(open.base);
        if open.base != 0 && offset < open.capacity() * open.kind.stride() {
            assert!(store.is_valid());
            return (slab, offset / open.stride);
        }
    }
    panic!("{block:p} is in no slab");
}

#[test]
fn a_block_waits_before_it_is_given_out_again() {
    let _alone = alone();
    for size in [16, 100, 2000, 20_000] {
        let kind = Kind::of(size, 16).expect("a kind");
        let first = alloc(size, 16);
        freed(first);
        let mut since = 0;
        // Where nothing else is allocated, those that wait come round.
        for _ in 0..3 * kind.capacity() + 10_000 {
            let block = alloc(size, 16);
            if block == first {
                break;
            }
            since += 1;
            freed(block);
        }
        let keep = store().keep(kind);
        assert!(
            since >= keep.min(kind.capacity() - 1),
            "{size}: given out again after {since}, not {keep}"
        );
        assert!(
            since <= 3 * kind.capacity() + 2 * keep,
            "{size}: never again"
        );
        freed(first);
    }
}

/// Of slabs of one block, more wait than of others.
#[test]
fn what_waits_does_not_hide_a_fresh_block() {
    let _alone = alone();
    for size in [16, 60_000, 200_000] {
        let kind = Kind::of(size, 16).expect("a kind");
        let blocks: Vec<*mut u8> = (0..40).map(|_| alloc(size, 16)).collect();
        blocks.into_iter().for_each(freed);
        // Two slabs with fresh blocks, as if two threads had opened them.
        assert!(calls::open(kind, usize::MAX) && calls::open(kind, usize::MAX));
        for _ in 0..2 {
            let taken = store().take(kind, size, &Call::by(7), Need::Usual);
            let taken = taken.expect("no damage").expect("a block");
            freed(taken.ptr);
        }
    }
    assert!(store().is_valid());
}

#[test]
fn a_size_changes_in_place_or_not_at_all() {
    let _alone = alone();
    let block = alloc(33, 16);
    assert!(calls::resize(block, [33, 40], 16, false, 7), "40 bytes fit");
    assert_eq!(calls::size_of(block, "usable size"), 40);
    assert!(
        !calls::resize(block, [40, 41], 16, false, 7),
        "41 bytes leave no word behind"
    );
    assert!(
        calls::resize(block, [40, 25], 16, false, 7),
        "25 bytes are of the same kind"
    );
    let said = free_says(block, Some(40));
    assert!(said.contains("said to be 40, but 25"), "{said}");
    freed(block);
    assert!(store().is_valid());
}

#[test]
fn what_is_wholly_free_goes_back() {
    let _alone = alone();
    calls::trim();
    let slabs = || {
        let mut sums = (0, 0);
        each_class(|_, slabs, live| sums = (sums.0 + slabs, sums.1 + live));
        sums
    };
    let before = slabs();
    let blocks: Vec<*mut u8> = (0..20_000).map(|i| alloc(i % 3000, 16)).collect();
    let big: Vec<*mut u8> = (0..5).map(|i| alloc(200_000 * (i + 1), 64)).collect();
    let held = slabs();
    assert_eq!(held.1 - before.1, 20_005);
    assert!(store().is_valid());
    blocks.into_iter().chain(big).for_each(freed);
    assert!(store().is_valid());
    let after = slabs();
    assert!(after.0 < held.0 / 2, "{after:?} of {held:?} slabs are kept");
    calls::trim();
    assert_eq!(slabs(), before);
    assert!(store().is_valid());
}

/// A slab that was kept while many blocks were allocated goes as they are freed.
#[test]
fn what_was_kept_for_more_goes_as_there_is_less() {
    let _alone = alone();
    calls::trim();
    let kind = Kind::of(1000, 16).expect("a kind");
    let blocks: Vec<*mut u8> = (0..20_000).map(|_| alloc(1000, 16)).collect();
    let held = store().groups[kind.index()].slabs;
    blocks.into_iter().for_each(freed);
    let mut store = store();
    assert!(store.is_valid());
    let left = store.groups[kind.index()].slabs;
    let few = store.keep(kind) / kind.capacity() + 2;
    assert!(left <= few && held > 100, "{left} of {held} are left");
}

#[test]
fn a_block_shrinks_in_any_kind_where_there_is_no_other() {
    let _alone = alone();
    let block = alloc(3000, 16);
    assert!(!calls::resize(block, [3000, 2200], 16, false, 7));
    assert!(calls::resize(block, [3000, 2200], 16, true, 7));
    assert!(
        !calls::resize(block, [2200, 9000], 16, true, 7),
        "growth beyond the kind"
    );
    assert_eq!(calls::size_of(block, "usable size"), 2200);
    freed(block);
    assert!(store().is_valid());
}

/// Slow paths go on without a sample while another thread holds the lock.
#[test]
fn a_sample_does_not_wait_for_the_lock() {
    let _alone = alone();
    let block = alloc(88, 16);
    let sample = || {
        (0..=TURNS << SLOWEST)
            .find_map(|_| calls::sample(88, 16, || 7).map(|taken| taken.ptr as usize))
    };
    let (told, tells) = std::sync::mpsc::channel();
    let held = store();
    std::thread::spawn(move || told.send(sample()));
    let answer = tells.recv_timeout(Duration::from_secs(60));
    drop(held);
    assert_eq!(answer, Ok(None), "an error if it waits");
    let other = sample().expect("the lock is free");
    freed(other as *mut u8);
    freed(block);
}

/// The walker is not blind.
#[test]
fn the_walker_sees_planted_faults() {
    let _alone = alone();
    let size = 72;
    let block = alloc(size, 16);
    let mut store = store();
    assert!(store.is_valid());
    let kind = Kind::of(size, 16).expect("a kind");
    let group = kind.index();
    store.groups[group].allocated += 1;
    assert!(!store.is_valid());
    store.groups[group].allocated -= 1;
    store.groups[group].freed += 1;
    assert!(!store.is_valid());
    store.groups[group].freed -= 1;
    store.run_bytes += 1;
    assert!(!store.is_valid());
    store.run_bytes -= 1;
    let (slab, at) = found(&mut store, block);
    // SAFETY: the lock is held.
    unsafe {
        (*slab).record(at).state = State::Freed;
        assert!(!store.is_valid());
        (*slab).record(at).state = State::Allocated;
        assert!(store.is_valid());
        assert!(store.look_over(slab).is_ok());
        block.add(75).write(0);
        assert!(
            store.look_over(slab).is_err(),
            "the last look sees what lies behind a block"
        );
    }
    // SAFETY: the block is this test's.
    unsafe { store.fill().guard(block, size, kind.stride()) };
    assert!(store.give(block as usize, None, &Call::by(7)).is_ok());
    let again = store.take(kind, size, &Call::by(7), Need::Last);
    let again = again.unwrap_or_else(|finding| panic!("{finding}"));
    let again = again.expect("one waits").ptr as usize;
    assert!(store.give(again, Some(size), &Call::by(7)).is_ok());
}
