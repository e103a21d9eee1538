//! Superslabs that change between the pool and another store, that of large blocks, with the memory they hold. A program whose
//! small and large blocks take turns does not fault in for the one what the other freed a moment before.

use super::grow::{descriptor, put_spare};
use super::place::{Held, lock};
use super::{Account, Claim, NONE, Pool, Usage, Want, purge, recount};
use crate::base::sync::atomic::Ordering as WordOrdering;
use crate::base::tuning::pool::{LOOKS, WORTH_LENDING};
use crate::base::units::{SLOT, SLOTS, SUPERSLAB};
use crate::knobs::{Knobs, Prefault};
use crate::os::clock;
use crate::os::huge;
use crate::os::mapping::{Mapping, Place};
use crate::os::numa::{self, Node};
use crate::slab::directory::DIRECTORY;
use crate::slab::superslab::{State, Superslab, UNIT};

/// The memory of a superslab of the calling thread's node, which the pool has no more and the directory does not name, and whether
/// huge pages were asked for, as they may be if `may_be_huge`. What a knob or prewarming reserves stays. No lock may be held.
pub(crate) fn lend(may_be_huge: bool) -> Option<(Mapping, bool)> {
    let node = numa::here();
    let mut pool = lock(node);
    if pool.whole().dirty_bytes < purge::reserved() + SUPERSLAB {
        return None;
    }
    // SAFETY: listed superslabs are alive while the lock is held. No slot of one that is found is claimed, so `take_out` makes it
    // ours alone; what was populated ahead of use stays.
    unsafe {
        let superslab = pool
            .by_free
            .with_memory(may_be_huge)
            .take(LOOKS)
            .find(|at| !(**at).populated && (**at).held >= WORTH_LENDING)?;
        pool.take_out(superslab);
        drop(pool);
        let (addr, huge) = ((*superslab).base, (*superslab).huge);
        DIRECTORY.descriptor(addr).store(0, WordOrdering::Relaxed);
        DIRECTORY.leave(addr);
        lock(node).forget(superslab);
        let len = SUPERSLAB;
        Some((Mapping { addr, len }, huge))
    }
}

/// Gives a superslab's worth of memory, on huge pages or not as asked if it can: its address, which it has entered into the
/// directory, and whether it is on huge pages.
pub(crate) type Lender = fn(huge: bool) -> Option<(usize, bool)>;

/// Claims from a superslab of memory that the lender has, if as many more slots were claimed within the last purge delay: what grows
/// anew would fault in for large blocks what it saves. None of it serves slabs of which a page or two will be used, nor does any where
/// superslabs are to lie on their thread's node or to be populated.
#[cold]
#[inline(never)]
pub(super) fn borrow(
    knobs: &Knobs,
    node: Node,
    dense: bool,
    want: Want,
    lender: Lender,
) -> Option<Claim> {
    if want.usage == Usage::Light || numa::count() > 1 || knobs.prefault != Prefault::Off {
        return None;
    }
    let comes_again =
        |pool: Held| pool.counts.claimed_slots.bytes() + SUPERSLAB <= pool.demand.peak();
    if !comes_again(lock(node)) {
        return None;
    }
    let descriptor = descriptor(node)?.as_ptr();
    let Some((base, huge)) = lender(dense) else {
        put_spare(node, descriptor);
        return None;
    };
    if !huge {
        // As all superslabs do. SAFETY: advice on memory that is the pool's from here on.
        let _ = unsafe { huge::refuse(base, SUPERSLAB) };
    }
    DIRECTORY
        .descriptor(base)
        .store(descriptor as usize, WordOrdering::Relaxed);
    let mut pool = lock(node);
    // SAFETY: the descriptor came from the spare list or is fresh: it is in no list, and no other thread refers to it.
    unsafe {
        (*descriptor).ahead = false;
        pool.add(descriptor, node, base, huge, false);
        pool.fill(descriptor);
        Some(pool.claim_in(descriptor, 0, want))
    }
}

impl Pool {
    /// Lists a superslab that was just mapped.
    ///
    /// # Safety
    /// The caller holds the lock around `self`. The descriptor is in no list, and no other thread refers to it.
    pub(super) unsafe fn add(
        &mut self,
        descriptor: *mut Superslab,
        node: Node,
        base: usize,
        huge: bool,
        populated: bool,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            (*descriptor).base = base;
            (*descriptor).node = node;
            (*descriptor).free = u32::MAX;
            (*descriptor).dirty = 0;
            ((*descriptor).filled, (*descriptor).larger) = (0, 0);
            let resident = if populated { SLOT / UNIT } else { 0 };
            (*descriptor).touched = [resident as u8; SLOTS];
            (*descriptor).held = 0;
            (*descriptor).huge = huge;
            (*descriptor).split = false;
            (*descriptor).populated = populated;
            (*descriptor).in_dirty = false;
            (*descriptor).in_list = false;
            (*descriptor).state = State::Pooled;
            self.counts.mapped += 1;
            self.counts.huge_requested += if huge { SUPERSLAB } else { 0 };
            self.relist(descriptor, NONE);
        }
    }

    /// All of a superslab, which is listed and wholly free, holds what another store wrote there.
    ///
    /// # Safety
    /// The caller holds the lock around `self`, and the superslab is listed in it.
    unsafe fn fill(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller's promise.
        unsafe {
            let was = Account::of(superslab);
            self.by_free.remove(superslab);
            (*superslab).dirty = u32::MAX;
            (*superslab).touched = [(SLOT / UNIT) as u8; SLOTS];
            recount(superslab);
            (*superslab).dirty_since = clock::now_ms();
            self.relist(superslab, was);
        }
    }

    /// A superslab in flight is the pool's no more.
    ///
    /// # Safety
    /// As for [`Pool::forget`].
    pub(super) unsafe fn went(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller's promise.
        unsafe {
            self.in_flight.remove(superslab);
            self.counts.mapped -= 1;
            self.counts.huge_requested -= if (*superslab).huge { SUPERSLAB } else { 0 };
            self.counts.left_huge -= usize::from((*superslab).has_left());
            (*superslab).state = State::Unmapped;
        }
    }

    /// The same, for good: its descriptor is free for another.
    ///
    /// # Safety
    /// The caller holds the lock around `self`. The superslab is in flight, and its memory somebody else's or gone.
    pub(super) unsafe fn forget(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller's promise.
        unsafe {
            self.went(superslab);
            (*superslab).list.next = self.spare;
        }
        self.spare = superslab;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::account::{self, Kind};
    use crate::base::units::Slots;
    use crate::knobs;
    use crate::os::fake;
    use crate::pool::{
        Usage, Want, counts, here, is_valid, obtain, purge_all, release, set_retain,
    };
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    static LENT: AtomicUsize = AtomicUsize::new(0);

    /// What a store of large blocks would do with what it has.
    fn lender(_: bool) -> Option<(usize, bool)> {
        let addr = LENT.swap(0, Relaxed);
        (addr != 0 && DIRECTORY.enter(addr) == Ok(true)).then_some((addr, false))
    }

    #[test]
    fn what_holds_memory_is_lent_once_and_comes_back_as_used() {
        if !fake::alone(
            "pool::exchange::tests::what_holds_memory_is_lent_once_and_comes_back_as_used",
        ) {
            return;
        }
        numa::init();
        DIRECTORY.init(0, None).expect("a directory");
        set_retain(None, 3_600_000);
        purge::RETAIN_LEAST.store(64 << 20, Relaxed);
        let slots = Slots::new(SLOTS);
        let usage = Usage::Larger;
        let claim = || {
            let want = Want { slots, usage };
            obtain(knobs::get(), here(), want, lender)
                .expect("memory")
                .claim
        };
        let free = |claim: crate::pool::Claim, used| {
            // SAFETY: claimed here, and given up.
            assert!(!unsafe { release(claim.superslab, claim.slot, slots, used, clock::now_ms()) });
        };
        let (little, much) = (claim(), claim());
        assert!(little.clean && much.clean);
        assert_eq!(lend(true), None, "all are in use");
        free(little, SUPERSLAB / 2);
        assert_eq!(lend(true), None, "half of it holds memory");
        let addr = much.addr();
        // SAFETY: claimed above.
        unsafe { (addr as *mut u8).write(7) };
        free(much, SUPERSLAB);
        let mapped = counts().mapped;
        let len = SUPERSLAB;
        assert_eq!(lend(false), Some((Mapping { addr, len }, false)));
        assert_eq!(counts().mapped, mapped - 1);
        assert!(!DIRECTORY.holds(addr) && is_valid());
        assert_eq!(lend(true), None, "it is lent");

        // The half that holds memory is claimed first.
        let first = claim();
        assert_ne!(first.addr(), addr);
        LENT.store(addr, Relaxed);
        account::change(Kind::Cached, 0, SUPERSLAB);
        let back = claim();
        assert_eq!(back.addr(), addr);
        assert!(!back.clean && DIRECTORY.holds(addr));
        // SAFETY: claimed above.
        assert_eq!(unsafe { (addr as *const u8).read() }, 7);
        assert_eq!(counts().mapped, mapped);
        // What grows anew comes from the kernel.
        LENT.store(addr, Relaxed);
        let more = claim();
        assert!(more.clean && LENT.load(Relaxed) == addr);
        free(more, 0);
        free(back, 0);
        assert_eq!(counts().dirty_bytes, SUPERSLAB, "all of it was in use");
        set_retain(Some(1), 3_600_000);
        assert_eq!(lend(true), None, "a knob reserves some of it");
        assert!(is_valid() && purge_all() >= SUPERSLAB);
    }
}
