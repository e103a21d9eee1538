//! Tests of [`super`]: every way to a mapping, every failure on the way, and what is left behind.

use super::*;
use crate::os::fake::{self, Call};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const PAGE: usize = 4096;

/// Whether anything is mapped at an OS page.
fn is_mapped(addr: usize) -> bool {
    crate::os::linux::mincore(addr, sys::page_size(), &mut [0; 16]) != Err(Errno::ENOMEM)
}

fn assert_whole(m: &Mapping) {
    assert!(is_mapped(m.addr) && is_mapped(m.end() - sys::page_size()));
}

/// The first and the last byte read as zero and can be written.
fn assert_usable(m: &Mapping) {
    for addr in [m.addr, m.end() - 1] {
        // SAFETY: inside a mapping the test owns.
        unsafe {
            assert_eq!(*(addr as *const u8), 0);
            *(addr as *mut u8) = 0xA5;
        }
    }
}

/// A place that accepts the addresses of a test, each once, and remembers what it holds.
struct Only<F> {
    accepts: F,
    held: std::sync::Mutex<std::vec::Vec<usize>>,
}

impl<F: Fn(usize) -> Result<bool, Errno> + Sync> Only<F> {
    fn new(accepts: F) -> Self {
        Only {
            accepts,
            held: std::sync::Mutex::default(),
        }
    }
}

impl<F: Fn(usize) -> Result<bool, Errno> + Sync> Place for Only<F> {
    fn enter(&self, addr: usize) -> Result<bool, Errno> {
        let accepted = (self.accepts)(addr)?;
        if accepted {
            self.held.lock().expect("no panic").push(addr);
        }
        Ok(accepted)
    }
    fn leave(&self, addr: usize) {
        self.held
            .lock()
            .expect("no panic")
            .retain(|&held| held != addr);
    }
    fn latest(&self) -> usize {
        self.held
            .lock()
            .expect("no panic")
            .last()
            .copied()
            .unwrap_or(0)
    }
}

fn release(m: Mapping) {
    fake::clear();
    // SAFETY: made by the test, and no reference is left.
    unsafe { unmap(m).expect("unmap") };
}

#[test]
fn bad_wishes_are_refused_before_any_call() {
    fake::clear();
    assert_eq!(map_aligned(0, HUGE_PAGE, None), Err(Errno::EINVAL));
    assert_eq!(map_aligned(1, 3 * PAGE, None), Err(Errno::EINVAL));
    assert_eq!(map_aligned(1, 0, None), Err(Errno::EINVAL));
    assert_eq!(map_aligned(usize::MAX, PAGE, None), Err(Errno::ENOMEM));
    assert_eq!(
        map_aligned(isize::MAX as usize, HUGE_PAGE, None),
        Err(Errno::ENOMEM)
    );
    assert_eq!(map_aligned(PAGE, 1 << 63, None), Err(Errno::ENOMEM));
    assert_eq!(fake::calls().total(), 0);
}

#[test]
fn exact_size_first_is_one_call() {
    fake::clear();
    let m = map_aligned(PAGE, PAGE, None).expect("maps");
    assert_eq!(fake::calls().total(), 1);
    assert_usable(&m);
    release(m);
}

#[test]
fn a_populated_mapping_is_resident_only_where_the_first_try_suits() {
    for (misplaced, expected) in [(0, 512), (1, 0)] {
        fake::clear();
        fake::misplace(misplaced);
        let m = map_aligned_populated(HUGE_PAGE, HUGE_PAGE, None).expect("maps");
        assert!(m.addr.is_multiple_of(HUGE_PAGE));
        let mut pages = [0u8; 512];
        sys::mincore(m.addr, m.len, &mut pages).expect("mincore");
        let resident = pages.iter().filter(|p| **p & 1 != 0).count();
        // The kernel aligns such a length by itself, but it need not.
        assert!(resident == expected || (misplaced == 0 && resident == 0));
        release(m);
    }
}

#[test]
fn a_misplaced_mapping_is_replaced_by_one_below_it() {
    fake::clear();
    fake::misplace(1);
    let m = map_aligned(HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    assert!(m.addr.is_multiple_of(HUGE_PAGE));
    assert_eq!(
        (fake::calls().of(Call::Mmap), fake::calls().of(Call::Munmap)),
        (2, 1)
    );
    assert_usable(&m);
    release(m);
}

#[test]
fn over_mapping_is_the_last_resort_and_is_trimmed() {
    fake::clear();
    let stranded = stranded_bytes();
    fake::misplace(3);
    let m = map_aligned(HUGE_PAGE, 2 * HUGE_PAGE, None).expect("maps");
    assert!(m.addr.is_multiple_of(2 * HUGE_PAGE));
    assert_eq!(fake::calls().of(Call::Mmap), 3);
    assert_usable(&m);
    // The fake puts the over-mapping one OS page past a huge page boundary.
    assert_eq!(stranded_bytes(), stranded);
    release(m);
}

#[test]
fn excess_that_cannot_be_trimmed_is_counted_and_the_mapping_is_still_good() {
    fake::clear();
    let before = stranded_bytes();
    fake::misplace(3);
    fake::fail_kind_from(Call::Munmap, 1, Errno::ENOMEM);
    let m = map_aligned(HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    assert!(m.addr.is_multiple_of(HUGE_PAGE));
    assert_usable(&m);
    // Two misplaced mappings and the ends of the over-mapping; other tests may add their own.
    assert!(stranded_bytes() - before >= 2 * HUGE_PAGE + HUGE_PAGE - PAGE);
    release(m);
}

/// Fails the n-th call for every n until nothing is left to fail, over every path: the answer is
/// always a good mapping or an error, and after an error nothing was handed out.
#[test]
fn every_single_failure_of_map_aligned_is_survived() {
    for misplaced in 0..=3 {
        // Everything suits; every fourth superslab does; nothing can be prepared.
        let every_fourth = Only::new(|addr: usize| Ok((addr / HUGE_PAGE).is_multiple_of(4)));
        let unprepared = Only::new(|_| Err(Errno::ENOMEM));
        for place in [None, Some(&every_fourth as &dyn Place), Some(&unprepared)] {
            for n in 1.. {
                fake::clear();
                fake::misplace(misplaced);
                fake::fail_nth(n, Errno::ENOMEM);
                let outcome = map_aligned(3 * HUGE_PAGE, 4 * HUGE_PAGE, place);
                let made = fake::calls().total();
                match outcome {
                    Ok(m) => {
                        assert!(m.addr.is_multiple_of(4 * HUGE_PAGE) && m.len == 3 * HUGE_PAGE);
                        assert_usable(&m);
                        release(m);
                        if let Some(place) = place {
                            place.leave(m.addr);
                        }
                    }
                    Err(e) => assert_eq!(e, Errno::ENOMEM),
                }
                assert!(every_fourth.held.lock().expect("no panic").is_empty());
                if made < n {
                    break;
                }
            }
        }
    }
    fake::clear();
}

#[test]
fn the_errno_of_a_refused_mapping_is_passed_on() {
    fake::fail_kind_from(Call::Mmap, 1, Errno::EPERM);
    assert_eq!(map_aligned(PAGE, HUGE_PAGE, None), Err(Errno::EPERM));
    fake::clear();
}

#[test]
fn an_address_that_is_refused_leads_to_larger_ranges() {
    // One index in 64 is free, as where 63 of 64 are taken by others.
    let place = Only::new(|addr: usize| Ok((addr / HUGE_PAGE) % 64 == 17));
    fake::clear();
    let m = map_aligned(HUGE_PAGE, HUGE_PAGE, Some(&place)).expect("a free index");
    assert_eq!(m.addr / HUGE_PAGE % 64, 17);
    assert_usable(&m);
    // The kernel's choice, the one below it, then ranges that double until one holds 64 of them.
    assert!(fake::calls().of(Call::Mmap) <= 2 + 7, "{:?}", fake::calls());
    release(m);
    assert_eq!(*place.held.lock().expect("no panic"), [m.addr]);
}

#[test]
fn where_nothing_else_can_be_prepared_the_neighbours_of_the_latest_serve() {
    // Another test's thread may take a neighbour.
    if !fake::alone(
        "os::mapping::tests::where_nothing_else_can_be_prepared_the_neighbours_of_the_latest_serve",
    ) {
        return;
    }
    let first = map_aligned(HUGE_PAGE, 4 * HUGE_PAGE, None).expect("maps");
    for offset in [HUGE_PAGE as isize, -(HUGE_PAGE as isize)] {
        let neighbour = first.addr.wrapping_add_signed(offset);
        let place = Only::new(|addr| match addr == neighbour {
            true => Ok(true),
            false => Err(Errno::ENOMEM),
        });
        place.held.lock().expect("no panic").push(first.addr);
        // Something of the process's own may lie there; then the refusal is right.
        match map_aligned(HUGE_PAGE, HUGE_PAGE, Some(&place)) {
            Ok(m) => {
                assert_eq!(m.addr, neighbour);
                release(m);
            }
            Err(e) => {
                let mut pages = (neighbour..neighbour + HUGE_PAGE).step_by(sys::page_size());
                assert!(pages.any(is_mapped), "{e}");
            }
        }
    }
    release(first);
}

#[test]
fn a_place_that_accepts_nothing_ends_with_the_address_space() {
    let asked = core::sync::atomic::AtomicUsize::new(0);
    let nothing = Only::new(|_| {
        asked.fetch_add(1, Relaxed);
        Ok(false)
    });
    let align = 64 << 30;
    assert_eq!(
        map_aligned(HUGE_PAGE, align, Some(&nothing)),
        Err(Errno::ENOMEM)
    );
    assert!(asked.load(Relaxed) > 100, "{asked:?}");
    assert!(!is_mapped(align), "nothing is left behind");
}

#[test]
fn the_document_s_hint_is_honoured_or_reported() {
    const HINT: usize = 0x7ff7_0000_0000;
    for gib in [20usize, 200] {
        let len = gib << 30;
        let got = map_aligned_at_hint(HINT, len, HUGE_PAGE).expect("address space");
        assert!(got.mapping.addr.is_multiple_of(HUGE_PAGE) && got.mapping.len == len);
        assert_eq!(got.honoured, got.mapping.addr == HINT);
        if gib == 200 {
            assert!(
                !got.honoured,
                "200 GiB from there run past the end of the address space"
            );
        }
        assert_usable(&got.mapping);
        release(got.mapping);
    }
}

#[test]
fn an_occupied_or_misaligned_hint_is_not_honoured_and_nothing_is_replaced() {
    let first = map_aligned(HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    assert_usable(&first);
    for hint in [
        first.addr,
        first.addr + PAGE,
        usize::MAX & !(HUGE_PAGE - 1),
        0,
    ] {
        let got = map_aligned_at_hint(hint, HUGE_PAGE, HUGE_PAGE).expect("maps");
        assert!(!got.honoured && got.mapping.addr != first.addr);
        release(got.mapping);
    }
    // SAFETY: owned here.
    assert_eq!(unsafe { *(first.addr as *const u8) }, 0xA5);
    release(first);
}

#[test]
fn random_lengths_alignments_and_hints() {
    let mut rng = SmallRng::seed_from_u64(42);
    for _ in 0..300 {
        let len = 1usize << rng.random_range(0..36u32);
        let len = rng.random_range(len..=2 * len);
        let align = 1usize << rng.random_range(0..34u32);
        let hint = match rng.random_range(0..4u32) {
            0 => 0,
            1 => rng.random_range(0..1usize << 47),
            2 => rng.random_range(0..1usize << 47) & !(align - 1),
            _ => rng.random::<u64>() as usize,
        };
        fake::clear();
        fake::misplace(rng.random_range(0..4u32));
        let got = map_aligned_at_hint(hint, len, align).expect("address space");
        let m = got.mapping;
        assert!(
            m.addr.is_multiple_of(align.max(PAGE)),
            "{m:x?} align {align:#x}"
        );
        assert!(m.len >= len && m.len < len + sys::page_size());
        assert_eq!(got.honoured, m.addr == hint);
        assert_whole(&m);
        release(m);
    }
}

#[test]
fn a_reserved_table_reads_zero_and_opens_in_part() {
    let table = reserve_readonly(64 << 20, HUGE_PAGE).expect("reserves");
    let word = table.addr + (40 << 20);
    // SAFETY: inside the table; the part written was made writable.
    unsafe {
        assert_eq!(*(word as *const u64), 0);
        make_writable(word, 8).expect("mprotect");
        *(word as *mut u64) = 7;
        assert_eq!(*(word as *const u64), 7);
        fake::fail_kind(Call::Mprotect, 1, Errno::ENOMEM);
        assert_eq!(make_writable(table.addr, 8), Err(Errno::ENOMEM));
    }
    release(table);
}

#[test]
fn purged_memory_reads_zero_and_a_failed_purge_says_so() {
    let m = map_aligned(HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    assert_usable(&m);
    // SAFETY: owned here.
    unsafe {
        fake::fail_kind(Call::Madvise, 1, Errno::EINVAL);
        assert_eq!(purge(m.addr, m.len), Err(Errno::EINVAL));
        assert_eq!(*(m.addr as *const u8), 0xA5);
        purge(m.addr, m.len).expect("purge");
        assert_eq!(*(m.addr as *const u8), 0);
    }
    release(m);
}
