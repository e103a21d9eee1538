//! Walks over all checked slabs: for statistics, for a last look, and for tests.

use super::geometry::Kind;
use super::record::State;
use super::report::Finding;
use super::slab::Checked;
use super::store::{Left, STORE, Store};
#[cfg(test)]
use super::table;
use crate::base::size_class::Class;

/// Calls `found` with a size class, its checked slabs and the blocks of them that the program holds, for each class that has
/// any.
pub(crate) fn each_class(mut found: impl FnMut(Class, u64, u64)) {
    let store = STORE.lock();
    for kind in Kind::all() {
        let group = &store.groups[kind.index()];
        if group.slabs > 0 {
            found(kind.class(), group.slabs as u64, group.allocated as u64);
        }
    }
}

impl Store {
    /// Gives back the listed slabs of a kind of which nothing is allocated.
    pub(super) fn retire_empty(&mut self, kind: Kind) -> Result<Left, Finding> {
        let mut left = Left::default();
        let group = &self.groups[kind.index()];
        for first in [group.open.first(), group.used.first()] {
            let mut at = first;
            // SAFETY: listed slabs are open, and the lock around `self` is held.
            while let Some(slab) = unsafe { at.as_mut() } {
                let next = slab.next;
                if slab.allocated() == 0 {
                    // SAFETY: as above.
                    left = left.and(unsafe { self.retire(at)? });
                }
                at = next;
            }
        }
        Ok(left)
    }

    /// Checks every block of a slab for mistakes, if the descriptor has a slab.
    ///
    /// # Safety
    /// The lock is held, and `slab` is a descriptor.
    pub(super) unsafe fn look_over(&mut self, slab: *mut Checked) -> Result<(), Finding> {
        const ASKED: &str = "a last look";
        // SAFETY: the caller's promise.
        unsafe {
            if (*slab).base == 0 {
                return Ok(());
            }
            for at in 0..(*slab).capacity() {
                let block = (*slab).block(at) as usize;
                match (*slab).record(at).state {
                    State::Fresh => {}
                    State::Freed => self.unchanged(slab, at, ASKED)?,
                    State::Allocated => self.damage_beside(slab, at, ASKED, block)?,
                }
            }
            Ok(())
        }
    }

    /// Debug walker: the counts are the sums, every block in a queue is freed, and a slab is in a list exactly if some of its
    /// blocks were never handed out or wait.
    #[cfg(test)]
    pub(super) fn is_valid(&mut self) -> bool {
        let mut sums = [(0, 0, 0); Kind::COUNT];
        let (mut ok, mut run_bytes) = (true, 0);
        for number in 0..table::count() {
            // SAFETY: descriptors live for ever, and the lock around `self` is held.
            let slab = unsafe { &mut *table::get(number) };
            if slab.base == 0 {
                continue;
            }
            let (kind, mut of) = (slab.kind, [0; 3]);
            for at in 0..slab.capacity() {
                of[slab.record(at).state as usize] += 1;
            }
            ok &= of
                == [
                    usize::from(slab.fresh),
                    slab.allocated(),
                    usize::from(slab.freed),
                ];
            for before in 0..usize::from(slab.freed) {
                let at = slab.waiting_at(before);
                ok &= slab.record(at).state == State::Freed;
            }
            ok &= slab.in_list == (slab.fresh > 0 || slab.freed > 0);
            if kind.is_run() && slab.freed > 0 {
                run_bytes += kind.stride();
            }
            let sum = &mut sums[kind.index()];
            *sum = (sum.0 + 1, sum.1 + of[1], sum.2 + of[2]);
        }
        for kind in Kind::all() {
            let group = &self.groups[kind.index()];
            ok &= sums[kind.index()] == (group.slabs, group.allocated, group.freed);
        }
        ok && run_bytes == self.run_bytes
    }
}
