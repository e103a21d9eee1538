//! Emptying inboxes, also those that nobody else empties.

use crate::heap::data::errands::Errands;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::{registry, rest};
use crate::heap::home::open;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::{holes, slabs};
use crate::os::lock::Guard;
use crate::pool;
use crate::slab::magazine_pool::MAGAZINES;

/// Posts everything that `sorter` gathered, and drains the inboxes that nobody else drains. `held` is the sorter's heap, held since
/// the first block was added. The caller holds no other heap's lock.
pub(crate) fn post_all(held: &mut HeldHeap, sorter: &mut Sorter) {
    sorter.post_all(held);
    while let Some(heap) = sorter.pop_unattended() {
        held.errands.add(try_drain(heap));
    }
}

/// Drains a heap's inbox on its behalf, unless its lock is held. Does not recurse: blocks that turn out to be foreign are
/// posted onward and left there. The caller holds at most one other heap's lock.
#[inline(never)]
pub(crate) fn try_drain(heap: HeapRef) -> Errands {
    let mut errands = Errands::NONE;
    heap.attended()
        .try_drain(|guard| errands.add(drain_with(heap, guard)));
    errands
}

/// To be called after releasing the lock of a heap that may be idle (`Attended::look_again`).
#[inline(never)]
fn look_again(heap: HeapRef) -> Errands {
    let mut errands = Errands::NONE;
    heap.attended()
        .look_again(|guard| errands.add(drain_with(heap, guard)));
    errands
}

fn drain_with(heap: HeapRef, guard: Guard<'static>) -> Errands {
    // SAFETY: `Attended` took the lock of the heap that it was made of.
    drain_and_unlock(unsafe { HeldHeap::of(heap, guard) })
}

/// Returns what is in an inbox to its slabs, and releases the lock.
fn drain_and_unlock(mut held: HeldHeap) -> Errands {
    drain_locked(&mut held);
    holes::show(&mut held);
    held.unlock()
}

/// Releases the lock of a heap that may be idle. A poster that found it held has gone away: looks into the inbox once more.
pub(crate) fn release(held: HeldHeap) -> Errands {
    let heap = held.heap();
    let mut errands = held.unlock();
    errands.add(look_again(heap));
    errands
}

/// [`release`], with the inbox emptied first. Blocks of any class may have returned to their slabs under the lock.
pub(crate) fn drain_and_release(held: HeldHeap) -> Errands {
    let heap = held.heap();
    if heap.attended().is_idle() {
        slabs::note_idle_classes(&held);
    }
    let mut errands = drain_and_unlock(held);
    errands.add(look_again(heap));
    errands
}

impl Errands {
    /// Does these errands and those that were left. No lock may be held.
    #[inline]
    pub(crate) fn run(self) {
        if self.any_here() {
            self.run_all();
        } else {
            self.done();
        }
        MAGAZINES.catch_up();
    }

    #[cold]
    #[inline(never)]
    fn run_all(self) {
        let mut errands = self.with_left();
        if errands.open() {
            let mut more = Errands::NONE;
            for heap in registry::all().filter(|heap| heap.attended().is_idle()) {
                more.add(try_drain(heap));
            }
            errands.trim_if(more.trims());
            if more.open() {
                // Batches that were posted onward are the next run's.
                Errands::OPEN.leave();
            }
            more.done();
        }
        if errands.trims() {
            pool::trim();
        }
        errands.done();
    }
}

/// Returns everything in the inbox and among the pending batches to its slabs.
pub(crate) fn drain_locked(held: &mut HeldHeap) {
    let mut sorter = Sorter::new(held, false);
    open::each_pending(held, |held, batch, class| {
        held.drained += 1;
        // SAFETY: posted batches are nobody else's.
        unsafe { open::batch(held, batch, class, &mut sorter) };
        if held.heap().attended().is_idle() {
            slabs::note_idle_class(held, class);
        }
    });
    sorter.post_all(held);
    rest::recount(held);
}
