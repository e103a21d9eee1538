//! Ctrl-C and SIGTERM as a question the measuring loop asks: whoever interrupts a measurement keeps what it has.
//!
//! The first signal only sets a flag; the second ends the process as it would have without us.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

// Both are flags on their own; nothing else is published with them, so Relaxed is enough.
static ASKED: AtomicBool = AtomicBool::new(false);
static WATCHED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    ASKED.store(true, Relaxed);
}

/// From now on SIGINT and SIGTERM are noted. Also where SIGINT was ignored, as shells do for what they start in the
/// background: whoever sends it there means it.
pub fn watch() {
    WATCHED.store(true, Relaxed);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: all-zero is a valid sigaction; the handler stores to an atomic and does nothing else.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESETHAND;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Whether signals are noted. Children are then kept out of the terminal's process group, so that Ctrl-C reaches only
/// the parent, which ends them itself.
pub fn watched() -> bool {
    WATCHED.load(Relaxed)
}

/// Whether someone wants this to end.
pub fn asked() -> bool {
    ASKED.load(Relaxed)
}
