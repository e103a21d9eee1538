//! Heaps: the two fast paths and everything behind them.
//!
//! ```text
//! alloc ── bin ─ empty → alloc_slow ── a guarded or checked block, if one is due
//!                                   ├─ attach (first call of a thread)
//!                                   └─ refill ── outbox → stack → inbox → slabs → idle heaps' slabs → pool
//! free ─── tag matches → bin ─ full → overflow ── stack → slabs → pool
//!     └─── no match → free_slow ── mine: bin │ another heap's: outbox → its inbox │ large │ checked │ guarded │ else: abort
//! ```
//!
//! Bins and outboxes are private to the thread, and the inbox has no lock. The rest of a heap is under its lock, which the
//! owner's own slow paths take too. So any thread can drain or flush any heap or take slabs from an idle one, and fork can freeze
//! it. A heap is reached by a `HeapRef`, and its guarded part by a `HeldHeap`, the guard of its lock. No `&mut Heap` is ever
//! formed. What a lock's holder has to leave for later are its `Errands`: whoever releases the lock gets them, and runs them when
//! it holds none.
//!
//! Sub-layers, each of which uses only those below it (`tests/layers`):
//!
//! ```text
//! entry    the fast paths, chosen, free_slow, realloc, threadless, survey     what the layers above call
//! slow     refill, push, overflow, foreign, watch, take_over and others       no block, no room, not mine
//! thread   attach, adopt, exit, fork                                          a heap's life with its threads
//! upkeep   tick, settle, idle_cache, give_up, pages, maintain and others      what time or want asks for
//! cache    stack, flush, incoming, budget, reclaim, ceiling                   free blocks behind the bins, and how many
//! home     sorter, post, open, drain                                          back into slabs; to other owners
//! slabs    slabs, holes, expected_use, walk                                   a heap's slabs
//! data     heap, bin, outbox, state, registry, tls and others                 what the layers above work on
//! ```

mod cache;
mod data;
mod entry;
mod home;
mod slabs;
mod slow;
#[cfg(all(test, not(loom)))]
mod tests;
mod thread;
mod upkeep;

pub(crate) use entry::{free_slow, hot, realloc, survey};
pub(crate) use thread::attach::ensure_ready;
pub(crate) use thread::fork::fork;
pub(crate) use upkeep::maintain;
