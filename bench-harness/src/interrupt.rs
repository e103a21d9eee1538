//! Ctrl-C and SIGTERM as a question the measuring loop asks: whoever interrupts a measurement keeps what it has.
//!
//! The first signal only sets a flag; the second ends the process as it would have without us.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};

// A flag on its own; nothing else is published with it, so Relaxed is enough.
static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT and SIGTERM are noted. Also where SIGINT was ignored, as shells do for what they start in the
/// background: whoever sends it there means it.
pub fn watch() {
    ASKED.get_or_init(|| {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set by the first. A handler that cannot be had leaves the
            // signal as it was.
            let _ = signal_hook::flag::register_conditional_default(signal, asked.clone());
            let _ = signal_hook::flag::register(signal, asked.clone());
        }
        asked
    });
}

/// Whether signals are noted. Children are then kept out of the terminal's process group, so that Ctrl-C reaches only the
/// parent, which ends them itself.
pub fn watched() -> bool {
    ASKED.get().is_some()
}

pub fn asked() -> bool {
    ASKED.get().is_some_and(|a| a.load(Relaxed))
}
