//! The inbox of a heap: where other threads return its blocks, batch by batch.
//!
//! One word: bits 0 to 47 are the first block of the newest batch, bits 48 to 63 the number of batches (it stops at 65,535).
//! There are only two operations, push and take-all, so no ABA question arises (rule 8).

use super::batch::{Batch, Block};
use crate::base::sync::atomic::{AtomicU64, Ordering};

const COUNT_SHIFT: u32 = 48;
const POINTER: u64 = (1 << COUNT_SHIFT) - 1;
const COUNT_MAX: u64 = u16::MAX as u64;

/// A lock-free stack of batches.
pub(crate) struct Inbox(AtomicU64);

impl Inbox {
    /// For the model checker. Elsewhere an inbox begins as zeroed memory.
    #[cfg(loom)]
    pub(crate) fn new() -> Inbox {
        Inbox(AtomicU64::new(0))
    }

    /// Adds a batch. Returns how many batches there are then, this one included.
    ///
    /// # Safety
    /// The caller owns the batch and gives it up.
    pub(crate) unsafe fn post(&self, batch: Batch) -> usize {
        // Relaxed: the value is only linked to, never followed here.
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let count = (old >> COUNT_SHIFT).saturating_add(1).min(COUNT_MAX);
            // SAFETY: ours until the exchange below succeeds.
            unsafe { batch.set_posted(Batch::from_head((old & POINTER) as *mut Block)) };
            let new = batch.head() as u64 | count << COUNT_SHIFT;
            // Release: the taker's Acquire sees the chain and its links, and by the release sequence those of every batch
            // below. Relaxed on failure: it is only retried.
            match self
                .0
                .compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return count as usize,
                Err(now) => old = now,
            }
        }
    }

    /// Takes all batches, linked to one another, the newest first. The caller owns them.
    #[must_use]
    pub(crate) fn take_all(&self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        // Acquire pairs with the Release of every `post` in the stack.
        Batch::from_head((self.0.swap(0, Ordering::Acquire) & POINTER) as *mut Block)
    }

    /// A hint: a post may be on its way.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// About how many batches wait.
    #[cfg(loom)]
    pub(crate) fn len(&self) -> usize {
        (self.0.load(Ordering::Relaxed) >> COUNT_SHIFT) as usize
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, fence};
    use loom::thread;
    use std::boxed::Box;
    use std::vec::Vec;

    /// A batch of `count` new blocks. They are leaked until [`free`] takes them back.
    fn batch(count: usize) -> Batch {
        let mut head = core::ptr::null_mut();
        for _ in 0..count {
            let block = Box::into_raw(Box::new(Block::new()));
            // SAFETY: just made, and nobody else's.
            unsafe { (*block).next.set(head) };
            head = block;
        }
        // SAFETY: a chain of `count` blocks, made above.
        unsafe { Batch::seal(head, count) }
    }

    /// Walks the batches and frees them. Returns their sizes.
    ///
    /// # Safety
    /// The caller owns the batches.
    unsafe fn free(mut taken: Option<Batch>) -> Vec<usize> {
        let mut sizes = Vec::new();
        while let Some(batch) = taken {
            // SAFETY: the caller's; the link is read before its block is freed, and so is each `next`.
            unsafe {
                taken = batch.link();
                sizes.push(batch.count());
                let mut block = batch.head();
                let mut walked = 0;
                while !block.is_null() {
                    let next = (*block).next.get();
                    drop(Box::from_raw(block));
                    block = next;
                    walked += 1;
                }
                assert_eq!(walked, batch.count(), "the chain is as long as it says");
            }
        }
        sizes
    }

    /// Two threads post while the owner takes: every batch arrives once and whole, and its blocks may be read and freed at
    /// once. loom reports any access to them that the orderings do not order.
    #[test]
    fn every_batch_arrives_once_and_whole() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let posters: Vec<_> = [1, 2]
                .map(|count| {
                    let inbox = Arc::clone(&inbox);
                    thread::spawn(move || {
                        // SAFETY: made here and given up.
                        unsafe { inbox.post(batch(count)) }
                    })
                })
                .into_iter()
                .collect();
            // loom remembers only the last reader of a word. If this look came first, loom would not move it behind a post;
            // from behind, it moves it before every one.
            thread::yield_now();
            // SAFETY: taken, so owned.
            let mut sizes = unsafe { free(inbox.take_all()) };
            for poster in posters {
                let waiting = poster.join().expect("a poster");
                assert!((1..=2).contains(&waiting));
            }
            // SAFETY: taken, so owned.
            sizes.extend(unsafe { free(inbox.take_all()) });
            sizes.sort_unstable();
            assert_eq!(sizes, [1, 2]);
            assert!(inbox.is_empty() && inbox.len() == 0);
        });
    }

    /// Two threads that take at the same time share the batches: none is seen by both.
    #[test]
    fn two_takers_never_get_the_same_batch() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            // SAFETY: made here and given up.
            unsafe { inbox.post(batch(1)) };
            let other = {
                let inbox = Arc::clone(&inbox);
                // SAFETY: taken, so owned.
                thread::spawn(move || unsafe { free(inbox.take_all()) }.len())
            };
            // SAFETY: made here and given up; taken, so owned.
            let mine = unsafe {
                inbox.post(batch(2));
                free(inbox.take_all()).len()
            };
            assert_eq!(mine + other.join().expect("the other taker"), 2);
        });
    }

    /// The first model with a push that publishes nothing: it must be seen to read blocks that are still being written.
    #[test]
    #[should_panic(expected = "Causality violation")]
    fn without_release_a_chain_is_read_too_early() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new());
            let poster = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    let head = batch(1).head() as u64;
                    // As `post` on an empty inbox, with Relaxed for Release.
                    let posted = inbox.0.compare_exchange(
                        0,
                        head | 1 << COUNT_SHIFT,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                    assert!(posted.is_ok());
                })
            };
            // SAFETY: what the model is to find out.
            unsafe { free(inbox.take_all()) };
            poster.join().expect("the poster");
            // SAFETY: taken, so owned.
            unsafe { free(inbox.take_all()) };
        });
    }

    /// A thread ends (state := idle, fence, one more drain) while another posts (push, fence, read the state): either the drain
    /// has the batch, or the poster sees that it must drain. Nothing stays behind.
    #[test]
    fn nothing_is_left_with_an_owner_that_has_gone() {
        loom::model(|| {
            let heap = Arc::new((Inbox::new(), AtomicBool::new(false)));
            let poster = {
                let heap = Arc::clone(&heap);
                thread::spawn(move || {
                    let (inbox, idle) = &*heap;
                    // SAFETY: made here and given up.
                    unsafe { inbox.post(batch(1)) };
                    // Pairs with the owner's fence: one of the two sees what the other wrote before its own fence.
                    fence(Ordering::SeqCst);
                    if idle.load(Ordering::Relaxed) {
                        // SAFETY: taken, so owned.
                        unsafe { free(inbox.take_all()) }.len()
                    } else {
                        0
                    }
                })
            };
            let (inbox, idle) = &*heap;
            idle.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            // SAFETY: taken, so owned.
            let drained = unsafe { free(inbox.take_all()) }.len();
            assert_eq!(drained + poster.join().expect("the poster"), 1);
        });
    }
}
