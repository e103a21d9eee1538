//! What is tried before the program is told that there is no memory.

use crate::base::tuning::heap_cache::IMPOSSIBLE;
use crate::checked;
use crate::heap::cache::reclaim;
use crate::heap::upkeep::{give_up, settle};
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
    let given = [
        checked::trim(),
        reclaim::from_all_heaps(),
        give_up::give_up_gone(),
        settle::recover(usize::MAX),
    ];
    large::purge_all();
    pool::unmap_empty();
    given.contains(&true)
}
