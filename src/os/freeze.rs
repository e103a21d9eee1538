//! Who may pass a lock that stands still.
//!
//! A fork stops every lock of the process ([`Lock::freeze`](super::lock::Lock::freeze)), so that the child finds whole
//! what is under them. It holds none of them as a thread does that works under one, and three kinds of threads may go
//! through, one at a time:
//! - the thread that forks. Handlers of fork that were registered before ours run while the locks stand still, and may
//!   allocate;
//! - a thread that ends the process by a fatal message. It may hold some lock itself, and its handler of SIGABRT may
//!   allocate, fork and exit;
//! - a thread that has waited for [`PATIENCE`] while the one that forks sleeps: then that one waits for a lock of
//!   somebody else, who may be the very thread that waits here. The C library takes locks of its own between the last
//!   handler and the fork, under some of which it allocates, and so do the handlers of other libraries. While the kernel
//!   copies the process, the thread that forks does not sleep.
//!
//! The last rule leaves one gap: the thread that forks may be woken by somebody else in the very microsecond in which
//! another one passes. Then the child finds that one structure torn.

#[cfg(not(loom))]
use super::sys;
#[cfg(not(loom))]
use super::thread;
use crate::base::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::base::sync::atomic::{AtomicU32, AtomicUsize};

/// Waits after which a thread looks whether the one that forks sleeps, and the length of each.
#[cfg(not(loom))]
const PATIENCE: u32 = 4;
#[cfg(loom)]
const PATIENCE: u32 = 0;
pub(super) const WAIT_MS: u64 = 10;

/// Words hold [`thread::me`], or 0. A thread compares them with its own, which no other writes: Relaxed, but where said.
pub(crate) struct Freeze {
    /// The thread that forks, and its number.
    forker: AtomicUsize,
    forker_tid: AtomicU32,
    /// Forks by its signal handlers, in the midst of its own.
    nested: AtomicU32,
    dying: AtomicUsize,
    /// 1 once somebody has waited for long enough and found that thread asleep: then others need not wait as long.
    lasting: AtomicU32,
    /// The thread that passes, and how many locks it holds that way. The latter is its own.
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

    /// The calling thread forks; false if it did already. Waits for another thread's fork.
    pub(crate) fn begin(&self) -> bool {
        let me = me();
        if self.forker.load(Relaxed) == me {
            self.nested.fetch_add(1, Relaxed);
            return false;
        }
        // Acquire pairs with the Release in `end`: forks follow one another.
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

    /// Whether the calling thread forks, or did in the process of which this one is the child.
    pub(crate) fn is_forker(&self) -> bool {
        self.forker.load(Relaxed) == me()
    }

    /// A fork of the calling thread is over, in the parent; whether it was the outermost one.
    pub(crate) fn was_outermost(&self) -> bool {
        let nested = self.nested.load(Relaxed);
        if nested > 0 {
            self.nested.store(nested - 1, Relaxed);
        }
        nested == 0
    }

    /// The locks are free again.
    pub(crate) fn end(&self) {
        self.forker_tid.store(0, Relaxed);
        // Release: see `begin`.
        self.forker.store(0, Release);
    }

    /// In the child: nobody forks, and nobody else passes.
    #[cfg(not(loom))]
    pub(crate) fn reset(&self) {
        self.nested.store(0, Relaxed);
        self.depth.store(0, Relaxed);
        self.passer.store(0, Relaxed);
        self.end();
    }

    /// The calling thread ends the process.
    #[cfg(not(loom))]
    pub(super) fn die(&self) {
        self.dying.store(me(), Relaxed);
    }

    /// Whether some thread ends the process, and may hold locks that it never lets go.
    pub(super) fn somebody_dies(&self) -> bool {
        self.dying.load(Relaxed) != 0
    }

    /// Whether the calling thread ends the process.
    pub(crate) fn am_dying(&self) -> bool {
        let dying = self.dying.load(Relaxed);
        dying != 0 && dying == me()
    }

    /// Waits until the calling thread alone passes: for who lets the locks go again.
    pub(crate) fn enter(&self) {
        let me = me();
        if self.passer.load(Relaxed) == me {
            self.depth.fetch_add(1, Relaxed);
            return;
        }
        // Acquire pairs with the Release in `leave`: who passes sees what the last one did.
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

    /// As [`Freeze::enter`], if the calling thread may pass by now; `waits` counts its calls.
    pub(super) fn try_enter(&self, waits: &mut u32) -> bool {
        let me = me();
        // Who passes already goes on: the thread that forks waits for it.
        if self.forker.load(Relaxed) == me || self.am_dying() || self.passes() {
            self.enter();
            return true;
        }
        if *waits < PATIENCE && self.lasting.load(Relaxed) == 0 {
            *waits += 1;
            return false;
        }
        // Looks once it is inside: the thread that forks comes by here before it does.
        self.enter();
        let may = self.forker_sleeps();
        self.lasting.store(u32::from(may), Relaxed);
        if !may {
            self.leave();
            *waits = 0;
        }
        may
    }

    /// Undoes [`Freeze::enter`]; nothing, if the calling thread does not pass.
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

    /// The model does not fork: whoever waits may pass at any time.
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

/// Sleeps a little: the thread waited for may have a lower priority.
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
