//! The handler of faults, installed when the first block is to be guarded.

use crate::knobs;
use crate::os::message::message;
use crate::os::segv::{self, Watch};
use crate::os::sys::Errno;
use crate::os::thread;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Sends faults to `watch`, once, and returns whether they go there, or what the kernel said. False for threads that come
/// meanwhile, for a child that was forked meanwhile, for a child of `vfork`, and for ever if the handler was refused or the
/// program ignores SIGSEGV. No lock may be held: a program may have a `sigaction` of its own, which allocates.
pub(super) fn is_installed(watch: &'static Watch) -> Result<bool, Errno> {
    const NOT_YET: usize = 0;
    const TRIED: usize = 1;
    const DONE: usize = 2;
    static STATE: AtomicUsize = AtomicUsize::new(NOT_YET);
    // Acquire pairs with the Release below.
    let was = STATE.load(Acquire);
    if was != NOT_YET {
        return Ok(was == DONE);
    }
    // A child of `vfork` has this memory, and handlers of its own.
    if !thread::is_of_process() {
        return Ok(false);
    }
    // The exchange orders nothing: Relaxed.
    let mine = STATE.compare_exchange(NOT_YET, TRIED, Relaxed, Relaxed);
    if mine.is_err() {
        return Ok(false);
    }
    let installed = segv::watch(watch)?;
    if installed {
        STATE.store(DONE, Release);
    } else if knobs::get().verbose {
        message!("guarded blocks: the program ignores SIGSEGV; none are made");
    }
    Ok(installed)
}
