//! Who opens what is posted to a heap. While the heap's thread lives, that thread does, and others may. Once the heap is idle, the
//! poster does, if it gets the lock. Otherwise the lock's holder does after releasing it. So no batch stays behind.

use crate::base::sync::atomic::{AtomicU32, Ordering, fence};
use crate::os::lock::{Guard, Lock};
use crate::slab::batch::Batch;
use crate::slab::inbox::Inbox;

/// The heap's thread lives.
pub(crate) const LIVE: u32 = 0;
/// The heap's thread has ended: a poster drains its inbox.
pub(crate) const IDLE: u32 = 1;

/// The words of a heap that the protocol is about.
#[derive(Clone, Copy)]
pub(crate) struct Attended<'a> {
    pub(crate) inbox: &'a Inbox,
    pub(crate) lock: &'a Lock,
    pub(crate) state: &'a AtomicU32,
}

/// What a poster learns.
#[must_use]
pub(crate) struct Posted {
    /// Batches in the inbox, about.
    pub(crate) waiting: usize,
    /// The heap is idle: the poster opens the inbox, or notes that a batch is left.
    pub(crate) nobody_comes: bool,
}

impl<'a> Attended<'a> {
    /// Posts a batch.
    ///
    /// # Safety
    /// The caller owns the batch and gives it up.
    #[inline]
    pub(crate) unsafe fn post(self, batch: Batch) -> Posted {
        // SAFETY: the caller's promise.
        let waiting = unsafe { self.inbox.post(batch) };
        // SeqCst, with the fence in `leave`: this thread sees that the heap is idle, or the leaver's drain sees this batch.
        fence(Ordering::SeqCst);
        Posted {
            waiting,
            nobody_comes: self.is_idle(),
        }
    }

    /// Exact for the holder of the lock; a hint for others.
    #[inline]
    pub(crate) fn is_idle(self) -> bool {
        self.state.load(Ordering::Relaxed) == IDLE
    }

    /// Makes the heap idle. The caller drains the inbox next, and looks again once it has released the lock.
    ///
    /// # Safety
    /// The caller holds the lock, and no thread uses the heap.
    #[inline]
    pub(crate) unsafe fn leave(self) {
        self.state.store(IDLE, Ordering::Relaxed);
        // SeqCst: see `post`.
        fence(Ordering::SeqCst);
    }

    /// Makes the heap a thread's again, which opens the inbox from now on.
    ///
    /// # Safety
    /// The caller holds the lock, and the heap is that thread's alone.
    #[inline]
    pub(crate) unsafe fn take(self) {
        self.state.store(LIVE, Ordering::SeqCst);
    }

    /// Takes the lock if it is free, and has `drain` open the inbox and release it.
    pub(crate) fn try_drain(self, mut drain: impl FnMut(Guard<'a>)) {
        if let Some(guard) = self.lock.try_lock() {
            drain(guard);
            self.look_again(drain);
        }
    }

    /// To be called after releasing the lock of a heap that may be idle. A poster that found the lock held has gone away and
    /// counts on its holder. (The poster pushes, fences, and its `try_lock` fails. So the holder's unlock comes later, and its
    /// look after the fence below sees the push.)
    pub(crate) fn look_again(self, mut drain: impl FnMut(Guard<'a>)) {
        loop {
            fence(Ordering::SeqCst);
            if !self.is_idle() || self.inbox.is_empty() {
                return;
            }
            let Some(guard) = self.lock.try_lock() else {
                return;
            };
            drain(guard);
        }
    }
}
