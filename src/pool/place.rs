//! Where the pools live, one for each node, and what is known of all of them together.
//!
//! The bounds on retained memory apply to the whole process. With one node they follow its pool's counts. With several, each
//! pool shows the counts that the others need outside its lock, so that a release still takes one lock. A sum over the nodes
//! may be off by what other threads do meanwhile, and is exact in a process at rest.

use super::{Account, Counts, NONE, Pool, units};
use crate::base::account::{self, Kind};
use crate::base::units::{SLOTS, Slots};
use crate::os::lock::{Lock, Locked, LockedGuard};
use crate::os::numa::{self, Node};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A pool in cache lines of its own, so that nodes share none.
#[repr(align(128))]
struct Place {
    pool: Locked<Pool>,
    /// With several nodes: what the pool counted when its lock was last released. Written only under that lock, and read as an
    /// estimate that orders nothing, so Relaxed.
    claimed_slots: AtomicUsize,
    dirty_bytes: AtomicUsize,
    allowance: AtomicUsize,
}

static PLACES: [Place; numa::MOST] = [const {
    Place {
        pool: Locked::new(Pool::new()),
        claimed_slots: AtomicUsize::new(0),
        dirty_bytes: AtomicUsize::new(0),
        allowance: AtomicUsize::new(0),
    }
}; numa::MOST];

/// The values that the bounds on retained memory follow.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    pub(super) claimed_slots: Slots,
    pub(super) dirty_bytes: usize,
    /// What [`Demand`](crate::base::demand::Demand) allows; each node has its own.
    pub(super) allowance: usize,
}

/// A node's pool, locked.
#[must_use = "the lock is released when the guard is dropped"]
pub(super) struct Held {
    node: Node,
    pool: LockedGuard<'static, Pool>,
}

pub(super) fn lock(node: Node) -> Held {
    Held {
        node,
        pool: PLACES[node.index()].pool.lock(),
    }
}

impl Held {
    pub(super) fn node(&self) -> Node {
        self.node
    }

    /// The values for the bounds, summed over all nodes.
    pub(super) fn whole(&self) -> Whole {
        let mut whole = Whole {
            claimed_slots: self.counts.claimed_slots,
            dirty_bytes: self.counts.dirty_bytes,
            allowance: self.allowance(),
        };
        for other in numa::all().filter(|node| *node != self.node) {
            let place = &PLACES[other.index()];
            whole.claimed_slots += Slots::new(place.claimed_slots.load(Relaxed));
            whole.dirty_bytes += place.dirty_bytes.load(Relaxed);
            whole.allowance += place.allowance.load(Relaxed);
        }
        whole
    }
}

impl Drop for Held {
    /// Shows the counts. The lock is released afterwards, when the fields are dropped.
    #[inline]
    fn drop(&mut self) {
        let dirty = self.counts.dirty_bytes;
        account::change(Kind::FreeSlots, self.shown_dirty, dirty);
        self.shown_dirty = dirty;
        if numa::count() > 1 {
            let place = &PLACES[self.node.index()];
            place
                .claimed_slots
                .store(self.counts.claimed_slots.count(), Relaxed);
            place.dirty_bytes.store(self.counts.dirty_bytes, Relaxed);
            place.allowance.store(self.allowance(), Relaxed);
        }
    }
}

impl Deref for Held {
    type Target = Pool;
    #[inline]
    fn deref(&self) -> &Pool {
        &self.pool
    }
}

impl DerefMut for Held {
    #[inline]
    fn deref_mut(&mut self) -> &mut Pool {
        &mut self.pool
    }
}

/// The counts of all pools, read one after another.
pub(crate) fn counts() -> Counts {
    numa::all().fold(Counts::NONE, |sum, node| {
        let counts = lock(node).counts;
        Counts {
            mapped: sum.mapped + counts.mapped,
            in_use: sum.in_use + counts.in_use,
            retained: sum.retained + counts.retained,
            purged: sum.purged + counts.purged,
            claimed_slots: sum.claimed_slots + counts.claimed_slots,
            filled_slots: sum.filled_slots + counts.filled_slots,
            larger_slots: sum.larger_slots + counts.larger_slots,
            dirty_bytes: sum.dirty_bytes + counts.dirty_bytes,
            huge_requested: sum.huge_requested + counts.huge_requested,
            left_huge: sum.left_huge + counts.left_huge,
            returned: sum.returned + counts.returned,
        }
    })
}

/// For a fork: the pools' locks, in the order in which they are taken.
pub(crate) fn fork_locks() -> impl Iterator<Item = &'static Lock> {
    numa::all().map(|node| PLACES[node.index()].pool.raw())
}

/// Debug walker: every listed superslab is in the pool of its node and in the list its bits ask for, the dirty queue is in
/// order of age, the counts of free memory are the sums, and each pool shows what it counts.
pub(crate) fn is_valid() -> bool {
    numa::all().all(|node| is_one_valid(&lock(node)))
}

fn is_one_valid(pool: &Held) -> bool {
    let mut sum = NONE;
    let (mut ok, mut left_huge) = (true, 0);
    // SAFETY: the lock is held.
    unsafe {
        pool.by_free.for_each(|superslab, in_its_list| {
            let is = Account::of(superslab);
            ok &= in_its_list && (*superslab).in_list && (*superslab).node == pool.node;
            ok &= (is.dirty_slots > Slots::NONE) == (*superslab).in_dirty;
            let bits = (*superslab).free & (*superslab).dirty;
            ok &= usize::from((*superslab).held) == units(superslab, bits);
            sum.dirty_bytes += is.dirty_bytes;
            sum.retained += is.retained;
            sum.purged += is.purged;
            left_huge += usize::from((*superslab).has_left());
        });
        let (mut turn, mut queued) = (0, 0);
        let mut at = pool.dirty.first();
        while let Some(superslab) = at {
            ok &= (*superslab).in_dirty && (*superslab).dirty_turn > turn;
            turn = (*superslab).dirty_turn;
            queued += 1;
            at = pool.dirty.after(superslab);
        }
        ok &= queued == pool.dirty.len() && turn <= pool.dirty.turns();
    }
    let place = &PLACES[pool.node.index()];
    let shown = numa::count() == 1
        || (place.claimed_slots.load(Relaxed) == pool.counts.claimed_slots.count()
            && place.dirty_bytes.load(Relaxed) == pool.counts.dirty_bytes);
    ok && shown
        && sum.dirty_bytes == pool.counts.dirty_bytes
        && sum.retained == pool.counts.retained
        && sum.purged == pool.counts.purged
        // The full ones are not listed.
        && (left_huge..=pool.counts.mapped).contains(&pool.counts.left_huge)
        && pool.counts.in_use * SLOTS
            >= pool
                .counts
                .claimed_slots
                .count()
                .saturating_sub(pool.in_flight.len() * SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The walker is not blind.
    #[test]
    fn the_walker_sees_planted_faults() {
        type Fault = fn(&mut Pool, isize);
        let faults: [Fault; 4] = [
            |pool, by| pool.counts.dirty_bytes = pool.counts.dirty_bytes.wrapping_add_signed(by),
            |pool, by| pool.counts.retained = pool.counts.retained.wrapping_add_signed(by),
            |pool, by| pool.counts.purged = pool.counts.purged.wrapping_add_signed(by),
            |pool, by| pool.counts.left_huge = pool.counts.left_huge.wrapping_sub_signed(by << 20),
        ];
        let mut pool = lock(numa::all().next().expect("a node"));
        assert!(is_one_valid(&pool));
        for (number, fault) in faults.iter().enumerate() {
            fault(&mut pool, 1);
            let is_seen = !is_one_valid(&pool);
            fault(&mut pool, -1);
            assert!(is_seen, "fault {number}");
        }
        assert!(is_one_valid(&pool));
    }
}
