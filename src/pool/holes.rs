//! OS pages of slots in use that go back to the kernel, from the pool's side.

use super::Pool;
use super::account::{Account, recount};
use super::place::{Held, lock};
use crate::base::tuning::pool::LEFT_MOST;
use crate::base::units::{SLOT, SLOTS, SUPERSLAB, Slots};
use crate::os::{clock, huge, numa};
use crate::slab::superslab::{State, Superslab, UNIT};

/// Whether a superslab lies on a huge page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HugePage {
    /// It lies on OS pages.
    No,
    /// Parts of it went back, and the kernel may make it a huge page again.
    Split,
    /// It is a huge page, or becomes one when it is touched.
    Whole,
}

impl HugePage {
    unsafe fn of(superslab: *mut Superslab) -> HugePage {
        // SAFETY: the caller holds the pool's lock.
        match unsafe { ((*superslab).huge, (*superslab).split) } {
            (false, _) => HugePage::No,
            (true, true) => HugePage::Split,
            (true, false) => HugePage::Whole,
        }
    }
}

impl Pool {
    /// Whether one more superslab may refuse huge pages because it is split. Each may cost two mappings.
    pub(super) fn may_leave_huge(&self) -> bool {
        self.counts.left_huge < LEFT_MOST / numa::count()
    }

    /// Records that a purge split a superslab on huge pages, and whether it refuses them since. If it does not, the kernel may
    /// fill the holes when it next collects huge pages (`khugepaged`).
    ///
    /// # Safety
    /// The caller holds the lock around `self`, and the superslab is this pool's and in no list by free slots.
    pub(super) unsafe fn split(&mut self, superslab: *mut Superslab, refused: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            (*superslab).split = true;
            // Another thread may have done it.
            if refused && (*superslab).huge {
                (*superslab).huge = false;
                self.counts.huge_requested -= SUPERSLAB;
                self.counts.left_huge += 1;
            }
        }
    }

    /// Records that nothing is split of a superslab any more, since it is empty.
    ///
    /// # Safety
    /// The caller holds the lock around `self`, and the superslab is this pool's.
    pub(super) unsafe fn is_whole_again(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller's promise.
        unsafe {
            self.counts.left_huge -= usize::from((*superslab).has_left());
            (*superslab).split = false;
        }
    }
}

/// Whether the superslab lies on a huge page.
///
/// # Safety
/// A slot of the superslab is claimed and stays claimed, as for the other functions here.
pub(crate) unsafe fn huge_page(superslab: *mut Superslab) -> HugePage {
    // SAFETY: the superslab stays mapped while a slot of it is claimed, and its node with it.
    unsafe {
        let _pool = lock((*superslab).node);
        HugePage::of(superslab)
    }
}

/// Moves the superslab to OS pages, before parts of it go back. Otherwise the kernel would fill the holes when it next collects
/// huge pages. No lock may be held.
///
/// # Safety
/// As for [`huge_page`].
pub(crate) unsafe fn leave_huge_page(superslab: *mut Superslab) {
    // SAFETY: the caller's promise.
    unsafe {
        if huge_page(superslab) == HugePage::No {
            return;
        }
        let may_leave = lock((*superslab).node).may_leave_huge();
        let refused = may_leave && huge::refuse((*superslab).base, SUPERSLAB).is_ok();
        let mut pool = lock((*superslab).node);
        let huge = HugePage::of(superslab);
        if huge == HugePage::No {
            // Another thread has done it.
            return;
        }
        let was = unlist(&mut pool, superslab);
        pool.split(superslab, refused);
        if huge == HugePage::Whole {
            // All of it is resident, whatever part was used.
            (*superslab).touched = [(SLOT / UNIT) as u8; SLOTS];
            (*superslab).dirty = u32::MAX;
            (*superslab).populated = false;
            recount(superslab);
        }
        if !(*superslab).in_dirty {
            (*superslab).dirty_since = clock::now_ms();
        }
        pool.relist(superslab, was);
    }
}

/// Records that `bytes` of a slab went back and `left` are resident. No pool's lock may be held.
///
/// # Safety
/// As for [`huge_page`]; the slab has `slots` slots, the first of which is `slot`.
pub(crate) unsafe fn gave_back(
    superslab: *mut Superslab,
    slot: usize,
    slots: Slots,
    bytes: usize,
    left: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pool = lock((*superslab).node);
        pool.counts.returned += bytes as u64;
        let touched = &mut (&mut (*superslab).touched)[slot..slot + slots.count()];
        for (index, touched) in touched.iter_mut().enumerate() {
            let here = left.saturating_sub(index * SLOT).min(SLOT);
            *touched = here.div_ceil(UNIT) as u8;
        }
        if (*superslab).populated {
            let was = unlist(&mut pool, superslab);
            (*superslab).populated = false;
            pool.relist(superslab, was);
        }
    }
}

/// Takes a superslab out of the list by free slots, before a change that decides on its list. Returns what it contributes to
/// the counts.
unsafe fn unlist(pool: &mut Held, superslab: *mut Superslab) -> Account {
    // SAFETY: the caller holds the lock.
    unsafe {
        let was = Account::of(superslab);
        if (*superslab).state == State::Pooled && (*superslab).in_list {
            pool.by_free.remove(superslab);
        }
        was
    }
}
