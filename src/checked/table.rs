//! From the number of a checked slab, which is in its directory words, to its descriptor.
//!
//! Numbers are given out under the store's lock and never taken back. Reading takes no lock.

use super::slab::Checked;
use crate::slab::directory::OWNER_MAX;
use crate::slab::meta;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Descriptors of a page of the table.
const PAGE: usize = 1024;
const PAGES: usize = (OWNER_MAX as usize + 1) / PAGE;

type Place = AtomicPtr<Checked>;

static PAGE_AT: [AtomicPtr<Place>; PAGES] = [const { AtomicPtr::new(ptr::null_mut()) }; PAGES];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Whether another descriptor can be entered. The caller holds the store's lock, here and in [`enter`].
pub(super) fn has_room() -> bool {
    let Some(page) = PAGE_AT.get(COUNT.load(Ordering::Relaxed) as usize / PAGE) else {
        return false;
    };
    if page.load(Ordering::Relaxed).is_null() {
        let Some(new) = meta::allocate_lines(PAGE) else {
            return false;
        };
        page.store(new.as_ptr().cast(), Ordering::Relaxed);
    }
    true
}

/// Gives a descriptor its number.
///
/// # Safety
/// [`has_room`] said so, and the descriptor is the caller's.
pub(super) unsafe fn enter(slab: *mut Checked) {
    let number = COUNT.load(Ordering::Relaxed);
    let at = number as usize;
    // SAFETY: the caller's promises; the page has so many places.
    unsafe {
        let places = PAGE_AT[at / PAGE].load(Ordering::Relaxed);
        (*places.add(at % PAGE)).store(slab, Ordering::Relaxed);
        (*slab).number = number;
    }
    // Release: pairs with the Acquire in `get`, for page and descriptor.
    COUNT.store(number + 1, Ordering::Release);
}

/// The descriptor of this number; null if none was given it.
pub(super) fn get(number: u32) -> *mut Checked {
    // Acquire: see `enter`.
    if number >= COUNT.load(Ordering::Acquire) {
        return ptr::null_mut();
    }
    let at = number as usize;
    let Some(page) = PAGE_AT.get(at / PAGE) else {
        return ptr::null_mut();
    };
    // SAFETY: the pages of all numbers below the count exist.
    unsafe { (*page.load(Ordering::Relaxed).add(at % PAGE)).load(Ordering::Relaxed) }
}

/// How many numbers were given out.
pub(super) fn count() -> u32 {
    COUNT.load(Ordering::Acquire)
}
