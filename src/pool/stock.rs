//! Superslabs kept ready ahead of demand: mapped, aligned, populated, and not yet used.

use super::grow::acquire;
use super::purge::unmap;
use super::{POOL, Pool};
use crate::knobs::{Knobs, Prefault};
use crate::slab::superslab::{State, Superslab};

/// Maps and populates one more. False where it did not become resident: memory or a limit ended it. Call it with no
/// lock held.
pub(crate) fn stock(knobs: &Knobs) -> bool {
    acquire(knobs, Prefault::Populate, true).is_ok_and(|populated| populated)
}

/// How many are ready, on request or ahead of demand, counted up to `limit`.
pub(crate) fn ready(limit: usize) -> usize {
    let pool = POOL.lock();
    pool.unused().take(limit).count()
}

/// Unmaps what [`stock`] made ready and nobody used. No lock may be held.
pub(crate) fn unstock() {
    let mut pool = POOL.lock();
    loop {
        // SAFETY: listed superslabs are alive while the lock is held.
        let found = pool.unused().find(|at| unsafe { (**at).ahead });
        let Some(superslab) = found else { return };
        // SAFETY: as above, and no slot of it is claimed.
        unsafe {
            pool = unmap(pool, superslab);
            if (*superslab).state != State::Unmapped {
                // The kernel's map count is at its limit: it would be found again for ever.
                return;
            }
        }
    }
}

impl Pool {
    /// The wholly free superslabs that are resident and were never used.
    fn unused(&self) -> impl Iterator<Item = *mut Superslab> {
        let first = self.by_free.first_resident();
        // SAFETY: listed superslabs are alive while the lock around `self` is held, and so is their list.
        unsafe {
            core::iter::successors(first, |at| {
                let next = (**at).list.next;
                (!next.is_null()).then_some(next)
            })
            .filter(|at| (**at).populated && (**at).dirty == 0)
        }
    }
}
