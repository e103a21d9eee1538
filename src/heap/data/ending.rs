//! Heaps whose threads may end without another call. A thread that needs a heap or gives memory back asks the kernel whether such
//! a thread is gone. If so, it takes the heap as that thread left it.

use crate::base::sync::Word;
use crate::base::sync::atomic::{AtomicU32, Ordering, fence};
use core::ptr;

/// A heap's place in the queue. All-zero is a heap that is not queued and whose thread ends with a call.
#[repr(C)]
pub(crate) struct Ending {
    /// The number of the thread, if it may end without another call; else 0.
    thread: AtomicU32,
    /// Whether the heap is in the queue, and the next one there; under the queue's lock.
    queued: Word<bool>,
    next: Word<*mut Ending>,
}

impl Ending {
    /// Notes that the heap's thread, of this number, may end without another call. The heap is queued next, if it is not queued
    /// yet.
    pub(crate) fn begins(&self, thread: u32) {
        // Release pairs with the Acquire in `pop_gone`.
        self.thread.store(thread, Ordering::Release);
    }

    /// Whether the heap's thread may end without another call.
    pub(crate) fn has_begun(&self) -> bool {
        self.thread.load(Ordering::Relaxed) != 0
    }

    /// Notes that the heap is given up. Relaxed: its next thread finds it through the lock of the queue.
    pub(crate) fn is_over(&self) {
        self.thread.store(0, Ordering::Relaxed);
    }
}

/// Heaps whose threads are ending, or were when they were queued: first in, first out. Under a lock.
pub(crate) struct Queue {
    first: *mut Ending,
    last: *mut Ending,
    len: usize,
}

impl Queue {
    pub(crate) const fn new() -> Queue {
        Queue {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Queues a heap, unless it is queued.
    ///
    /// # Safety
    /// `heap` lives for ever, and is in no other queue.
    pub(crate) unsafe fn add(&mut self, heap: *mut Ending) {
        // SAFETY: the words belong to the lock around `self`.
        unsafe {
            if !(*heap).queued.get() {
                (*heap).queued.set(true);
                self.len += 1;
                self.push(heap);
            }
        }
    }

    unsafe fn push(&mut self, heap: *mut Ending) {
        // SAFETY: the links belong to the lock around `self`.
        unsafe {
            (*heap).next.set(ptr::null_mut());
            if self.last.is_null() {
                self.first = heap;
            } else {
                (*self.last).next.set(heap);
            }
        }
        self.last = heap;
    }

    /// Takes a heap whose thread has ended out of the queue, if one is among the first `most`. It is the caller's, as the
    /// thread left it. Heaps of threads that still run go to the queue's end; heaps given up meanwhile leave it.
    pub(crate) fn take_gone(
        &mut self,
        most: usize,
        is_gone: impl Fn(u32) -> bool,
    ) -> Option<*mut Ending> {
        let gone = self.pop_gone(most, is_gone)?;
        // The thread wrote all it wrote before its end, which the kernel has just reported.
        fence(Ordering::SeqCst);
        Some(gone)
    }

    fn pop_gone(&mut self, most: usize, is_gone: impl Fn(u32) -> bool) -> Option<*mut Ending> {
        for _ in 0..most.min(self.len) {
            let heap = self.first;
            // SAFETY: as in `push`.
            unsafe {
                self.first = (*heap).next.get();
                if self.first.is_null() {
                    self.last = ptr::null_mut();
                }
                // Acquire pairs with the Release in `begins`.
                let thread = (*heap).thread.load(Ordering::Acquire);
                if thread != 0 && !is_gone(thread) {
                    self.push(heap);
                    continue;
                }
                (*heap).queued.set(false);
                self.len -= 1;
                if thread != 0 {
                    (*heap).thread.store(0, Ordering::Relaxed);
                    return Some(heap);
                }
            }
        }
        None
    }
}

// SAFETY: only reached through the lock around it.
unsafe impl Send for Queue {}

#[cfg(all(test, loom))]
#[path = "ending_model.rs"]
mod model;
