//! The end of a thread: its heap is made idle, emptied if it holds much, and published for the next thread.

use super::heap::{Heap, IDLE, lock, shared};
use super::remote::{self, Sorter};
use super::{keep, maintain, registry, slack, stack, tls, upkeep, walk};
use crate::os::clock;
use crate::pool;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering, fence};

/// The pthread key plus one; 0 before there is one.
static KEY: AtomicU32 = AtomicU32::new(0);

/// Makes the key whose destructor ends heaps. Called once, early: glibc's first 32 keys need no allocation.
pub(super) fn create_key() {
    let mut key = 0;
    // SAFETY: a plain call; the destructor stays valid, as the library that holds it is never unloaded before its key.
    if unsafe { libc::pthread_key_create(&mut key, Some(at_thread_end)) } == 0 {
        KEY.store(key + 1, Ordering::Release);
    }
}

/// Makes sure that the calling thread's end is noticed.
pub(super) fn arm(heap: *mut Heap) -> bool {
    let key = KEY.load(Ordering::Acquire);
    // SAFETY: the key exists.
    key != 0 && unsafe { libc::pthread_setspecific(key - 1, heap.cast::<c_void>()) } == 0
}

unsafe extern "C" fn at_thread_end(heap: *mut c_void) {
    detach(heap.cast());
}

/// Ends the calling thread's use of `heap`. Calls that come later in the thread are served without one.
pub(super) fn detach(heap: *mut Heap) {
    tls::set_dead();
    keep::make_room();
    // SAFETY: the heap was this thread's, and from here on nobody touches its private part.
    unsafe {
        let guard = lock(heap);
        let mut sorter = Sorter::new(heap, true);
        let ended = keep::begin(heap, &mut sorter);
        sorter.post_all();
        let gave_back = ended.gave_back();
        (*heap).state.store(IDLE, Ordering::Relaxed);
        // SeqCst, with the fence in `remote::post`: either the poster sees Idle, or this drain sees its batch.
        fence(Ordering::SeqCst);
        remote::drain_locked(heap);
        keep::end(heap, ended);
        debug_assert!(
            walk::slabs_are_valid(heap) && stack::is_valid(heap),
            "a heap that is given up is in order"
        );
        slack::show(shared(heap));
        let over = core::mem::take(&mut (*shared(heap)).over_bound);
        drop(guard);
        remote::look_again(heap);
        registry::publish_idle(heap);
        if over {
            pool::trim();
        }
        remote::catch_up();
        upkeep::pass(clock::now_ms());
        if gave_back {
            maintain::wake();
        }
    }
}

/// Sees to it that a library that is unloaded leaves no destructor behind (rule 15): a handler registered from inside a
/// shared object runs when that goes, and when the process ends. Where it cannot be registered the library must not
/// be unloaded, as with any that has thread-local destructors.
pub(super) fn forget_at_unload() {
    // SAFETY: the handler is a plain function of this object, called before it goes.
    unsafe { libc::atexit(forget_key) };
}

/// Deletes the key. Threads that still run keep their heaps for good.
extern "C" fn forget_key() {
    let key = KEY.swap(0, Ordering::AcqRel);
    if key != 0 {
        // SAFETY: the key is ours and nobody sets it any more.
        unsafe { libc::pthread_key_delete(key - 1) };
    }
}
