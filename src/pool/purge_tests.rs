use super::*;
use crate::knobs;
use crate::os::fake;
use crate::pool::{Claim, Usage, Want, here, is_valid, obtain, release};
use crate::slab::directory::DIRECTORY;

fn claim(slots: usize) -> (Claim, Slots) {
    let slots = Slots::new(slots);
    let usage = Usage::Larger;
    let want = Want { slots, usage };
    let obtained = obtain(knobs::get(), here(), want, |_| None);
    (obtained.expect("memory").claim, slots)
}

/// Gives up what was claimed, at this time. Returns whether more is retained than the bound allows.
fn free((claim, slots): (Claim, Slots), now: u64) -> bool {
    // SAFETY: claimed above, and given up.
    unsafe { release(claim.superslab, claim.slot, slots, slots.bytes(), now) }
}

#[test]
fn a_trim_within_the_bound_gives_back_nothing() {
    if !fake::alone("pool::purge::tests::a_trim_within_the_bound_gives_back_nothing") {
        return;
    }
    numa::init();
    DIRECTORY.init(0, None).expect("a directory");
    set_retain(Some(4), 1000);
    let [whole, most, more] = [SLOTS, SLOTS - 8, SLOTS].map(claim);
    assert!(!free(whole, 1) && !free(most, 1), "3.5 MiB of 4");
    trim();
    assert_eq!(counts().returned, 0);
    assert!(free(more, 1));
    trim();
    assert_ne!(counts().returned, 0);
}

#[test]
fn as_much_is_reclaimed_as_was_asked_for_and_what_stays_keeps_its_turn() {
    if !fake::alone(
        "pool::purge::tests::as_much_is_reclaimed_as_was_asked_for_and_what_stays_keeps_its_turn",
    ) {
        return;
    }
    numa::init();
    DIRECTORY.init(0, None).expect("a directory");
    set_retain(None, 1000);
    let kept = [claim(1), claim(SLOTS - 1), claim(1), claim(SLOTS - 1)];
    let [_, old, _, new] = kept;
    free(old, 1);
    free(new, 2);
    let dirty = |(claim, _): (Claim, Slots)| {
        // SAFETY: a superslab in use; no other thread is there.
        let at = unsafe { &*claim.superslab };
        (at.dirty & at.free).count_ones() as usize
    };
    for slots in [1, 2, 4] {
        let before = (counts().returned, dirty(old));
        assert_eq!(reclaim(slots * SLOT - UNIT), slots * SLOT);
        assert_eq!(counts().returned - before.0, (slots * SLOT) as u64);
        assert_eq!(dirty(old), before.1 - slots, "of the oldest");
    }
    assert!(is_valid());
    // SAFETY: as above.
    let since = unsafe { (*old.0.superslab).dirty_since };
    assert_eq!(since, 1, "what stays is as old as before");
    let first = claim(1);
    assert_eq!(first.0.addr(), old.0.addr(), "the last slots went");
    assert_eq!(reclaim(usize::MAX), (2 * SLOTS - 2 - 7 - 1) * SLOT);
    assert_eq!(dirty(old) + dirty(new), 0);
    assert!(is_valid());
}

#[test]
fn what_is_released_during_a_purge_makes_the_rest_no_younger() {
    if !fake::alone("pool::purge::tests::what_is_released_during_a_purge_makes_the_rest_no_younger")
    {
        return;
    }
    numa::init();
    DIRECTORY.init(0, None).expect("a directory");
    set_retain(None, 1000);
    let [slot, old, _, new] = [claim(1), claim(SLOTS - 1), claim(1), claim(SLOTS - 1)];
    free(old, 1);
    free(new, 2);
    // As a purge of a part, with a release by another thread meanwhile.
    let superslab = old.0.superslab;
    // SAFETY: listed, and taken out under the lock.
    unsafe {
        let mut pool = lock(Node::FIRST);
        let (turn, since) = ((*superslab).dirty_turn, (*superslab).dirty_since);
        pool.take_out(superslab);
        drop(pool);
        free(slot, 900);
        lock(Node::FIRST).put_back_in_turn(superslab, turn, since);
    }
    assert!(is_valid());
    assert_eq!(
        decay(1500),
        (2 * SLOTS - 1) * SLOT,
        "all was old, or lay with it"
    );
}
