//! A mutex of four bytes, for cold paths.
//!
//! Uncontended it is one compare-exchange and one swap, inlined. Contended it looks at the word a
//! few times and then sleeps on a futex, so that a waiter with a real-time priority never burns the
//! core the holder needs. Neither path allocates, and both leave `errno` alone. It is not fair and
//! does not poison: nothing that holds it unwinds.
//!
//! | word | meaning |
//! |---|---|
//! | 0 `FREE` | nobody holds it |
//! | 1 `HELD` | held, and nobody sleeps |
//! | 2 `WAITED` | held, and somebody may sleep: the holder wakes one on release |
//! | 3 `FROZEN` | stands still for a fork, and nobody sleeps; [`freeze`](super::freeze) says who may pass |
//! | 4 `FROZEN_WAITED` | stands still, and some may sleep: all are woken when it is let go |

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use super::freeze::{self, FREEZE};
use crate::base::sync::atomic::AtomicU32;
use crate::base::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(not(loom))]
use core::hint::spin_loop;
#[cfg(loom)]
use loom::hint::spin_loop;

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED: u32 = 2;
const FROZEN: u32 = 3;
const FROZEN_WAITED: u32 = 4;

/// What a thread that ends the process waits for a lock, in milliseconds: it may hold that lock itself.
#[cfg(not(loom))]
const DYING_MS: u32 = 100;
#[cfg(loom)]
const DYING_MS: u32 = 1;

/// How often a waiter looks before it sleeps: a hold is typically a few hundred nanoseconds, a
/// trip through the kernel a few microseconds.
#[cfg(not(loom))]
const LOOKS: u32 = 64;
#[cfg(loom)]
const LOOKS: u32 = 1;

/// The mutex.
pub(crate) struct Lock {
    word: AtomicU32,
    #[cfg(loom)]
    futex: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl Lock {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Lock {
        Lock {
            word: AtomicU32::new(FREE),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Lock {
        Lock {
            word: AtomicU32::new(FREE),
            futex: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_> {
        self.acquire();
        Guard { lock: self }
    }

    /// `None` where somebody holds it.
    #[inline]
    #[must_use]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_>> {
        // A failing exchange may see an old value, as a load does; the model checker's sees the newest always.
        #[cfg(loom)]
        (self.word.load(Relaxed) == FREE).then_some(())?;
        // Acquire pairs with the Release of `release`: what the last holder wrote is seen.
        // A failure learns nothing but that it is held, so Relaxed.
        let taken = self.word.compare_exchange(FREE, HELD, Acquire, Relaxed);
        taken.ok().map(|_| Guard { lock: self })
    }

    #[inline]
    fn acquire(&self) {
        // Acquire pairs with the Release of `release`; the failure is looked into by the slow path,
        // which synchronises on its own.
        if self
            .word
            .compare_exchange(FREE, HELD, Acquire, Relaxed)
            .is_err()
        {
            self.acquire_slow();
        }
    }

    #[cold]
    fn acquire_slow(&self) {
        for _ in 0..LOOKS {
            // Only a look: whoever sees FREE still has to win the exchange below.
            match self.word.load(Relaxed) {
                FREE => {
                    // As in `acquire`.
                    if self
                        .word
                        .compare_exchange(FREE, HELD, Acquire, Relaxed)
                        .is_ok()
                    {
                        return;
                    }
                }
                HELD => spin_loop(),
                // Others sleep already: spinning would only jump the queue.
                _ => break,
            }
        }
        // From here on the word is WAITED whenever this thread holds it: it cannot know whether
        // somebody else went to sleep meanwhile, so its release wakes one.
        let mut waits = 0;
        loop {
            if self.word.load(Relaxed) >= FROZEN && FREEZE.try_enter(&mut waits) {
                if self.pass() {
                    return;
                }
                FREEZE.leave();
            }
            if self.try_become(WAITED, &mut waits) {
                return;
            }
        }
    }

    /// Whether the lock stands still; then this thread, which passes, has it. As after a sleep, others may sleep on that
    /// this one was woken instead of: whoever lets the lock go wakes them.
    fn pass(&self) -> bool {
        // Acquire pairs with the Release of the last holder's `release`: what follows on that are exchanges, which hand it
        // on.
        match self
            .word
            .compare_exchange(FROZEN, FROZEN_WAITED, Acquire, Acquire)
        {
            Ok(_) => true,
            Err(state) => state == FROZEN_WAITED,
        }
    }

    /// Makes a free word `state`; else waits for a change and answers false.
    fn try_become(&self, state: u32, waits: &mut u32) -> bool {
        let seen = self.word.load(Relaxed);
        let next = match seen {
            FREE => state,
            HELD => WAITED,
            FROZEN => FROZEN_WAITED,
            asleep => asleep,
        };
        // Acquire as in `acquire`.
        if seen != next
            && self
                .word
                .compare_exchange(seen, next, Acquire, Relaxed)
                .is_err()
        {
            return false;
        }
        if seen == FREE {
            return true;
        }
        if next == WAITED && FREEZE.somebody_dies() {
            self.wait_for_the_dying(waits);
        } else {
            // Whoever sleeps looks about now and then: a fork may stop the lock without waking anybody, and wait for what this
            // thread holds. In the model only who takes part in a fork does, so that a lost wake-up is a deadlock.
            let looks_about = !cfg!(loom) || next == FROZEN_WAITED || state == FROZEN_WAITED;
            self.sleep(next, looks_about.then_some(freeze::WAIT_MS));
        }
        false
    }

    /// The holder may never let the lock go. A thread that cannot wait for that, as it ends the process or forks, stops
    /// the lock after a while; then it may pass.
    #[cold]
    fn wait_for_the_dying(&self, waits: &mut u32) {
        self.sleep(WAITED, Some(1));
        *waits += 1;
        if *waits > DYING_MS && (FREEZE.am_dying() || FREEZE.is_forker()) {
            *waits = 0;
            // A failure means that the lock was let go.
            let _ = self
                .word
                .compare_exchange(WAITED, FROZEN_WAITED, Acquire, Relaxed);
        }
    }

    #[inline]
    fn release(&self) {
        // Release publishes what was written under the lock to the next Acquire of the word.
        if self
            .word
            .compare_exchange(HELD, FREE, Release, Relaxed)
            .is_err()
        {
            self.release_slow();
        }
    }

    #[cold]
    fn release_slow(&self) {
        // As in `release`. A word that stands still was passed, and stays as it is.
        match self.word.compare_exchange(WAITED, FREE, Release, Relaxed) {
            Ok(_) => self.wake(1),
            Err(_) => FREEZE.leave(),
        }
    }

    /// Stops the lock for a fork, once nobody holds it; a lock that stands still already stays so.
    pub(crate) fn freeze(&self) {
        let mut waits = 0;
        // One step from FREE, so that a signal handler that forks in the midst of it finds no lock held by its own thread.
        // Who slept takes the place of the one it was woken as: others may sleep on.
        let first = self.word.compare_exchange(FREE, FROZEN, Acquire, Relaxed);
        while first.is_err()
            && self.word.load(Relaxed) < FROZEN
            && !self.try_become(FROZEN_WAITED, &mut waits)
        {}
    }

    /// Lets go of a lock that stands still.
    pub(crate) fn thaw(&self) {
        let state = self.word.load(Relaxed);
        // Release as in `release`: who passed has left, and this thread has seen it.
        if state >= FROZEN && self.word.swap(FREE, Release) == FROZEN_WAITED {
            self.wake(u32::MAX);
        }
    }

    /// Makes the lock free whatever it was: for the child of a fork, where the holder may be a
    /// thread that does not exist.
    ///
    /// # Safety
    /// No other thread of this process uses the lock.
    pub(crate) unsafe fn force_reset(&self) {
        // One thread only, so nothing is to be ordered.
        self.word.store(FREE, Relaxed);
    }

    #[cfg(not(loom))]
    fn sleep(&self, state: u32, limit_ms: Option<u64>) {
        use super::sys;
        // Whatever the reason to return was, the word is looked at again.
        sys::preserve_errno(|| {
            let _ = sys::futex_wait(&self.word, state, limit_ms);
        });
    }

    #[cfg(not(loom))]
    #[cold]
    fn wake(&self, most: u32) {
        use super::sys;
        // The only failures are a bad address or operation: nothing a caller could act on.
        sys::preserve_errno(|| {
            let _ = sys::futex_wake(&self.word, most);
        });
    }

    #[cfg(loom)]
    fn sleep(&self, state: u32, limit_ms: Option<u64>) {
        if limit_ms.is_some() {
            return loom::thread::yield_now();
        }
        let asleep = self.futex.0.lock().expect("no panic in the model");
        if self.word.load(Relaxed) == state {
            drop(self.futex.1.wait(asleep).expect("no panic in the model"));
        }
    }

    #[cfg(loom)]
    fn wake(&self, most: u32) {
        let _asleep = self.futex.0.lock().expect("no panic in the model");
        if most == 1 {
            self.futex.1.notify_one();
        } else {
            self.futex.1.notify_all();
        }
    }
}

/// Holds a [`Lock`] until dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct Guard<'a> {
    lock: &'a Lock,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release();
    }
}

/// A value and the lock it is under.
pub(crate) struct Locked<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, the holder; it moves between threads with
// the lock, hence T: Send.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> Locked<T> {
        Locked {
            lock: Lock::new(),
            value: UnsafeCell::new(value),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Locked<T> {
        Locked {
            lock: Lock::new(),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockedGuard<'_, T> {
        LockedGuard {
            _guard: self.lock.lock(),
            value: &self.value,
        }
    }

    /// `None` where somebody holds it.
    #[inline]
    #[must_use]
    pub(crate) fn try_lock(&self) -> Option<LockedGuard<'_, T>> {
        let guard = self.lock.try_lock()?;
        Some(LockedGuard {
            _guard: guard,
            value: &self.value,
        })
    }

    /// The lock itself, for the fork's handlers.
    pub(crate) fn raw(&self) -> &Lock {
        &self.lock
    }
}

/// Access to a [`Locked`] value.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct LockedGuard<'a, T> {
    _guard: Guard<'a>,
    value: &'a UnsafeCell<T>,
}

impl<T> Deref for LockedGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is held, so no other thread has access, and `&self` excludes `&mut`
        // through this guard.
        unsafe { &*self.value.get() }
    }
}

impl<T> DerefMut for LockedGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is held, and `&mut self` makes this the only access through it.
        unsafe { &mut *self.value.get() }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "lock_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
#[path = "lock_model.rs"]
mod model;
