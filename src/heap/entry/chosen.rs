//! Allocations that get a guarded or a checked block in place of one of a bin.

use crate::base::tuning::guarded as tuning;
use crate::checked::{self, Mode, Taken};
use crate::guarded;
use crate::heap::data::fresh::Fresh;
use crate::heap::data::tls;
use crate::heap::entry::threadless;
use crate::heap::thread::attach;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Until the next guarded block, for all threads, if every block is checked: none has a heap then. Threads that come at the same
/// time may count one too few: Relaxed.
static UNTIL: AtomicU32 = AtomicU32::new(0);

/// A block, if every block is checked and no guarded one is due. For a caller that need not be heeded: the knobs are known.
#[inline(always)]
pub(super) fn each(size: usize, align: usize) -> Option<Fresh> {
    let until = UNTIL.load(Relaxed);
    if until <= 1 {
        return None;
    }
    UNTIL.store(until - 1, Relaxed);
    let taken = alloc(size, align)?;
    Some(Fresh {
        ptr: taken.ptr,
        zero: taken.zero,
    })
}

/// A guarded block, if one is due. The bin stays empty.
pub(super) fn guarded(size: usize, align: usize) -> Option<Fresh> {
    // Each request of size 0 comes here, because no bin serves it, and such a block has no byte to misuse.
    if size == 0 {
        return None;
    }
    let ptr = if let Some(heap) = tls::current() {
        // SAFETY: the thread's own heap, and the word is its alone.
        guarded::sample(unsafe { &mut (*heap.ptr()).until_guarded }, size, align)
    } else if checked::mode() == Mode::All {
        let mut until = UNTIL.load(Relaxed);
        let was = until;
        let ptr = guarded::sample(&mut until, size, align);
        if until > was.max(1) {
            until = until.saturating_mul(tuning::OF_ALL);
        }
        UNTIL.store(until, Relaxed);
        ptr
    } else {
        None
    }?;
    Some(Fresh { ptr, zero: false })
}

/// A checked block, if there is to be one.
#[inline]
pub(super) fn checked(size: usize, align: usize) -> Option<Fresh> {
    if attach::is_ready() && !checked::may_take(size, align) {
        return None;
    }
    checked_slow(size, align)
}

#[inline(never)]
fn alloc(size: usize, align: usize) -> Option<Taken> {
    checked::alloc(size, align, threadless::thread())
}

#[inline(never)]
fn checked_slow(size: usize, align: usize) -> Option<Fresh> {
    // Whether blocks are checked is known once the knobs are.
    if !attach::ensure_ready() {
        return None;
    }
    let taken = match checked::mode() {
        Mode::Off => None,
        Mode::Some => checked::sample(size, align, threadless::thread),
        Mode::All => alloc(size, align),
    };
    taken.map(|taken| Fresh {
        ptr: taken.ptr,
        zero: taken.zero,
    })
}
