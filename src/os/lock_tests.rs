//! Tests of the lock with real threads.

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
                    // The halves change one after the other: a second holder would see them differ.
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

/// Freezes as a fork does, while a thread that came before sleeps on the lock.
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
    // This thread passes again and again, and lets nobody in.
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

/// The forking thread sleeps because it waits for a lock of other code, which the other thread holds.
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

/// Waits until the thread sleeps in the kernel. The caller sleeps meanwhile, like a forking thread that waits.
fn wait_until_asleep(tid: u32) {
    while !crate::os::thread::sleeps(tid) {
        thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Starts a thread that reports its number before it runs `body`.
fn numbered(body: impl FnOnce() + Send + 'static) -> (u32, thread::JoinHandle<()>) {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(crate::os::thread::tid()).expect("received");
        body();
    });
    (told.recv().expect("sent first"), thread)
}

/// A thread passes one lock and sleeps for another. That one is released, which wakes another thread, and frozen at once. The
/// sleeper must not sleep on, because the forking thread waits for it.
#[test]
fn a_lock_that_one_who_passes_waits_for_is_stopped() {
    let locks = Arc::new((Lock::new(), Lock::new()));
    assert!(FREEZE.begin());
    locks.0.freeze();
    core::mem::forget(locks.1.lock());
    let (_, passes) = {
        let locks = Arc::clone(&locks);
        numbered(move || {
            let _first = locks.0.lock();
            drop(locks.1.lock());
        })
    };
    while locks.1.word.load(Relaxed) != WAITED {
        thread::sleep(std::time::Duration::from_millis(1));
    }
    // Long enough for it to fall asleep. That cannot be observed, because it wakes now and then anyway to check the word.
    thread::sleep(std::time::Duration::from_millis(50));
    locks.1.word.store(FROZEN_WAITED, Relaxed);
    FREEZE.enter();
    locks.0.thaw();
    locks.1.thaw();
    FREEZE.leave();
    FREEZE.end();
    passes.join().expect("it passes both");
}

/// A lock is released, which wakes one of two sleepers, and frozen at once. The woken one passes it. Thawing must wake the
/// other.
#[test]
fn who_slept_before_a_lock_was_stopped_is_woken_after_it() {
    let lock = Arc::new(Lock::new());
    core::mem::forget(lock.lock());
    let (tid, sleeper) = {
        let lock = Arc::clone(&lock);
        numbered(move || drop(lock.lock()))
    };
    while lock.word.load(Relaxed) != WAITED {
        thread::yield_now();
    }
    wait_until_asleep(tid);
    assert!(FREEZE.begin());
    lock.word.store(FROZEN, Relaxed);
    drop(lock.lock());
    FREEZE.enter();
    lock.thaw();
    FREEZE.leave();
    FREEZE.end();
    sleeper.join().expect("it is woken");
}
