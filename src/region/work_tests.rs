//! Tests of [`super`], on the test's own thread so that the fake kernel's plan applies.

use super::*;
use crate::os::fake::{self, Call};
use crate::os::mapping::{Mapping, map_aligned, unmap};
use std::println;

fn segment(m: &Mapping, how: How) -> Segment {
    Segment {
        addr: m.addr,
        len: m.len,
        how,
    }
}

fn with_mapping(huge_pages: usize, f: impl Fn(&Mapping)) {
    let m = map_aligned(huge_pages * HUGE_PAGE, HUGE_PAGE, None).expect("maps");
    assert!(populate_supported());
    fake::clear();
    f(&m);
    fake::clear();
    // SAFETY: owned here.
    unsafe { unmap(m).expect("unmap") };
}

fn resident(m: &Mapping) -> usize {
    fake::resident(m.addr, m.len)
}

#[test]
fn every_step_is_at_most_a_huge_page_and_the_sum_is_all() {
    with_mapping(5, |m| {
        let mut work = Work::range(std::vec![segment(m, How::Write)], m.len);
        let mut before = 0;
        let done = loop {
            let outcome = work.advance();
            assert!(work.done - before <= HUGE_PAGE && work.done > before);
            before = work.done;
            if let Some(done) = outcome {
                break done.expect("populates");
            }
        };
        assert_eq!(done.bytes, m.len);
        assert!(done.nanos > 0);
        assert_eq!(resident(m), m.len);
    });
}

/// Pages are present before the kernel is asked to populate, and its refusal is still an error.
#[test]
fn a_region_of_its_own_is_touched_before_it_is_populated() {
    with_mapping(2, |m| {
        let plan = Plan {
            touches: true,
            whole: true,
            ..Plan::memory()
        };
        let segments = std::vec![segment(m, How::Write)];
        let mut work = Work::new(
            Keep::Caller,
            Task::Populate(plan),
            segments,
            plan.pace(),
            m.len,
        );
        fake::fail_kind_from(Call::Madvise, 1, Errno::EHWPOISON);
        assert!(matches!(work.advance(), Some(Err(_))));
        assert_eq!(resident(m), HUGE_PAGE);
        fake::clear();
        assert_eq!(work.run_here().expect("populates").bytes, m.len);
        assert_eq!(resident(m), m.len);
    });
}

#[test]
fn every_single_failure_ends_the_work_with_its_reason() {
    with_mapping(3, |m| {
        let mut failed = 0;
        for n in 1.. {
            let plan = Plan {
                locks: true,
                collapses: true,
                whole: true,
                ..Plan::memory()
            };
            let work = Work::new(
                Keep::Caller,
                Task::Populate(plan),
                std::vec![segment(m, How::Write)],
                plan.pace(),
                m.len,
            );
            fake::clear();
            fake::fail_nth(n, Errno::EHWPOISON);
            let outcome = work.run_here();
            let calls = fake::calls().total();
            match outcome {
                // A collapse, the budget and the count of huge bytes may fail: nothing depends on them.
                Ok(done) => assert_eq!(done.bytes, m.len),
                Err(e) => {
                    failed += 1;
                    assert_eq!(e.raw_os_error(), Some(libc::EHWPOISON));
                }
            }
            sys::munlock(m.addr, m.len).ok();
            if calls < n {
                break;
            }
        }
        assert_eq!(
            failed,
            3 * 3,
            "one page, the rest and the lock, for each of three steps"
        );
    });
}

#[test]
fn interruptions_are_repeated_but_not_for_ever() {
    with_mapping(1, |m| {
        fake::fail_kind(Call::Madvise, 1, Errno::EAGAIN);
        let done = Work::range(std::vec![segment(m, How::Write)], m.len).run_here();
        assert_eq!(done.expect("repeated").bytes, m.len);
        fake::clear();
        fake::fail_kind_from(Call::Madvise, 1, Errno::EAGAIN);
        let failed = Work::range(std::vec![segment(m, How::Write)], m.len).run_here();
        assert_eq!(
            failed.expect_err("gives up").raw_os_error(),
            Some(libc::EAGAIN)
        );
        assert_eq!(fake::calls().of(Call::Madvise), RETRIES + 1);
    });
}

#[test]
fn a_budget_that_is_used_up_ends_the_work_short() {
    with_mapping(3, |m| {
        let mut work = Work::range(std::vec![segment(m, How::Write)], m.len);
        while work.done < HUGE_PAGE {
            assert!(work.advance().is_none());
        }
        work.budget = HUGE_PAGE - 1;
        let done = work.run_here().expect("not an error");
        println!("{done:?}");
        assert!(done.bytes >= HUGE_PAGE && done.bytes < m.len, "{done:?}");
        assert_eq!(resident(m), done.bytes);
    });
}

#[test]
fn without_populate_pages_come_in_by_hand() {
    with_mapping(1, |m| {
        // SAFETY: owned here.
        unsafe { *((m.addr + 5) as *mut u8) = 77 };
        populate_by_hand(m.addr, m.len, How::Write).expect("touches");
        assert_eq!(resident(m), m.len);
        // SAFETY: owned here.
        assert_eq!(unsafe { *((m.addr + 5) as *const u8) }, 77);
        fake::fail_kind(Call::Peek, 3, Errno::EPERM);
        assert_eq!(
            populate_by_hand(m.addr, m.len, How::Read),
            Err(Errno::EPERM)
        );
    });
    assert_eq!(
        populate_by_hand(4096, 4096, How::Read),
        Err(Errno::EFAULT),
        "nothing is there"
    );
}

#[test]
fn a_truncated_file_is_named_as_the_reason() {
    let failure = Failure {
        errno: Errno::EFAULT,
        bytes: 4096,
        reads: true,
    };
    assert_eq!(failure.into_io().kind(), io::ErrorKind::UnexpectedEof);
    let other = Failure {
        errno: Errno::EFAULT,
        bytes: 4096,
        reads: false,
    };
    assert_eq!(other.into_io().raw_os_error(), Some(libc::EFAULT));
}
