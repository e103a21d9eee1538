//! Tests of [`super`].

use super::*;
use crate::os::fake::{self, Call, faults};
use crate::os::mapping::{Mapping, map_aligned, unmap};

fn resident(m: &Mapping) -> usize {
    fake::resident(m.addr, m.len)
}

fn with_mapping(huge_pages: usize, f: impl Fn(&Mapping)) {
    let m = map_aligned(huge_pages * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    f(&m);
    fake::clear();
    // SAFETY: owned here.
    unsafe { unmap(m).expect("unmap") };
}

#[test]
fn populates_everything_in_steps_of_a_huge_page() {
    assert!(populate_supported());
    with_mapping(3, |m| {
        fake::clear();
        // Off a boundary at both ends: five steps would be one too many.
        let page = sys::page_size();
        // SAFETY: owned here.
        let done = unsafe { populate(m.addr + page, m.len - 2 * page) };
        assert_eq!(done, Ok(m.len - 2 * page));
        assert_eq!(fake::calls().of(Call::Madvise), 3);
        assert_eq!(resident(m), m.len - 2 * page);
    });
}

#[test]
fn touching_keeps_contents() {
    with_mapping(1, |m| {
        // SAFETY: owned here.
        unsafe {
            *(m.addr as *mut u8) = 9;
            assert_eq!(touch(m.addr, m.len), m.len);
            assert_eq!(*(m.addr as *mut u8), 9);
        }
        assert_eq!(resident(m), m.len);
    });
}

/// The shared page of zeroes counts as resident, and would fault again: only writes tell. What this
/// guards against happens in optimised builds.
#[test]
fn touched_and_populated_pages_are_written_without_a_fault() {
    for populates in [false, true] {
        with_mapping(2, |m| {
            // SAFETY: owned here.
            unsafe {
                crate::os::huge::refuse(m.addr, m.len).expect("refuse");
                if populates {
                    populate(m.addr, m.len).expect("populate");
                } else {
                    touch(m.addr, m.len);
                }
            }
            let before = faults();
            for at in (m.addr..m.addr + m.len).step_by(sys::page_size()) {
                // SAFETY: owned here.
                unsafe { (at as *mut u8).write_volatile(1) };
            }
            assert!(faults() - before < 16, "{}", faults() - before);
        });
    }
}

#[test]
fn an_interrupted_step_is_repeated_and_a_failed_one_ends_the_run() {
    with_mapping(3, |m| {
        assert!(populate_supported());
        fake::fail_kind(Call::Madvise, 2, Errno::EINTR);
        // SAFETY: owned here.
        assert_eq!(unsafe { populate(m.addr, m.len) }, Ok(m.len));
        fake::fail_kind_from(Call::Madvise, 2, Errno::EHWPOISON);
        // SAFETY: as above.
        assert_eq!(unsafe { populate(m.addr, m.len) }, Ok(HUGE_PAGE));
        fake::fail_kind_from(Call::Madvise, 1, Errno::ENOMEM);
        // SAFETY: as above.
        assert_eq!(unsafe { populate(m.addr, m.len) }, Err(Errno::ENOMEM));
    });
}

#[test]
fn an_old_kernel_is_recognised_and_a_passing_failure_is_not_remembered() {
    fake::fail_kind(Call::Madvise, 1, Errno::EINVAL);
    assert_eq!(probe(), (false, true));
    fake::fail_kind(Call::Madvise, 1, Errno::ENOMEM);
    assert_eq!(probe(), (false, false));
    fake::fail_kind(Call::Mmap, 1, Errno::ENOMEM);
    assert_eq!(probe(), (false, false));
    fake::clear();
    assert_eq!(probe(), (true, true));
}

#[test]
fn the_budget_stops_a_run_short() {
    with_mapping(4, |m| {
        let (mut steps, mut left) = (0, 2 * HUGE_PAGE + 1);
        // SAFETY: the step touches nothing.
        let done = unsafe {
            run_within(
                m.addr,
                m.len,
                |n| left.checked_sub(n).map(|l| left = l).is_some(),
                |_, _| {
                    steps += 1;
                    Ok(())
                },
            )
        };
        assert_eq!((done, steps), (Ok(2 * HUGE_PAGE), 2));
        assert_eq!(resident(m), 0);
    });
}
