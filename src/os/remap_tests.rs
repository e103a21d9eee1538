//! Tests of [`super`]: contents survive every way of growing, and every failure leaves the source.

use super::super::map_aligned_at_hint;
use super::super::{map_aligned, purge, unmap};
use super::*;
use crate::os::fake::{self, Call};
use crate::os::linux;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::vec::Vec;

fn fill(m: &Mapping) {
    for addr in (m.addr..m.end()).step_by(sys::page_size()) {
        // SAFETY: inside a mapping the test owns.
        unsafe { *(addr as *mut u64) = ((addr - m.addr) as u64) ^ 0x5A5A };
    }
}

/// The first `kept` bytes are as [`fill`] left them, the rest is zero.
fn check(m: &Mapping, kept: usize) {
    for addr in (m.addr..m.end()).step_by(sys::page_size()) {
        let at = addr - m.addr;
        let expected = if at < kept { (at as u64) ^ 0x5A5A } else { 0 };
        // SAFETY: inside a mapping the test owns.
        let found = unsafe { *(addr as *const u64) };
        assert_eq!(found, expected, "at {at:#x} of {m:x?}");
    }
}

/// A mapping with something behind it, so that it cannot grow in place.
fn hemmed_in(len: usize) -> (Mapping, Mapping) {
    let whole = map_aligned(len + HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    let wall = Mapping {
        addr: whole.addr + len,
        len: HUGE_PAGE,
    };
    // SAFETY: part of the mapping above; another protection makes it a mapping of its own.
    unsafe { linux::mprotect(wall.addr, wall.len, libc::PROT_READ).expect("mprotect") };
    (
        Mapping {
            addr: whole.addr,
            len,
        },
        wall,
    )
}

fn release(m: Mapping) {
    fake::clear();
    // SAFETY: made by the test, and no reference is left.
    unsafe { unmap(m).expect("unmap") };
}

/// # Safety
/// As for [`remap`].
unsafe fn remap_ok(old: Mapping, len: usize, align: usize) -> Mapping {
    // SAFETY: as the caller promises.
    unsafe { remap(old, len, align, None) }.expect("remap")
}

#[test]
fn grows_by_moving_page_tables_and_keeps_the_alignment() {
    for align in [4096, HUGE_PAGE, 64 << 20] {
        let (old, wall) = hemmed_in(4 * HUGE_PAGE);
        fill(&old);
        // SAFETY: owned by the test; the old address is not used afterwards.
        let new = unsafe { remap_ok(old, 8 * HUGE_PAGE, align) };
        assert_ne!(new.addr, old.addr);
        assert!(new.addr.is_multiple_of(align.max(HUGE_PAGE)) && new.len == 8 * HUGE_PAGE);
        check(&new, old.len);
        release(new);
        release(wall);
    }
}

#[test]
fn grows_in_place_where_there_is_room() {
    let whole = map_aligned(4 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    let old = Mapping {
        addr: whole.addr,
        len: HUGE_PAGE,
    };
    // SAFETY: the rest of the mapping, given back to make room.
    unsafe { linux::munmap(old.end(), 3 * HUGE_PAGE).expect("munmap") };
    fill(&old);
    fake::clear();
    // SAFETY: owned by the test.
    let new = unsafe { remap_ok(old, 2 * HUGE_PAGE, HUGE_PAGE) };
    // Another test's thread may have mapped something behind it meanwhile.
    if new.addr == old.addr {
        assert_eq!(fake::calls().total(), 1);
    }
    check(&new, old.len);
    release(new);
}

#[test]
fn shrinks_in_place() {
    let old = map_aligned(4 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    fill(&old);
    // SAFETY: owned by the test.
    unsafe {
        fake::fail_kind(Call::Munmap, 1, Errno::ENOMEM);
        let failed = remap(old, HUGE_PAGE, HUGE_PAGE, None);
        assert_eq!(
            failed,
            Err(RemapError {
                errno: Errno::ENOMEM,
                intact: true
            })
        );
        check(&old, old.len);
        let new = remap_ok(old, HUGE_PAGE, HUGE_PAGE);
        assert_eq!(
            new,
            Mapping {
                addr: old.addr,
                len: HUGE_PAGE
            }
        );
        check(&new, new.len);
        let same = remap_ok(new, HUGE_PAGE, HUGE_PAGE);
        assert_eq!(same, new);
        release(same);
    }
}

/// The n-th call fails, for every n until none is left to fail: the source is as it was, and what
/// another thread mapped at the lost target is never touched.
#[test]
fn every_single_failure_of_remap_leaves_the_source() {
    let mut failures = 0;
    for n in 1.. {
        let (old, wall) = hemmed_in(2 * HUGE_PAGE);
        fill(&old);
        fake::clear();
        fake::fail_nth(n, Errno::ENOMEM);
        // SAFETY: owned by the test.
        let outcome = unsafe { remap(old, 6 * HUGE_PAGE, HUGE_PAGE, None) };
        let calls = fake::calls();
        fake::clear();
        match outcome {
            Ok(new) => {
                check(&new, old.len);
                release(new);
            }
            Err(e) => {
                failures += 1;
                assert_eq!(
                    e,
                    RemapError {
                        errno: Errno::ENOMEM,
                        intact: true
                    }
                );
                assert_eq!(
                    calls.of(Call::Munmap),
                    0,
                    "a lost target is not unmapped again"
                );
                check(&old, old.len);
                release(old);
            }
        }
        release(wall);
        if calls.total() < n {
            break;
        }
    }
    assert!(
        failures >= 2,
        "the reservation and the move were each failed: {failures}"
    );
}

#[test]
fn a_failed_move_counts_its_reservation() {
    let (old, wall) = hemmed_in(2 * HUGE_PAGE);
    let before = super::super::stranded_bytes();
    fake::fail_kind(Call::Mremap, 2, Errno::ENOMEM);
    // SAFETY: owned by the test.
    let outcome = unsafe { remap(old, 6 * HUGE_PAGE, HUGE_PAGE, None) };
    assert!(outcome.is_err());
    assert!(super::super::stranded_bytes() - before >= 6 * HUGE_PAGE);
    release(old);
    release(wall);
}

#[test]
fn a_source_of_two_mappings_is_refused_without_reserving_anything() {
    let old = map_aligned(4 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    fill(&old);
    // SAFETY: owned by the test; contents stay.
    unsafe {
        linux::madvise(old.addr, HUGE_PAGE, libc::MADV_DONTFORK).expect("madvise");
        fake::clear();
        let outcome = remap(old, 8 * HUGE_PAGE, HUGE_PAGE, None);
        assert_eq!(
            outcome,
            Err(RemapError {
                errno: Errno::EFAULT,
                intact: true
            })
        );
        assert_eq!(fake::calls().of(Call::Mmap), 0);
    }
    check(&old, old.len);
    release(old);
}

#[test]
fn a_lost_source_is_noticed() {
    // Low down, where the kernel puts nothing of its own accord.
    let old = map_aligned_at_hint(32 << 30, 2 * HUGE_PAGE, HUGE_PAGE)
        .expect("maps")
        .mapping;
    release(old);
    fake::fail_kind(Call::Mremap, 1, Errno::ENOMEM);
    // SAFETY: nothing is mapped there any more, so nothing can be moved.
    let outcome = unsafe { remap(old, 6 * HUGE_PAGE, HUGE_PAGE, None) };
    assert_eq!(
        outcome,
        Err(RemapError {
            errno: Errno::EFAULT,
            intact: false
        })
    );
    fake::clear();
}

/// A place that accepts every address but one, or none.
struct Except(Option<usize>, std::sync::Mutex<Vec<usize>>);

impl Place for Except {
    fn enter(&self, addr: usize) -> Result<bool, Errno> {
        let refused = self.0.ok_or(Errno::ENOMEM)?;
        if addr != refused {
            self.1.lock().expect("no panic").push(addr);
        }
        Ok(addr != refused)
    }
    fn leave(&self, addr: usize) {
        self.1
            .lock()
            .expect("no panic")
            .retain(|&held| held != addr);
    }
    fn latest(&self) -> usize {
        0
    }
}

#[test]
fn a_move_goes_where_the_place_accepts_it() {
    let (old, wall) = hemmed_in(2 * HUGE_PAGE);
    fill(&old);
    let probe = map_aligned(4 * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    release(probe);
    let place = Except(Some(probe.addr), Default::default());
    // SAFETY: owned by the test.
    unsafe {
        let new = remap(old, 4 * HUGE_PAGE, HUGE_PAGE, Some(&place)).expect("remap");
        assert_ne!(new.addr, probe.addr);
        assert_eq!(*place.1.lock().expect("no panic"), [new.addr]);
        check(&new, old.len);
        fill(&new);
        let blocked = map_aligned_at_hint(new.end(), HUGE_PAGE, HUGE_PAGE).expect("maps");
        let refused = remap(
            new,
            8 * HUGE_PAGE,
            HUGE_PAGE,
            Some(&Except(None, Default::default())),
        );
        if blocked.honoured {
            assert_eq!(
                refused,
                Err(RemapError {
                    errno: Errno::ENOMEM,
                    intact: true
                })
            );
        }
        release(blocked.mapping);
        let left = refused.unwrap_or(new);
        check(&left, new.len);
        release(left);
    }
    release(wall);
}

#[test]
fn a_target_that_was_accepted_is_left_where_the_move_fails() {
    let (old, wall) = hemmed_in(2 * HUGE_PAGE);
    fill(&old);
    let place = Except(Some(0), Default::default());
    // The attempt to grow in place, then the move.
    fake::fail_kind_from(Call::Mremap, 1, Errno::ENOMEM);
    // SAFETY: owned by the test.
    let refused = unsafe { remap(old, 4 * HUGE_PAGE, HUGE_PAGE, Some(&place)) };
    assert!(refused.is_err_and(|error| error.intact));
    assert!(place.1.lock().expect("no panic").is_empty());
    check(&old, old.len);
    release(old);
    release(wall);
}

#[test]
fn a_random_life_of_growing_and_shrinking() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut m = map_aligned(HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    fill(&m);
    for _ in 0..120 {
        let len = rng.random_range(1..24 * HUGE_PAGE);
        let old = m;
        // SAFETY: owned by the test; the tail is refilled below.
        unsafe {
            m = remap_ok(old, len, HUGE_PAGE);
            assert!(m.len >= len && m.addr.is_multiple_of(HUGE_PAGE));
            check(&m, old.len.min(m.len));
            if rng.random_ratio(1, 4) {
                purge(m.addr, m.len).expect("purge");
            }
        }
        fill(&m);
    }
    release(m);
}
