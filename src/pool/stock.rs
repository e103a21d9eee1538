//! Superslabs kept ready ahead of demand: mapped, aligned, populated, and not yet used.
//!
//! They are kept for one node: the one whose pool ran dry, if the populating thread can get pages from there.

use super::Pool;
use super::grow::{Begin, acquire, is_populated};
use super::place::lock;
use super::unmap::unmap;
use crate::knobs::{Knobs, Prefault};
use crate::os::numa::{self, Node};
use crate::slab::superslab::Superslab;

/// The node that the calling thread, one of the allocator's own, can stock when `wanted` ran dry. It is `wanted` if the kernel
/// takes the thread's pages from there, else the node the thread runs on (a sandbox may refuse a preference). With one node no
/// call is made.
pub(crate) fn serving(wanted: Node) -> Node {
    if numa::count() == 1 || numa::prefer(wanted) {
        wanted
    } else {
        numa::here()
    }
}

/// Maps and populates one more superslab for the node. Returns false if it did not become resident, because of memory or a
/// limit. No lock may be held.
pub(crate) fn stock(knobs: &Knobs, node: Node) -> bool {
    is_populated(acquire(
        knobs,
        Prefault::Populate,
        node,
        Begin::AheadOfDemand,
    ))
}

/// How many superslabs are ready for the node, on request or ahead of demand, counted up to `limit`.
pub(crate) fn ready(node: Node, limit: usize) -> usize {
    lock(node).unused().take(limit).count()
}

/// Unmaps the superslabs that [`stock`] made ready and nobody used. No lock may be held.
pub(crate) fn unstock() {
    for node in numa::all() {
        let mut pool = lock(node);
        loop {
            // SAFETY: listed superslabs are alive while the lock is held.
            let found = pool.unused().find(|at| unsafe { (**at).ahead });
            let Some(superslab) = found else { break };
            let gone;
            // SAFETY: as above, and no slot of it is claimed.
            (pool, gone) = unsafe { unmap(pool, superslab) };
            if !gone {
                // The kernel's map count is at its limit: the search would find this one for ever.
                break;
            }
        }
    }
}

impl Pool {
    /// The wholly free superslabs that are resident and were never used.
    fn unused(&self) -> impl Iterator<Item = *mut Superslab> {
        // SAFETY: listed superslabs are alive while the lock around `self` is held, and so is their list.
        unsafe {
            self.by_free
                .with_memory(false)
                .filter(|at| (**at).populated && (**at).dirty == 0)
        }
    }
}
