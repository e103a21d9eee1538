//! Making the allocator ready, and giving a thread its heap.

use crate::checked::{self, Mode};
use crate::heap::data::{registry, tls};
use crate::heap::thread::{adopt, exit, fork};
use crate::heap::upkeep::maintain;
use crate::os::lock::Lock;
use crate::os::{memory, message, numa, sys, thread};
use crate::slab::batch;
use crate::slab::directory::DIRECTORY;
use crate::{knobs, pool};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

/// Nothing is done.
const COLD: u8 = 0;
/// Tables and knobs are usable.
const USABLE: u8 = 1;
/// The C library knows of the allocator, too.
const READY: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(COLD);
static LOCK: Lock = Lock::new();
/// The one thread that tells the C library of the allocator, and may allocate meanwhile; 0 before.
static TELLING: AtomicUsize = AtomicUsize::new(0);

/// What the layer above wants called once the allocator works.
static WHEN_READY: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Has `call` called when the allocator has become ready; of several, the first.
pub(crate) fn when_ready(call: fn()) {
    if WHEN_READY.load(Ordering::Relaxed).is_null() {
        WHEN_READY.store(call as *mut (), Ordering::Release);
    }
}

/// Reads the knobs and reserves the tables. Returns false if the kernel refuses; a later call tries again.
#[inline]
pub(crate) fn ensure_ready() -> bool {
    // Acquire: pairs with the Release stores below.
    STATE.load(Ordering::Acquire) == READY || ensure_ready_slow()
}

/// Whether [`ensure_ready`] has nothing left to do.
#[inline]
pub(crate) fn is_ready() -> bool {
    // Acquire: as there.
    STATE.load(Ordering::Acquire) == READY
}

#[cold]
#[inline(never)]
fn ensure_ready_slow() -> bool {
    fork::register();
    if STATE.load(Ordering::Acquire) == COLD {
        let _guard = LOCK.lock();
        if STATE.load(Ordering::Relaxed) == COLD && !make_usable() {
            return false;
        }
    }
    // Relaxed: what the thread that tells has done is published by `STATE`.
    let (all, none) = (Ordering::Relaxed, Ordering::Relaxed);
    if STATE.load(Ordering::Acquire) == USABLE
        && TELLING.compare_exchange(0, thread::me(), all, none).is_ok()
    {
        exit::forget_at_unload();
        // A preloaded library comes here while the dynamic loader is still at work, and must not call it: it is linked to stay
        // (preload/), so `pin` does nothing. A library that a program opens is pinned here.
        if cfg!(feature = "std") {
            thread::pin();
        }
        // Acquire: pairs with the Release in `when_ready`.
        let call = WHEN_READY.load(Ordering::Acquire);
        if !call.is_null() {
            // SAFETY: only ever set to a `fn()`.
            let call: fn() = unsafe { core::mem::transmute::<*mut (), fn()>(call) };
            call();
        }
        STATE.store(READY, Ordering::Release);
        let count = knobs::get().prewarm as usize;
        if count > 0 {
            prewarm(count);
        }
    }
    true
}

#[cold]
#[inline(never)]
fn prewarm(count: usize) {
    let had = pool::prewarm(knobs::get(), count);
    if had < count {
        message::message!(
            "HAKMEM_SS_PREWARM={count}: {had} superslabs were populated; memory or a limit ended it"
        );
    }
}

fn make_usable() -> bool {
    message::remember_stderr();
    let knobs = knobs::get();
    numa::init();
    let address_limit = sys::rlimit_as();
    memory::note_limits(address_limit);
    batch::set_secret(sys::random());
    if DIRECTORY.init(sys::machine_total(), address_limit).is_err() || !registry::create_shared() {
        return false;
    }
    pool::set_retain(knobs.retain_mb, knobs.purge_delay_ms);
    exit::create_key();
    checked::init();
    STATE.store(USABLE, Ordering::Release);
    true
}

/// Gives the calling thread a heap. If none can be made, the thread goes on without. A thread whose heap was given up may get
/// another, because its destructors still run. If every block is checked, no thread has a heap.
#[cold]
#[inline(never)]
pub(crate) fn attach() {
    let _errno = sys::ErrnoGuard::new();
    let late = tls::is_dead(tls::get());
    if !ensure_ready() || checked::mode() == Mode::All {
        return;
    }
    if !(tls::is_empty(tls::get()) || tls::may_return(tls::get())) {
        return;
    }
    let Some(heap) = adopt::acquire() else {
        return;
    };
    // Before anything that may allocate: from here on such a call is an ordinary one.
    tls::set(heap.ptr().cast());
    if !exit::arm(heap, late) || late {
        exit::note_ending(heap);
    }
    maintain::noticed();
}

/// For fork: the lock of the start.
pub(crate) fn fork_lock() -> &'static Lock {
    &LOCK
}

/// In the child of a fork: if another thread was about to tell the C library, it is told anew.
pub(crate) fn after_fork() {
    if TELLING.load(Ordering::Relaxed) != thread::me() {
        TELLING.store(0, Ordering::Relaxed);
    }
}
