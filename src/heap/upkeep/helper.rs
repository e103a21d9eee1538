//! When the maintenance thread works, rests and goes.
//!
//! A process that made no thread must work as one of one thread although it has this one: a signal handler may fork whatever it
//! interrupted, and the kernel lets the process unshare or join namespaces. So a fork makes the thread rest, where it holds no
//! lock, and does not count it. A caller that needs the process to have one thread sends it away.
//!
//! | bits of the word | meaning |
//! |---|---|
//! | 0 `WORKING` | a round is under way: the thread may hold a lock |
//! | 1 `PRESENT` | the thread exists |
//! | 2 `GO` | it is to end |
//! | 3 and up | forks that have it rest |

use crate::base::tuning::helper::{FORK_MS, STEP_US, STEPS, WAITS};
use crate::os::{sys, thread};
use core::sync::atomic::{AtomicU32, Ordering};

const WORKING: u32 = 1;
const PRESENT: u32 = 2;
const GO: u32 = 4;
const FORK: u32 = 8;

pub(crate) struct Helper {
    word: AtomicU32,
    /// The thread's number. It orders nothing: Relaxed.
    tid: AtomicU32,
}

pub(crate) static HELPER: Helper = Helper::new();

impl Helper {
    const fn new() -> Helper {
        Helper {
            word: AtomicU32::new(0),
            tid: AtomicU32::new(0),
        }
    }

    /// The thread is about to be started. From here on it counts as present, so that nobody misses it on its way. If it is
    /// refused, [`Helper::goes`] follows.
    pub(crate) fn starts(&self) {
        self.tid.store(0, Ordering::Relaxed);
        // Release: a thread that sees it on its way does not see the number of the one before.
        self.word.fetch_or(PRESENT, Ordering::Release);
    }

    /// The calling thread is the maintenance thread.
    pub(crate) fn came(&self) {
        self.tid.store(thread::tid(), Ordering::Relaxed);
    }

    /// Waits for `ms` milliseconds and begins a round, which [`Helper::rest`] ends. Returns false if the thread is to end.
    #[must_use]
    pub(crate) fn work_after(&self, ms: u64) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        if seen & GO == 0 {
            let _ = sys::futex_wait(&self.word, seen, Some(ms));
        }
        self.begin(GO)
    }

    /// Begins a round, or goes on with one, once no fork is under way. Returns false if the word has one of the bits `unless`.
    fn begin(&self, unless: u32) -> bool {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & unless != 0 {
                return false;
            }
            if seen >= FORK {
                let _ = sys::futex_wait(&self.word, seen, Some(FORK_MS));
                continue;
            }
            // One word says both, so either the fork sees the round or the round sees the fork. Nothing that a fork changes
            // while the thread rests is read by it: Relaxed.
            let began = self.word.compare_exchange(
                seen,
                seen | WORKING,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if began.is_ok() {
                return true;
            }
        }
    }

    /// A round is over.
    pub(crate) fn rest(&self) {
        // Release pairs with the Acquire in `leaves_alone`: the fork finds complete what the round changed.
        self.word.fetch_and(!WORKING, Ordering::Release);
    }

    /// The thread ends, and takes no further lock unless it says that it [`stays`](Helper::stays). Returns whether it was sent
    /// away.
    pub(crate) fn goes(&self) -> bool {
        self.word.fetch_and(!(PRESENT | GO), Ordering::Release) & GO != 0
    }

    /// The calling thread goes on after all.
    pub(crate) fn stays(&self) {
        self.word.fetch_or(PRESENT, Ordering::Relaxed);
    }

    /// Lets other threads have what they wait for, in the middle of a round and with no lock held. The maintenance thread
    /// counts as resting meanwhile, so that no fork waits for the end of a long round. For any other thread it is a pause.
    pub(crate) fn breathe(&self) {
        let mine = self.tid.load(Ordering::Relaxed) == thread::tid();
        if mine {
            self.rest();
        }
        sys::sleep_us(STEP_US);
        if mine {
            let began = self.begin(0);
            debug_assert!(began, "no bit forbids it");
        }
    }

    /// The calling thread forks: no round begins until [`Helper::resume`]. Returns whether the process has no other thread but
    /// the maintenance thread, which then rests and so is no party to the fork.
    pub(crate) fn leaves_alone(&self) -> bool {
        self.hold();
        let mut asleep = 0;
        for step in 0..WAITS * STEPS {
            // If it has this number before the threads are counted, and exists after, it is one of those counted.
            let tid = self.tid.load(Ordering::Relaxed);
            match thread::count() {
                Some(1) => return true,
                Some(2) => {}
                _ => return false,
            }
            let word = self.word.load(Ordering::Acquire);
            if tid == 0 && word & PRESENT == 0 {
                return false;
            }
            if tid != 0 && thread::is_gone(tid) {
                // It left meanwhile, and its number may be another thread's one day.
                let relaxed = Ordering::Relaxed;
                let _ = self.tid.compare_exchange(tid, 0, relaxed, relaxed);
                continue;
            }
            if tid != 0 && word & WORKING == 0 {
                return true;
            }
            // Asleep at two looks: it waits for a lock that the forking thread holds, in a signal handler, and will wait on.
            if tid != 0 && step % STEPS == STEPS - 1 {
                asleep = if thread::sleeps(tid) { asleep + 1 } else { 0 };
                if asleep == 2 {
                    return true;
                }
            }
            sys::sleep_us(STEP_US);
        }
        false
    }

    /// No round begins until [`Helper::resume`].
    fn hold(&self) {
        self.word.fetch_add(FORK, Ordering::Relaxed);
    }

    /// Whether a fork is under way, from the last handler before it to the first after it.
    pub(crate) fn is_held(&self) -> bool {
        // The calling thread's own fork is what it may act on: Relaxed.
        self.word.load(Ordering::Relaxed) >= FORK
    }

    /// In the parent: the fork is over. The thread finds out by itself.
    pub(crate) fn resume(&self) {
        // Never below 0: a child's count begins anew, though a fork that its signal handler interrupted ends there as well.
        let less = |word: u32| word.checked_sub(FORK);
        let relaxed = Ordering::Relaxed;
        let _ = self.word.fetch_update(relaxed, relaxed, less);
    }

    /// In the child of a fork: the thread is gone.
    pub(crate) fn after_fork(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.tid.store(0, Ordering::Relaxed);
    }

    /// Has the thread end.
    pub(crate) fn dismiss(&self) {
        let unaware = |word: u32| (word & (PRESENT | GO) == PRESENT).then_some(word | GO);
        let relaxed = Ordering::Relaxed;
        if self.word.fetch_update(relaxed, relaxed, unaware).is_ok() {
            self.wake();
        }
    }

    /// The same, and waits until the kernel has forgotten it, but no longer than 10 seconds or so. No lock may be held.
    pub(crate) fn send_away(&self) {
        // One that has said its last word may still be there for the kernel, or go on after all; and a copy of the process that
        // no handler of ours saw has the words of a thread that it does not have.
        for _ in 0..WAITS * STEPS {
            self.dismiss();
            let present = self.word.load(Ordering::Acquire) & PRESENT != 0;
            let left = match self.tid.load(Ordering::Relaxed) {
                0 => !present,
                tid => thread::is_gone(tid),
            };
            if left {
                return;
            }
            sys::sleep_us(STEP_US);
        }
    }

    fn wake(&self) {
        sys::preserve_errno(|| {
            let _ = sys::futex_wake(&self.word, 1);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;
    use std::vec::Vec;

    #[test]
    fn it_works_only_where_no_fork_is_under_way_and_ends_when_it_is_sent_away() {
        static ONE: Helper = Helper::new();
        static IN_ROUND: AtomicU32 = AtomicU32::new(0);
        assert!(!ONE.leaves_alone(), "other tests' threads are there");
        ONE.resume();
        ONE.send_away();
        let worker = thread::spawn(|| {
            ONE.starts();
            ONE.came();
            let mut rounds = 0u32;
            while ONE.work_after(0) {
                IN_ROUND.store(1, Ordering::SeqCst);
                thread::yield_now();
                IN_ROUND.store(0, Ordering::SeqCst);
                ONE.rest();
                rounds += 1;
            }
            ONE.goes();
            rounds
        });
        while ONE.word.load(Ordering::Relaxed) & PRESENT == 0 {
            thread::yield_now();
        }
        let forks: Vec<_> = (0..2)
            .map(|_| {
                thread::spawn(|| {
                    for _ in 0..200 {
                        ONE.hold();
                        while ONE.word.load(Ordering::Acquire) & WORKING != 0 {
                            thread::yield_now();
                        }
                        let looks = (0..50).map(|_| IN_ROUND.load(Ordering::SeqCst));
                        assert_eq!(looks.sum::<u32>(), 0, "it works while a fork is under way");
                        ONE.resume();
                        thread::yield_now();
                    }
                })
            })
            .collect();
        forks
            .into_iter()
            .for_each(|fork| fork.join().expect("no panic inside"));
        ONE.send_away();
        worker.join().expect("no panic inside");
        assert_eq!(ONE.word.load(Ordering::Relaxed), 0);
        ONE.resume();
        assert_eq!(
            ONE.word.load(Ordering::Relaxed),
            0,
            "a count that began anew"
        );
    }
}
