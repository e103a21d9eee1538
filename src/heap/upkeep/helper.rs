//! When the maintenance thread works, rests and goes.
//!
//! A process that made no thread is to work as one although it has this one: a signal handler may fork whatever it
//! interrupted, and the kernel lets the process unshare or join namespaces. So a fork has the thread rest, where it holds no
//! lock, and counts it out; whoever needs the process to have one thread sends it away.
//!
//! | bits of the word | meaning |
//! |---|---|
//! | 0 `WORKING` | a round is under way: the thread may hold a lock |
//! | 1 `PRESENT` | the thread exists |
//! | 2 `GO` | it is to end |
//! | 3 and up | forks that have it rest |

use crate::os::{sys, thread};
use core::sync::atomic::{AtomicU32, Ordering};

const WORKING: u32 = 1;
const PRESENT: u32 = 2;
const GO: u32 = 4;
const FORK: u32 = 8;

/// How long a fork waits for the end of a round before it looks whether the thread sleeps, in steps of [`STEP_US`].
const STEPS: u32 = 1000;
const STEP_US: u64 = 100;
/// How often it looks, and how often who sends the thread away waits as long. A busy machine may let it wait for seconds.
const LOOKS: u32 = 100;
/// How long the thread waits for the end of a fork before it looks again.
const FORK_MS: u64 = 10;

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

    /// The thread is about to be started: from here on it counts as there, so that nobody misses it on its way.
    /// [`Helper::goes`] follows where it was refused.
    pub(crate) fn starts(&self) {
        self.word.fetch_or(PRESENT, Ordering::Relaxed);
    }

    /// The calling thread is the maintenance thread.
    pub(crate) fn came(&self) {
        self.tid.store(thread::tid(), Ordering::Relaxed);
    }

    /// Waits for so long and begins a round; false if the thread is to end. [`Helper::rest`] follows the round.
    #[must_use]
    pub(crate) fn work_after(&self, ms: u64) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        if seen & GO == 0 {
            let _ = sys::futex_wait(&self.word, seen, Some(ms));
        }
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & GO != 0 {
                return false;
            }
            if seen >= FORK {
                let _ = sys::futex_wait(&self.word, seen, Some(FORK_MS));
                continue;
            }
            // One word says both, so that either the fork sees the round or the round sees the fork. What a fork does
            // while the thread rests changes nothing it reads: Relaxed.
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
        // Release pairs with the Acquire in `pause`: the fork finds whole what the round changed.
        self.word.fetch_and(!WORKING, Ordering::Release);
    }

    /// The thread ends, and takes no lock any more.
    pub(crate) fn goes(&self) {
        self.word.fetch_and(!(PRESENT | GO), Ordering::Release);
    }

    /// The calling thread forks: has the maintenance thread rest until [`Helper::resume`]. Answers whether it is there and
    /// rests, so that it is no party to the fork.
    pub(crate) fn pause(&self) -> bool {
        let mut word = self.word.fetch_add(FORK, Ordering::Acquire);
        if word & PRESENT == 0 {
            return false;
        }
        let mut asleep = 0;
        for _ in 0..LOOKS {
            for _ in 0..STEPS {
                if word & WORKING == 0 {
                    return word & PRESENT != 0;
                }
                sys::sleep_us(STEP_US);
                word = self.word.load(Ordering::Acquire);
            }
            // Asleep whenever it is looked at: it waits for a lock that the forking thread holds, as that is in a signal
            // handler. It will wait on.
            asleep = if thread::sleeps(self.tid.load(Ordering::Relaxed)) {
                asleep + 1
            } else {
                0
            };
            if asleep == 2 {
                return true;
            }
        }
        false
    }

    /// The fork is over, in the parent.
    pub(crate) fn resume(&self) {
        // A child's count begins anew, though a fork that its signal handler interrupted ends there as well.
        let less = |word: u32| word.checked_sub(FORK);
        let relaxed = Ordering::Relaxed;
        if self.word.fetch_update(relaxed, relaxed, less).is_ok() {
            self.wake();
        }
    }

    /// In the child of a fork: the thread is gone.
    pub(crate) fn after_fork(&self) {
        self.word.store(0, Ordering::Relaxed);
    }

    /// Has the thread end, and waits until the kernel has forgotten it. No lock may be held.
    pub(crate) fn send_away(&self) {
        let present = |word: u32| (word & PRESENT != 0).then_some(word | GO);
        let relaxed = Ordering::Relaxed;
        if self.word.fetch_update(relaxed, relaxed, present).is_err() {
            return;
        }
        self.wake();
        // Acquire pairs with the Release in `goes`: the thread's number is known.
        let left = || {
            self.word.load(Ordering::Acquire) & PRESENT == 0
                && thread::is_gone(self.tid.load(Ordering::Relaxed))
        };
        for _ in 0..LOOKS * STEPS {
            if left() {
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
        assert!(!ONE.pause(), "nobody there");
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
                        assert!(ONE.pause());
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
