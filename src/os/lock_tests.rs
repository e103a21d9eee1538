//! Of the lock, with real threads.

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
fn a_reset_lock_is_free() {
    let lock = Lock::new();
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

/// Freezes as a fork does, with one thread asleep that held on to the lock before it.
#[test]
fn a_lock_that_stands_still_keeps_others_out_and_lets_its_thread_pass() {
    let shared = Arc::new(Locked::new(0));
    assert!(FREEZE.begin());
    shared.raw().freeze();
    shared.raw().freeze();
    assert!(shared.try_lock().is_none());
    let waiter = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let mut value = shared.lock();
            *value += 1;
            *value
        })
    };
    while shared.raw().word.load(Relaxed) != FROZEN_WAITED {
        thread::yield_now();
    }
    // This thread passes, again and again, and lets nobody in.
    for _ in 0..3 {
        *shared.lock() += 10;
    }
    assert_eq!(shared.raw().word.load(Relaxed), FROZEN_WAITED);
    FREEZE.enter();
    shared.raw().thaw();
    FREEZE.leave();
    FREEZE.end();
    assert_eq!(waiter.join().expect("waiter"), 31);
    assert_eq!(shared.raw().word.load(Relaxed), FREE);
}

/// The thread that forks sleeps, as one does that waits for somebody else's lock; the other holds that one.
#[test]
fn who_waits_for_a_fork_that_waits_for_it_passes() {
    let (shared, theirs) = (
        Arc::new(Locked::new(0)),
        Arc::new(std::sync::Mutex::new(())),
    );
    let (go, went) = std::sync::mpsc::channel();
    let other = {
        let (shared, theirs) = (Arc::clone(&shared), Arc::clone(&theirs));
        thread::spawn(move || {
            let _theirs = theirs.lock().expect("nobody panics");
            went.recv().expect("sent below");
            *shared.lock() += 1;
        })
    };
    while theirs.try_lock().is_ok() {
        thread::yield_now();
    }
    assert!(FREEZE.begin());
    shared.raw().freeze();
    go.send(()).expect("received");
    drop(theirs.lock().expect("nobody panics"));
    FREEZE.enter();
    shared.raw().thaw();
    FREEZE.leave();
    FREEZE.end();
    other.join().expect("the other");
    assert_eq!(*shared.lock(), 1);
}
