//! Giving memory back to the kernel.

use super::pass::Pass;
use super::place::{Held, Whole, lock};
use super::unmap::unmap_excess;
use super::{Account, Pool, counts, recount, units};
use crate::base::account::{self, Kind};
use crate::base::demand::Price;
use crate::base::sync::atomic::Ordering as WordOrdering;
use crate::base::tuning::pool::{
    IN_USE_SHARE, RETAINED_LEAST, SPLIT_AGED_FROM, SPLIT_FROM, TRIM_BELOW,
};
use crate::base::tuning::retention;
use crate::base::units::{SLOT, SLOT_SHIFT, SLOTS, SUPERSLAB};
use crate::os::clock;
use crate::os::mapping::{self, Place};
use crate::os::numa::{self, Node};
use crate::slab::directory::DIRECTORY;
use crate::slab::superslab::{State, Superslab, UNIT};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Least bytes of free memory kept resident.
pub(super) static RETAIN_LEAST: AtomicUsize = AtomicUsize::new(RETAINED_LEAST);
/// Whether the bound is fixed (a knob) instead of growing with what is in use.
static RETAIN_FIXED: AtomicUsize = AtomicUsize::new(0);
/// No trim before this time: the last one found nothing to give back, and left more than the bound allows (locked pages, a
/// bound below what dense huge pages hold); looking through all superslabs at every release would find nothing again.
static BARREN_UNTIL: AtomicU64 = AtomicU64::new(0);
/// Bytes from which it is tried before that time all the same: what a barren trim left, and a little more.
static BARREN_BELOW: AtomicUsize = AtomicUsize::new(0);

/// Milliseconds that free memory waits, unneeded, before it goes back; what went earlier and was taken again within them
/// was given back too early.
static DELAY: AtomicUsize = AtomicUsize::new(1000);

/// Sets how much is retained, `None` for the adaptive bound, and for how many milliseconds.
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

/// Bytes made resident on request: so much may be retained, for what was asked for ahead of use is not given back as soon
/// as it has been used once.
static PREWARMED: AtomicUsize = AtomicUsize::new(0);

/// `bytes` more were made resident on request.
pub(super) fn retain_prewarmed(bytes: usize) {
    PREWARMED.fetch_add(bytes, Ordering::Relaxed);
}

/// Bytes of free memory that may stay resident now, in the process.
pub(super) fn bound(whole: &Whole) -> usize {
    let least = RETAIN_LEAST.load(Ordering::Relaxed);
    if RETAIN_FIXED.load(Ordering::Relaxed) != 0 {
        return least;
    }
    // What heaps' stacks hold is idle as well.
    let floor = retention::SMALL_UNSEEN.saturating_sub(account::of(Kind::Stacks));
    least
        .max(whole.claimed_slots * SLOT / IN_USE_SHARE)
        .max(account::seen(whole.allowance, floor))
        .max(PREWARMED.load(Ordering::Relaxed))
}

impl Pool {
    /// Bytes of free memory that the program's demand is worth retaining.
    pub(super) fn allowance(&self) -> usize {
        let price = match delay() {
            0 => Price::NEVER,
            _ => retention::WORTH,
        };
        self.demand.allow(0, price)
    }
}

/// Purges, oldest first, until what is retained is a quarter below the bound, or a few MiB. No lock may be held.
pub(crate) fn trim() {
    let now = clock::now_ms();
    if now < BARREN_UNTIL.load(Ordering::Relaxed)
        && lock(Node::FIRST).whole().dirty_bytes < BARREN_BELOW.load(Ordering::Relaxed)
    {
        return;
    }
    let over = |pool: &Held| {
        let whole = pool.whole();
        let bound = bound(&whole);
        whole.dirty_bytes > bound - (bound / 4).min(TRIM_BELOW)
    };
    let barren = Cell::new(true);
    for split_from in SPLIT_FROM {
        purge_while(
            split_from,
            |pool, _| over(pool),
            |bytes| {
                if bytes > 0 {
                    barren.set(false);
                }
            },
        );
    }
    let whole = lock(Node::FIRST).whole();
    let (left, bound) = (whole.dirty_bytes, bound(&whole));
    if barren.get() && left > bound {
        let more = (left / 8).max((bound / 4).min(TRIM_BELOW / 4));
        BARREN_BELOW.store(left + more, Ordering::Relaxed);
        BARREN_UNTIL.store(now + (delay() / 4).max(10), Ordering::Relaxed);
    }
}

/// Purges about `bytes`, what was freed longest ago first; answers how many. What a knob or prewarming says is to stay
/// stays. No lock may be held.
pub(crate) fn reclaim(bytes: usize) -> usize {
    let asked_for = match RETAIN_FIXED.load(Ordering::Relaxed) {
        0 => PREWARMED.load(Ordering::Relaxed),
        _ => RETAIN_LEAST.load(Ordering::Relaxed),
    };
    let got = Cell::new(0);
    for split_from in SPLIT_FROM {
        purge_while(
            split_from,
            |pool, _| got.get() < bytes && pool.whole().dirty_bytes > asked_for,
            |some| got.set(got.get() + some),
        );
    }
    got.get()
}

/// Purges what has been free for longer than the delay. No lock may be held.
pub(crate) fn decay(now: u64) {
    let delay = delay();
    // SAFETY: called under the pool's lock.
    let aged = |superslab: *mut Superslab| unsafe {
        (*superslab).dirty_since.saturating_add(delay) <= now
    };
    purge_while(SPLIT_AGED_FROM, |_, superslab| aged(superslab), |_| {});
}

/// Purges everything that can be, what was populated ahead of use included; answers the bytes given back. No lock may be
/// held.
pub(crate) fn purge_all() -> usize {
    let before = counts().returned;
    for node in numa::all() {
        lock(node).give_up_populated();
    }
    purge_while(1, |_, _| true, |_| {});
    (counts().returned - before) as usize
}

/// Purges dirty superslabs of all nodes, oldest first, for as long as `go_on` says so; each is looked at once. One of huge
/// pages is split only when at least `split_from` of its slots are free, and keeps its place in the queue otherwise.
/// `gone` is told what each purge gave back. No lock may be held.
fn purge_while(
    split_from: u32,
    go_on: impl Fn(&Held, *mut Superslab) -> bool,
    gone: impl Fn(usize),
) {
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
        if !go_on(&pool, superslab) {
            return;
        }
        // SAFETY: listed, and the lock is held.
        unsafe {
            pass.step(&pool, superslab);
            let whole = (*superslab).is_whole();
            if !whole || (*superslab).free.count_ones() >= split_from {
                pool = purge_one(pool, superslab, whole, &gone);
            }
        }
        pass.look(&pool);
    }
}

/// Purges what can be of a superslab; the lock is let go for the call. `whole`: it is one huge page.
///
/// # Safety
/// The superslab is listed in the pool.
unsafe fn purge_one(
    mut pool: Held,
    superslab: *mut Superslab,
    whole: bool,
    gone: impl Fn(usize),
) -> Held {
    // SAFETY: listed, and the lock is held; from `take_out` on it is ours alone but for slots being released.
    unsafe {
        let node = pool.node();
        let (base, free) = ((*superslab).base, (*superslab).free);
        // All of a huge page is resident, whatever was used of it.
        let bits = if whole {
            free
        } else {
            free & (*superslab).dirty
        };
        pool.take_out(superslab);
        drop(pool);
        let cleaned = purge_bits(base, free, bits);
        let mut pool = lock(node);
        let bytes = units(superslab, cleaned) * UNIT;
        pool.counts.returned += bytes as u64;
        gone(bytes);
        (*superslab).dirty &= !cleaned;
        if cleaned != 0 {
            for (slot, touched) in (*superslab).touched.iter_mut().enumerate() {
                if cleaned & 1 << slot != 0 {
                    *touched = 0;
                } else if whole {
                    // What is left of a huge page is resident, used or not.
                    *touched = (SLOT / UNIT) as u8;
                }
            }
            (*superslab).populated = false;
            (*superslab).split = cleaned != u32::MAX;
        }
        recount(superslab);
        pool.put_back(superslab);
        unmap_excess(pool, superslab)
    }
}

impl Pool {
    /// Free slots that were populated and never used count as dirty from now on, so that a purge finds them.
    fn give_up_populated(&mut self) {
        let Pool {
            by_free,
            dirty,
            counts,
            ..
        } = self;
        // SAFETY: the caller holds the lock around `self`. Which list a superslab stands in goes by its free slots, which
        // do not change, and by whether it holds memory, which stays true.
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

/// Drops the pages of the slots in `bits`, whole superslabs in one call, else run by run. Answers the bits whose
/// memory is known to be zero now.
unsafe fn purge_bits(base: usize, free: u32, bits: u32) -> u32 {
    if free == u32::MAX {
        // SAFETY: all of it is free, and out of the lists: nobody uses it.
        return if unsafe { mapping::purge(base, SUPERSLAB) }.is_ok() {
            u32::MAX
        } else {
            0
        };
    }
    let mut left = bits;
    let mut cleaned = 0;
    while left != 0 {
        let slot = left.trailing_zeros() as usize;
        let slots = (left >> slot).trailing_ones() as usize;
        let run = Superslab::bits(slot, slots);
        // SAFETY: these slots are free, and the superslab is out of the lists: nobody can claim them.
        if unsafe { mapping::purge(base + (slot << SLOT_SHIFT), slots * SLOT) }.is_ok() {
            cleaned |= run;
        }
        left &= !run;
    }
    cleaned
}

/// In the child of a fork, with the lock taken over: whoever had superslabs in flight is gone; what they hold is as
/// good as dirty (rule 13).
///
/// # Safety
/// Only the forking thread exists, and the pools' locks have been reset.
pub(crate) unsafe fn restore_in_flight() {
    for node in numa::all() {
        // SAFETY: the caller's promise.
        unsafe { restore_one(&mut lock(node)) };
    }
}

unsafe fn restore_one(pool: &mut Pool) {
    while let Some(superslab) = pool.in_flight.first() {
        // SAFETY: nobody else is left to use it. An unmap in flight may have happened already or not, and the
        // place may be another's by now: a superslab whose descriptor word is not its own is given up.
        unsafe {
            let base = (*superslab).base;
            let descriptor = DIRECTORY.descriptor(base).load(WordOrdering::Relaxed);
            if descriptor != superslab as usize {
                if descriptor == 0 && DIRECTORY.holds(base) {
                    DIRECTORY.leave(base);
                }
                pool.in_flight.remove(superslab);
                pool.counts.mapped -= 1;
                pool.counts.huge_requested -= if (*superslab).huge { SUPERSLAB } else { 0 };
                (*superslab).state = State::Unmapped;
            } else {
                (*superslab).dirty = u32::MAX;
                recount(superslab);
                pool.put_back(superslab);
            }
        }
    }
    const { assert!(SLOTS == 32, "a bit of a u32 for every slot") };
}
