//! Model checks of the lock. The model's futex loses no wake-up: a sleeper that nobody wakes is a deadlock, which loom reports.

use super::*;
use loom::sync::Arc;
use loom::thread;

/// Two threads and the lock: exclusion and publication in every interleaving. loom's cell
/// panics on a conflicting access, which core's UnsafeCell would not.
#[test]
fn lock_excludes() {
    loom::model(|| {
        let (shared, others) = others_do(1, add_one);
        add_one(&shared);
        join(others);
        let _g = shared.0.lock();
        // SAFETY: under the lock.
        shared.1.with(|p| unsafe { assert_eq!(*p, 2) });
    });
}

fn add_one(shared: &Shared) {
    let _g = shared.0.lock();
    // SAFETY: under the lock.
    shared.1.with_mut(|p| unsafe { *p += 1 });
}

type Shared = (Lock, loom::cell::UnsafeCell<u32>);

/// What threads share, and so many `others` that do `body` with it.
fn others_do(
    others: usize,
    body: impl Fn(&Shared) + Copy + 'static,
) -> (Arc<Shared>, std::vec::Vec<thread::JoinHandle<()>>) {
    let shared = Arc::new((Lock::new(), loom::cell::UnsafeCell::new(0u32)));
    let others = (0..others)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || body(&shared))
        })
        .collect();
    (shared, others)
}

fn join(others: std::vec::Vec<thread::JoinHandle<()>>) {
    for other in others {
        other.join().expect("another thread");
    }
}

/// Threads that take the lock and let it go by `release`.
fn let_go_by(others: usize, release: fn(&Lock)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let add_one = move |shared: &Shared| {
            core::mem::forget(shared.0.lock());
            // SAFETY: under the lock.
            shared.1.with_mut(|p| unsafe { *p += 1 });
            release(&shared.0);
        };
        let (shared, others) = others_do(others, add_one);
        add_one(&shared);
        join(others);
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn lock_without_release_publishes_nothing() {
    let_go_by(1, |lock| {
        if lock.word.swap(FREE, Relaxed) == WAITED {
            lock.wake(1);
        }
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn lock_that_wakes_nobody_is_waited_for_in_vain() {
    let_go_by(2, |lock| lock.word.store(FREE, Release));
}

/// Three threads, so that one sleeps while another is woken: none sleeps for ever.
#[test]
fn lock_wakes_all_who_wait() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (shared, others) = others_do(2, add_one);
        add_one(&shared);
        join(others);
        let _g = shared.0.lock();
        // SAFETY: under the lock.
        shared.1.with(|p| unsafe { assert_eq!(*p, 3) });
    });
}

/// A thread freezes the lock as a fork does and passes it, while `others` lock or pass it as well. Every interleaving keeps
/// them apart and wakes every sleeper.
fn stands_still(others: usize) {
    stands_still_and(others, |lock| {
        FREEZE.enter();
        lock.thaw();
        FREEZE.leave();
    });
}

fn stands_still_and(others: usize, let_go: fn(&Lock)) {
    let mut model = loom::model::Builder::new();
    // There are too many orders to try all of them.
    model.preemption_bound = Some(if others > 1 { 1 } else { 4 });
    model.max_branches = 20_000;
    model.check(move || {
        let (shared, threads) = others_do(others, add_one);
        assert!(FREEZE.begin());
        shared.0.freeze();
        add_one(&shared);
        let_go(&shared.0);
        FREEZE.end();
        join(threads);
        assert_eq!(shared.0.word.load(Relaxed), FREE);
        let _g = shared.0.lock();
        // SAFETY: under the lock.
        shared
            .1
            .with(|p| unsafe { assert_eq!(*p, 1 + others as u32) });
    });
}

#[test]
fn lock_stands_still_for_a_fork() {
    stands_still(1);
}

#[test]
fn lock_stands_still_for_a_fork_with_two_who_wait() {
    stands_still(2);
}

/// Somebody passes while the lock is let go, and another takes it.
#[test]
#[should_panic(expected = "Causality violation")]
fn lock_that_is_let_go_under_who_passes_excludes_nobody() {
    stands_still_and(2, Lock::thaw);
}
