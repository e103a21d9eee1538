//! Superslabs that leave the pool with the memory they hold, for large blocks. A program whose small and large blocks take turns
//! does not fault in for the one what the other freed a moment before.

use super::place::lock;
use crate::base::sync::atomic::Ordering as WordOrdering;
use crate::base::tuning::pool::{LOOKS, WORTH_LENDING};
use crate::base::units::SUPERSLAB;
use crate::os::mapping::{Mapping, Place};
use crate::os::numa::{self, Node};
use crate::slab::directory::DIRECTORY;

/// A superslab's memory, which the pool has no more and the directory does not name, and whether huge pages were asked for, as they
/// may be if `may_be_huge`. No lock may be held.
pub(crate) fn lend(may_be_huge: bool) -> Option<(Mapping, bool)> {
    numa::all().find_map(|node| lend_of(node, may_be_huge))
}

fn lend_of(node: Node, may_be_huge: bool) -> Option<(Mapping, bool)> {
    let mut pool = lock(node);
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::units::{SLOTS, Slots};
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
        if !fake::alone("pool::lend::tests::what_holds_memory_is_lent_once_and_comes_back_as_used")
        {
            return;
        }
        numa::init();
        DIRECTORY.init(0, None).expect("a directory");
        set_retain(Some(64), 1000);
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
            assert!(!unsafe { release(claim.superslab, claim.slot, slots, used, 1) });
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
        let back = claim();
        assert_eq!(back.addr(), addr);
        assert!(!back.clean && DIRECTORY.holds(addr));
        // SAFETY: claimed above.
        assert_eq!(unsafe { (addr as *const u8).read() }, 7);
        assert_eq!(counts().mapped, mapped);
        free(back, 0);
        assert_eq!(counts().dirty_bytes, SUPERSLAB, "all of it was in use");
        assert!(is_valid() && purge_all() >= SUPERSLAB);
    }
}
