//! Giving memory back to the kernel.

use super::pass::Pass;
use super::place::{Held, Whole, lock};
use super::unmap::unmap;
use super::{Account, Pool, counts, recount, units};
use crate::base::account::{self, Kind};
use crate::base::tuning::pool::{
    BARREN_DELAY_SHARE, BARREN_MOST, BARREN_SHARE, IN_USE_SHARE, RETAINED_LEAST, SPARE_SHARE,
    SPLIT_AGED_FROM, SPLIT_FROM, TRIM_AT_ONCE, TRIM_BELOW, TRIM_SHARE,
};
use crate::base::tuning::retention;
use crate::base::units::{SLOT, SLOT_SHIFT, SLOTS, SUPERSLAB, Slots};
use crate::os::mapping;
use crate::os::numa::{self, Node};
use crate::os::{clock, huge};
use crate::slab::superslab::{Superslab, UNIT};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Least bytes of free memory kept resident.
pub(super) static RETAIN_LEAST: AtomicUsize = AtomicUsize::new(RETAINED_LEAST);
/// Whether the bound is fixed by a knob instead of growing with what is in use.
static RETAIN_FIXED: AtomicUsize = AtomicUsize::new(0);
/// No trim before this time. The last one gave nothing back and left more than the bound (locked pages, or a bound below what
/// dense huge pages hold). Searching all superslabs again at every release would find nothing either.
static BARREN_UNTIL: AtomicU64 = AtomicU64::new(0);
/// Bytes from which a trim runs before that time all the same: what the last one left, and a little more.
static BARREN_BELOW: AtomicUsize = AtomicUsize::new(0);

/// The purge delay: milliseconds that free memory waits, unneeded, before it goes back. Memory taken again within it went back
/// too early.
static DELAY: AtomicUsize = AtomicUsize::new(1000);

/// Sets how much is retained (`None` for the adaptive bound) and the purge delay in milliseconds.
pub(crate) fn set_retain(mib: Option<u32>, delay_ms: u32) {
    DELAY.store(delay_ms as usize, Ordering::Relaxed);
    if let Some(mib) = mib {
        RETAIN_LEAST.store((mib as usize) << 20, Ordering::Relaxed);
        RETAIN_FIXED.store(1, Ordering::Relaxed);
    }
}

pub(super) fn delay() -> u64 {
    DELAY.load(Ordering::Relaxed) as u64
}

/// Bytes made resident on request. This much may be retained: what was requested ahead of use does not go back after its first
/// use.
static PREWARMED: AtomicUsize = AtomicUsize::new(0);

/// Records that `bytes` more were made resident on request.
pub(super) fn retain_prewarmed(bytes: usize) {
    PREWARMED.fetch_add(bytes, Ordering::Relaxed);
}

/// Bytes of free memory that may stay resident in the whole process.
pub(super) fn bound(whole: &Whole) -> usize {
    let least = RETAIN_LEAST.load(Ordering::Relaxed);
    if RETAIN_FIXED.load(Ordering::Relaxed) != 0 {
        return least;
    }
    // What heaps' stacks hold is idle as well, so it counts against the floor.
    let floor = retention::SMALL_UNSEEN.saturating_sub(account::of(Kind::Stacks));
    least
        .max(whole.claimed_slots.bytes() / IN_USE_SHARE)
        .max(account::seen(whole.allowance, floor))
        .max(PREWARMED.load(Ordering::Relaxed))
}

impl Pool {
    /// Bytes of free memory that the program's demand justifies retaining. What is free lies in pieces, and what a program takes
    /// again does not fit into the same ones, so some are to spare.
    pub(super) fn allowance(&self) -> usize {
        if delay() == 0 || RETAIN_FIXED.load(Ordering::Relaxed) != 0 {
            return 0;
        }
        let dip = self.demand.allow(0, retention::WORTH);
        let fallen = account::until_the_delay_ends(self.demand.fallen());
        fallen.max(dip + dip / SPARE_SHARE)
    }
}

/// If more is retained than the bound, purges, oldest first, until a share of the bound below it ([`TRIM_SHARE`]), but at most
/// [`TRIM_BELOW`] below it, and as far as one call may. Returns how many bytes went. No lock may be held.
pub(crate) fn trim() -> usize {
    let now = clock::now_ms();
    {
        let whole = lock(Node::FIRST).whole();
        // Between the release that exceeded the bound and this call another thread may have trimmed, or the ceiling reclaimed.
        let enough = whole.dirty_bytes <= bound(&whole);
        let barren = now < BARREN_UNTIL.load(Ordering::Relaxed)
            && whole.dirty_bytes < BARREN_BELOW.load(Ordering::Relaxed);
        if enough || barren {
            return 0;
        }
    }
    let over = |pool: &Held| {
        let whole = pool.whole();
        let bound = bound(&whole);
        whole.dirty_bytes > bound - (bound / TRIM_SHARE).min(TRIM_BELOW)
    };
    let most = account::at_once(TRIM_AT_ONCE);
    let got = purge_while(&SPLIT_FROM, most, &|pool, _| over(pool));
    let whole = lock(Node::FIRST).whole();
    let (left, bound) = (whole.dirty_bytes, bound(&whole));
    if got == 0 && left > bound {
        let more = (left / BARREN_SHARE).max((bound / TRIM_SHARE).min(BARREN_MOST));
        BARREN_BELOW.store(left + more, Ordering::Relaxed);
        BARREN_UNTIL.store(
            now + (delay() / BARREN_DELAY_SHARE).max(10),
            Ordering::Relaxed,
        );
    }
    got
}

/// Bytes of free slots that stay because a knob or prewarming says so.
pub(super) fn reserved() -> usize {
    match RETAIN_FIXED.load(Ordering::Relaxed) {
        0 => PREWARMED.load(Ordering::Relaxed),
        _ => RETAIN_LEAST.load(Ordering::Relaxed),
    }
}

/// Purges about `bytes`, freed longest ago first. Returns how many went. What a knob or prewarming reserves stays. No lock may
/// be held.
pub(crate) fn reclaim(bytes: usize) -> usize {
    let asked_for = reserved();
    purge_while(&SPLIT_FROM, bytes, &|pool, _| {
        pool.whole().dirty_bytes > asked_for
    })
}

/// Purges what has been free for longer than the delay, as far as one call may. Returns how many bytes went. No lock may be held.
pub(crate) fn decay(now: u64) -> usize {
    let delay = delay();
    for node in numa::all() {
        lock(node).note_time(now);
    }
    let most = account::at_once(retention::UNMAPPED_AT_ONCE);
    // SAFETY: `purge_while` calls it for listed superslabs, under the pool's lock.
    let aged = |superslab: *mut Superslab| unsafe {
        (*superslab).dirty_since.saturating_add(delay) <= now
    };
    purge_while(&[SPLIT_AGED_FROM], most, &|_, superslab| aged(superslab))
}

/// Purges everything it can, including what was populated ahead of use. Returns the bytes given back. No lock may be held.
pub(crate) fn purge_all() -> usize {
    let before = counts().returned;
    for node in numa::all() {
        lock(node).give_up_populated();
    }
    purge_while(&[1], usize::MAX, &|_, _| true);
    (counts().returned - before) as usize
}

/// Whether to go on with this superslab, the next one.
type GoOn<'a> = &'a dyn Fn(&Held, *mut Superslab) -> bool;

/// Purges about `most` bytes of the dirty superslabs of all nodes, once for each number in `split_from`: oldest first, each once, for
/// as long as `go_on` returns true. One on a huge page is split only if at least that many of its slots are free; otherwise it keeps
/// its place in the queue. Returns how many bytes went. No lock may be held.
///
/// One copy serves all callers: each purge is a system call, beside which a call through a pointer is nothing.
fn purge_while(split_from: &[u32], most: usize, go_on: GoOn<'_>) -> usize {
    let pass = |gone, &split_from| purge_pass(split_from, most, go_on, gone);
    split_from.iter().fold(0, pass)
}

/// One pass, after `gone` bytes have gone. Returns how many have then.
fn purge_pass(split_from: u32, most: usize, go_on: GoOn<'_>, mut gone: usize) -> usize {
    let mut passes = [const { Pass::NONE }; numa::MOST];
    for node in numa::all().skip(1) {
        passes[node.index()] = Pass::begin(&lock(node));
    }
    let mut pool = lock(Node::FIRST);
    passes[Node::FIRST.index()] = Pass::begin(&pool);
    while let Some(node) = Pass::oldest(&passes) {
        if node != pool.node() {
            drop(pool);
            pool = lock(node);
        }
        let pass = &mut passes[node.index()];
        let Some(superslab) = pass.look(&pool) else {
            continue;
        };
        if gone >= most || !go_on(&pool, superslab) {
            break;
        }
        // SAFETY: listed, and the lock is held.
        unsafe {
            pass.step(&pool, superslab);
            let whole = (*superslab).is_whole();
            if !whole || (*superslab).free.count_ones() >= split_from {
                let bytes;
                (pool, bytes) = purge_one(pool, superslab, whole, most - gone);
                gone += bytes;
            }
        }
        pass.look(&pool);
    }
    gone
}

/// Purges about `most` bytes of a superslab, or all if it is one huge page (`whole`), and releases the lock for the system call.
/// Returns how many bytes went.
///
/// # Safety
/// The superslab is listed in the pool.
unsafe fn purge_one(
    mut pool: Held,
    superslab: *mut Superslab,
    whole: bool,
    most: usize,
) -> (Held, usize) {
    // SAFETY: it is listed, and the lock is held. From `take_out` on only this thread changes it, except for slots being
    // released.
    unsafe {
        let node = pool.node();
        let (base, free) = ((*superslab).base, (*superslab).free);
        let dirty = free & (*superslab).dirty;
        let some = last_of(superslab, dirty, most);
        let all = whole || some == dirty;
        if free == u32::MAX && all && pool.counts.purged >= pool.kept_mapped() {
            // Enough superslabs without memory are mapped, so this one goes at once.
            let bytes = units(superslab, u32::MAX) * UNIT;
            let (held, unmapped) = unmap(pool, superslab);
            if unmapped {
                return (held, bytes);
            }
            // The kernel refused. The superslab is listed and wholly free, as before: the lock was taken before it was listed.
            pool = held;
        }
        // All of a huge page is resident, whatever part was used.
        let bits = if whole { free } else { some };
        let may_leave = whole && pool.may_leave_huge();
        let (turn, since) = ((*superslab).dirty_turn, (*superslab).dirty_since);
        pool.take_out(superslab);
        drop(pool);
        let cleaned = if free == u32::MAX && all {
            purge_all_of(base)
        } else {
            purge_bits(base, bits)
        };
        let splits = whole && cleaned != 0 && cleaned != u32::MAX;
        let refused = splits && may_leave && huge::refuse(base, SUPERSLAB).is_ok();
        let mut pool = lock(node);
        let bytes = units(superslab, cleaned) * UNIT;
        pool.counts.returned += bytes as u64;
        (*superslab).dirty &= !cleaned;
        if cleaned != 0 {
            for (slot, touched) in (*superslab).touched.iter_mut().enumerate() {
                if cleaned & 1 << slot != 0 {
                    *touched = 0;
                } else if whole {
                    // The rest of a split huge page is resident, used or not.
                    *touched = (SLOT / UNIT) as u8;
                }
            }
            (*superslab).populated = false;
        }
        if splits {
            pool.split(superslab, refused);
        } else if cleaned == u32::MAX && (*superslab).huge {
            (*superslab).split = false;
        }
        recount(superslab);
        if all || cleaned != bits {
            pool.put_back(superslab);
        } else {
            pool.put_back_in_turn(superslab, turn, since);
        }
        (pool, bytes)
    }
}

/// The last of the slots in `bits` that hold `most` bytes, or all if they hold less: claims take the first.
unsafe fn last_of(superslab: *mut Superslab, bits: u32, most: usize) -> u32 {
    let (mut some, mut left) = (0, most);
    for slot in (0..SLOTS).rev().filter(|slot| bits >> slot & 1 != 0) {
        if left == 0 {
            break;
        }
        some |= 1 << slot;
        // SAFETY: the caller holds the pool's lock.
        left = left.saturating_sub(unsafe { units(superslab, 1 << slot) } * UNIT);
    }
    some
}

impl Pool {
    /// Marks free slots that were populated and never used as dirty, so that a purge finds them.
    fn give_up_populated(&mut self) {
        let Pool {
            by_free,
            dirty,
            counts,
            ..
        } = self;
        // SAFETY: the caller holds the lock around `self`. The list of a superslab depends on its free slots, which do not
        // change, and on whether it holds memory, which stays true.
        unsafe {
            by_free.for_each(|superslab, _| {
                let free = (*superslab).free;
                let bits = free & !(*superslab).dirty;
                if units(superslab, bits) == 0 {
                    return;
                }
                let was = Account::of(superslab);
                (*superslab).dirty |= bits;
                recount(superslab);
                counts.change(was, Account::of(superslab));
                if !(*superslab).in_dirty {
                    dirty.push_back(superslab);
                    (*superslab).in_dirty = true;
                }
            });
        }
    }
}

/// Drops the pages of a superslab. Returns the bits whose memory is known to be zero now.
///
/// # Safety
/// The superslab at `base` is out of the lists, and all of it is free.
unsafe fn purge_all_of(base: usize) -> u32 {
    // SAFETY: nobody uses it or can claim it.
    match unsafe { mapping::purge(base, SUPERSLAB) } {
        Ok(()) => u32::MAX,
        Err(_) => 0,
    }
}

/// Drops the pages of the slots in `bits`, run by run. Returns the bits whose memory is known to be zero now.
///
/// # Safety
/// The superslab at `base` is out of the lists, and `bits` are among its free slots.
unsafe fn purge_bits(base: usize, bits: u32) -> u32 {
    let mut left = bits;
    let mut cleaned = 0;
    while left != 0 {
        let slot = left.trailing_zeros() as usize;
        let slots = Slots::new((left >> slot).trailing_ones() as usize);
        let run = Superslab::bits(slot, slots);
        // SAFETY: these slots are free and the superslab is out of the lists, so nobody uses them or can claim them.
        if unsafe { mapping::purge(base + (slot << SLOT_SHIFT), slots.bytes()) }.is_ok() {
            cleaned |= run;
        }
        left &= !run;
    }
    cleaned
}

#[cfg(all(test, not(loom)))]
#[path = "purge_tests.rs"]
mod tests;
