//! A flag that says: a thread that held a lock posted a batch to an idle heap and could not open it. The next thread that comes
//! by without a lock takes the flag down and opens the inboxes of all idle heaps.

use crate::base::sync::atomic::{AtomicBool, Ordering, fence};

pub(crate) struct LeftOver(AtomicBool);

impl LeftOver {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> LeftOver {
        LeftOver(AtomicBool::new(false))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> LeftOver {
        LeftOver(AtomicBool::new(false))
    }

    /// Puts the flag up, for a batch that was posted before: by the caller, with a SeqCst fence in between (see
    /// [`LeftOver::take`]); or by a thread that found a lock held, which the caller has released since.
    #[inline]
    pub(crate) fn leave(&self) {
        // Release: the thread that takes the flag down sees the lock released. For the caller's own batch the fences do.
        self.0.store(true, Ordering::Release);
    }

    /// Takes the flag down. If it was up, the caller opens the inboxes of all idle heaps whose locks are free.
    ///
    /// The batch is opened, because both of these hold:
    /// - The caller sees the batch in the inbox. The exchange reads what the poster stored, or a later store, so the poster's
    ///   fence precedes this one.
    /// - If the caller finds the lock held, its holder looks into the inbox after releasing it (`look_again`), behind a fence
    ///   of its own. The caller read the word before the holder changed it back. So this fence precedes the holder's, and so
    ///   does the poster's: the holder sees the batch.
    ///
    /// Without this fence the failing `try_lock` may be done before the exchange: the holder looks, finds nothing and goes, the
    /// batch is posted, and the flag is taken down by a thread that believes the lock to be held.
    #[inline]
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        // Relaxed: a thread that sees an old value leaves the flag up for the next.
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            fence(Ordering::SeqCst);
            return true;
        }
        false
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::os::lock::Lock;
    use crate::slab::batch::{Batch, Block};
    use crate::slab::inbox::Inbox;
    use loom::sync::Arc;
    use loom::thread;
    use std::boxed::Box;
    use std::vec::Vec;

    /// An idle heap and the flag. Inbox, lock and flag are the real ones.
    struct World {
        inbox: Inbox,
        lock: Lock,
        left: LeftOver,
        fenced: bool,
    }

    impl World {
        /// As `post::post` to an idle heap, by a thread that may not drain.
        fn post(&self) {
            let block = Box::into_raw(Box::new(Block::new()));
            // SAFETY: a chain of one block, just made, and given up.
            unsafe { self.inbox.post(Batch::seal(block, 1)) };
            fence(Ordering::SeqCst);
            self.left.leave();
        }

        /// As `drain::drain_locked`.
        fn drain_locked(&self) {
            let mut taken = self.inbox.take_all();
            while let Some(batch) = taken {
                // SAFETY: taken, so owned; one block each.
                unsafe {
                    taken = batch.link();
                    drop(Box::from_raw(batch.head()));
                }
            }
        }

        /// As `drain::try_drain` and `drain::look_again`.
        fn try_drain(&self) {
            while let Some(guard) = self.lock.try_lock() {
                self.drain_locked();
                drop(guard);
                fence(Ordering::SeqCst);
                if self.inbox.is_empty() {
                    break;
                }
            }
        }

        fn catch_up(&self) {
            let left = if self.fenced {
                self.left.take()
            } else {
                // As `take`, without its fence.
                self.left.0.swap(false, Ordering::Relaxed)
            };
            if left {
                self.try_drain();
            }
        }
    }

    /// `posters` threads leave batches and one catches up, while another holds the heap's lock for a while.
    fn nothing_is_stranded(posters: usize, fenced: bool) {
        let mut model = loom::model::Builder::new();
        // More threads have too many orders to try all of them: only those with at most three preemptions are tried.
        model.preemption_bound = (posters > 1).then_some(3);
        model.check(move || {
            let world = Arc::new(World {
                inbox: Inbox::new(),
                lock: Lock::new(),
                left: LeftOver::new(),
                fenced,
            });
            let start = |body: fn(&World)| {
                let world = Arc::clone(&world);
                thread::spawn(move || body(&world))
            };
            let mut others: Vec<_> = (0..posters).map(|_| start(World::post)).collect();
            others.push(start(World::try_drain));
            world.catch_up();
            for other in others {
                other.join().expect("another thread");
            }
            let up = world.left.0.load(Ordering::Relaxed);
            assert!(up || world.inbox.is_empty(), "a batch nobody comes for");
            world.drain_locked();
        });
    }

    #[test]
    fn a_batch_that_was_left_is_opened_or_the_flag_is_up() {
        nothing_is_stranded(1, true);
        nothing_is_stranded(2, true);
    }

    #[test]
    #[should_panic(expected = "a batch nobody comes for")]
    fn without_the_fence_a_batch_is_stranded() {
        nothing_is_stranded(1, false);
    }
}
