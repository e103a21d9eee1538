//! A mutex of four bytes, for cold paths.
//!
//! Uncontended it costs two compare-exchanges, inlined. Contended it checks the word a few times and then sleeps on a futex, so
//! that a waiter with a real-time priority never burns the core that the holder needs. Neither path allocates, and both leave
//! `errno` alone. It is not fair, and it does not poison, because nothing that holds it unwinds.
//!
//! | word | meaning |
//! |---|---|
//! | 0 `FREE` | nobody holds it |
//! | 1 `HELD` | held, and nobody sleeps |
//! | 2 `WAITED` | held, and somebody may sleep: the holder wakes one on release |
//! | 3 `FROZEN` | frozen for a fork, and nobody sleeps; [`freeze`] says which threads may pass |
//! | 4 `FROZEN_WAITED` | frozen, and some may sleep: thawing wakes all |

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use super::freeze::{self, FREEZE};
use crate::base::sync::atomic::AtomicU32;
use crate::base::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::base::tuning::waits::{DYING_MS, SPINS, WAIT_MS};
#[cfg(not(loom))]
use core::hint::spin_loop;
#[cfg(loom)]
use loom::hint::spin_loop;

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED: u32 = 2;
const FROZEN: u32 = 3;
const FROZEN_WAITED: u32 = 4;

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

    /// `None` if the lock is held.
    #[inline]
    #[must_use]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_>> {
        // A failing exchange may see an old value, as a load does, but the model checker's always sees the newest.
        #[cfg(loom)]
        (self.word.load(Relaxed) == FREE).then_some(())?;
        // Acquire pairs with the Release of `release`: what the last holder wrote is seen. A failure learns only that the lock
        // is held, so Relaxed.
        let taken = self.word.compare_exchange(FREE, HELD, Acquire, Relaxed);
        taken.ok().map(|_| Guard { lock: self })
    }

    #[inline]
    fn acquire(&self) {
        // Acquire pairs with the Release of `release`. A failure goes to the slow path, which synchronises on its own.
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
        for _ in 0..SPINS {
            // Only a hint: a thread that sees FREE still has to win the exchange below.
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
        // From here on the word is WAITED whenever this thread holds the lock: it cannot know whether another thread went to
        // sleep meanwhile, so its release wakes one.
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

    /// Whether the lock is frozen; if so, this thread, which passes, has it. The word becomes FROZEN_WAITED, because others may
    /// sleep on that this thread was woken instead of; thawing wakes them.
    fn pass(&self) -> bool {
        // Acquire pairs with the Release of the last holder's `release`. Only exchanges followed it, which continue its release
        // sequence.
        match self
            .word
            .compare_exchange(FROZEN, FROZEN_WAITED, Acquire, Acquire)
        {
            Ok(_) => true,
            Err(state) => state == FROZEN_WAITED,
        }
    }

    /// Makes a free word `state` and returns true. Otherwise waits for a change and returns false.
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
            // A sleeper checks the word now and then, because a fork may freeze the lock without waking anybody, and wait for
            // what this thread holds. In the model only the threads that take part in a fork do so, so that a lost wake-up is a
            // deadlock.
            let times_out = !cfg!(loom) || next == FROZEN_WAITED || state == FROZEN_WAITED;
            self.sleep(next, times_out.then_some(WAIT_MS));
        }
        false
    }

    /// Waits for a holder that may never release the lock. A thread that cannot wait for ever, because it ends the process or
    /// forks, freezes the lock after a while; then it may pass.
    #[cold]
    fn wait_for_the_dying(&self, waits: &mut u32) {
        self.sleep(WAITED, Some(1));
        *waits += 1;
        if *waits > DYING_MS && (FREEZE.am_dying() || FREEZE.is_forker()) {
            *waits = 0;
            // A failure means that the lock was released.
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
        // Release as in `release`. A word that is not WAITED is frozen: this thread passed, and the word stays as it is.
        match self.word.compare_exchange(WAITED, FREE, Release, Relaxed) {
            Ok(_) => self.wake(1),
            Err(_) => FREEZE.leave(),
        }
    }

    /// Freezes the lock for a fork, once nobody holds it. A frozen lock stays frozen.
    pub(crate) fn freeze(&self) {
        let mut waits = 0;
        // One step from FREE, so that a signal handler that forks in the middle of it finds no lock held by its own thread. A
        // thread that slept ends with FROZEN_WAITED, because others may sleep on.
        let first = self.word.compare_exchange(FREE, FROZEN, Acquire, Relaxed);
        while first.is_err()
            && self.word.load(Relaxed) < FROZEN
            && !self.try_become(FROZEN_WAITED, &mut waits)
        {}
    }

    /// Releases a frozen lock.
    pub(crate) fn thaw(&self) {
        let state = self.word.load(Relaxed);
        // Release as in `release`: the threads that passed have left, and this thread has seen it.
        if state >= FROZEN && self.word.swap(FREE, Release) == FROZEN_WAITED {
            self.wake(u32::MAX);
        }
    }

    /// Frees the lock whatever its state, in the child of a fork: the holder may be a thread that does not exist there.
    ///
    /// # Safety
    /// No other thread of this process uses the lock.
    pub(crate) unsafe fn force_reset(&self) {
        // There is only one thread, so nothing needs ordering.
        self.word.store(FREE, Relaxed);
    }

    #[cfg(not(loom))]
    fn sleep(&self, state: u32, limit_ms: Option<u64>) {
        use super::sys;
        // The caller checks the word again, whatever the reason to return.
        sys::preserve_errno(|| {
            let _ = sys::futex_wait(&self.word, state, limit_ms);
        });
    }

    #[cfg(not(loom))]
    #[cold]
    fn wake(&self, most: u32) {
        use super::sys;
        // It fails only for a bad address or operation, about which no caller could do anything.
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

/// A value and the lock that guards it.
pub(crate) struct Locked<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: only the holder of the lock reaches the value, one thread at a time. The value moves between threads with the lock,
// hence T: Send.
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

    /// `None` if the lock is held.
    #[inline]
    #[must_use]
    pub(crate) fn try_lock(&self) -> Option<LockedGuard<'_, T>> {
        let guard = self.lock.try_lock()?;
        Some(LockedGuard {
            _guard: guard,
            value: &self.value,
        })
    }

    /// The lock itself, for the handlers of fork.
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
