//! The end of a thread: its heap is made idle, emptied if it holds much, and published for the next thread.
//!
//! A thread may go on, with a heap, after the last call that the C library makes here. Then another thread, which needs a heap or
//! gives memory back, takes that heap once the kernel says that its thread is gone.

use crate::checked;
use crate::heap::data::heap::HeapRef;
use crate::heap::data::{registry, tls};
use crate::heap::upkeep::{give_up, maintain, tick};
use crate::os::{clock, thread};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

/// The pthread key plus one; 0 if there is none.
static KEY: AtomicU32 = AtomicU32::new(0);

/// Makes the key whose destructor ends heaps. Called once, early: glibc's first 32 keys need no allocation.
pub(crate) fn create_key() {
    let mut key = 0;
    // SAFETY: a plain call; the destructor stays valid, as the library that holds it is never unloaded before its key.
    if unsafe { libc::pthread_key_create(&mut key, Some(at_thread_end)) } == 0 {
        KEY.store(key + 1, Ordering::Release);
    }
}

/// Keys from this number on may cost the C library an allocation for a thread's first value.
const CHEAP_KEYS: u32 = 32;

/// Has the key's destructor called at the end of the calling thread, whose heap this is. Returns whether it will be. `late`: the
/// C library may have run all destructors already, so it must not have to allocate.
pub(crate) fn arm(heap: HeapRef, late: bool) -> bool {
    let key = KEY.load(Ordering::Acquire);
    // SAFETY: the key exists.
    key != 0
        && (!late || key <= CHEAP_KEYS)
        && unsafe { libc::pthread_setspecific(key - 1, heap.ptr().cast()) == 0 }
}

/// Has the end of the process's first thread seen where no thread has a heap.
pub(crate) fn arm_first() {
    let key = KEY.load(Ordering::Acquire);
    if key != 0 && thread::is_first() {
        // SAFETY: the key exists. If it is refused, the maintenance thread stays for as long as it would otherwise.
        unsafe { libc::pthread_setspecific(key - 1, FIRST.cast()) };
    }
}

/// Stands for a heap in the key of a first thread that has none.
const FIRST: *const AtomicU32 = &raw const KEY;

/// Notes that the calling thread may end without another call here.
///
/// # Safety
/// The heap is the calling thread's. Once that is gone, another one is given the heap.
pub(crate) unsafe fn note_ending(heap: HeapRef) {
    heap.ending.begins(tls::thread());
    registry::note_ending(heap);
}

/// Keeps the heap for one more round, then gives it up: the destructors of other keys follow, and may allocate as much as they
/// like. They may set their keys again and run after that too; then the thread is given another heap (`attach`).
unsafe extern "C" fn at_thread_end(heap: *mut c_void) {
    if ptr::addr_eq(heap, FIRST) {
        return maintain::ends();
    }
    let Some(heap) = tls::current().filter(|mine| mine.ptr() == heap.cast()) else {
        // Set by an earlier thread on this stack after its last round.
        return;
    };
    if !heap.ending.has_begun() {
        // SAFETY: it is this thread's.
        unsafe { note_ending(heap) };
        if arm(heap, false) {
            return;
        }
    }
    tls::set_ended();
    // SAFETY: from here on this thread does not touch it.
    unsafe { give_up::give_up(heap) };
    tick::pass(clock::now_ms());
    maintain::ends();
}

/// In the child of a fork: the one thread has another number than in the parent, and no other thread exists that could end. With
/// `all_go` the caller gives up all other heaps; else the threads of queued heaps count as gone.
///
/// # Safety
/// Only the calling thread exists, and its heap is `mine`, if it has one.
pub(crate) unsafe fn after_fork(mine: Option<HeapRef>, all_go: bool) {
    for heap in registry::all().filter(|heap| heap.ending.has_begun()) {
        // Others are not written: the heap's page stays the parent's.
        match mine == Some(heap) {
            true => heap.ending.begins(thread::tid()),
            false if all_go => heap.ending.is_over(),
            false => heap.ending.begins(thread::NO_THREAD),
        }
    }
}

/// Has the key deleted when the library is unloaded, so that no destructor is left behind (rule 15): a handler registered from
/// inside a shared object runs when that goes, and when the process ends. If it cannot be registered the library must not be
/// unloaded, like any that has thread-local destructors.
pub(crate) fn forget_at_unload() {
    // SAFETY: the handler is a plain function of this object, called before it goes.
    unsafe { libc::atexit(forget_key) };
}

/// Deletes the key, and looks at checked blocks for the last time. Threads that still run keep their heaps for good.
extern "C" fn forget_key() {
    checked::sweep();
    let key = KEY.swap(0, Ordering::AcqRel);
    if key != 0 {
        // SAFETY: the key is ours and nobody sets it any more.
        unsafe { libc::pthread_key_delete(key - 1) };
    }
}
