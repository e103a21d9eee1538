//! What the heaps call. No lock may be held, and none is when a mistake is reported.

use super::geometry::Kind;
use super::mode::{self, Mode};
use super::report;
use super::site::{Call, Place};
use super::store::{Need, STORE, Taken, has_room};
use super::table;
use crate::base::tuning::checked as tuning;
use crate::base::units::Slots;
use crate::knobs;
use crate::large;
use crate::os::lock::Lock;
use crate::os::numa;
use crate::os::sys::{self, ErrnoGuard};
use crate::pool::{self, Usage, Want};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A block for `size` bytes at `align`, where every block is checked. `None` if memory is refused, and for what no size class
/// serves. Leaves `errno` alone.
#[inline(always)]
pub(crate) fn alloc(size: usize, align: usize, thread: u32) -> Option<Taken> {
    let kind = Kind::of(size, align)?;
    let mut store = STORE.lock();
    let call = Call::here(thread, &mut store.walks, Place::Alloc);
    let taken = store.take(kind, size, &call, Need::Usual);
    drop(store);
    match taken {
        Ok(Some(taken)) => Some(taken),
        Ok(None) => alloc_opening(kind, size, &call),
        Err(finding) => report::end(finding),
    }
}

/// As [`alloc`], if a slab has to be opened first.
#[cold]
#[inline(never)]
fn alloc_opening(kind: Kind, size: usize, call: &Call) -> Option<Taken> {
    let _errno = ErrnoGuard::new();
    let mut refusals = 0;
    loop {
        if !open(kind, usize::MAX) {
            match refusals {
                // Address space may be held by what is cached.
                0 => {
                    large::purge_all();
                    pool::unmap_empty();
                }
                1 => {
                    trim();
                }
                _ => return None,
            }
            refusals += 1;
        }
        let need = if refusals < 2 {
            Need::Usual
        } else {
            Need::Last
        };
        let taken = STORE.lock().take(kind, size, call, need);
        if let Some(taken) = taken.unwrap_or_else(|finding| report::end(finding)) {
            return Some(taken);
        }
    }
}

/// Slow paths until the next that gets a checked block, and blocks that were given out so. Threads that come at the same time may
/// count one too few: Relaxed.
static TURNS: AtomicU32 = AtomicU32::new(0);
static SAMPLES: AtomicU32 = AtomicU32::new(0);

/// Slow paths that get none between the sample after so many others and the next.
fn turns_after(samples: u32) -> u32 {
    (tuning::TURNS << (samples / tuning::SLOWER_EACH).min(tuning::SLOWEST)) - 1
}

/// Whether there may be a block for `size` bytes at `align`: of others, [`sample`] gives none.
#[inline]
pub(crate) fn may_take(size: usize, align: usize) -> bool {
    match mode::mode() {
        Mode::Off => false,
        Mode::Some => mode::is_due() || Kind::of(size, align).is_some_and(has_room),
        Mode::All => true,
    }
}

/// A block for `size` bytes at `align`, where some blocks are checked, if it is time for one. `thread` says who calls.
pub(crate) fn sample(size: usize, align: usize, thread: fn() -> u32) -> Option<Taken> {
    let kind = Kind::of(size, align)?;
    let is_due = mode::is_due() && !kind.is_run() && kind.slots() == Slots::ONE && mode::take_due();
    // Empty slabs of other sizes make room.
    let opened = is_due && (open(kind, tuning::MOST) || (trim() && open(kind, tuning::MOST)));
    if !opened {
        if !has_room(kind) {
            return None;
        }
        let turns = TURNS.load(Relaxed);
        if turns != 0 {
            TURNS.store(turns - 1, Relaxed);
            return None;
        }
        TURNS.store(turns_after(SAMPLES.load(Relaxed)), Relaxed);
    }
    let thread = thread();
    // A sample is not worth waiting for the lock.
    let mut store = STORE.try_lock()?;
    if numa::count() > 1 && !store.is_near(kind) {
        return None;
    }
    let call = Call::here_shared(thread, &mut store.walks, Place::Sample);
    let taken = store.take(kind, size, &call, Need::Usual);
    store.show(kind);
    drop(store);
    if let Ok(Some(_)) = taken {
        SAMPLES.store(SAMPLES.load(Relaxed).saturating_add(1), Relaxed);
    }
    taken.unwrap_or_else(|finding| report::end(finding))
}

/// Opens a slab of the kind, if all slabs together have at most `most` bytes then.
pub(super) fn open(kind: Kind, most: usize) -> bool {
    let mut store = STORE.lock();
    let Some(slab) = store.descriptor(kind, most) else {
        store.show(kind);
        return false;
    };
    drop(store);
    let want = Want {
        slots: kind.slots(),
        usage: Usage::Few,
    };
    let claimed = pool::obtain(knobs::get(), pool::here(), want, |_| None);
    let was_claimed = claimed.is_some();
    let mut store = STORE.lock();
    match claimed {
        Some(had) => store.open(kind, slab, had.claim),
        None => store.no_slab(kind, slab),
    }
    store.show(kind);
    was_claimed
}

/// Frees what is at `ptr`, whose tag says that it is checked. `named` is the size that the program gave, if it gave one. Returns
/// whether memory went back to the pool. Leaves `errno` alone.
#[inline(always)]
pub(crate) fn free(ptr: *mut u8, named: Option<usize>, thread: u32) -> bool {
    let mut store = STORE.lock();
    let call = Call::here(thread, &mut store.walks, Place::Free);
    let outcome = store.give(ptr as usize, named, &call);
    drop(store);
    match outcome {
        Ok(left) => {
            if left.trim {
                sys::preserve_errno(pool::trim);
            }
            left.went
        }
        Err(finding) => report::end(finding),
    }
}

/// Bytes that were asked for when the block at `ptr`, whose tag says that it is checked, was allocated. `asked` is the program's
/// call, for the report.
pub(crate) fn size_of(ptr: *const u8, asked: &'static str) -> usize {
    let size = STORE.lock().size(ptr as usize, asked);
    size.unwrap_or_else(|finding| report::end(finding))
}

/// Resizes the block at `ptr`, whose tag says that it is checked, from `old` to `new` bytes where it is, if its kind is the one
/// for `new`. Returns whether it did; if not, the block is as it was. `anyway` says that no other block is to be had: then a
/// block that shrinks stays in whatever kind it is. Leaves `errno` alone.
pub(crate) fn resize(
    ptr: *mut u8,
    [old, new]: [usize; 2],
    align: usize,
    anyway: bool,
    thread: u32,
) -> bool {
    let _errno = ErrnoGuard::new();
    let stays = |kind| Kind::of(new, align) == Some(kind) || anyway && new <= old;
    let mut store = STORE.lock();
    let call = Call::here_shared(thread, &mut store.walks, Place::Resize);
    let resized = store.resize(ptr as usize, [old, new], stays, &call);
    drop(store);
    resized.unwrap_or_else(|finding| report::end(finding))
}

/// Gives every slab without allocated blocks back to the pool, which is not trimmed here. Returns whether there was one.
pub(crate) fn trim() -> bool {
    let mut store = STORE.lock();
    let mut outcome = store.shorten_runs(0);
    for kind in Kind::all() {
        let Ok(left) = outcome else { break };
        outcome = store.retire_empty(kind).map(|more| left.and(more));
        store.show(kind);
    }
    drop(store);
    outcome.unwrap_or_else(|finding| report::end(finding)).went
}

/// Checks every freed block for writes, and every allocated one for writes behind it. Ends early if the lock is held: the thread
/// itself may hold it, if a handler of a signal ends the process.
pub(crate) fn sweep() {
    for number in 0..table::count() {
        if !sweep_one(number) {
            return;
        }
    }
}

/// Not inlined: every process that ends calls [`sweep`], and few have checked blocks.
#[cold]
#[inline(never)]
fn sweep_one(number: u32) -> bool {
    let Some(mut store) = STORE.try_lock() else {
        return false;
    };
    // SAFETY: descriptors live for ever, and the lock is held.
    let seen = unsafe { store.look_over(table::get(number)) };
    drop(store);
    seen.unwrap_or_else(|finding| report::end(finding));
    true
}

/// For fork: the lock of all checked blocks.
pub(crate) fn fork_lock() -> &'static Lock {
    STORE.raw()
}

#[cfg(test)]
mod tests {
    use super::{tuning::*, turns_after};

    #[test]
    fn samples_become_seldom() {
        assert_eq!(turns_after(0), TURNS - 1);
        assert_eq!(turns_after(SLOWER_EACH - 1), TURNS - 1);
        assert_eq!(turns_after(SLOWER_EACH), 2 * TURNS - 1);
        assert_eq!(turns_after(u32::MAX), (TURNS << SLOWEST) - 1);
    }
}
