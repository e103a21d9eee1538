//! What is tried before the program is told that there is no memory.

use crate::base::tuning::heap_cache::IMPOSSIBLE;
use crate::checked;
use crate::heap::cache::{budget, flush, incoming};
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::registry;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::slabs::slabs;
use crate::heap::upkeep::{give_up, idle_cache};
use crate::{large, pool};

/// The kernel refused memory or addresses for `bytes`: takes back what heaps and checked slabs keep for nobody, and unmaps cached
/// large blocks and empty superslabs. Returns whether heaps or checked slabs had any. Takes nothing back for a request that
/// hardly any machine can serve. No lock may be held.
#[cold]
#[inline(never)]
pub(crate) fn relieve(bytes: usize) -> bool {
    if bytes >= IMPOSSIBLE {
        return false;
    }
    let mut given = checked::trim() | give_up::give_up_gone();
    let mut errands = Errands::NONE;
    for heap in registry::all() {
        given |= empty(heap, &mut errands);
    }
    // What lay on one heap's stacks may have been another's, and is in that one's inbox now.
    for heap in registry::all() {
        errands.add(drain::try_drain(heap));
    }
    errands.run();
    large::purge_all();
    pool::unmap_empty();
    given
}

/// Returns what a heap keeps in its inbox and on its stacks to its slabs, and its empty slabs to the pool; of an idle heap what is
/// in its bins too. The result is whether it kept anything. If its lock is held, it keeps all.
fn empty(heap: HeapRef, errands: &mut Errands) -> bool {
    let Some(mut held) = heap.try_lock() else {
        return false;
    };
    let idle = heap.attended().is_idle();
    let magazines = held.empties.held_bytes() > 0;
    let keeps = incoming::has_post(&held) || held.stack_bytes > 0 || magazines || held.has_empty;
    let keeps = keeps || idle && idle_cache::keeps(&held);
    // A heap that keeps nothing is not written to: in the child of a fork each page would be copied.
    if keeps {
        drain::drain_locked(&mut held);
        let mut sorter = Sorter::new(&held, false);
        if idle {
            // SAFETY: the state changes only under the lock.
            unsafe { idle_cache::empty(&mut held, &mut sorter) };
        } else {
            flush::flush_all(&mut held, &mut sorter);
            budget::forget(&mut held);
            slabs::retire_empty(&mut held);
        }
        sorter.post_all(&mut held);
        budget::show(&mut held);
    }
    errands.add(drain::release(held));
    keeps
}
