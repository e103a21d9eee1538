//! Errands: what the holder of a lock leaves to do for when no lock is held.
//!
//! The guard of a heap's lock gathers them ([`HeldHeap`](super::heap::HeldHeap)), and whoever releases the lock gets them as a
//! value. Errands that cannot be run there are left, and the next thread that runs its own runs them too.

use crate::base::sync::atomic::{AtomicU8, Ordering, fence};

/// Work for a thread that holds no lock (`Errands::run`, in `home::drain`).
#[cfg(not(loom))]
#[must_use = "errands are run once no lock is held"]
pub(crate) struct Errands(u8);

/// A batch was posted to an idle heap, and the poster could not open it: open the inboxes of all idle heaps.
const OPEN: u8 = 1;
/// The pool may retain too much: trim it.
#[cfg(not(loom))]
const TRIM: u8 = 2;
/// Time may have passed: tick. It is not left to others, who tick themselves.
#[cfg(not(loom))]
const TICK: u8 = 4;
#[cfg(not(loom))]
static LEFT: Left = Left::new();

#[cfg(not(loom))]
impl Errands {
    pub(crate) const NONE: Errands = Errands(0);
    pub(crate) const OPEN: Errands = Errands(OPEN);

    /// Adds those that another release brought.
    #[inline]
    pub(crate) fn add(&mut self, other: Errands) {
        self.0 |= core::mem::ManuallyDrop::new(other).0;
    }

    /// Has the pool trimmed if it is `over` its bound.
    #[inline]
    pub(crate) fn trim_if(&mut self, over: bool) {
        self.0 |= TRIM * u8::from(over);
    }

    #[inline]
    pub(crate) fn tick(&mut self) {
        self.0 |= TICK;
    }

    #[inline]
    pub(crate) fn open(&self) -> bool {
        self.0 & OPEN != 0
    }

    #[inline]
    pub(crate) fn trims(&self) -> bool {
        self.0 & TRIM != 0
    }

    #[inline]
    pub(crate) fn ticks(&self) -> bool {
        self.0 & TICK != 0
    }

    /// Whether there is work for `run`, here or left by others.
    #[inline]
    pub(crate) fn any_here(&self) -> bool {
        self.0 & (OPEN | TRIM) != 0 || LEFT.any()
    }

    /// Joins them with those that were left. The caller does them all.
    #[inline]
    pub(crate) fn with_left(self) -> Errands {
        Errands(core::mem::ManuallyDrop::new(self).0 | LEFT.take())
    }

    /// They are done.
    #[inline]
    pub(crate) fn done(self) {
        core::mem::forget(self);
    }

    /// Leaves them to the next thread that runs errands.
    #[inline]
    pub(crate) fn leave(self) {}
}

#[cfg(not(loom))]
impl Drop for Errands {
    #[inline]
    fn drop(&mut self) {
        let errands = self.0 & !TICK;
        if errands != 0 {
            LEFT.leave(errands);
        }
    }
}

/// Errands that were left.
struct Left(AtomicU8);

impl Left {
    #[cfg(not(loom))]
    const fn new() -> Left {
        Left(AtomicU8::new(0))
    }

    #[cfg(loom)]
    fn new() -> Left {
        Left(AtomicU8::new(0))
    }

    /// Leaves errands. A batch to be opened was posted before: by the caller, with a SeqCst fence in between (see
    /// [`Left::take`]); or by a thread that found a lock held, which the caller has released since.
    #[cold]
    fn leave(&self, errands: u8) {
        // Release: the thread that takes them sees the lock released. For the caller's own batch the fences do.
        self.0.fetch_or(errands, Ordering::Release);
    }

    /// Whether anything is left. Relaxed: a thread that sees an old value leaves the errands to the next.
    #[inline]
    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Takes what was left. With [`OPEN`] among it, the caller opens the inboxes of all idle heaps whose locks are free.
    ///
    /// The batch is opened, because both of these hold:
    /// - The caller sees the batch in the inbox. The exchange reads what the poster stored, or a later store, so the poster's
    ///   fence precedes this one.
    /// - If the caller finds the lock held, its holder looks into the inbox after releasing it (`look_again`), behind a fence
    ///   of its own. The caller read the word before the holder changed it back. So this fence precedes the holder's, and so
    ///   does the poster's: the holder sees the batch.
    ///
    /// Without this fence the failing `try_lock` may be done before the exchange: the holder looks, finds nothing and goes, the
    /// batch is posted, and the errand is taken by a thread that believes the lock to be held.
    #[inline]
    fn take(&self) -> u8 {
        if !self.any() {
            return 0;
        }
        let errands = self.0.swap(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        errands
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::base::sync::atomic::AtomicU32;
    use crate::heap::data::attended::{Attended, IDLE};
    use crate::os::lock::{Guard, Lock};
    use crate::slab::batch::{Batch, Block};
    use crate::slab::inbox::Inbox;
    use loom::sync::Arc;
    use loom::thread;
    use std::boxed::Box;
    use std::vec::Vec;

    /// The fence that is left out, for the twins that must fail.
    #[derive(Clone, Copy, PartialEq)]
    enum Without {
        Nothing,
        PostersFence,
        TakersFence,
    }

    /// An idle heap and what was left. Inbox, lock, word and the protocol between posters and holders are the real ones.
    struct World {
        inbox: Inbox,
        lock: Lock,
        state: AtomicU32,
        left: Left,
        without: Without,
    }

    impl World {
        fn attended(&self) -> Attended<'_> {
            Attended {
                inbox: &self.inbox,
                lock: &self.lock,
                state: &self.state,
            }
        }

        /// As `post::post`, by a thread that may not drain.
        fn post(&self) {
            let block = Box::into_raw(Box::new(Block::new()));
            // SAFETY: a chain of one block, just made, and given up.
            unsafe {
                let batch = Batch::seal(block, 1);
                if self.without == Without::PostersFence {
                    self.inbox.post(batch);
                } else {
                    assert!(self.attended().post(batch).nobody_comes);
                }
            }
        }

        /// A poster that does not run its errand.
        fn post_and_leave(&self) {
            self.post();
            self.left.leave(OPEN);
        }

        /// A poster that runs its errand, once it holds no lock.
        fn post_and_run(&self) {
            self.post();
            self.run(OPEN);
        }

        /// As `drain::drain_and_unlock`.
        fn drain_and_unlock(&self, guard: Guard<'_>) {
            self.empty();
            drop(guard);
        }

        fn empty(&self) {
            let mut taken = self.inbox.take_all();
            while let Some(batch) = taken {
                // SAFETY: taken, so owned; one block each.
                unsafe {
                    taken = batch.link();
                    drop(Box::from_raw(batch.head()));
                }
            }
        }

        fn try_drain(&self) {
            self.attended()
                .try_drain(|guard| self.drain_and_unlock(guard));
        }

        /// As `Errands::run`, of a thread that has `own`.
        fn run(&self, own: u8) {
            let left = match self.without {
                // As `take`, without its fence.
                Without::TakersFence => self.left.0.swap(0, Ordering::Relaxed),
                _ => self.left.take(),
            };
            if (own | left) & OPEN != 0 {
                self.try_drain();
            }
        }
    }

    /// Some threads post, one runs what was left, and another holds the heap's lock for a while.
    fn nothing_is_stranded(posters: &'static [fn(&World)], without: Without) {
        let mut model = loom::model::Builder::new();
        // More threads have too many orders to try all of them: only those with at most three preemptions are tried.
        model.preemption_bound = (posters.len() > 1).then_some(3);
        model.check(move || {
            let world = Arc::new(World {
                inbox: Inbox::new(),
                lock: Lock::new(),
                state: AtomicU32::new(IDLE),
                left: Left::new(),
                without,
            });
            let start = |body: fn(&World)| {
                let world = Arc::clone(&world);
                thread::spawn(move || body(&world))
            };
            let mut others: Vec<_> = posters.iter().map(|&body| start(body)).collect();
            others.push(start(World::try_drain));
            world.run(0);
            for other in others {
                other.join().expect("another thread");
            }
            let left = world.left.0.load(Ordering::Relaxed) & OPEN != 0;
            assert!(left || world.inbox.is_empty(), "a batch nobody comes for");
            world.empty();
        });
    }

    #[test]
    fn a_batch_that_was_left_is_opened_or_still_an_errand() {
        nothing_is_stranded(&[World::post_and_leave], Without::Nothing);
        nothing_is_stranded(
            &[World::post_and_leave, World::post_and_leave],
            Without::Nothing,
        );
    }

    #[test]
    #[should_panic(expected = "a batch nobody comes for")]
    fn without_the_takers_fence_a_batch_is_stranded() {
        nothing_is_stranded(&[World::post_and_leave], Without::TakersFence);
    }

    #[test]
    fn a_batch_whose_poster_runs_its_errand_is_opened() {
        nothing_is_stranded(&[World::post_and_run], Without::Nothing);
        nothing_is_stranded(
            &[World::post_and_run, World::post_and_leave],
            Without::Nothing,
        );
    }

    #[test]
    #[should_panic(expected = "a batch nobody comes for")]
    fn without_the_posters_fence_a_batch_is_stranded() {
        nothing_is_stranded(&[World::post_and_run], Without::PostersFence);
    }
}
