//! What the layer above wants, and when it need not be asked again.

use crate::heap::thread::{attach, fork};
use crate::knobs::{self, Config};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// What the layer above wants: its configuration, and calls at two events.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) config: Config,
    /// Called once the allocator works.
    pub(crate) when_ready: fn(),
    /// Called before an allocation of this caller returns null; a failed realloc does not call it.
    pub(crate) when_null: Option<fn()>,
}

/// The first caller's configuration counts; later ones are only compared with it.
#[inline(always)]
pub(super) fn heed(caller: Option<&Caller>) {
    // Each slow path of every thread comes here: one that has nothing to learn writes nothing.
    if !is_heeded(caller) {
        heed_slow(caller);
    }
}

#[cold]
#[inline(never)]
fn heed_slow(caller: Option<&Caller>) {
    let registered = fork::register();
    if let Some(caller) = caller {
        knobs::init(&caller.config);
        attach::when_ready(caller.when_ready);
    }
    if registered && attach::is_ready() {
        // Release: see `is_heeded`.
        HEEDED.store(name(caller), Ordering::Release);
    }
}

/// The caller that was heeded last, once everything is ready and the handlers of fork are in place.
static HEEDED: AtomicPtr<Caller> = AtomicPtr::new(ptr::null_mut());

fn name(caller: Option<&Caller>) -> *mut Caller {
    let nobody = ptr::dangling();
    caller.map_or(nobody, ptr::from_ref).cast_mut()
}

/// Whether nothing is to be learnt from the caller, and everything is ready.
#[inline(always)]
pub(super) fn is_heeded(caller: Option<&Caller>) -> bool {
    // Acquire: a thread that finds it set sees all that is made before the first block.
    HEEDED.load(Ordering::Acquire) == name(caller)
}
