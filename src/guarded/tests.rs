//! What the kernel refuses. The rest is tested on whole processes (`tests/guarded.rs`).

use super::fault::WATCH;
use super::slots::{self, seen};
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use crate::os::thread;
use crate::slab::directory::DIRECTORY;

fn begin() {
    DIRECTORY.begin();
    thread::note_process(thread::pid());
}

/// Whether a guarded block can be had and freed again.
fn works() -> bool {
    match slots::alloc(40, 16, &WATCH) {
        Some(block) => {
            slots::free(block, Some(40));
            true
        }
        None => false,
    }
}

/// Each call in turn, from the first block of the process on.
#[test]
fn a_refused_reservation_ends_the_making_of_blocks() {
    if !fake::alone("guarded::tests::a_refused_reservation_ends_the_making_of_blocks") {
        return;
    }
    begin();
    fake::fail_kind_from(Call::Mmap, 1, Errno::ENOMEM);
    assert!(!works());
    fake::clear();
    assert!(seen::is_over() && slots::mapped() == 0);
    assert!(!works());
    assert_eq!(fake::calls().total(), 0, "the kernel is asked no more");
}

#[test]
fn a_page_that_cannot_be_opened_ends_the_making_of_blocks() {
    if !fake::alone("guarded::tests::a_page_that_cannot_be_opened_ends_the_making_of_blocks") {
        return;
    }
    begin();
    let kept = slots::alloc(40, 16, &WATCH).expect("a block");
    assert!(works());
    fake::fail_kind(Call::Mprotect, 1, Errno::ENOMEM);
    assert!(!works());
    assert!(seen::is_over());
    // What is there stays whole, and is freed like any other.
    slots::free(kept, Some(40));
    assert_eq!(seen::live(), 0);
    fake::clear();
}

#[test]
fn a_page_that_cannot_be_closed_ends_the_making_of_blocks() {
    if !fake::alone("guarded::tests::a_page_that_cannot_be_closed_ends_the_making_of_blocks") {
        return;
    }
    begin();
    let block = slots::alloc(40, 16, &WATCH).expect("a block");
    // The first opens it, in case that the program closed it.
    fake::fail_kind(Call::Mprotect, 2, Errno::ENOMEM);
    slots::free(block, None);
    assert!(seen::is_over() && !works());
    fake::clear();
}

/// Locked memory cannot be given back. It is closed all the same.
#[test]
fn memory_that_stays_is_closed_and_used_again() {
    if !fake::alone("guarded::tests::memory_that_stays_is_closed_and_used_again") {
        return;
    }
    begin();
    fake::fail_kind_from(Call::Madvise, 1, Errno::EINVAL);
    for _ in 0..2 * seen::most() {
        assert!(works());
    }
    fake::clear();
    assert!(!seen::is_over());
    let held: std::vec::Vec<_> = (0..seen::most())
        .map_while(|_| slots::alloc(1, 1, &WATCH))
        .collect();
    assert_eq!((held.len(), seen::live()), (seen::most(), seen::most()));
    fake::clear();
    assert!(!works());
    assert_eq!(
        fake::calls().total(),
        0,
        "no more at once, and no call to find out"
    );
    held.into_iter()
        .for_each(|block| slots::free(block, Some(1)));
    assert!(works());
}
