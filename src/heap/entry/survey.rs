//! What the heaps hold, for statistics: a walk over all of them, one lock at a time.

use crate::base::size_class::{self, CLASSES, Class};
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::registry;
use crate::heap::data::state::Outbox;
use crate::heap::home::{drain, open};
use crate::slab::batch::Batch;
use crate::{checked, guarded};

/// Sums over all heaps.
pub(crate) struct Survey {
    pub(crate) slabs: [u64; CLASSES],
    /// Blocks with the program: out of their slabs and in no bin, outbox, stack or inbox. Other threads may move some meanwhile,
    /// so a class can come out negative.
    pub(crate) live: [i64; CLASSES],
    pub(crate) live_heaps: usize,
    pub(crate) idle_heaps: usize,
    /// Never less than `drained`.
    pub(crate) posted: u64,
    pub(crate) drained: u64,
}

/// Looks at every heap. No lock may be held.
pub(crate) fn survey() -> Survey {
    let idle_heaps = registry::idle_count();
    let mut sums = Survey {
        slabs: [0; CLASSES],
        live: [0; CLASSES],
        // The threadless heap is neither.
        live_heaps: registry::live_count(),
        idle_heaps,
        posted: 0,
        drained: 0,
    };
    checked::each_class(|class, slabs, allocated| {
        sums.slabs[class] += slabs;
        sums.live[class] += allocated as i64;
    });
    guarded::each_size(|size| {
        if let Some(class) = size_class::of_size(size) {
            sums.live[class] += 1;
        }
    });
    for heap in registry::all() {
        add(heap, &mut sums);
    }
    sums
}

fn add(heap: HeapRef, sums: &mut Survey) {
    let mut held = heap.lock();
    for class in Class::all() {
        sums.slabs[class] += u64::from(held.slab_count[class]);
        // SAFETY: of the private part only how full bins and outboxes are.
        let private = unsafe { Bin::count(heap, class) + Outbox::count(heap, class) };
        let kept = private as u32 + held.stacks[class].blocks;
        sums.live[class] += held.allocated_blocks[class] as i64 - i64::from(kept);
    }
    let mut waiting = 0;
    let mut seen: Option<Batch> = None;
    // SAFETY: the batches are this function's until they are pending again.
    unsafe {
        open::each_pending(&mut held, |_, batch, class| {
            sums.live[class] -= batch.count() as i64;
            batch.set_link(seen);
            seen = Some(batch);
            waiting += 1;
        });
        while let Some(batch) = seen {
            seen = batch.link();
            batch.set_posted(held.pending);
            held.pending = Some(batch);
        }
    }
    // Nothing counts the batches as they are posted: each was drained or waits, and under the lock none is between the two.
    sums.drained += held.drained;
    sums.posted += held.drained + waiting;
    let errands = if heap.attended().is_idle() {
        // No thread comes for what was taken from the inbox.
        drain::drain_and_release(held)
    } else {
        drain::release(held)
    };
    errands.leave();
}
