//! The atomics of the lock-free parts: core's, or loom's when the model checker runs.

#[cfg(not(loom))]
pub(crate) mod atomic {
    pub(crate) use core::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

#[cfg(loom)]
pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
}

/// A SeqCst fence behind a read-modify-write of the same thread. On x86_64 that instruction is one to the processor, and only
/// the compiler is told.
#[inline(always)]
pub(crate) fn fence_after_rmw() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    core::sync::atomic::compiler_fence(atomic::Ordering::SeqCst);
    #[cfg(any(not(target_arch = "x86_64"), loom))]
    atomic::fence(atomic::Ordering::SeqCst);
}

/// A word of memory with plain accesses. The model checker checks every access for a data race.
#[repr(transparent)]
pub(crate) struct Word<T: Copy>(
    #[cfg(not(loom))] core::cell::UnsafeCell<T>,
    #[cfg(loom)] loom::cell::UnsafeCell<T>,
);

impl<T: Copy> Word<T> {
    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Word<T> {
        Word(loom::cell::UnsafeCell::new(value))
    }

    /// # Safety
    /// No other thread writes the word at the same time.
    #[inline(always)]
    pub(crate) unsafe fn get(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the caller excludes concurrent writers.
        return unsafe { *self.0.get() };
        #[cfg(loom)]
        // SAFETY: the caller excludes concurrent writers; loom checks it.
        return self.0.with(|word| unsafe { *word });
    }

    /// # Safety
    /// No other thread accesses the word at the same time.
    #[inline(always)]
    pub(crate) unsafe fn set(&self, value: T) {
        #[cfg(not(loom))]
        // SAFETY: the caller has exclusive access.
        unsafe {
            *self.0.get() = value;
        }
        #[cfg(loom)]
        // SAFETY: the caller has exclusive access; loom checks it.
        self.0.with_mut(|word| unsafe { *word = value });
    }
}
