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

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use crate::base::sync::atomic::AtomicU32;
use crate::base::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(not(loom))]
use core::hint::spin_loop;
#[cfg(loom)]
use loom::hint::spin_loop;

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITED: u32 = 2;

/// How often a waiter looks before it sleeps: a hold is typically a few hundred nanoseconds, a
/// trip through the kernel a few microseconds.
#[cfg(not(loom))]
const LOOKS: u32 = 64;
#[cfg(loom)]
const LOOKS: u32 = 1;

/// The mutex.
pub(crate) struct Lock {
    word: AtomicU32,
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

    /// Takes the lock without a guard: for the fork handlers, which release it in another function.
    #[inline]
    pub(crate) fn acquire(&self) {
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
                // Others sleep already: spinning would only jump the queue.
                WAITED => break,
                _ => spin_loop(),
            }
        }
        // From here on the word is WAITED whenever this thread holds it: it cannot know whether
        // somebody else went to sleep meanwhile, so its release wakes one. Acquire as in `acquire`.
        while self.word.swap(WAITED, Acquire) != FREE {
            self.sleep();
        }
    }

    /// Releases what [`Lock::acquire`] took.
    ///
    /// # Safety
    /// The calling thread holds the lock, by `acquire` or a forgotten guard.
    #[inline]
    pub(crate) unsafe fn release(&self) {
        // Release publishes what was written under the lock to the next Acquire of the word.
        if self.word.swap(FREE, Release) == WAITED {
            self.wake_one();
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
    fn sleep(&self) {
        use super::sys;
        // Whatever the reason to return was, the word is looked at again.
        sys::preserve_errno(|| {
            let _ = sys::futex_wait(&self.word, WAITED, None);
        });
    }

    #[cfg(not(loom))]
    #[cold]
    fn wake_one(&self) {
        use super::sys;
        // The only failures are a bad address or operation: nothing a caller could act on.
        sys::preserve_errno(|| {
            let _ = sys::futex_wake(&self.word, 1);
        });
    }

    /// The model's futex: a sleeper that may always wake.
    #[cfg(loom)]
    fn sleep(&self) {
        loom::thread::yield_now();
    }

    #[cfg(loom)]
    fn wake_one(&self) {}
}

/// Holds a [`Lock`] until dropped.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct Guard<'a> {
    lock: &'a Lock,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a guard exists only while its thread holds the lock.
        unsafe { self.lock.release() }
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

    /// The lock itself, for the fork handlers.
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
mod tests {
    use super::*;
    use crate::os::fake::{self, Call};
    use std::sync::Arc;
    use std::thread;
    use std::vec::Vec;

    #[test]
    fn is_four_bytes() {
        assert_eq!(size_of::<Lock>(), 4);
    }

    #[test]
    fn excludes_and_publishes_under_contention() {
        let shared = Arc::new(Locked::new((0u64, 0u64)));
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for n in 0..20_000u64 {
                        let mut g = if (n + i) % 3 == 0 {
                            loop {
                                match shared.try_lock() {
                                    Some(g) => break g,
                                    None => thread::yield_now(),
                                }
                            }
                        } else {
                            shared.lock()
                        };
                        // Both halves are changed apart: a second holder would see them differ.
                        g.0 += 1;
                        if n % 1024 == 0 {
                            thread::yield_now();
                        }
                        assert_eq!(g.0, g.1 + 1);
                        g.1 += 1;
                    }
                })
            })
            .collect();
        for t in threads {
            t.join().expect("a thread saw the lock broken");
        }
        assert_eq!(*shared.lock(), (80_000, 80_000));
        assert_eq!(shared.raw().word.load(Relaxed), FREE);
    }

    #[test]
    fn a_waiter_sleeps_in_the_kernel_and_is_woken() {
        let lock = Arc::new(Lock::new());
        let guard = lock.lock();
        let waiter = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                drop(lock.lock());
                fake::calls().of(Call::FutexWait)
            })
        };
        while lock.word.load(Relaxed) != WAITED {
            thread::yield_now();
        }
        assert!(lock.try_lock().is_none());
        drop(guard);
        let waits = waiter.join().expect("waiter");
        assert!(waits > 0, "it never asked the kernel to wait");
    }

    #[test]
    fn raw_halves_and_reset() {
        let lock = Lock::new();
        lock.acquire();
        assert!(lock.try_lock().is_none());
        // SAFETY: acquired above.
        unsafe { lock.release() };
        core::mem::forget(lock.lock());
        // SAFETY: this thread alone uses the lock.
        unsafe { lock.force_reset() };
        assert!(lock.try_lock().is_some());
    }

    #[test]
    fn contention_leaves_errno_alone() {
        let lock = Arc::new(Lock::new());
        let guard = lock.lock();
        let waiter = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                // SAFETY: errno of this thread.
                unsafe { *libc::__errno_location() = 123 };
                drop(lock.lock());
                crate::os::sys::Errno::last().0
            })
        };
        while lock.word.load(Relaxed) != WAITED {
            thread::yield_now();
        }
        drop(guard);
        assert_eq!(waiter.join().expect("waiter"), 123);
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two threads and the lock: exclusion and publication in every interleaving. loom's cell
    /// panics on a conflicting access, which core's UnsafeCell would not.
    #[test]
    fn lock_excludes() {
        loom::model(|| {
            let shared = Arc::new((Lock::new(), loom::cell::UnsafeCell::new(0u32)));
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || add_one(&shared))
            };
            add_one(&shared);
            other.join().expect("the other thread");
            let _g = shared.0.lock();
            // SAFETY: under the lock.
            shared.1.with(|p| unsafe { assert_eq!(*p, 2) });
        });
    }

    fn add_one(shared: &(Lock, loom::cell::UnsafeCell<u32>)) {
        let _g = shared.0.lock();
        // SAFETY: under the lock.
        shared.1.with_mut(|p| unsafe { *p += 1 });
    }
}
