//! The pool's intrusive lists.

use crate::base::tuning::pool::{LOOKS, LOOKS_CHOOSY};
use crate::base::units::{SLOTS, Slots};
use crate::slab::superslab::{Links, Superslab};
use core::ptr;

const UNLINKED: Links = Links {
    next: ptr::null_mut(),
    prev: ptr::null_mut(),
};

/// Which free slots a claim accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    Any,
    /// Resident slots, those that hold most memory first.
    Resident,
    /// Slots that hold little or nothing, in superslabs in use.
    Light,
}

impl Pick {
    /// The slots of the superslab to search, in order of preference. [`Superslab::find_run`] takes the free ones among them.
    unsafe fn masks(self, superslab: *mut Superslab) -> [u32; 2] {
        // SAFETY: the caller holds the lock.
        unsafe {
            match self {
                Pick::Any => [u32::MAX, 0],
                Pick::Resident => {
                    let dirty = (*superslab).dirty;
                    [dirty & !(*superslab).light(), dirty]
                }
                Pick::Light if (*superslab).free == u32::MAX => [0, 0],
                // Slots that hold an OS page or two come first: slabs of all classes begin at about the same place of a slot.
                Pick::Light => {
                    let light = (*superslab).light();
                    [light & (*superslab).dirty, light]
                }
            }
        }
    }
}

const LISTS: usize = SLOTS + 2;
/// The list of wholly free superslabs without memory.
const BARE: usize = SLOTS + 1;

/// Superslabs on OS pages, or resident as a whole however little is used.
pub(super) const PLAIN: usize = 0;
/// Superslabs in which touching one page may make all of it resident ([`Superslab::spreads`]).
pub(super) const SPREADING: usize = 1;

/// Superslabs by their number of free slots, last in, first out.
pub(super) struct ByFree {
    /// Indexed by [`PLAIN`] or [`SPREADING`], then by free slots. Wholly free superslabs without resident pages are in the list
    /// [`BARE`] of [`PLAIN`], whichever kind they are: before one of them is claimed from, it is decided which pages it gets.
    heads: [[*mut Superslab; LISTS]; 2],
    /// Bit n: `heads[..][n]` is not null.
    filled: [u64; 2],
}

impl ByFree {
    pub(super) const fn new() -> ByFree {
        ByFree {
            heads: [[ptr::null_mut(); LISTS]; 2],
            filled: [0; 2],
        }
    }

    /// The fullest superslab of a kind that has `slots` neighbouring free slots, and the first of these. At most [`LOOKS`]
    /// superslabs of each list are searched, and at most [`LOOKS_CHOOSY`] in all unless `pick` is [`Pick::Any`].
    ///
    /// # Safety
    /// The pool's lock is held, as for every function here.
    pub(super) unsafe fn find(
        &self,
        kind: usize,
        slots: Slots,
        pick: Pick,
    ) -> Option<(*mut Superslab, usize)> {
        let mut candidates = self.filled[kind] & (u64::MAX << slots.count()) & !(1 << BARE);
        let mut left = if pick == Pick::Any {
            usize::MAX
        } else {
            LOOKS_CHOOSY
        };
        while candidates != 0 {
            let list = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            let mut at = self.heads[kind][list];
            for _ in 0..LOOKS.min(left) {
                if at.is_null() {
                    break;
                }
                left -= 1;
                // SAFETY: listed superslabs are alive while the lock is held.
                unsafe {
                    for mask in pick.masks(at) {
                        if let Some(slot) = Superslab::find_run((*at).free & mask, slots) {
                            return Some((at, slot));
                        }
                    }
                    at = (*at).list.next;
                }
            }
        }
        None
    }

    pub(super) unsafe fn insert(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller holds the lock; the superslab is in no list by free slots.
        unsafe {
            debug_assert!(!(*superslab).in_list);
            let (kind, list) = Self::list_of(superslab);
            let next = self.heads[kind][list];
            (*superslab).list = Links {
                next,
                prev: ptr::null_mut(),
            };
            if !next.is_null() {
                (*next).list.prev = superslab;
            }
            self.heads[kind][list] = superslab;
            self.filled[kind] |= 1 << list;
            (*superslab).in_list = true;
        }
    }

    /// Must be called before the superslab's bits change.
    pub(super) unsafe fn remove(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller holds the lock; the superslab is in the list of its number of free slots.
        unsafe {
            debug_assert!((*superslab).in_list);
            let (kind, list) = Self::list_of(superslab);
            let Links { next, prev } = (*superslab).list;
            if prev.is_null() {
                self.heads[kind][list] = next;
                if next.is_null() {
                    self.filled[kind] &= !(1 << list);
                }
            } else {
                (*prev).list.next = next;
            }
            if !next.is_null() {
                (*next).list.prev = prev;
            }
            (*superslab).list = UNLINKED;
            (*superslab).in_list = false;
        }
    }

    /// The list a superslab belongs in.
    unsafe fn list_of(superslab: *mut Superslab) -> (usize, usize) {
        // SAFETY: the caller holds the lock.
        unsafe {
            let bare = (*superslab).dirty == 0 && !(*superslab).populated;
            if (*superslab).free == u32::MAX && bare {
                (PLAIN, BARE)
            } else {
                let kind = (*superslab).spreads() as usize;
                (kind, (*superslab).free.count_ones() as usize)
            }
        }
    }

    /// The wholly free superslabs, those without memory first.
    ///
    /// # Safety
    /// The pool's lock is held for as long as the iterator is.
    pub(super) unsafe fn empties(&self) -> impl Iterator<Item = *mut Superslab> {
        // SAFETY: the caller's promise.
        [(PLAIN, BARE), (PLAIN, SLOTS), (SPREADING, SLOTS)]
            .into_iter()
            .flat_map(|(kind, list)| unsafe { self.walk(kind, list) })
    }

    /// A wholly free superslab without memory.
    pub(super) fn bare(&self) -> Option<*mut Superslab> {
        Some(self.heads[PLAIN][BARE]).filter(|head| !head.is_null())
    }

    /// The wholly free superslabs that hold memory: those in which touching a page makes no other resident, and the others behind
    /// them if `all` are wanted.
    ///
    /// # Safety
    /// As for [`ByFree::empties`].
    pub(super) unsafe fn with_memory(&self, all: bool) -> impl Iterator<Item = *mut Superslab> {
        let kinds = [PLAIN, SPREADING].into_iter().take(1 + usize::from(all));
        // SAFETY: the caller's promise.
        kinds.flat_map(|kind| unsafe { self.walk(kind, SLOTS) })
    }

    unsafe fn walk(
        &self,
        kind: usize,
        list: usize,
    ) -> impl Iterator<Item = *mut Superslab> + use<> {
        let first = Some(self.heads[kind][list]).filter(|head| !head.is_null());
        core::iter::successors(first, |at| {
            // SAFETY: listed superslabs are alive while the lock is held.
            let next = unsafe { (**at).list.next };
            (!next.is_null()).then_some(next)
        })
    }

    /// Calls `visit` with every listed superslab and whether it is in the list it belongs in.
    pub(super) unsafe fn for_each(&self, mut visit: impl FnMut(*mut Superslab, bool)) {
        for (kind, lists) in self.heads.iter().enumerate() {
            for (list, &head) in lists.iter().enumerate() {
                let mut at = head;
                while !at.is_null() {
                    // SAFETY: as in `find`.
                    unsafe {
                        visit(at, Self::list_of(at) == (kind, list));
                        at = (*at).list.next;
                    }
                }
            }
        }
    }
}

/// A first-in, first-out queue linked through `dirty_list`. A superslab is in at most one queue. `dirty_turn` rises from head
/// to tail.
pub(super) struct Queue {
    head: *mut Superslab,
    tail: *mut Superslab,
    len: usize,
    /// Number of pushes since the start.
    turns: u64,
}

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
            len: 0,
            turns: 0,
        }
    }

    pub(super) fn first(&self) -> Option<*mut Superslab> {
        (!self.head.is_null()).then_some(self.head)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The one behind `superslab`.
    ///
    /// # Safety
    /// The superslab is in this queue.
    pub(super) unsafe fn after(&self, superslab: *mut Superslab) -> Option<*mut Superslab> {
        // SAFETY: the pool's lock is held, as for every function here.
        let next = unsafe { (*superslab).dirty_list.next };
        (!next.is_null()).then_some(next)
    }

    /// The `dirty_turn` of the last push.
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    pub(super) unsafe fn push_back(&mut self, superslab: *mut Superslab) {
        self.turns += 1;
        // SAFETY: the caller's promises.
        unsafe { self.link(superslab, self.turns, self.tail, ptr::null_mut()) };
    }

    /// Puts back one that had this turn.
    pub(super) unsafe fn insert(&mut self, superslab: *mut Superslab, turn: u64) {
        // SAFETY: the caller holds the lock; the superslab is in no queue.
        unsafe {
            let mut prev = ptr::null_mut();
            let mut next = self.head;
            while !next.is_null() && (*next).dirty_turn < turn {
                (prev, next) = (next, (*next).dirty_list.next);
            }
            self.link(superslab, turn, prev, next);
        }
    }

    /// Links it between two neighbours, each null at an end.
    unsafe fn link(
        &mut self,
        superslab: *mut Superslab,
        turn: u64,
        prev: *mut Superslab,
        next: *mut Superslab,
    ) {
        // SAFETY: the caller holds the lock; the superslab is in no queue.
        unsafe {
            (*superslab).dirty_turn = turn;
            (*superslab).dirty_list = Links { next, prev };
            match prev.is_null() {
                true => self.head = superslab,
                false => (*prev).dirty_list.next = superslab,
            }
            match next.is_null() {
                true => self.tail = superslab,
                false => (*next).dirty_list.prev = superslab,
            }
            self.len += 1;
        }
    }

    pub(super) unsafe fn remove(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller holds the lock; the superslab is in this queue.
        unsafe {
            let Links { next, prev } = (*superslab).dirty_list;
            if prev.is_null() {
                self.head = next;
            } else {
                (*prev).dirty_list.next = next;
            }
            if next.is_null() {
                self.tail = prev;
            } else {
                (*next).dirty_list.prev = prev;
            }
            (*superslab).dirty_list = UNLINKED;
            self.len -= 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "lists_tests.rs"]
mod tests;
