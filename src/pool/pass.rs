//! Walks along the dirty queues, oldest first. A superslab that is passed over keeps its place.

use super::place::Held;
use crate::os::numa::{self, Node};
use crate::slab::superslab::Superslab;

/// One walk along a pool's dirty queue. The lock is released now and then during it.
pub(super) struct Pass {
    /// The turn of the last superslab examined, and of the last one that stood in the queue when the walk began.
    done: u64,
    last: u64,
    /// Where to continue, if it is still queued then: the superslab and its turn. A descriptor whose superslab is gone stays
    /// with the pool and is not in the queue.
    next: Option<(*mut Superslab, u64)>,
    /// Since when the next one has been dirty, in milliseconds. `None` at the end.
    since: Option<u64>,
}

impl Pass {
    pub(super) const NONE: Pass = Pass {
        done: 0,
        last: 0,
        next: None,
        since: None,
    };

    pub(super) fn begin(pool: &Held) -> Pass {
        let mut pass = Pass {
            last: pool.dirty.turns(),
            ..Pass::NONE
        };
        pass.look(pool);
        pass
    }

    /// The next superslab to examine.
    pub(super) fn look(&mut self, pool: &Held) -> Option<*mut Superslab> {
        self.since = None;
        if self.done >= self.last {
            return None;
        }
        // SAFETY: the pool's lock is held, and what is in its queue is alive.
        let found = unsafe {
            let known = self
                .next
                .filter(|(at, turn)| (**at).in_dirty && (**at).dirty_turn == *turn);
            let mut at = known.map_or_else(|| pool.dirty.first(), |(at, _)| Some(at));
            while let Some(superslab) = at
                && (*superslab).dirty_turn <= self.done
            {
                at = pool.dirty.after(superslab);
            }
            at.filter(|at| (**at).dirty_turn <= self.last)
        };
        // SAFETY: as above.
        self.since = found.map(|at| unsafe { (*at).dirty_since });
        found
    }

    /// Records that `superslab` has been examined.
    ///
    /// # Safety
    /// It is in the pool's dirty queue.
    pub(super) unsafe fn step(&mut self, pool: &Held, superslab: *mut Superslab) {
        // SAFETY: the caller's promise.
        unsafe {
            self.done = (*superslab).dirty_turn;
            match pool.dirty.after(superslab) {
                Some(next) => self.next = Some((next, (*next).dirty_turn)),
                // What stands behind it came after the walk began.
                None => self.last = self.done,
            }
        }
    }

    /// The node whose next superslab has been dirty for the longest.
    pub(super) fn oldest(passes: &[Pass; numa::MOST]) -> Option<Node> {
        numa::all()
            .filter_map(|node| Some((passes[node.index()].since?, node)))
            .min_by_key(|(since, _)| *since)
            .map(|(_, node)| node)
    }
}
