//! Whether memory will be written, so that a huge page makes nothing else resident. `HAKMEM_THP=auto` follows this evidence.
//!
//! Small blocks are written when they are used. Only the end of a heap's last slab of a class stays unwritten, so a class that
//! has filled a slab may continue on huge pages. First slabs may join it once they are few beside those. Larger blocks may stay
//! untouched: they get huge pages once those handed out before are found resident. Some of their superslabs always stay on OS
//! pages, so that residency can still be measured. All other slots lie on OS pages, where only touched pages are resident.

use super::place::lock;
use super::{Counts, Pool};
use crate::base::size_class::{self, Class};
use crate::base::tuning::pool::LENDING_SIXTEENTHS;
use crate::base::tuning::{
    DENSE_SIXTEENTHS, FIRST_SHARE, KNOWN_SLOTS, LOOK_BEHIND, MOST_PAUSED, UNSEEN_SHARE,
    UNSEEN_SUPERSLABS, WRITTEN_TO,
};
use crate::base::units::{SLOT, SLOTS, SUPERSLAB};
use crate::knobs::ThpPolicy;
use crate::os::numa::Node;
use crate::os::{sys, written};
use crate::slab::superslab::{State, Superslab};
use core::ptr;

/// What slots are claimed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Usage {
    /// A few blocks, of which an OS page or two will be written.
    Light,
    /// Blocks that are written when they are used, of a class that has filled no slab yet.
    Few,
    /// The same, of a class that has filled one.
    Filled,
    /// Blocks that may stay untouched.
    Larger,
}

impl Usage {
    /// The usage of a heap's next slab of `class` when it has `slabs` of them. `light`: only an OS page or two of it should be
    /// used.
    pub(crate) fn of_next(class: Class, slabs: usize, light: bool) -> Usage {
        if light {
            Usage::Light
        } else if size_class::size(class) > WRITTEN_TO {
            Usage::Larger
        } else if slabs == 0 {
            Usage::Few
        } else {
            Usage::Filled
        }
    }
}

/// What is known of the larger blocks' superslabs.
pub(super) struct Larger {
    /// One on OS pages, begun so long ago that its blocks have been written, if they ever are.
    seen: *mut Superslab,
    /// The one to be examined next, and how many were begun after it.
    next: *mut Superslab,
    after_next: usize,
    /// How many were begun on huge pages since the last on OS pages.
    unseen: usize,
    /// Whether the last examined was dense.
    dense: bool,
    /// How many are begun without a look, because the last examined was not dense, and how many of these are left.
    pause: u32,
    pause_left: u32,
}

impl Larger {
    pub(super) const NONE: Larger = Larger {
        seen: ptr::null_mut(),
        next: ptr::null_mut(),
        after_next: 0,
        unseen: 0,
        dense: false,
        pause: 0,
        pause_left: 0,
    };

    /// Records a superslab begun for larger blocks.
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

    /// Whether the next one is begun without a look.
    fn pauses(&mut self) -> bool {
        let pauses = self.pause_left > 0;
        self.pause_left -= u32::from(pauses);
        pauses
    }

    /// Notes what a look found. If blocks stay untouched, more of their kind follow, so looks become rare.
    fn found(&mut self, dense: bool) {
        self.dense = dense;
        self.pause = match dense {
            true => 0,
            false => (2 * self.pause + 1).min(MOST_PAUSED),
        };
        self.pause_left = self.pause;
    }

    /// What to examine, if it is still full of larger blocks: its address, and the slots they have or leave free.
    unsafe fn look_at(&self) -> Option<(usize, u32)> {
        let seen = ptr::NonNull::new(self.seen)?;
        // SAFETY: the caller holds the lock of the pool that `self` belongs to. The descriptor stays with that pool, whichever
        // superslab it describes by now.
        let seen = unsafe { seen.as_ref() };
        let full = seen.larger.count_ones() as usize * 2 > SLOTS;
        let bits = seen.larger | seen.free;
        let begun_on_os_pages = !seen.huge && !seen.split;
        (seen.state == State::Pooled && begun_on_os_pages && full).then_some((seen.base, bits))
    }

    /// Whether the next one may be begun on huge pages.
    fn may_begin(&self, counts: &Counts) -> bool {
        let most = (counts.larger_slots.superslabs() / UNSEEN_SHARE).min(UNSEEN_SUPERSLABS);
        self.dense && counts.larger_slots >= KNOWN_SLOTS && self.unseen < most
    }
}

impl Counts {
    /// Whether what classes' first slabs leave unwritten is little beside what is filled.
    fn first_are_few(&self) -> bool {
        let first = self.claimed_slots - self.filled_slots - self.larger_slots;
        let few = first.count() * FIRST_SHARE <= self.filled_slots.count();
        few && self.filled_slots >= KNOWN_SLOTS
    }
}

impl Pool {
    /// Whether slots for `usage` may come from superslabs in which one touched page makes all of it resident.
    pub(super) fn may_spread(&self, thp: ThpPolicy, usage: Usage) -> bool {
        match (thp, usage) {
            (ThpPolicy::Always, _) => true,
            (ThpPolicy::Never, _) => false,
            (ThpPolicy::Auto, Usage::Light | Usage::Few) => self.counts.first_are_few(),
            (ThpPolicy::Auto, Usage::Filled) => true,
            (ThpPolicy::Auto, Usage::Larger) => self.larger.dense,
        }
    }

    /// Records a superslab begun for `usage`.
    pub(super) fn began(&mut self, superslab: *mut Superslab, huge: bool, usage: Usage) {
        if usage == Usage::Larger {
            self.larger.began(superslab, huge);
        }
    }
}

/// Whether a superslab begun for `usage` will be densely written. No lock may be held.
pub(super) fn is_dense(thp: ThpPolicy, node: Node, usage: Usage) -> bool {
    match (thp, usage) {
        (ThpPolicy::Always, _) => return true,
        (ThpPolicy::Never, _) => return false,
        (ThpPolicy::Auto, Usage::Light | Usage::Few) => return lock(node).counts.first_are_few(),
        (ThpPolicy::Auto, Usage::Filled) => return lock(node).counts.filled_slots >= KNOWN_SLOTS,
        (ThpPolicy::Auto, Usage::Larger) => {}
    }
    let mut pool = lock(node);
    // SAFETY: the pool's lock is held.
    let found = match unsafe { pool.larger.look_at() } {
        Some(_) if pool.larger.pauses() => return false,
        found => found,
    };
    match found {
        None => pool.larger.dense = false,
        Some((base, slots)) => {
            // No lock is held during the system call. If the superslab goes meanwhile, another mapping or nothing is examined:
            // the guess may be wrong then, and nothing worse follows.
            drop(pool);
            let dense = are_resident(base, slots, DENSE_SIXTEENTHS) && are_written(base, slots);
            pool = lock(node);
            pool.larger.found(dense);
        }
    }
    pool.larger.may_begin(&pool.counts)
}

/// Whether three quarters of a superslab's worth of memory are resident.
pub(crate) fn is_resident(base: usize) -> bool {
    are_resident(base, u32::MAX, LENDING_SIXTEENTHS)
}

/// Whether so many sixteenths of the OS pages of the slots in `bits` are resident.
fn are_resident(base: usize, bits: u32, sixteenths: usize) -> bool {
    // One byte for each OS page; none is smaller than 4 KiB.
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
    resident * 16 >= bits.count_ones() as usize * per_slot * sixteenths
}

/// Whether as large a share of the slots in `bits` was written.
fn are_written(base: usize, bits: u32) -> bool {
    let slots = (0..SLOTS).filter(|slot| bits & 1 << slot != 0);
    let missing = bits.count_ones() as usize * (16 - DENSE_SIXTEENTHS) / 16;
    written::missing(missing + 1, slots.map(|slot| base + slot * SLOT), SLOT) <= missing
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::units::Slots;

    #[test]
    fn first_slabs_are_few_beside_what_is_filled() {
        let few = |first, filled, larger| {
            let [first, filled_slots, larger_slots] = [first, filled, larger].map(Slots::new);
            let claimed_slots = first + filled_slots + larger_slots;
            let counts = Counts {
                claimed_slots,
                filled_slots,
                larger_slots,
                ..Counts::NONE
            };
            counts.first_are_few()
        };
        let known = KNOWN_SLOTS.count();
        assert!(!few(0, 0, known) && !few(0, known - 1, known));
        assert!(few(0, known, known) && few(known / FIRST_SHARE, known, 0));
        assert!(!few(known / FIRST_SHARE + 1, known, known));
    }

    #[test]
    fn looks_become_rare_where_blocks_stay_untouched() {
        let mut larger = Larger::NONE;
        let mut looks = |count: usize| {
            let each = (0..count).filter(|_| {
                let looks = !larger.pauses();
                if looks {
                    larger.found(false);
                }
                looks
            });
            each.count()
        };
        let pauses = MOST_PAUSED as usize + 1;
        let first = looks(4 * pauses);
        assert!(first > 4, "the first come sooner: {first}");
        assert_eq!(looks(10 * pauses), 10);
        larger.found(true);
        assert!(!larger.pauses(), "what is dense is looked at each time");
    }
}
