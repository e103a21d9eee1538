//! The pool's intrusive lists.

use crate::base::units::SLOTS;
use crate::slab::superslab::{Links, Superslab};
use core::ptr;

const UNLINKED: Links = Links {
    next: ptr::null_mut(),
    prev: ptr::null_mut(),
};
/// How many superslabs of one list are looked at for a long enough run before the next list is tried.
const LOOK: usize = 8;

/// Superslabs by their number of free slots; last in, first out.
pub(super) struct ByFree {
    heads: [*mut Superslab; SLOTS + 1],
    /// Bit n: `heads[n]` is not null.
    filled: u64,
}

impl ByFree {
    pub(super) const fn new() -> ByFree {
        ByFree {
            heads: [ptr::null_mut(); SLOTS + 1],
            filled: 0,
        }
    }

    /// The fullest superslab that has `slots` neighbouring free slots.
    ///
    /// # Safety
    /// The pool's lock is held, as for every function here.
    pub(super) unsafe fn find(&self, slots: usize) -> Option<*mut Superslab> {
        let mut candidates = self.filled & (u64::MAX << slots);
        while candidates != 0 {
            let list = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            let mut at = self.heads[list];
            for _ in 0..LOOK {
                if at.is_null() {
                    break;
                }
                // SAFETY: listed superslabs are alive while the lock is held.
                unsafe {
                    if Superslab::find_run((*at).free, slots).is_some() {
                        return Some(at);
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
            let list = (*superslab).free.count_ones() as usize;
            let next = self.heads[list];
            (*superslab).list = Links {
                next,
                prev: ptr::null_mut(),
            };
            if !next.is_null() {
                (*next).list.prev = superslab;
            }
            self.heads[list] = superslab;
            self.filled |= 1 << list;
            (*superslab).in_list = true;
        }
    }

    /// To be called before the superslab's free bits change.
    pub(super) unsafe fn remove(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller holds the lock; the superslab is in the list of its number of free slots.
        unsafe {
            debug_assert!((*superslab).in_list);
            let list = (*superslab).free.count_ones() as usize;
            let Links { next, prev } = (*superslab).list;
            if prev.is_null() {
                self.heads[list] = next;
                if next.is_null() {
                    self.filled &= !(1 << list);
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

    /// A wholly free superslab.
    pub(super) fn first_empty(&self) -> Option<*mut Superslab> {
        (!self.heads[SLOTS].is_null()).then_some(self.heads[SLOTS])
    }

    pub(super) unsafe fn for_each(&self, mut visit: impl FnMut(*mut Superslab, usize)) {
        for (list, &head) in self.heads.iter().enumerate() {
            let mut at = head;
            while !at.is_null() {
                visit(at, list);
                // SAFETY: as in `find`.
                at = unsafe { (*at).list.next };
            }
        }
    }
}

/// A first-in, first-out queue over `dirty_list`; a superslab is in at most one queue.
pub(super) struct Queue {
    head: *mut Superslab,
    tail: *mut Superslab,
    len: usize,
}

impl Queue {
    pub(super) const fn new() -> Queue {
        Queue {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
            len: 0,
        }
    }

    pub(super) fn first(&self) -> Option<*mut Superslab> {
        (!self.head.is_null()).then_some(self.head)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) unsafe fn push_back(&mut self, superslab: *mut Superslab) {
        // SAFETY: the caller holds the lock; the superslab is in no queue.
        unsafe {
            (*superslab).dirty_list = Links {
                next: ptr::null_mut(),
                prev: self.tail,
            };
            if self.tail.is_null() {
                self.head = superslab;
            } else {
                (*self.tail).dirty_list.next = superslab;
            }
            self.tail = superslab;
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
