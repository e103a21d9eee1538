//! The inbox of a heap: where other threads return its blocks, batch by batch.
//!
//! One word: bits 0 to 47 the first block of the newest batch, bits 48 to 63 how many batches there are (it stops at
//! 65,535). Two operations only, push and take-all, so that no ABA question arises (rule 8).

use super::batch::{Batch, Block};
use crate::base::sync::atomic::{AtomicU64, Ordering};

const COUNT_SHIFT: u32 = 48;
const POINTER: u64 = (1 << COUNT_SHIFT) - 1;
const COUNT_MAX: u64 = u16::MAX as u64;

/// A lock-free stack of batches, in a cache line of its own: posters write it while the owner reads its neighbours.
#[repr(C, align(128))]
pub(crate) struct Inbox(AtomicU64);

impl Inbox {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Inbox {
        Inbox(AtomicU64::new(0))
    }
    #[cfg(loom)]
    pub(crate) fn new() -> Inbox {
        Inbox(AtomicU64::new(0))
    }

    /// Adds a batch; returns how many there are now, it included.
    ///
    /// # Safety
    /// The caller owns the batch and gives it up.
    pub(crate) unsafe fn post(&self, batch: Batch) -> usize {
        // Relaxed: the value is only linked to, never followed here.
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let count = (old >> COUNT_SHIFT).saturating_add(1).min(COUNT_MAX);
            // SAFETY: ours until the exchange below succeeds.
            unsafe { batch.set_link(Batch::from_head((old & POINTER) as *mut Block)) };
            let new = batch.head() as u64 | count << COUNT_SHIFT;
            // Release: the taker's Acquire sees the chain and its links, and through the release sequence those of
            // every batch below. Relaxed on failure: only retried.
            match self
                .0
                .compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return count as usize,
                Err(now) => old = now,
            }
        }
    }

    /// Takes every batch, linked to one another, newest first. The caller owns them.
    #[must_use]
    pub(crate) fn take_all(&self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        // Acquire: pairs with the Release of every `post` in the stack.
        Batch::from_head((self.0.swap(0, Ordering::Acquire) & POINTER) as *mut Block)
    }

    /// A hint: a post may be on its way.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// About how many batches wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        (self.0.load(Ordering::Relaxed) >> COUNT_SHIFT) as usize
    }
}
