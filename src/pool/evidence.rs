//! Whether memory will be written, so that huge pages make nothing resident but that: what `HAKMEM_THP=auto` goes by.
//!
//! Small blocks are written when they are used. What is not written of their slabs is the end of the last one of each
//! class in each heap, so that a class that has filled a few slabs may go on in huge pages. Larger blocks may stay
//! untouched: they get huge pages once those handed out before are found resident, and some superslabs of them always
//! stay on OS pages, so that this stays known. All other slots lie on OS pages, where only what is touched is resident.

use super::place::lock;
use super::{Counts, Pool};
use crate::base::size_class;
use crate::base::tuning::{
    DENSE_SIXTEENTHS, FILLED_SLABS, KNOWN_SLOTS, LOOK_BEHIND, UNSEEN_SHARE, UNSEEN_SUPERSLABS,
    WRITTEN_TO,
};
use crate::base::units::{SLOT, SLOTS, SUPERSLAB};
use crate::knobs::ThpPolicy;
use crate::os::numa::Node;
use crate::os::sys;
use crate::slab::superslab::{State, Superslab};
use core::ptr;

/// What slots are claimed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Usage {
    /// A few blocks, of which a page or two will be written.
    Light,
    /// Blocks that are written when they are used, of a class that fills no slab yet as far as is known.
    Few,
    /// As before, of a class that has filled some.
    Filled,
    /// Blocks that may stay untouched.
    Larger,
}

impl Usage {
    /// Of a heap's next slab of `class`, when it has `slabs`; `light` where a page or two of it are expected to be used.
    pub(crate) fn of_next(class: usize, slabs: usize, light: bool) -> Usage {
        if light {
            Usage::Light
        } else if size_class::size(class) > WRITTEN_TO {
            Usage::Larger
        } else if slabs < FILLED_SLABS {
            Usage::Few
        } else {
            Usage::Filled
        }
    }
}

/// What is known of the larger blocks' superslabs.
pub(super) struct Larger {
    /// One on OS pages, begun so long ago that its blocks were written, if they ever are.
    seen: *mut Superslab,
    /// The one to be looked at next, and how many were begun after it.
    next: *mut Superslab,
    after_next: usize,
    /// How many were begun on huge pages since the last on OS pages.
    unseen: usize,
    /// Whether what was looked at last was dense.
    dense: bool,
}

impl Larger {
    pub(super) const NONE: Larger = Larger {
        seen: ptr::null_mut(),
        next: ptr::null_mut(),
        after_next: 0,
        unseen: 0,
        dense: false,
    };

    /// A superslab was begun for larger blocks.
    fn began(&mut self, superslab: *mut Superslab, huge: bool) {
        self.after_next += 1;
        if !self.next.is_null() && self.after_next >= LOOK_BEHIND {
            self.seen = self.next;
            self.next = ptr::null_mut();
        }
        if huge {
            self.unseen += 1;
            return;
        }
        self.unseen = 0;
        if self.next.is_null() {
            (self.next, self.after_next) = (superslab, 0);
        }
    }

    /// What to look at, if that is still full of larger blocks: where it is, and the slots they have or leave free.
    unsafe fn look_at(&self) -> Option<(usize, u32)> {
        let seen = ptr::NonNull::new(self.seen)?;
        // SAFETY: the caller holds the lock of the pool this belongs to, and so does the descriptor, whatever superslab it
        // is used for by now.
        let seen = unsafe { seen.as_ref() };
        let full = seen.larger.count_ones() as usize * 2 > SLOTS;
        let bits = seen.larger | seen.free;
        (seen.state == State::Pooled && !seen.huge && full).then_some((seen.base, bits))
    }

    /// Whether the next one may be begun on huge pages.
    fn may_begin(&self, counts: &Counts) -> bool {
        let most = (counts.larger_slots / SLOTS / UNSEEN_SHARE).min(UNSEEN_SUPERSLABS);
        self.dense && counts.larger_slots >= KNOWN_SLOTS && self.unseen < most
    }
}

impl Pool {
    /// Whether slots for `usage` may come from superslabs of which a touched page makes all resident.
    pub(super) fn may_spread(&self, thp: ThpPolicy, usage: Usage) -> bool {
        match (thp, usage) {
            (ThpPolicy::Always, _) => true,
            (ThpPolicy::Never, _) | (_, Usage::Light | Usage::Few) => false,
            (ThpPolicy::Auto, Usage::Filled) => true,
            (ThpPolicy::Auto, Usage::Larger) => self.larger.dense,
        }
    }

    /// A superslab was begun for `usage`.
    pub(super) fn began(&mut self, superslab: *mut Superslab, huge: bool, usage: Usage) {
        if usage == Usage::Larger {
            self.larger.began(superslab, huge);
        }
    }
}

/// Whether a superslab that is begun for `usage` will be written densely. No lock may be held.
pub(super) fn is_dense(thp: ThpPolicy, node: Node, usage: Usage) -> bool {
    match (thp, usage) {
        (ThpPolicy::Always, _) => return true,
        (ThpPolicy::Never, _) | (_, Usage::Light | Usage::Few) => return false,
        (ThpPolicy::Auto, Usage::Filled) => return lock(node).counts.filled_slots >= KNOWN_SLOTS,
        (ThpPolicy::Auto, Usage::Larger) => {}
    }
    // SAFETY: the pool's lock is held for the look.
    let found = unsafe { lock(node).larger.look_at() };
    // No lock is held for the call: should the superslab go meanwhile, something else is looked at, or nothing is mapped
    // there. What follows is a wrong guess then, and no worse.
    let dense = found.is_some_and(|(base, slots)| are_resident(base, slots));
    let mut pool = lock(node);
    pool.larger.dense = dense;
    pool.larger.may_begin(&pool.counts)
}

/// Whether nearly all OS pages of the slots in `bits` are resident.
fn are_resident(base: usize, bits: u32) -> bool {
    // One byte for each OS page, of which none is smaller.
    let mut pages = [0u8; SUPERSLAB / 4096];
    if sys::mincore(base, SUPERSLAB, &mut pages).is_err() {
        return false;
    }
    let per_slot = (SLOT / sys::page_size()).max(1);
    let slots = pages.chunks(per_slot).take(SLOTS).enumerate();
    let resident = slots
        .filter(|(slot, _)| bits & 1 << slot != 0)
        .flat_map(|(_, pages)| pages)
        .filter(|page| **page & 1 != 0)
        .count();
    resident * 16 >= bits.count_ones() as usize * per_slot * DENSE_SIXTEENTHS
}
