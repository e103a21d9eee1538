//! Holes in a heap's slabs: OS pages that hold nothing but free blocks go back to the kernel.
//!
//! Once per purge delay a pass goes along the slabs with room, in the classes to which blocks returned. A slab that was stirred
//! since the last pass is marked. One that lay still for a whole pass is looked at closely (`Slab::survey`), and those of its
//! pages that can go do. So a page goes once no block of its slab was taken or returned for one to two delays, much as free slots
//! go, and a heap at rest costs nothing after two passes. A huge page is split only if much of it can go.
//!
//! No lock is held while the kernel works. Meanwhile the slabs concerned are off their lists, so that no block is taken from
//! them; blocks may return, as that touches bits alone. A pass does a few slabs at a time.

use crate::base::account::{self, Kind};
use crate::base::size_class::{self, Class};
use crate::base::tuning::holes as tuning;
use crate::base::units::{SLOT, SLOTS};
use crate::base::wanted;
use crate::heap::data::heap::{BUCKETS, HeldHeap, Shared};
use crate::heap::data::holes::{Going, When};
use crate::heap::slabs::slabs;
use crate::os::sys;
use crate::pool::{self, HugePage};
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::slab::{Rest, Slab};
use crate::slab::superslab::Superslab;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

/// The huge pages decided on last: one that is split, and one that stays whole.
struct Decided {
    split: *mut Superslab,
    left: *mut Superslab,
}

/// Tells the account how many bytes wait to be looked at.
pub(crate) fn show(part: &mut Shared) {
    let free = part.carved_bytes.saturating_sub(part.allocated_bytes);
    let state = &mut part.holes;
    state.unsettled = state.unsettled.min(free);
    if state.unsettled.abs_diff(state.shown) >= tuning::SHOWN_WITHIN {
        account::change(Kind::Unsettled, state.shown, state.unsettled);
        if state.unsettled > state.shown {
            wanted::note();
        }
        state.shown = state.unsettled;
    }
}

/// Goes on with the pass. Returns whether more of it is left.
///
/// # Safety
/// The slabs that an earlier call took out of their lists are back.
pub(crate) unsafe fn gather(heap: &mut HeldHeap, when: When) -> bool {
    // SAFETY: listed slabs belong to the heap.
    unsafe {
        let mut decided = Decided {
            split: ptr::null_mut(),
            left: ptr::null_mut(),
        };
        let mut looks = 0;
        while looks < tuning::LOOKS
            && heap.holes.count < tuning::TOGETHER
            && heap.holes.class != Class::NONE
        {
            let slab = heap.holes.at;
            if !slab.is_null() {
                looks += 1;
                heap.holes.at = (*slab).next;
                look_at(heap, slab, when, &mut decided);
            } else if heap.holes.list < BUCKETS {
                heap.holes.at = heap.slabs[heap.holes.class][heap.holes.list];
                heap.holes.list += 1;
            } else {
                let next = Class::new(heap.holes.class.index() + 1);
                heap.holes.next_class(next);
            }
        }
        heap.holes.class != Class::NONE
    }
}

/// Looks at a listed slab: marks it, or has its pages go if it was marked.
unsafe fn look_at(heap: &mut HeldHeap, slab: *mut Slab, when: When, decided: &mut Decided) {
    // SAFETY: the slab is one of those that the heap lists.
    unsafe {
        let class = (*slab).class.get();
        match ((*slab).rest, when) {
            (Rest::Stirred, When::Aged(_)) => {
                (*slab).rest = Rest::Still;
                heap.holes.marked.add(class);
                return;
            }
            (Rest::Settled, _) | (Rest::Held, When::Aged(_)) => return,
            _ => {}
        }
        if (*slab).allocated() == 0 {
            // It goes as a whole (`slabs::retire_empty`).
            return;
        }
        (*slab).rest = Rest::Settled;
        if (*slab).available() * size_class::size(class) < sys::page_size() {
            return;
        }
        let chance = (*slab).survey();
        if chance.pages == 0 {
            return;
        }
        let superslab = superslab_of(slab);
        let huge = pool::huge_page(superslab);
        let whole = huge == HugePage::Whole;
        if !whole && chance.used == 0 {
            return;
        }
        if whole && decided.split != superslab {
            if decided.left != superslab && may_split(heap, superslab, when) {
                decided.split = superslab;
            } else {
                decided.left = superslab;
                (*slab).rest = held(when);
                return;
            }
        }
        slabs::changing(heap, slab, Slab::carve_rest);
        slabs::unlink(heap, slab);
        (*slab).going = true;
        let state = &mut heap.holes;
        state.going[state.count] = Going {
            slab,
            base: (*slab).base,
            superslab,
            huge: huge != HugePage::No,
            chance,
        };
        state.count += 1;
    }
}

unsafe fn superslab_of(slab: *mut Slab) -> *mut Superslab {
    // SAFETY: the slab is one of a heap's, so its descriptor is alive.
    unsafe { DIRECTORY.descriptor((*slab).base).load(Relaxed) as *mut Superslab }
}

/// The state of a slab whose huge page is not split.
fn held(when: When) -> Rest {
    match when {
        When::Aged(_) => Rest::Held,
        // No more can go of it.
        When::Now => Rest::Settled,
    }
}

/// Whether enough of a huge page is free, as far as the heap knows. If not, the heap's slabs in it are held back; if so, those
/// held back are marked again.
unsafe fn may_split(heap: &mut HeldHeap, superslab: *mut Superslab, when: When) -> bool {
    let least = match when {
        When::Aged(_) => tuning::SPLIT_FROM,
        When::Now => SLOT,
    };
    let mut free = 0;
    // SAFETY: a tag of the heap's own says that the slab is, which makes its state ours under the heap's lock.
    unsafe {
        let mine = |slot: usize| {
            let tag = DIRECTORY.tag((*superslab).base + slot * SLOT);
            let slab = &raw mut (*superslab).slabs[slot];
            let is_mine = tag.owner() == heap.heap().id
                && tag.class().has_blocks()
                && !size_class::is_run(tag.class())
                && (*slab).back == 0;
            (tag, is_mine.then_some(slab))
        };
        for slot in 0..SLOTS {
            let (tag, slab) = mine(slot);
            if tag == Tag::NONE {
                free += SLOT;
            } else if let Some(slab) = slab
                && ((*slab).rest != Rest::Stirred || when == When::Now)
            {
                let chance = (*slab).survey();
                free += (chance.pages.count_ones() as usize) * sys::page_size();
            }
        }
        for slot in 0..SLOTS {
            let (_, Some(slab)) = mine(slot) else {
                continue;
            };
            if free < least && (*slab).rest != Rest::Stirred {
                (*slab).rest = held(when);
            } else if free >= least && (*slab).rest == Rest::Held {
                (*slab).rest = Rest::Still;
                heap.holes.marked.add((*slab).class.get());
            }
        }
    }
    free >= least
}
