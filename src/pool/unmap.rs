//! Giving address space back to the kernel.

use super::place::{Held, lock};
use super::{Pool, units};
use crate::base::sync::atomic::Ordering as WordOrdering;
use crate::base::tuning::pool::{KEEP_MAPPED, REFUSALS};
use crate::base::units::SUPERSLAB;
use crate::os::mapping::{self, Mapping, Place};
use crate::os::numa;
use crate::slab::directory::DIRECTORY;
use crate::slab::superslab::{Superslab, UNIT};
use core::sync::atomic::{AtomicU64, Ordering};

/// Number of calls of [`unmap_empty`] so far. Each marks the superslabs whose unmapping the kernel refused with it. It orders
/// nothing, so Relaxed.
static SEARCHES: AtomicU64 = AtomicU64::new(0);

/// Unmaps the wholly free superslabs when address space is short. No lock may be held.
pub(crate) fn unmap_empty() {
    let search = SEARCHES.fetch_add(1, Ordering::Relaxed) + 1;
    for node in numa::all() {
        let mut pool = lock(node);
        let mut refusals = 0;
        // No more than there are now: other threads may keep emptying superslabs meanwhile.
        for _ in 0..pool.counts.retained + pool.counts.purged {
            // SAFETY: listed superslabs are alive while the lock is held.
            let found = unsafe { pool.by_free.empties().find(|at| (**at).refused != search) };
            let Some(superslab) = found else { break };
            let gone;
            // SAFETY: listed, under the lock, and empty.
            (pool, gone) = unsafe { unmap(pool, superslab) };
            if !gone {
                // SAFETY: the descriptor is the pool's, whose lock is held.
                unsafe { (*superslab).refused = search };
                refusals += 1;
                if refusals == REFUSALS {
                    break;
                }
            }
        }
    }
}

impl Pool {
    /// How many wholly free superslabs without memory may stay mapped.
    pub(super) fn kept_mapped(&self) -> usize {
        (KEEP_MAPPED / numa::count()).max(self.counts.in_use / 2)
    }
}

/// Unmaps a superslab, and returns whether it went. The lock is released for the system call.
///
/// # Safety
/// The superslab is listed in the pool, and no slot of it is claimed.
pub(super) unsafe fn unmap(mut pool: Held, superslab: *mut Superslab) -> (Held, bool) {
    // SAFETY: the pool's lock is held; `take_out` makes the superslab ours alone, as no slot of it is claimed.
    unsafe {
        let node = pool.node();
        pool.take_out(superslab);
        drop(pool);
        let base = (*superslab).base;
        DIRECTORY.descriptor(base).store(0, WordOrdering::Relaxed);
        let gone = mapping::unmap(Mapping {
            addr: base,
            len: SUPERSLAB,
        })
        .is_ok();
        if gone {
            DIRECTORY.leave(base);
        }
        let mut pool = lock(node);
        if gone {
            pool.counts.returned += (units(superslab, u32::MAX) * UNIT) as u64;
            pool.forget(superslab);
        } else {
            // munmap can fail when the map count is at its limit: the superslab stays as it was (rule 14 of `docs/design.md`).
            DIRECTORY
                .descriptor(base)
                .store(superslab as usize, WordOrdering::Relaxed);
            pool.put_back(superslab);
        }
        (pool, gone)
    }
}
