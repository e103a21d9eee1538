//! Checked slabs come from the pool and go back.

use super::geometry::Kind;
use super::mode;
use super::report::Finding;
use super::slab::{self, Checked};
use super::store::{Left, Store};
use super::table;
use crate::base::account;
use crate::base::size_class::CHECKED;
use crate::base::tuning::checked as tuning;
use crate::os::clock;
use crate::pool::{self, Claim};
use crate::slab::directory::{DIRECTORY, Tag};

impl Store {
    /// Lets freed slabs of one block go, oldest first, until those that wait have at most `most` bytes, or
    /// [`HARDENED`](tuning::HARDENED) times as many in the hardened profile.
    pub(super) fn shorten_runs(&mut self, most: usize) -> Result<Left, Finding> {
        let most = if mode::is_hardened() {
            most * tuning::HARDENED
        } else {
            most
        };
        let mut left = Left::default();
        while self.run_bytes > most {
            let oldest = self.runs.first();
            // SAFETY: listed slabs are open, and the lock is held.
            unsafe { left = left.and(self.retire(oldest)?) };
        }
        Ok(left)
    }

    /// Gives the slots of a listed slab back of which nothing is allocated.
    ///
    /// # Safety
    /// The lock is held, and the slab is open.
    pub(super) unsafe fn retire(&mut self, slab: *mut Checked) -> Result<Left, Finding> {
        // SAFETY: the caller's promise.
        unsafe {
            debug_assert!((*slab).allocated() == 0 && (*slab).in_list);
            for before in 0..usize::from((*slab).freed) {
                let at = (*slab).waiting_at(before);
                self.unchanged(slab, at, "the return")?;
            }
            // By the raw pointer throughout: lists go through it too.
            let kind = (*slab).kind;
            let group = &mut self.groups[kind.index()];
            if (*slab).fresh > 0 {
                group.open.remove(slab);
            } else if kind.is_run() {
                self.runs.remove(slab);
                self.run_bytes -= kind.stride();
            } else {
                group.used.remove(slab);
            }
            group.freed -= usize::from((*slab).freed);
            group.slabs -= 1;
            self.bytes -= kind.slots().bytes();
            // The tags go first (rule 2).
            DIRECTORY.set((*slab).claim.addr(), kind.slots(), Tag::NONE);
            account::change(account::Kind::Blocks, (*slab).told, 0);
            let (superslab, slot) = ((*slab).claim.superslab, (*slab).claim.slot);
            let used = kind.lead() + (*slab).touched;
            (*slab).close();
            self.no_slab(kind, slab);
            Ok(Left {
                went: true,
                trim: pool::release(superslab, slot, kind.slots(), used, clock::now_ms()),
            })
        }
    }

    /// Whether the next block of the kind lies on the node that the calling thread runs on.
    pub(super) fn is_near(&self, kind: Kind) -> bool {
        let group = &self.groups[kind.index()];
        let lists = [group.open.first(), group.used.first()];
        let next = lists.into_iter().find(|slab| !slab.is_null());
        // SAFETY: listed slabs are open, and the lock is held. A superslab's node does not change while a slot is claimed.
        next.is_none_or(|slab| unsafe { (*(*slab).claim.superslab).node == pool::here() })
    }

    /// A descriptor for a slab of the kind. `None` if all slabs and descriptors together would have more than `most` bytes, or if
    /// there is no place for another descriptor.
    pub(super) fn descriptor(&mut self, kind: Kind, most: usize) -> Option<*mut Checked> {
        let spare = *self.spare(kind);
        let new = if spare.is_null() {
            slab::overhead(kind)
        } else {
            0
        };
        if self.bytes + kind.slots().bytes() + new > most {
            return None;
        }
        if !spare.is_null() {
            // SAFETY: a descriptor without a slab; the lock is held.
            *self.spare(kind) = unsafe { (*spare).next };
            return Some(spare);
        }
        if !table::has_room() {
            return None;
        }
        let slab = Checked::allocate(kind);
        if slab.is_null() {
            return None;
        }
        // SAFETY: there is room, and the descriptor is new.
        unsafe { table::enter(slab) };
        self.bytes += new;
        Some(slab)
    }

    /// Puts back what [`Store::descriptor`] gave.
    pub(super) fn no_slab(&mut self, kind: Kind, slab: *mut Checked) {
        let spare = self.spare(kind);
        // SAFETY: as there.
        unsafe { (*slab).next = *spare };
        *spare = slab;
    }

    /// The first of the descriptors without a slab that have room for one of the kind.
    fn spare(&mut self, kind: Kind) -> &mut *mut Checked {
        let of = if mode::is_sampled() { 0 } else { kind.index() };
        &mut self.groups[of].spare
    }

    /// Makes claimed slots a slab of the kind.
    pub(super) fn open(&mut self, kind: Kind, slab: *mut Checked, claim: Claim) {
        let random = self.random();
        // SAFETY: a descriptor without a slab, under the lock; nobody else knows of the slots yet.
        unsafe {
            (*slab).open(kind, claim, random);
            let group = &mut self.groups[kind.index()];
            group.slabs += 1;
            group.least = Store::least(kind);
            group.open.push(slab);
            self.bytes += kind.slots().bytes();
            DIRECTORY.set(
                (*slab).claim.addr(),
                kind.slots(),
                Tag::new((*slab).number, CHECKED),
            );
        }
    }
}
