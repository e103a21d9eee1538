//! Fork from a process of many threads, at any moment of any of them (rule 13).
//!
//! Before: every lock is taken, in rank order. After, in the parent: all are released. In the child: all are reset;
//! every other heap becomes idle, its private part possibly torn in the middle of a fast path: what
//! is below a bin's top is free, as the fast path writes an address before it moves the top, but its caches are another
//! thread's, so the next to adopt such a heap sends them home first; a block on its way in or out is lost. What a thread had in its hands outside every lock (slots claimed and not yet opened, a
//! superslab mapped and not yet listed, a huge block between its tag and the cache, free magazines that are being purged)
//! is lost to the child: address space of at most that one object, or one rack of magazines, for each thread.

use super::heap::{Heap, by_id};
use super::{ahead, attach, maintain, registry, remote};
use crate::large;
use crate::os::lock::Lock;
use crate::pool;
use crate::slab::depot::DEPOT;
use crate::slab::directory::DIRECTORY;
use crate::slab::meta;

/// Tells the C library. Early, so that our handlers run last before a fork and first after it.
pub(super) fn register() {
    // SAFETY: the handlers are plain functions that live as long as the program.
    unsafe {
        libc::pthread_atfork(Some(prepare), Some(parent), Some(child));
    }
}

/// What ranks below the heaps, in that order: the pools of all nodes (only here are two held at a time), and the rest.
fn globals() -> impl Iterator<Item = &'static Lock> {
    pool::fork_locks().chain([
        large::fork_lock(),
        large::descriptor_lock(),
        large::seen_lock(),
        meta::fork_lock(),
        DEPOT.fork_lock(),
        DIRECTORY.fork_lock(),
    ])
}

unsafe extern "C" fn prepare() {
    attach::fork_lock().acquire();
    registry::fork_lock().acquire();
    // No heap can be made while the registry is locked.
    for heap in registry::all() {
        // SAFETY: heaps live for ever.
        unsafe { (*heap).lock.acquire() };
    }
    for lock in globals() {
        lock.acquire();
    }
}

unsafe extern "C" fn parent() {
    // SAFETY: `prepare` acquired exactly these.
    unsafe {
        for lock in globals() {
            lock.release();
        }
        for heap in registry::all() {
            (*heap).lock.release();
        }
        registry::fork_lock().release();
        attach::fork_lock().release();
    }
    // Whoever found an idle heap locked meanwhile has gone away.
    remote::leave();
}

unsafe extern "C" fn child() {
    // SAFETY: this is the only thread; every lock was held by it, and nothing under one is half done.
    unsafe {
        for lock in globals() {
            lock.force_reset();
        }
        for heap in registry::all() {
            (*heap).lock.force_reset();
        }
        registry::fork_lock().force_reset();
        attach::fork_lock().force_reset();
        pool::restore_in_flight();
        let mine: *mut Heap = attach::current();
        for heap in registry::all() {
            if heap != mine
                && (*heap).id != registry::SHARED_ID
                && (*heap).state.load(core::sync::atomic::Ordering::Relaxed) == super::heap::LIVE
            {
                (*heap)
                    .torn
                    .store(true, core::sync::atomic::Ordering::Relaxed);
            }
        }
        registry::rebuild_idle(mine);
        maintain::after_fork();
        ahead::after_fork();
        debug_assert!(!by_id(registry::SHARED_ID).is_null());
    }
}
