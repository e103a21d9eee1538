//! Slabs in a row, oldest first, linked through their descriptors.

use super::slab::Checked;
use core::ptr;

pub(super) struct List {
    first: *mut Checked,
    last: *mut Checked,
}

impl List {
    pub(super) const fn new() -> List {
        List {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    /// The oldest; null if there is none.
    pub(super) fn first(&self) -> *mut Checked {
        self.first
    }

    /// Adds a slab that is in no list.
    ///
    /// # Safety
    /// The caller holds the store's lock, and `slab` is a descriptor.
    pub(super) unsafe fn push(&mut self, slab: *mut Checked) {
        // SAFETY: the caller's promise; listed descriptors live for ever.
        unsafe {
            debug_assert!(!(*slab).in_list);
            ((*slab).next, (*slab).prev) = (ptr::null_mut(), self.last);
            if self.last.is_null() {
                self.first = slab;
            } else {
                (*self.last).next = slab;
            }
            self.last = slab;
            (*slab).in_list = true;
        }
    }

    /// Takes a slab out that is in this list.
    ///
    /// # Safety
    /// As for [`List::push`].
    pub(super) unsafe fn remove(&mut self, slab: *mut Checked) {
        // SAFETY: as above.
        unsafe {
            debug_assert!((*slab).in_list);
            let (next, prev) = ((*slab).next, (*slab).prev);
            if prev.is_null() {
                self.first = next;
            } else {
                (*prev).next = next;
            }
            if next.is_null() {
                self.last = prev;
            } else {
                (*next).prev = prev;
            }
            (*slab).in_list = false;
        }
    }
}
