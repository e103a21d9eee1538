//! The process's pool of empty magazines, from which heaps take theirs and to which they return those they do not
//! need.
//!
//! Magazines are mapped 64 at a time and never unmapped; the memory of free ones is given back. Both wait for
//! [`MagazinePool::catch_up`], when no lock is held: a heap that finds the pool empty does without.

use super::magazine::{Magazine, SIZE};
use super::meta;
use crate::base::tuning::magazines::TRY_AGAIN;
use crate::os::lock::{Lock, Locked};
use crate::os::mapping;
use crate::os::sys;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Magazines that are mapped together.
const TOGETHER: usize = u64::BITS as usize;

/// [`TOGETHER`] magazines, one bit each: which are free, and which of those may hold memory.
struct Rack {
    first: *mut Magazine,
    free: u64,
    dirty: u64,
    next: *mut Rack,
}

struct Racks {
    newest: *mut Rack,
    /// Racks without magazines, for which memory was refused.
    bare: *mut Rack,
    /// Magazines that were asked for and not there since the last try to map some.
    missed: u32,
    /// How many must be missed for another try to map some.
    try_from: u32,
}

// SAFETY: racks are reached under the pool's lock alone, from whatever thread.
unsafe impl Send for Racks {}

impl Racks {
    fn all(&self) -> impl Iterator<Item = *mut Rack> + use<> {
        let mut at = self.newest;
        core::iter::from_fn(move || {
            let rack = at;
            // SAFETY: racks live for ever; a rack's link never changes once it is in the list.
            at = unsafe { rack.as_ref()?.next };
            Some(rack)
        })
    }

    fn take_bare(&mut self) -> Option<*mut Rack> {
        let rack = self.bare;
        // SAFETY: racks live for ever, and are reached under the lock.
        self.bare = unsafe { rack.as_ref()?.next };
        Some(rack)
    }

    /// Claims a free magazine; one that may still hold memory, if there is any.
    fn claim(&mut self) -> Option<*mut Magazine> {
        for resident in [true, false] {
            for rack in self.all() {
                // SAFETY: racks live for ever, and are reached under the lock.
                unsafe {
                    let some = (*rack).free & if resident { (*rack).dirty } else { u64::MAX };
                    if some == 0 {
                        continue;
                    }
                    let index = some.trailing_zeros();
                    (*rack).free &= !(1 << index);
                    (*rack).dirty |= 1 << index;
                    return Some((*rack).first.add(index as usize));
                }
            }
        }
        self.missed = self.missed.saturating_add(1);
        None
    }
}

/// Where heaps get their magazines.
pub(crate) struct MagazinePool {
    racks: Locked<Racks>,
    /// Whether [`MagazinePool::catch_up`] has something to do. A hint: a thread that misses it leaves it to the next, so Relaxed.
    to_do: AtomicBool,
}

/// The pool of all heaps.
pub(crate) static MAGAZINES: MagazinePool = MagazinePool::new();

impl MagazinePool {
    const fn new() -> MagazinePool {
        MagazinePool {
            racks: Locked::new(Racks {
                newest: ptr::null_mut(),
                bare: ptr::null_mut(),
                missed: 0,
                try_from: 1,
            }),
            to_do: AtomicBool::new(false),
        }
    }

    /// An empty magazine. If there is none at hand, `None`, and [`MagazinePool::catch_up`] maps some.
    pub(crate) fn take(&self) -> Option<*mut Magazine> {
        let found = self.racks.lock().claim();
        if let Some(magazine) = found {
            // After releasing the lock, which all heaps share: this may fault the page in.
            // SAFETY: nobody else's since the claim.
            unsafe { Magazine::empty(magazine) };
        } else {
            self.to_do.store(true, Relaxed);
        }
        found
    }

    /// Takes a list of magazines back. [`MagazinePool::catch_up`] purges their memory.
    ///
    /// # Safety
    /// They came from [`MagazinePool::take`], and are the caller's.
    pub(crate) unsafe fn give(&self, list: *mut Magazine) {
        if list.is_null() {
            return;
        }
        let racks = self.racks.lock();
        let mut at = list;
        while !at.is_null() {
            // SAFETY: the caller's, each in one of the racks, which are reached under the lock.
            unsafe {
                let below = (*at).below;
                for rack in racks.all() {
                    let offset = (at as usize).wrapping_sub((*rack).first as usize);
                    if offset < TOGETHER * SIZE {
                        debug_assert!((*rack).free >> (offset / SIZE) & 1 == 0, "given twice");
                        (*rack).free |= 1 << (offset / SIZE);
                        break;
                    }
                }
                at = below;
            }
        }
        drop(racks);
        self.to_do.store(true, Relaxed);
    }

    /// Maps magazines that were missed, and gives back the memory of free ones. Returns the bytes. No lock may be held.
    #[inline]
    pub(crate) fn catch_up(&self) -> usize {
        if self.to_do.load(Relaxed) && self.to_do.swap(false, Relaxed) {
            self.catch_up_slow()
        } else {
            0
        }
    }

    #[cold]
    fn catch_up_slow(&self) -> usize {
        let _errno = sys::ErrnoGuard::new();
        let racks = self.racks.lock();
        let wanted = racks.missed >= racks.try_from;
        let all = racks.all();
        drop(racks);
        let mut purged = 0;
        for rack in all {
            // SAFETY: one of this pool's.
            purged += unsafe { self.purge(rack) };
        }
        if wanted {
            self.grow();
        }
        purged
    }

    /// Maps magazines, or notes that they were refused.
    fn grow(&self) {
        let bare = self.racks.lock().take_bare();
        let rack = bare.or_else(|| Some(meta::allocate::<Rack>()?.as_ptr()));
        let first = rack.and_then(|_| meta::allocate::<[Magazine; TOGETHER]>());
        let mut racks = self.racks.lock();
        racks.missed = 0;
        racks.try_from = if first.is_some() { 1 } else { TRY_AGAIN };
        let Some(rack) = rack else { return };
        // SAFETY: metadata of ours that nobody else knows of.
        unsafe {
            if let Some(first) = first {
                rack.write(Rack {
                    first: first.as_ptr().cast(),
                    free: u64::MAX,
                    dirty: 0,
                    next: racks.newest,
                });
                racks.newest = rack;
            } else {
                // Metadata is never given back: the rack waits for the next try.
                (*rack).next = racks.bare;
                racks.bare = rack;
            }
        }
    }

    /// Purges a rack's free magazines, run by run. Returns the bytes. Those being purged are not free meanwhile: the child of a
    /// fork at that moment loses that much address space.
    ///
    /// # Safety
    /// `rack` is one of this pool's.
    unsafe fn purge(&self, rack: *mut Rack) -> usize {
        let mut purged = 0;
        let mut from = 0;
        while from < TOGETHER {
            // SAFETY: racks are reached under the lock; the purged magazines are free, and out of the rack meanwhile.
            unsafe {
                let racks = self.racks.lock();
                let Some(run) = (*rack).run(from) else { break };
                let mask = (u64::MAX >> (TOGETHER - run.len)) << run.at;
                (*rack).free &= !mask;
                drop(racks);
                let bytes = run.len * SIZE;
                let done = mapping::purge((*rack).first.add(run.at) as usize, bytes);
                let _racks = self.racks.lock();
                (*rack).free |= mask;
                // Locked memory stays as it is, and may go another time.
                if done.is_ok() {
                    (*rack).dirty &= !mask;
                    purged += bytes;
                }
                from = run.at + run.len;
            }
        }
        purged
    }

    /// For fork: the pool's lock, a leaf.
    pub(crate) fn fork_lock(&self) -> &Lock {
        self.racks.raw()
    }
}

/// Neighbouring magazines of a rack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    at: usize,
    len: usize,
}

impl Rack {
    /// The first run, from `from` on, of whole OS pages that are free and not all clean.
    fn run(&self, from: usize) -> Option<Run> {
        let page = sys::page_size();
        run_of_pages(self.free, self.dirty, self.first as usize, from, page)
    }
}

fn run_of_pages(free: u64, dirty: u64, first: usize, from: usize, page: usize) -> Option<Run> {
    let group = page / SIZE;
    // If OS pages are larger than a magazine, a rack need not begin with one.
    let start = (first.next_multiple_of(page) - first) / SIZE;
    let can_go = |at: usize| {
        if at < from || group > TOGETHER || at + group > TOGETHER {
            return false;
        }
        let mask = (u64::MAX >> (TOGETHER - group)) << at;
        free & mask == mask && dirty & mask != 0
    };
    let mut pages = (start..TOGETHER).step_by(group);
    let at = pages.find(|&at| can_go(at))?;
    let more = pages.take_while(|&at| can_go(at)).count();
    Some(Run {
        at,
        len: (1 + more) * group,
    })
}

#[cfg(test)]
#[path = "magazine_pool_tests.rs"]
mod tests;
