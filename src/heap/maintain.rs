//! The maintenance thread: gives back what quiescence would strand.
//!
//! Started lazily, where much lies idle and, unless a knob says otherwise, only in a process of several threads; it ends when
//! there is nothing left to do, and a fork's child starts its own when it needs one. It never has a heap, holds one lock at
//! a time, and never waits for a heap that is busy.

use super::{exit, holes, pages, registry, remote, tls, upkeep};
use crate::base::account::{self, Kind};
use crate::knobs;
use crate::large;
use crate::os::{clock, object, sys};
use crate::pool;
use crate::slab::depot::DEPOT;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Retained bytes from which the thread is worth having.
const START_FROM: usize = 6 << 20;
/// Idle rounds after which it ends.
const ROUNDS_TO_LIVE: u32 = 8;
const STACK: usize = 256 << 10;

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether the process had several threads of its own at a time, or is treated so. A fork's child has had one.
static MANY: AtomicBool = AtomicBool::new(false);

/// Starts the thread if it is wanted and not there. A process of one thread gets none unless a knob says so: it may fork in
/// a signal handler, unshare or join namespaces, which the kernel and the C library allow to such alone. Call it with no lock
/// held.
pub(super) fn wake() {
    if account::is_watched() && !RUNNING.load(Ordering::Relaxed) && waiting() > START_FROM {
        start();
    }
}

/// The same, if more came back to slabs than the account knew: for a thread that only frees what others took, which comes
/// by no other slow path.
pub(super) fn wake_if_grown() {
    if holes::grew() {
        wake();
    }
}

/// The calling thread takes memory for the first time, or a large block without a heap of its own. If the process has
/// another thread, it may have one of ours at any time.
pub(super) fn noticed() {
    if MANY.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: plain calls without arguments.
    let second = || unsafe { libc::gettid() != libc::getpid() };
    let knobs = knobs::get();
    if knobs.background_alone || registry::live_count() >= 2 || second() {
        MANY.store(true, Ordering::Relaxed);
        account::set_watched(knobs.background);
    }
}

/// How many more who want the thread are turned away, and how many will be after the next refusal. Estimates: Relaxed.
static TURN_AWAY: AtomicU32 = AtomicU32::new(0);
static NEXT_TURNED_AWAY: AtomicU32 = AtomicU32::new(LEAST_TURNED_AWAY);
/// A process that is refused a thread once is mostly refused for long: by a limit on threads, or on address space. What
/// is paid for asking is to stay little beside what else those who ask have done.
const LEAST_TURNED_AWAY: u32 = 64;
const MOST_TURNED_AWAY: u32 = 64 << 10;

#[cold]
fn start() {
    if turned_away() || RUNNING.swap(true, Ordering::AcqRel) {
        return;
    }
    let _errno = sys::ErrnoGuard::new();
    let started = spawn(run);
    note_start(started);
    if !started {
        RUNNING.store(false, Ordering::Release);
    }
}

/// Whether a refusal is too recent for another try.
fn turned_away() -> bool {
    let left = TURN_AWAY.load(Ordering::Relaxed);
    if left > 0 {
        // Of two at once one may go uncounted.
        TURN_AWAY.store(left - 1, Ordering::Relaxed);
    }
    left > 0
}

/// After each refusal twice as many are turned away as after the one before.
fn note_start(started: bool) {
    let next = if started {
        LEAST_TURNED_AWAY
    } else {
        let now = NEXT_TURNED_AWAY.load(Ordering::Relaxed);
        TURN_AWAY.store(now, Ordering::Relaxed);
        (now * 2).min(MOST_TURNED_AWAY)
    };
    NEXT_TURNED_AWAY.store(next, Ordering::Relaxed);
}

/// Starts a detached thread of ours; answers whether there was one to be had. Call it with no lock held.
#[cold]
pub(super) fn spawn(body: extern "C" fn(*mut c_void) -> *mut c_void) -> bool {
    pin();
    // SAFETY: plain pthread calls on locals. All signals stay blocked in the new thread: it inherits the mask.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
        let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
        libc::pthread_attr_init(attr.as_mut_ptr());
        libc::pthread_attr_setstacksize(attr.as_mut_ptr(), STACK);
        libc::pthread_attr_setdetachstate(attr.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        let code = libc::pthread_create(thread.as_mut_ptr(), attr.as_ptr(), body, ptr::null_mut());
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut());
        code == 0
    }
}

/// Keeps the shared object this code lies in loaded: threads run in it, and memory handed out outlives it.
///
/// The loader is asked only where it has to be, and once: while it runs the constructors of a library it holds its lock,
/// and one of those may wait for the very thread that would ask here.
pub(super) fn pin() {
    static PINNED: AtomicBool = AtomicBool::new(false);
    if object::stays() || PINNED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: plain calls; the name that dladdr gives lives as long as the object.
    unsafe {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        if libc::dladdr((run as *const ()).cast(), info.as_mut_ptr()) != 0 {
            let name = info.assume_init().dli_fname;
            let how = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            if !name.is_null() && !libc::dlopen(name, how).is_null() {
                return;
            }
        }
    }
    // Not found (a relative name after a chdir, say): the next thread's start tries again.
    PINNED.store(false, Ordering::Relaxed);
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    // Whatever the C library allocates for this thread comes from the shared heap.
    tls::set_dead();
    let delay = u64::from(knobs::get().purge_delay_ms);
    let mut idle_rounds = 0;
    while idle_rounds < ROUNDS_TO_LIVE {
        sys::sleep_us((delay / 2).clamp(50, 1000) * 1000);
        let before = waiting();
        round();
        idle_rounds = if before > START_FROM / 4 && waiting() < before {
            0
        } else {
            idle_rounds + 1
        };
    }
    RUNNING.store(false, Ordering::Release);
    ptr::null_mut()
}

/// Bytes that may be given back, now or after a while.
fn waiting() -> usize {
    account::idle() + account::of(Kind::Unsettled)
}

fn round() {
    let mut over = false;
    exit::give_up_gone();
    for heap in registry::all() {
        // SAFETY: heaps live for ever; no lock is held.
        over |= unsafe { remote::settle(heap) };
    }
    if over {
        pool::trim();
    }
    remote::catch_up();
    let now = clock::now_ms();
    pages::run(now);
    upkeep::pass(now);
}

/// Gives back everything that can be given back now; answers the bytes.
pub(crate) fn purge_now() -> usize {
    exit::give_up_gone();
    for _ in 0..4 {
        // One look may only finish another that was under way. The next marks what the stacks hold as unneeded, the one after
        // it sends that home, and the last gives back the magazines that emptied.
        for heap in registry::all() {
            // SAFETY: heaps live for ever; no lock is held.
            unsafe { remote::settle(heap) };
        }
    }
    let holes = pages::purge_all();
    let huge = large::cached_bytes();
    large::purge_all();
    let bytes = holes + pool::purge_all() + huge + DEPOT.catch_up();
    debug_assert!(pool::is_valid(), "the pool's lists and counts agree");
    bytes
}

/// In the child of a fork: the thread is gone.
pub(super) fn after_fork() {
    RUNNING.store(false, Ordering::Relaxed);
    let knobs = knobs::get();
    MANY.store(knobs.background_alone, Ordering::Relaxed);
    account::set_watched(knobs.background_alone);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Of the whole process: the one test that touches these words.
    #[test]
    fn after_each_refusal_twice_as_many_are_turned_away() {
        for refusal in 0..14 {
            assert!(!turned_away());
            note_start(false);
            let away = (0..).take_while(|_| turned_away()).count();
            assert_eq!(away, 64usize.checked_shl(refusal).unwrap_or(0).min(65_536));
        }
        note_start(true);
        assert!(!turned_away());
        note_start(false);
        assert_eq!((0..).take_while(|_| turned_away()).count(), 64);
        note_start(true);
    }
}
