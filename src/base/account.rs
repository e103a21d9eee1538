//! The account: bytes the process holds, by kind, and the ceiling that follows from them.
//!
//! Each store updates its own kinds where they change, but for heaps, which tell what their stacks hold once that is off by much
//! (`heap::cache::budget`). `resident = blocks + free slots + large + cached`; the blocks on heaps'
//! stacks count among the blocks. It estimates what the kernel counts: a block that was handed out and never written to counts
//! as held. `idle = stacks + free slots + cached` is what could serve another request.
//!
//! The ceiling: a process that grows beyond its recent peak gives idle memory back. A caller that took fresh memory asks
//! [`over`] whether the process now holds more than that while memory lies idle, and reclaims that much. A process that grows with
//! nothing idle pays for one comparison.
//!
//! All accesses are Relaxed: the words are estimates and order nothing.

#![forbid(unsafe_code)]

use super::tuning::{ceiling, retention};
use super::wanted;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// What bytes are held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Blocks of slabs in use that were ever handed out, live or free; and the OS pages of live guarded blocks.
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
    /// What huge pages hold behind the ends of live large blocks. It is counted among [`Kind::Large`] as well.
    Ends,
    /// Free blocks that came back to slabs in use since those were last searched for OS pages to give back. They are counted
    /// among [`Kind::Blocks`] as well.
    Unsettled,
}

const KINDS: usize = 8;

static BYTES: [AtomicUsize; KINDS] = [const { AtomicUsize::new(0) }; KINDS];

/// Replaces `was`, the bytes a store last reported for a kind, by `is`.
#[inline]
pub(crate) fn change(kind: Kind, was: usize, is: usize) {
    if was != is {
        BYTES[kind as usize].fetch_add(is.wrapping_sub(was), Relaxed);
    }
}

/// Bytes of a kind. A sum of several kinds may be off by what other threads change meanwhile.
pub(crate) fn of(kind: Kind) -> usize {
    // Another thread's subtraction may be seen before the addition it belongs to: a negative count reads as zero.
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

/// Most bytes held in the current period, and in the one before it: together the recent peak.
static PEAK: AtomicUsize = AtomicUsize::new(0);
static PEAK_BEFORE: AtomicUsize = AtomicUsize::new(0);
/// Most bytes ever held.
static PEAK_EVER: AtomicUsize = AtomicUsize::new(0);
/// After reclaiming got little: the idle bytes beyond which it is tried again. 0 otherwise.
static STUCK: AtomicUsize = AtomicUsize::new(0);

/// Bytes to reclaim after fresh memory was taken: the excess over the recent peak, at most the idle bytes beyond what is
/// spared. 0 in most processes at most times. Otherwise the caller reclaims and then calls [`reclaimed`].
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

/// Records the outcome of reclaiming what [`over`] asked for. What is held now becomes the peak.
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

/// Starts a new period: only the peak of the period that ended stays recent. If `several` periods passed, not even that one does.
pub(crate) fn period_passed(several: bool) {
    let resident = resident();
    let now = PEAK.swap(resident, Relaxed);
    PEAK_BEFORE.store(if several { resident } else { now }, Relaxed);
    STUCK.store(0, Relaxed);
}

/// Most bytes ever held, as seen when memory grew.
pub(crate) fn peak_ever() -> usize {
    PEAK_EVER.load(Relaxed).max(resident())
}

/// Idle bytes from which a thread of the allocator's own sees time pass; `usize::MAX` if it may not be started.
static WATCHED_FROM: AtomicUsize = AtomicUsize::new(usize::MAX);

pub(crate) fn set_watched(from: Option<usize>) {
    WATCHED_FROM.store(from.unwrap_or(usize::MAX), Relaxed);
}

pub(crate) fn is_watched() -> bool {
    WATCHED_FROM.load(Relaxed) != usize::MAX
}

/// How many bytes one call of the program gives back: `most`, so that no call takes long, if later calls or the thread give back
/// the rest. If it may not start, all.
pub(crate) fn at_once(most: usize) -> usize {
    if is_watched() { most } else { usize::MAX }
}

/// Whether the thread is there.
static SEEN: AtomicBool = AtomicBool::new(false);
/// Whether a store may keep what fell, as of the last look since the thread's last round began.
static FELL: AtomicBool = AtomicBool::new(false);

/// The thread is there, or not any more.
pub(crate) fn set_seen(seen: bool) {
    SEEN.store(seen, Relaxed);
}

/// How many of `bytes` that were in use within the last purge delay, and are not now, a store may keep until the delay ends: all
/// of them while the thread is there, else as many as start it.
pub(crate) fn until_the_delay_ends(bytes: usize) -> usize {
    if bytes <= WATCHED_FROM.load(Relaxed) {
        return 0;
    }
    if !FELL.load(Relaxed) {
        FELL.store(true, Relaxed);
        wanted::note();
    }
    if SEEN.load(Relaxed) {
        bytes
    } else {
        bytes.min(retention::FALL_UNSEEN)
    }
}

/// Whether a store keeps what fell, so that the thread is to come for little as well.
pub(crate) fn fell() -> bool {
    FELL.load(Relaxed)
}

/// Until a store looks again, nothing fell.
pub(crate) fn fell_no_more() {
    FELL.store(false, Relaxed);
}

/// How many of the `bytes` that the program's demand is worth a store may keep idle; `floor` is the least. All of them if a
/// thread sees time pass. Otherwise the process may never call again, and an idle excess would stay for ever: then all of them
/// if they are few or no more than what is live, else the larger of `floor` and what is live.
pub(crate) fn seen(bytes: usize, floor: usize) -> usize {
    if may_stay(bytes) {
        bytes
    } else {
        floor.max(live())
    }
}

/// Whether this many idle bytes may stay even if the process never calls again.
pub(crate) fn may_stay(bytes: usize) -> bool {
    is_watched() || bytes <= live().max(retention::UNSEEN_WHOLE)
}
