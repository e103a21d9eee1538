//! Superslabs kept ready ahead of demand: mapped, aligned, populated, and not yet used.

use super::grow::acquire;
use super::{POOL, Pool};
use crate::base::units::{SLOTS, SUPERSLAB};
use crate::knobs::{Knobs, Prefault};
use crate::os::mapping;
use crate::slab::superslab::Superslab;

/// Maps and populates one more. False where it did not become resident: memory or a limit ended it. Call it with no
/// lock held.
pub(crate) fn stock(knobs: &Knobs) -> bool {
    acquire(knobs, Prefault::Populate).is_ok_and(|populated| populated)
}

/// How many are ready, counted up to `limit`.
pub(crate) fn ready(limit: usize) -> usize {
    let pool = POOL.lock();
    pool.unused().take(limit).count()
}

/// Gives the memory of ready superslabs back until `keep` are left. Their addresses stay, for the next to grow.
pub(crate) fn unstock(keep: usize) {
    loop {
        let mut pool = POOL.lock();
        let Some(superslab) = pool.unused().nth(keep) else {
            return;
        };
        // SAFETY: listed and wholly free, and the lock is held; from `take_out` on it is this thread's alone.
        unsafe {
            let base = (*superslab).base;
            pool.take_out(superslab);
            drop(pool);
            let purged = mapping::purge(base, SUPERSLAB).is_ok();
            let mut pool = POOL.lock();
            if purged {
                (*superslab).populated = false;
                (*superslab).touched = [0; SLOTS];
                pool.counts.returned += SUPERSLAB as u64;
            }
            pool.put_back(superslab);
            if !purged {
                // A locked page: it would be found again for ever.
                return;
            }
        }
    }
}

impl Pool {
    /// The wholly free superslabs that are resident and were never used.
    fn unused(&self) -> impl Iterator<Item = *mut Superslab> {
        let first = self.by_free.first_empty();
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
