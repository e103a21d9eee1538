//! Which threads may pass a lock that is frozen for a fork.
//!
//! A fork freezes every lock of the process ([`Lock::freeze`](super::lock::Lock::freeze)), so that the child finds every
//! structure whole. The forking thread does not hold the locks as a thread does that works under one. Three kinds of threads
//! may pass them, one at a time:
//! - The thread that forks. Handlers of fork that were registered before ours run while the locks are frozen, and may allocate.
//! - A thread that ends the process with a fatal message. It may hold a lock itself, and its handler of SIGABRT may allocate,
//!   fork and exit.
//! - A thread that has waited for [`PATIENCE`] while the forking thread sleeps. A sleeping forker waits for a lock of other
//!   code, and the holder of that lock may be the thread that waits here: between the last handler and the fork the C library
//!   takes locks of its own, under some of which it allocates, and so do the handlers of other libraries. While the kernel
//!   copies the process, the forking thread does not sleep.
//!
//! The last rule leaves one gap: the forking thread may be woken in the very microsecond in which another thread passes. The
//! child then finds the structure under that one lock torn.

#[cfg(not(loom))]
use super::sys;
#[cfg(not(loom))]
use super::thread;
use crate::base::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::base::sync::atomic::{AtomicU32, AtomicUsize};
use crate::base::tuning::waits::PATIENCE;

/// Words that name a thread hold [`thread::me`], or 0. A thread compares them with its own value, which no other thread stores:
/// Relaxed, unless argued otherwise.
pub(crate) struct Freeze {
    /// The forking thread, and its number.
    forker: AtomicUsize,
    forker_tid: AtomicU32,
    /// Forks that the thread's signal handlers started during its own fork.
    nested: AtomicU32,
    dying: AtomicUsize,
    /// 1 once a thread has waited for long enough and found the forking thread asleep: then other threads need not wait as
    /// long.
    lasting: AtomicU32,
    /// The thread that passes, and how many locks it holds by passing. Only that thread uses the count.
    passer: AtomicUsize,
    depth: AtomicU32,
}

impl Freeze {
    #[cfg(not(loom))]
    const fn new() -> Freeze {
        Freeze {
            forker: AtomicUsize::new(0),
            forker_tid: AtomicU32::new(0),
            nested: AtomicU32::new(0),
            dying: AtomicUsize::new(0),
            lasting: AtomicU32::new(0),
            passer: AtomicUsize::new(0),
            depth: AtomicU32::new(0),
        }
    }

    /// Begins a fork of the calling thread. Returns false if the thread forks already. Waits for another thread's fork to end.
    pub(crate) fn begin(&self) -> bool {
        let me = me();
        if self.forker.load(Relaxed) == me {
            self.nested.fetch_add(1, Relaxed);
            return false;
        }
        // Acquire pairs with the Release in `end`: one fork sees what the previous one did.
        while self
            .forker
            .compare_exchange(0, me, Acquire, Relaxed)
            .is_err()
        {
            nap();
        }
        self.forker_tid.store(tid(), Relaxed);
        self.lasting.store(0, Relaxed);
        self.nested.store(0, Relaxed);
        true
    }

    /// Whether the calling thread forks. In the child of a fork: whether it did so in the parent.
    pub(crate) fn is_forker(&self) -> bool {
        self.forker.load(Relaxed) == me()
    }

    /// Ends a fork of the calling thread in the parent. Returns whether it was the outermost one.
    pub(crate) fn was_outermost(&self) -> bool {
        let nested = self.nested.load(Relaxed);
        if nested > 0 {
            self.nested.store(nested - 1, Relaxed);
        }
        nested == 0
    }

    /// Ends the fork, once the locks are free again.
    pub(crate) fn end(&self) {
        self.forker_tid.store(0, Relaxed);
        // Release: see `begin`.
        self.forker.store(0, Release);
    }

    /// In the child: no thread forks, and none passes.
    #[cfg(not(loom))]
    pub(crate) fn reset(&self) {
        self.nested.store(0, Relaxed);
        self.depth.store(0, Relaxed);
        self.passer.store(0, Relaxed);
        self.end();
    }

    /// Records that the calling thread ends the process.
    #[cfg(not(loom))]
    pub(super) fn die(&self) {
        self.dying.store(me(), Relaxed);
    }

    /// Whether a thread ends the process. It may hold locks that it never releases.
    pub(super) fn somebody_dies(&self) -> bool {
        self.dying.load(Relaxed) != 0
    }

    /// Whether the calling thread ends the process.
    pub(crate) fn am_dying(&self) -> bool {
        let dying = self.dying.load(Relaxed);
        dying != 0 && dying == me()
    }

    /// Waits until only the calling thread passes. The forking thread calls it before it releases the locks.
    pub(crate) fn enter(&self) {
        let me = me();
        if self.passer.load(Relaxed) == me {
            self.depth.fetch_add(1, Relaxed);
            return;
        }
        // Acquire pairs with the Release in `leave`: a thread that passes sees what the last one did.
        while self
            .passer
            .compare_exchange(0, me, Acquire, Relaxed)
            .is_err()
        {
            nap();
        }
        self.depth.store(1, Relaxed);
    }

    /// Whether the calling thread passes.
    pub(super) fn passes(&self) -> bool {
        self.passer.load(Relaxed) == me()
    }

    /// As [`Freeze::enter`], if the calling thread may pass by now. `waits` counts the calls.
    pub(super) fn try_enter(&self, waits: &mut u32) -> bool {
        let me = me();
        // A thread that passes already continues, because the forking thread waits for it.
        if self.forker.load(Relaxed) == me || self.am_dying() || self.passes() {
            self.enter();
            return true;
        }
        if *waits < PATIENCE && self.lasting.load(Relaxed) == 0 {
            *waits += 1;
            return false;
        }
        // Checks after entering: the forking thread enters too before it releases the locks.
        self.enter();
        let may = self.forker_sleeps();
        self.lasting.store(u32::from(may), Relaxed);
        if !may {
            self.leave();
            *waits = 0;
        }
        may
    }

    /// Undoes [`Freeze::enter`]. Does nothing if the calling thread does not pass.
    pub(crate) fn leave(&self) {
        if !self.passes() {
            return;
        }
        let depth = self.depth.load(Relaxed) - 1;
        self.depth.store(depth, Relaxed);
        if depth == 0 {
            // Release: see `enter`.
            self.passer.store(0, Release);
        }
    }

    #[cfg(not(loom))]
    fn forker_sleeps(&self) -> bool {
        let tid = self.forker_tid.load(Relaxed);
        tid != 0 && thread::sleeps(tid)
    }

    /// The model does not fork: a waiting thread may pass at any time.
    #[cfg(loom)]
    fn forker_sleeps(&self) -> bool {
        self.forker.load(Relaxed) != 0
    }
}

#[cfg(not(loom))]
pub(crate) static FREEZE: Freeze = Freeze::new();

#[cfg(not(loom))]
fn me() -> usize {
    thread::me()
}

#[cfg(not(loom))]
fn tid() -> u32 {
    thread::tid()
}

/// Sleeps briefly instead of spinning, because the thread waited for may have a lower priority.
#[cfg(not(loom))]
fn nap() {
    sys::preserve_errno(|| sys::sleep_us(50));
}

#[cfg(loom)]
pub(crate) use model::FREEZE;
#[cfg(loom)]
use model::{me, nap, tid};

#[cfg(loom)]
mod model {
    use super::{AtomicU32, AtomicUsize, Freeze, Relaxed};
    use core::cell::Cell;

    impl Freeze {
        fn new() -> Freeze {
            Freeze {
                forker: AtomicUsize::new(0),
                forker_tid: AtomicU32::new(0),
                nested: AtomicU32::new(0),
                dying: AtomicUsize::new(0),
                lasting: AtomicU32::new(0),
                passer: AtomicUsize::new(0),
                depth: AtomicU32::new(0),
            }
        }
    }

    loom::lazy_static! {
        pub(crate) static ref FREEZE: Freeze = Freeze::new();
        static ref THREADS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    }

    loom::thread_local! {
        static ME: Cell<usize> = Cell::new(0);
    }

    pub(super) fn me() -> usize {
        ME.with(|me| {
            if me.get() == 0 {
                me.set(1 + THREADS.fetch_add(1, Relaxed));
            }
            me.get()
        })
    }

    pub(super) fn tid() -> u32 {
        me() as u32
    }

    pub(super) fn nap() {
        loom::thread::yield_now();
    }
}
