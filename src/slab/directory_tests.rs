//! Tests of [`super`]: which address gets an index, and what is found if none has it.

use super::*;
use crate::os::fake::{self, Call};
use std::boxed::Box;
use std::thread;

/// The smallest span: 512 indexes, none of them mapped memory.
fn small() -> Directory {
    let directory = Directory::new(Box::leak(Box::new(Parts::new())));
    let limit = Directory::table_bytes(MIN_SPAN_SHIFT) * 16;
    directory.init(0, Some(limit)).expect("a table of 128 KiB");
    directory
}

const SPAN: usize = 1 << MIN_SPAN_SHIFT;

#[test]
fn before_the_tables_nothing_is_held() {
    let directory = Directory::new(Box::leak(Box::new(Parts::new())));
    for addr in [0, 1, SUPERSLAB - 1, SUPERSLAB, SPAN, usize::MAX] {
        assert!(!directory.ready() && !directory.holds(addr));
        assert_eq!(directory.tag(addr), Tag::NONE);
    }
}

#[test]
fn an_index_is_for_one_address_at_a_time() {
    let directory = small();
    for base in [SUPERSLAB, 5 * SUPERSLAB, SPAN - SUPERSLAB] {
        assert_eq!(directory.enter(base), Ok(true));
        assert_eq!(directory.latest(), base);
        for other in [base, base + SPAN, base + 77 * SPAN] {
            assert_eq!(directory.enter(other), Ok(false), "{other:#x}");
        }
        directory.set(base, Slots::SUPERSLAB, Tag::new(7, Class::new(3)));
        for inside in [base, base + 1, base + SUPERSLAB - 1] {
            assert!(directory.holds(inside));
            assert_eq!(directory.own_tag(inside), Tag::new(7, Class::new(3)));
            // The same word, but another holder's address.
            assert_eq!(directory.tag(inside + SPAN), Tag::new(7, Class::new(3)));
            assert!(!directory.holds(inside + SPAN));
            assert_eq!(directory.own_tag(inside + SPAN), Tag::NONE);
        }
        assert!(!directory.holds(base - 1) && !directory.holds(base + SUPERSLAB));
        directory.set(base, Slots::SUPERSLAB, Tag::NONE);
        directory.leave(base);
        assert!(!directory.holds(base));
        assert_eq!(directory.enter(base + 77 * SPAN), Ok(true));
        assert!(directory.holds(base + 77 * SPAN) && !directory.holds(base));
        directory.leave(base + 77 * SPAN);
    }
}

#[test]
fn null_and_its_neighbours_are_never_held() {
    let directory = small();
    for multiple in 0..5 {
        assert_eq!(directory.enter(multiple * SPAN), Ok(false));
    }
    for addr in [0, 16, SUPERSLAB - 1] {
        assert!(!directory.holds(addr));
        assert_eq!(directory.tag(addr), Tag::NONE);
    }
}

#[test]
fn where_a_part_cannot_be_made_writable_a_new_one_takes_its_place() {
    let directory = small();
    fake::clear();
    fake::fail_kind_from(Call::Mprotect, 1, Errno::EPERM);
    assert_eq!(directory.enter(SUPERSLAB), Ok(true));
    directory.set(SUPERSLAB, Slots::ONE, Tag::new(7, Class::new(1)));
    // A part that exists is not replaced, which would take its tags away.
    assert_eq!(directory.enter(2 * SUPERSLAB), Ok(true));
    assert_eq!(directory.own_tag(SUPERSLAB), Tag::new(7, Class::new(1)));
    fake::clear();
}

#[test]
fn of_several_threads_that_enter_one_index_one_succeeds() {
    let directory = small();
    for round in 0..200 {
        let entered: usize = thread::scope(|scope| {
            let threads: std::vec::Vec<_> = (0..3)
                .map(|n| {
                    let directory = &directory;
                    scope.spawn(move || {
                        let addr = SUPERSLAB * (1 + round % 100) + n * SPAN;
                        let entered = directory.enter(addr) == Ok(true);
                        if entered {
                            assert!(directory.holds(addr));
                            directory.set(addr, Slots::ONE, Tag::new(n as u32 + 1, Class::new(1)));
                            assert_eq!(
                                directory.own_tag(addr),
                                Tag::new(n as u32 + 1, Class::new(1))
                            );
                        }
                        entered
                    })
                })
                .collect();
            let outcomes = threads.into_iter().map(|t| t.join().expect("no panic"));
            outcomes.map(usize::from).sum()
        });
        assert_eq!(entered, 1, "round {round}");
        let base = SUPERSLAB * (1 + round % 100);
        let holder = (0..3).find(|n| directory.holds(base + n * SPAN));
        let addr = base + holder.expect("one of them") * SPAN;
        directory.set(addr, Slots::ONE, Tag::NONE);
        directory.leave(addr);
    }
}

#[test]
fn the_span_follows_the_machine_and_the_limit() {
    let shift = |machine, limit| {
        let directory = Directory::new(Box::leak(Box::new(Parts::new())));
        directory.init(machine, limit).expect("a table");
        (directory.entry_mask.load(Ordering::Relaxed) + 1).ilog2() + SUPERSLAB_SHIFT
    };
    assert_eq!(shift(0, None), SPAN_SHIFT);
    assert_eq!(shift(24 << 30, None), SPAN_SHIFT);
    assert_eq!(shift(3 << 40, None), 44);
    assert_eq!(shift(usize::MAX, None), MAX_SPAN_SHIFT);
    assert_eq!(shift(24 << 30, Some(1 << 20)), MIN_SPAN_SHIFT);
    let limited = shift(24 << 30, Some(1 << 30));
    assert!((35..SPAN_SHIFT).contains(&limited), "{limited}");
}
