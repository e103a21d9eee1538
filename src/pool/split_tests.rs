//! What a superslab on huge pages asks of the kernel when parts of it go back, counted. Each test is alone in its process.

use super::place::lock;
use super::*;
use crate::base::tuning::pool::LEFT_MOST;
use crate::base::units::{SLOTS, SUPERSLAB};
use crate::knobs;
use crate::os::fake::{self, Call};
use crate::os::sys::Errno;
use crate::os::{huge, numa};
use crate::slab::directory::DIRECTORY;

/// What was asked since the last question: huge pages, and none any more.
fn asked() -> (u32, u32) {
    let [wished, refused] = [libc::MADV_HUGEPAGE, libc::MADV_NOHUGEPAGE].map(fake::advised);
    fake::clear();
    (wished, refused)
}

fn alone(name: &str) -> bool {
    if !fake::alone(&std::format!("pool::split_tests::{name}")) {
        return false;
    }
    numa::init();
    DIRECTORY.init(0, None).expect("a directory");
    if huge::system_thp() == huge::Thp::Never {
        std::eprintln!("{name}: the system has no huge pages");
        return false;
    }
    // What the first wish of a process tries out is not counted.
    free(take(1), 1);
    assert!(purge_all() > 0);
    asked();
    true
}

fn take(slots: usize) -> Claim {
    let mut knobs = *knobs::get();
    knobs.thp = ThpPolicy::Always;
    let (slots, usage) = (Slots::new(slots), Usage::Filled);
    let want = Want { slots, usage };
    obtain(&knobs, here(), want, |_| None)
        .expect("memory")
        .claim
}

/// Back to the pool, every byte used.
fn free(claim: Claim, slots: usize) {
    let slots = Slots::new(slots);
    // SAFETY: claimed, and given up.
    let _ = unsafe { release(claim.superslab, claim.slot, slots, slots.bytes(), 1) };
}

fn has_left() -> bool {
    assert!(is_valid());
    let counts = counts();
    let left = counts.left_huge * SUPERSLAB + counts.huge_requested;
    assert_eq!(left, counts.mapped * SUPERSLAB);
    counts.left_huge == 1
}

#[test]
fn a_split_huge_page_is_refused_once_and_asked_for_again_when_begun_anew() {
    if !alone("a_split_huge_page_is_refused_once_and_asked_for_again_when_begun_anew") {
        return;
    }
    for wished in [0, 1] {
        let (some, rest) = (take(8), take(SLOTS - 8));
        assert_eq!(some.superslab, rest.superslab);
        assert_eq!(asked(), (wished, 0));
        free(rest, SLOTS - 8);
        assert_eq!(purge_all(), (SLOTS - 8) * SLOT);
        assert_eq!(asked(), (0, 1), "it is split");
        assert!(has_left());
        free(take(4), 4);
        assert_eq!(purge_all(), 4 * SLOT);
        assert_eq!(asked(), (0, 0), "it was split before");
        free(some, 8);
        assert_eq!(purge_all(), 8 * SLOT);
        assert_eq!(asked(), (0, 0), "it has no page now");
        assert!(has_left());
    }
    // What goes as a whole stays what it was.
    let all = take(SLOTS);
    assert_eq!(asked(), (1, 0));
    free(all, SLOTS);
    assert_eq!(purge_all(), SUPERSLAB);
    free(take(SLOTS), SLOTS);
    assert_eq!(asked(), (0, 0));
    assert!(!has_left());
}

#[test]
fn what_the_kernel_or_the_bound_refuses_is_split_all_the_same() {
    if !alone("what_the_kernel_or_the_bound_refuses_is_split_all_the_same") {
        return;
    }
    let mut some = take(8);
    let part = SLOTS - 8;
    // The pages stay: nothing is split.
    free(take(part), part);
    fake::fail_kind_from(Call::Madvise, 1, Errno::EINVAL);
    assert_eq!(purge_all(), 0);
    assert_eq!(asked(), (0, 0));
    // The pages go, and the advice is not taken.
    fake::fail_kind(Call::Madvise, 2, Errno::ENOMEM);
    assert_eq!(purge_all(), part * SLOT);
    assert_eq!(asked(), (0, 1));
    assert!(!has_left());
    for given in [LEFT_MOST - 1, LEFT_MOST] {
        free(some, 8);
        assert!(purge_all() > 0);
        some = take(8);
        free(take(part), part);
        asked();
        lock(here()).counts.left_huge += given;
        assert_eq!(purge_all(), part * SLOT);
        assert_eq!(asked(), (0, u32::from(given < LEFT_MOST)));
        lock(here()).counts.left_huge -= given;
    }
    assert!(!has_left());
}
