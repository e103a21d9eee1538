//! Fork from a process of many threads, at any moment of any of them (rule 13).
//!
//! - Before: every lock is frozen, in rank order.
//! - After, in the parent: all are thawed.
//! - After, in the child: all are reset, and every other heap becomes idle. Its private part may be torn in the middle of a fast
//!   path. What is below a bin's top is free, because the fast path writes an address before it moves the top. But the bins and
//!   stacks are another thread's, so they return to their slabs before any thread uses the heap. A block on its way in or out is
//!   lost.
//!
//! What a thread had in its hands outside every lock is lost to the child: slots claimed and not yet opened, a superslab mapped
//! and not yet listed, a large block between its tag and the cache, free magazines that are being purged. That is address space
//! of at most one such object, or one rack of magazines, for each thread.
//!
//! In a process of one thread there is nobody to wait for. There a signal handler may fork whatever it interrupted, an allocation
//! or another fork ([`fork`]), and parent and child both go on from there. The maintenance thread rests meanwhile. A lock that the handler
//! interrupted a hold of stays held in both.
//!
//! glibc takes a lock of its own after the last handler: that of the list of open streams. A thread that holds it may wait for a
//! stream whose holder allocates. So `prepare` takes it before ours. musl's has no name by which it could be taken. There, as
//! with the locks of other libraries, `os::freeze` ends the wait.

use crate::heap::data::errands::Errands;
use crate::heap::data::heap::LIVE;
use crate::heap::data::torn::TORN;
use crate::heap::data::{registry, tls};
use crate::heap::thread::{attach, exit};
use crate::heap::upkeep::helper::HELPER;
use crate::heap::upkeep::{ahead, maintain, pages};
use crate::os::freeze::FREEZE;
use crate::os::lock::Lock;
use crate::os::thread;
use crate::slab::directory::DIRECTORY;
use crate::slab::magazine_pool::MAGAZINES;
use crate::slab::meta;
use crate::{checked, guarded, knobs, large, pool};
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Threads that may register at once.
const AT_ONCE: usize = 4;

/// Registers the handlers with the C library, once: before the first lock is taken, and early, so that they run last before a
/// fork and first after it.
///
/// No thread waits. Each of several threads that come at the same time registers them, and handlers that run twice have no
/// further effect. The C library may allocate meanwhile; such a call goes on without. Returns whether they are in place.
pub(crate) fn register() -> bool {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    static REGISTERING: [AtomicUsize; AT_ONCE] = [const { AtomicUsize::new(0) }; AT_ONCE];
    // Acquire pairs with the Release below: the handlers are in place.
    if REGISTERED.load(Ordering::Acquire) {
        return true;
    }
    // A word equals the thread's own only if the thread put it there: Relaxed.
    let me = thread::me();
    if REGISTERING
        .iter()
        .any(|word| word.load(Ordering::Relaxed) == me)
    {
        return false;
    }
    let (all, none) = (Ordering::Relaxed, Ordering::Relaxed);
    let free = |word: &&AtomicUsize| word.compare_exchange(0, me, all, none).is_ok();
    let Some(mine) = REGISTERING.iter().find(free) else {
        return false;
    };
    // SAFETY: the handlers are plain functions; the C library forgets those of an object that is unloaded.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    REGISTERED.store(true, Ordering::Release);
    mine.store(0, Ordering::Relaxed);
    true
}

/// Forks by `usual`, the C library's fork. A signal handler that forks in the midst of another fork of the only thread does it by
/// `bare`, which runs no handlers and takes no locks: where it knows of the maintenance thread, glibc holds a lock through a fork,
/// and would wait for itself. So in the nested fork the handlers of other libraries do not run.
pub(crate) fn fork(usual: impl FnOnce() -> c_int, bare: impl FnOnce() -> c_int) -> c_int {
    let nested = HELPER.is_held() && !FREEZE.is_forker() && !FREEZE.am_dying();
    if nested && !thread::single_to_libc() {
        // If there is no other thread, the fork under way is this one's.
        if HELPER.leaves_alone() {
            let pid = bare();
            // SAFETY: what the C library would call here.
            unsafe { if pid == 0 { child() } else { parent() } };
            return pid;
        }
        HELPER.resume();
    }
    usual()
}

/// What ranks below the heaps, in that order: the checked blocks, the pools of all nodes (only here are two held at a time), and
/// the leaves.
fn globals() -> impl Iterator<Item = &'static Lock> {
    let checked = core::iter::once(checked::fork_lock());
    checked.chain(pool::fork_locks()).chain([
        guarded::fork_lock(),
        large::fork_lock(),
        large::descriptor_lock(),
        large::seen_lock(),
        large::closed_lock(),
        meta::fork_lock(),
        MAGAZINES.fork_lock(),
        DIRECTORY.fork_lock(),
        knobs::fork_lock(),
    ])
}

/// Every lock, in rank order. No heap can be made once the registry's lock is frozen.
pub(crate) fn locks() -> impl Iterator<Item = &'static Lock> {
    let heaps = core::iter::once(()).flat_map(|()| registry::all());
    let heaps = heaps.map(|heap| &heap.public().lock);
    [attach::fork_lock(), registry::fork_lock()]
        .into_iter()
        .chain(heaps)
        .chain(globals())
}

/// Calls with every lock, in rank order.
#[inline(never)]
fn each_lock(call: fn(&'static Lock)) {
    locks().for_each(call);
}

unsafe extern "C" fn prepare() {
    // A thread that ends the process waits for nobody.
    if FREEZE.am_dying() {
        return;
    }
    if HELPER.leaves_alone() {
        return;
    }
    if !FREEZE.is_forker()
        && let Some((lock, _)) = thread::stdio_lock()
    {
        // SAFETY: glibc's own fork does the same next, and lets it go by itself in the child.
        unsafe { lock() };
    }
    FREEZE.begin();
    each_lock(Lock::freeze);
    // After this, a thread that passed a frozen lock has released it, or waits until this thread sleeps again.
    FREEZE.enter();
    FREEZE.leave();
    if !FREEZE.is_forker() {
        // This is the child of a fork that a signal handler made in the middle of this function.
        each_lock(Lock::thaw);
    }
}

unsafe extern "C" fn parent() {
    if !FREEZE.am_dying() {
        HELPER.resume();
    }
    if !FREEZE.is_forker() || !FREEZE.was_outermost() {
        return;
    }
    FREEZE.enter();
    each_lock(Lock::thaw);
    FREEZE.leave();
    FREEZE.end();
    if let Some((_, unlock)) = thread::stdio_lock() {
        // SAFETY: `prepare` took it.
        unsafe { unlock() };
    }
    // A poster that found an idle heap's lock frozen has gone away.
    Errands::OPEN.leave();
}

unsafe extern "C" fn child() {
    tls::after_fork();
    checked::after_fork();
    guarded::after_fork();
    let mine = tls::current();
    // SAFETY: this is the only thread.
    unsafe { exit::after_fork(mine, FREEZE.is_forker()) };
    maintain::after_fork();
    pages::forked();
    if !FREEZE.is_forker() {
        return;
    }
    // SAFETY: this is the only thread; every lock was frozen for the fork, and nothing under one is half done.
    unsafe {
        each_lock(|lock| lock.force_reset());
        FREEZE.reset();
        pool::restore_in_flight();
    }
    large::after_fork();
    for heap in registry::all() {
        pages::after_fork(heap);
        if heap.attended().is_idle() && !heap.inbox.is_empty() {
            // The poster is gone, and had not opened the inbox.
            Errands::OPEN.leave();
        }
        if mine != Some(heap)
            && heap.id != registry::SHARED_ID
            && heap.state.load(Ordering::Relaxed) == LIVE
            && !heap.torn.swap(true, Ordering::Relaxed)
        {
            TORN.fetch_add(1, Ordering::Relaxed);
        }
    }
    // SAFETY: this is the only thread, and the locks were reset above.
    unsafe { registry::rebuild_idle(mine) };
    attach::after_fork();
    ahead::after_fork();
}
