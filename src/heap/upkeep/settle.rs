//! Putting heaps in order, whoever has them.

use crate::heap::cache::{budget, flush};
use crate::heap::data::heap::{Heap, attended, shared};
use crate::heap::data::registry;
use crate::heap::data::torn::TORN;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::slabs;
use crate::heap::upkeep::helper::HELPER;
use crate::heap::upkeep::idle_cache;
use crate::pool;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Puts a heap in order, unless its lock is held. Drains its inbox. Of a live heap, sends home what the stacks did not need and
/// gives back empty slabs. Looks at an idle heap (`idle_cache::look`), and notes in which classes its slabs have room. Returns
/// whether the pool then holds too much.
///
/// # Safety
/// The caller holds no lock.
pub(crate) unsafe fn settle(heap: *mut Heap) -> bool {
    let mut over = false;
    // SAFETY: the caller's promise.
    unsafe {
        while settle_some(heap, &mut over) {
            // A thread that waits for the lock gets it before this one takes it again.
            HELPER.breathe();
        }
    }
    over
}

/// Some of that, so that the lock is not held for long. Returns whether there is more to do.
unsafe fn settle_some(heap: *mut Heap, over: &mut bool) -> bool {
    // SAFETY: heaps live for ever.
    unsafe {
        let Some(guard) = (*heap).lock.try_lock() else {
            return false;
        };
        let mut done = true;
        drain::drain_locked(heap);
        let mut sorter = Sorter::new(heap, false);
        if attended(heap).is_idle() {
            idle_cache::look(heap, &mut sorter);
            slabs::note_idle_classes(heap);
        } else {
            done = flush::shrink_unneeded(heap, flush::AT_ONCE, &mut sorter).done;
            if done {
                (*shared(heap)).shrinks_left = 0;
                idle_cache::forget(heap);
                slabs::retire_empty(heap);
            }
        }
        sorter.post_all();
        budget::show(shared(heap));
        *over |= core::mem::take(&mut (*shared(heap)).over_bound);
        drop(guard);
        drain::look_again(heap);
        !done
    }
}

/// Sends home what the threads held that a fork left behind, of up to `most` heaps: a few at a tick, one for each slab by which a
/// class grows into fresh memory, and all before memory is refused. So a child that soon ends or becomes another program does not
/// copy their pages, and one that stays has their memory. Returns whether there were any. No lock may be held.
#[inline]
pub(crate) fn recover(most: usize) -> bool {
    let any = TORN.load(Ordering::Relaxed) > 0;
    if any {
        recover_some(most);
    }
    any
}

/// The heap whose turn it is, so that no call passes again those that are done. A hint, so Relaxed.
static TURN: AtomicUsize = AtomicUsize::new(0);

#[cold]
fn recover_some(most: usize) {
    let torn = |heap: &*mut Heap| {
        // SAFETY: heaps live for ever.
        unsafe { (**heap).torn.load(Ordering::Relaxed) && attended(*heap).is_idle() }
    };
    let mut over = false;
    for heap in registry::in_turn(&TURN, usize::MAX).filter(torn).take(most) {
        // SAFETY: heaps live for ever; no lock is held.
        over |= unsafe { settle(heap) };
    }
    if over {
        pool::trim();
    }
    drain::catch_up();
}
