//! Giving memory back to the kernel.

use super::{Account, POOL, Pool, resident};
use crate::base::sync::atomic::Ordering as WordOrdering;
use crate::base::units::{SLOT, SLOT_SHIFT, SLOTS, SUPERSLAB};
use crate::os::mapping::{self, Mapping};
use crate::slab::directory::DIRECTORY;
use crate::slab::superslab::{State, Superslab};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Least bytes of free memory kept resident; beyond it an eighth of what is in use.
static RETAIN_LEAST: AtomicUsize = AtomicUsize::new(4 << 20);
/// Whether the bound is fixed (a knob) instead of growing with what is in use.
static RETAIN_FIXED: AtomicUsize = AtomicUsize::new(0);
/// Wholly free, purged superslabs kept mapped: at least this many, or half of those in use.
const KEEP_MAPPED: usize = 16;
/// A superslab of huge pages is split by a partial purge only when this many of its slots are free.
const SPLIT_FROM: u32 = 24;

/// Sets how much is retained: `None` for the adaptive bound.
pub(crate) fn set_retain(mib: Option<u32>) {
    if let Some(mib) = mib {
        RETAIN_LEAST.store((mib as usize) << 20, Ordering::Relaxed);
        RETAIN_FIXED.store(1, Ordering::Relaxed);
    }
}

/// Bytes of free memory that may stay resident when `claimed` slots are in use.
pub(super) fn bound(claimed: usize) -> usize {
    let least = RETAIN_LEAST.load(Ordering::Relaxed);
    if RETAIN_FIXED.load(Ordering::Relaxed) != 0 {
        least
    } else {
        least.max(claimed * SLOT / 8)
    }
}

/// Purges, oldest first, until what is retained is within three quarters of the bound. No lock may be held.
pub(crate) fn trim() {
    purge_while(|pool, _| pool.counts.dirty_bytes > bound(pool.counts.claimed_slots) / 4 * 3);
}

/// Purges what has been free for longer than `delay` milliseconds. No lock may be held.
pub(crate) fn decay(now: u64, delay: u64) {
    // SAFETY: the closure runs under the pool's lock.
    purge_while(|_, superslab| unsafe { (*superslab).dirty_since.saturating_add(delay) <= now });
}

/// Purges everything that can be, what was populated ahead of use included; answers the bytes given back. No lock may be
/// held.
pub(crate) fn purge_all() -> usize {
    let before = {
        let mut pool = POOL.lock();
        pool.give_up_populated();
        pool.counts.returned
    };
    purge_while(|_, _| true);
    (POOL.lock().counts.returned - before) as usize
}

/// Purges the oldest superslab of the dirty queue for as long as `go_on` says so. Bounded by the queue's length at the
/// start, so that a call that fails (a locked page) is not repeated for ever.
fn purge_while(mut go_on: impl FnMut(&Pool, *mut Superslab) -> bool) {
    let mut pool = POOL.lock();
    let mut skips = pool.dirty.len();
    let mut most = skips * SLOTS;
    while let Some(superslab) = pool.dirty.first() {
        if most == 0 || !go_on(&pool, superslab) {
            return;
        }
        most -= 1;
        // SAFETY: listed, and the lock is held; from `take_out` on it is ours alone but for slots being released.
        unsafe {
            let (base, free) = ((*superslab).base, (*superslab).free);
            if (*superslab).huge && free.count_ones() < SPLIT_FROM {
                // Splitting a huge page in good use costs more than it gives: to the back of the queue.
                pool.dirty.remove(superslab);
                pool.dirty.push_back(superslab);
                if skips == 0 {
                    return;
                }
                skips -= 1;
                continue;
            }
            let bits = free & (*superslab).dirty;
            pool.take_out(superslab);
            drop(pool);
            let cleaned = purge_bits(base, free, bits);
            pool = POOL.lock();
            pool.counts.returned += resident(superslab, cleaned) as u64;
            (*superslab).dirty &= !cleaned;
            let mut left = cleaned;
            while left != 0 {
                (*superslab).touched[left.trailing_zeros() as usize] = 0;
                left &= left - 1;
            }
            if cleaned != 0 && free == u32::MAX {
                (*superslab).populated = false;
            }
            pool.put_back(superslab);
            if (*superslab).in_dirty {
                // Not all could be purged, or slots came in meanwhile: young again.
                (*superslab).dirty_since = crate::os::clock::now_ms();
            }
            pool = unmap_excess(pool, superslab);
        }
    }
}

impl Pool {
    /// Free slots that were populated and never used count as dirty from now on, so that a purge finds them. Slots of a
    /// huge page that no purge would split stay as they are.
    fn give_up_populated(&mut self) {
        let Pool {
            by_free,
            dirty,
            counts,
            ..
        } = self;
        // SAFETY: the caller holds the lock around `self`. Which list a superslab stands in goes by its free slots, which
        // do not change.
        unsafe {
            by_free.for_each(|superslab, free_slots| {
                let bits = (*superslab).free & !(*superslab).dirty;
                let split = free_slots < SPLIT_FROM as usize && (*superslab).huge;
                if split || resident(superslab, bits) == 0 {
                    return;
                }
                let was = Account::of(superslab);
                (*superslab).dirty |= bits;
                counts.dirty_bytes += Account::of(superslab).dirty_bytes - was.dirty_bytes;
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
            bits
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

type Guard = crate::os::lock::LockedGuard<'static, Pool>;

/// Unmaps every wholly free superslab, for want of address space. No lock may be held.
pub(crate) fn unmap_empty() {
    let mut pool = POOL.lock();
    while let Some(superslab) = pool.by_free.first_empty() {
        let before = pool.counts.mapped;
        // SAFETY: listed, under the lock.
        pool = unsafe { unmap(pool, superslab) };
        if pool.counts.mapped >= before {
            // Refused: the kernel's map count is at its limit, and the next would be refused too.
            return;
        }
    }
}

/// Unmaps the superslab if it is empty, purged and one too many.
unsafe fn unmap_excess(pool: Guard, superslab: *mut Superslab) -> Guard {
    // SAFETY: the pool's lock is held.
    unsafe {
        let is = Account::of(superslab);
        if is.purged == 0 || pool.counts.purged <= KEEP_MAPPED.max(pool.counts.in_use / 2) {
            return pool;
        }
        unmap(pool, superslab)
    }
}

/// Unmaps a superslab of which no slot is claimed; the lock is let go for the call.
pub(super) unsafe fn unmap(mut pool: Guard, superslab: *mut Superslab) -> Guard {
    // SAFETY: the pool's lock is held; `take_out` makes the superslab ours alone, as no slot of it is claimed.
    unsafe {
        pool.take_out(superslab);
        drop(pool);
        let base = (*superslab).base;
        DIRECTORY.descriptor(base).store(0, WordOrdering::Relaxed);
        let gone = mapping::unmap(Mapping {
            addr: base,
            len: SUPERSLAB,
        })
        .is_ok();
        let mut pool = POOL.lock();
        if gone {
            pool.in_flight.remove(superslab);
            pool.counts.mapped -= 1;
            pool.counts.returned += resident(superslab, u32::MAX) as u64;
            pool.counts.huge_requested -= if (*superslab).huge { SUPERSLAB } else { 0 };
            (*superslab).state = State::Unmapped;
            (*superslab).list.next = pool.spare;
            pool.spare = superslab;
        } else {
            // munmap can fail when the map count is at its limit: keep it, purged (rule 14).
            DIRECTORY
                .descriptor(base)
                .store(superslab as usize, WordOrdering::Relaxed);
            pool.put_back(superslab);
        }
        pool
    }
}

/// In the child of a fork, with the lock taken over: whoever had superslabs in flight is gone; what they hold is as
/// good as dirty (rule 13).
///
/// # Safety
/// Only the forking thread exists, and the pool's lock has been reset.
pub(crate) unsafe fn restore_in_flight() {
    let mut pool = POOL.lock();
    while let Some(superslab) = pool.in_flight.first() {
        // SAFETY: nobody else is left to use it. An unmap in flight may have happened already or not, and the
        // place may be another's by now: a superslab whose descriptor word is not its own is given up.
        unsafe {
            if DIRECTORY
                .descriptor((*superslab).base)
                .load(WordOrdering::Relaxed)
                != superslab as usize
            {
                pool.in_flight.remove(superslab);
                pool.counts.mapped -= 1;
                (*superslab).state = State::Unmapped;
            } else {
                (*superslab).dirty = u32::MAX;
                pool.put_back(superslab);
            }
        }
    }
    const { assert!(SLOTS == 32, "a bit of a u32 for every slot") };
}
