//! Putting heaps in order, whoever has them.

use crate::base::tuning::heap_cache::AT_ONCE;
use crate::heap::cache::{budget, flush};
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::registry;
use crate::heap::data::torn::TORN;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::slabs;
use crate::heap::upkeep::helper::HELPER;
use crate::heap::upkeep::idle_cache;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Puts a heap in order, unless its lock is held. Drains its inbox. Of a live heap, returns what the stacks did not need and
/// gives back empty slabs. Looks at an idle heap (`idle_cache::look`). The caller holds no lock.
pub(crate) fn settle(heap: HeapRef) -> Errands {
    let mut errands = Errands::NONE;
    while settle_some(heap, &mut errands) {
        // A thread that waits for the lock gets it before this one takes it again.
        HELPER.breathe();
    }
    errands
}

/// Some of that, so that the lock is not held for long. Returns whether there is more to do.
fn settle_some(heap: HeapRef, errands: &mut Errands) -> bool {
    let Some(mut held) = heap.try_lock() else {
        return false;
    };
    let mut done = true;
    drain::drain_locked(&mut held);
    let mut sorter = Sorter::new(&held, false);
    if heap.attended().is_idle() {
        // SAFETY: the state changes only under the lock.
        unsafe { idle_cache::look(&mut held, &mut sorter) };
    } else {
        done = flush::shrink_unneeded(&mut held, AT_ONCE, &mut sorter).done;
        if done {
            held.shrinks_left = 0;
            idle_cache::forget(&mut held);
            slabs::retire_empty(&mut held);
        }
    }
    sorter.post_all(&mut held);
    budget::show(&mut held);
    errands.add(drain::release(held));
    !done
}

/// Returns what the threads held that a fork left behind, of up to `most` heaps: a few at a tick, one for each slab by which a
/// class grows into fresh memory. So a child that soon ends or becomes another program does not copy their pages, and one that
/// stays has their memory. No lock may be held.
#[inline]
pub(crate) fn recover(most: usize) {
    if TORN.load(Ordering::Relaxed) > 0 {
        recover_some(most);
    }
}

/// The heap whose turn it is, so that no call passes again those that are done. A hint, so Relaxed.
static TURN: AtomicUsize = AtomicUsize::new(0);

#[cold]
fn recover_some(most: usize) {
    let torn = |heap: &HeapRef| heap.torn.load(Ordering::Relaxed) && heap.attended().is_idle();
    let mut errands = Errands::NONE;
    for heap in registry::in_turn(&TURN, usize::MAX).filter(torn).take(most) {
        errands.add(settle(heap));
    }
    errands.run();
}
