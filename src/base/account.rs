//! The account: bytes the process holds, by kind, and the ceiling that follows from them.
//!
//! Each store keeps its own kinds up to date where they change. `resident = blocks + free slots + large + cached`, with what
//! lies on heaps' stacks among the blocks; it is an estimate of what the kernel counts, since a block that was handed out and
//! never written to counts as held. `idle = stacks + free slots + cached` is what could serve somebody else.
//!
//! The ceiling: fresh memory is taken from the kernel only when idle memory of another kind cannot cover it. Whoever took
//! fresh memory asks [`over`] whether the process now holds more than at its recent peak while something lies idle, and
//! reclaims as much. A process that grows with nothing idle beside it pays a comparison.
//!
//! All words are Relaxed: they are estimates and order nothing.

#![forbid(unsafe_code)]

use super::tuning::{ceiling, retention};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// What bytes are held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Blocks of slabs in use that were ever handed out, live or free.
    Blocks,
    /// Free blocks on heaps' stacks. They are counted among [`Kind::Blocks`] as well.
    Stacks,
    /// Free slots that are still resident.
    FreeSlots,
    /// Live large blocks, from the beginning of their mappings to their ends, and what is resident behind those.
    Large,
    /// Mappings of freed large blocks.
    Cached,
    /// Memory behind the ends of live large blocks that may be resident. It is counted among [`Kind::Large`] as well.
    Tails,
    /// Free blocks that came back to slabs in use, which nobody has looked at since for pages that can go. They are counted
    /// among [`Kind::Blocks`] as well.
    Unsettled,
}

const KINDS: usize = 7;

static BYTES: [AtomicUsize; KINDS] = [const { AtomicUsize::new(0) }; KINDS];

/// A kind that counted `was` bytes of a store counts `is`.
#[inline]
pub(crate) fn change(kind: Kind, was: usize, is: usize) {
    if was != is {
        BYTES[kind as usize].fetch_add(is.wrapping_sub(was), Relaxed);
    }
}

/// Bytes of a kind. Sums of several may be off by what other threads do at the moment.
pub(crate) fn of(kind: Kind) -> usize {
    // Two changes of one byte may be seen in either order: a sum below zero is zero.
    (BYTES[kind as usize].load(Relaxed) as isize).max(0) as usize
}

/// Bytes held from the kernel for blocks, used or not.
pub(crate) fn resident() -> usize {
    of(Kind::Blocks) + of(Kind::FreeSlots) + of(Kind::Large) + of(Kind::Cached)
}

/// Bytes held that nobody uses.
pub(crate) fn idle() -> usize {
    of(Kind::Stacks) + of(Kind::FreeSlots) + of(Kind::Cached)
}

/// Bytes held that the program uses.
fn live() -> usize {
    resident().saturating_sub(idle())
}

/// Most bytes held in the period that runs, and in the one before: the recent peak.
static PEAK: AtomicUsize = AtomicUsize::new(0);
static PEAK_BEFORE: AtomicUsize = AtomicUsize::new(0);
/// Most bytes ever held.
static PEAK_EVER: AtomicUsize = AtomicUsize::new(0);
/// Idle bytes that reclaiming could not get at. Beyond them it is tried again.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// Bytes to reclaim, after fresh memory was taken: by as many the process is above its recent peak, and they lie idle
/// beyond what is spared. 0 in most processes at most times. [`reclaimed`] follows where it is not 0.
#[inline]
pub(crate) fn over() -> usize {
    let resident = resident();
    let peak = PEAK.load(Relaxed).max(PEAK_BEFORE.load(Relaxed));
    if resident <= peak {
        return 0;
    }
    let idle = idle();
    let live = resident.saturating_sub(idle);
    let spared = ceiling::SPARED
        .max(live / ceiling::SPARED_SHARE)
        .max(STUCK.load(Relaxed));
    let over = idle.saturating_sub(spared).min(resident - peak);
    if over == 0 {
        rose(resident);
    }
    over
}

/// What [`over`] asked for was tried: what is held now is the peak.
pub(crate) fn reclaimed(asked: usize, got: usize) {
    if got < asked / 2 {
        let more = (idle() / ceiling::STUCK_SHARE).max(ceiling::SPARED);
        STUCK.store(idle() + more, Relaxed);
    }
    rose(resident());
}

fn rose(resident: usize) {
    PEAK.fetch_max(resident, Relaxed);
    PEAK_EVER.fetch_max(resident, Relaxed);
}

/// A period has passed: what was held before the last one is not recent any more.
pub(crate) fn period_passed(several: bool) {
    let resident = resident();
    let now = PEAK.swap(resident, Relaxed);
    PEAK_BEFORE.store(if several { resident } else { now }, Relaxed);
    STUCK.store(0, Relaxed);
}

/// Most bytes that were ever held, as growth saw it.
pub(crate) fn peak_ever() -> usize {
    PEAK_EVER.load(Relaxed).max(resident())
}

/// Whether a thread of ours may be started that sees time pass.
static WATCHED: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_watched(watched: bool) {
    WATCHED.store(watched, Relaxed);
}

pub(crate) fn is_watched() -> bool {
    WATCHED.load(Relaxed)
}

/// Of `bytes` that the program's demand is worth, those that a store with such a floor may keep idle. All of them where
/// somebody sees time pass. Else the process may never call again: all of them if they are few, or no more than what is
/// live, and the floor if they are more. A part between the two would save a part of the faults, and look like a leak.
pub(crate) fn seen(bytes: usize, floor: usize) -> usize {
    if may_stay(bytes) {
        bytes
    } else {
        floor.max(live())
    }
}

/// Whether so many idle bytes may stay, though the process may never call again.
pub(crate) fn may_stay(bytes: usize) -> bool {
    is_watched() || bytes <= live().max(retention::UNSEEN_WHOLE)
}
