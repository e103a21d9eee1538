//! Gives back pages of slabs in use, a few slabs at a time: which thread does it, when, and what a fork finds of it (`holes`).

use crate::base::size_class;
use crate::base::tuning::holes as tuning;
use crate::base::units::SLOT;
use crate::heap::data::heap::{Heap, IDLE, lock, shared};
use crate::heap::data::holes::{Going, TOGETHER, When};
use crate::heap::data::{registry, rest};
use crate::heap::home::drain;
use crate::heap::slabs::holes::{gather, show};
use crate::heap::slabs::slabs;
use crate::heap::upkeep::helper::HELPER;
use crate::os::{clock, mapping, sys, thread};
use crate::pool;
use crate::slab::holes::Pages;
use crate::slab::slab_holes::runs;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Heaps that one tick looks at.
const PER_TICK: usize = 64;

/// What a piece of a pass did.
#[derive(Clone, Copy)]
struct Piece {
    more: bool,
    bytes: usize,
}

impl Piece {
    const NOTHING: Piece = Piece {
        more: false,
        bytes: 0,
    };
}

/// Does a piece of a heap's pass.
///
/// # Safety
/// `heap` is a heap, and the caller holds no lock.
unsafe fn some(heap: *mut Heap, when: When) -> Piece {
    // SAFETY: heaps live for ever, and no lock is held.
    unsafe {
        let Some(guard) = (*heap).lock.try_lock() else {
            return Piece::NOTHING;
        };
        let part = shared(heap);
        let state = &raw mut (*part).holes;
        if (*state).count != 0 && (*state).generation != GENERATION.load(Relaxed) {
            restore(heap);
        }
        // While pages go, another thread works on the heap.
        let mine = (*state).count == 0 && (*state).begin(when);
        let more = mine && gather(heap, when);
        if mine {
            ((*state).by, (*state).generation) = (thread::me(), GENERATION.load(Relaxed));
        }
        let (going, count) = ((*state).going, (*state).count);
        show(part);
        drop(guard);
        drain::look_again(heap);
        if !mine {
            return Piece::NOTHING;
        }
        if count == 0 {
            return Piece { more, bytes: 0 };
        }
        let mut gone = [0; TOGETHER];
        for (gone, going) in gone.iter_mut().zip(&going[..count]) {
            *gone = purge(going);
        }
        let bytes = finish(heap, &gone);
        Piece { more, bytes }
    }
}

/// Gives pages of a slab back. Returns those that went.
///
/// # Safety
/// The slab is out of its heap's lists, and no lock is held.
unsafe fn purge(going: &Going) -> Pages {
    let mut gone = 0;
    // SAFETY: nothing is taken from the slab, so that its free blocks stay free, and it stays a slab. Nobody reads or writes
    // their memory.
    unsafe {
        if going.huge {
            pool::leave_huge_page(going.superslab);
        }
        for run in runs(going.base, going.chance.pages) {
            if mapping::purge(run.addr, run.len).is_ok() {
                gone |= run.pages;
            }
        }
    }
    gone
}

/// Puts the slabs whose pages were going, of which `gone` went, back into their lists. Returns the bytes.
unsafe fn finish(heap: *mut Heap, gone: &[Pages; TOGETHER]) -> usize {
    let mut bytes = 0;
    // SAFETY: as for the caller: heaps live for ever, and no lock is held.
    unsafe {
        let guard = lock(heap);
        let part = shared(heap);
        let count = core::mem::take(&mut (*part).holes.count);
        for (at, &gone) in gone.iter().enumerate().take(count) {
            let Going {
                slab,
                base,
                superslab,
                chance,
                ..
            } = (*part).holes.going[at];
            slabs::changing(part, slab, |slab| slab.lost(gone));
            let page = sys::page_size();
            let went = (gone & chance.used).count_ones() as usize * page;
            let slot = (base - (*superslab).base) / SLOT;
            let slots = size_class::slots((*slab).class as usize);
            pool::gave_back(superslab, slot, slots, went, (*slab).touched());
            bytes += went;
            slabs::stay(part, slab);
        }
        if (*heap).state.load(Relaxed) == IDLE && !rest::is_warm(heap) {
            // A thread that took a look meanwhile did not see them.
            slabs::note_idle_classes(heap);
        }
        let over = core::mem::take(&mut (*part).over_bound);
        drop(guard);
        drain::look_again(heap);
        if over {
            pool::trim();
        }
    }
    bytes
}

/// The heap whose turn it is. A hint, so Relaxed.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// Time has passed: goes on with the passes of a few heaps, for a bounded time. No lock may be held.
pub(crate) fn tick(now: u64) {
    let until = clock::now_ns() + tuning::TICK_NS;
    for heap in registry::in_turn(&TURN, PER_TICK) {
        // SAFETY: heaps live for ever; no lock is held.
        while unsafe { some(heap, When::Aged(now)).more } {
            if clock::now_ns() >= until {
                return;
            }
        }
    }
}

/// The same for all heaps, each pass to its end. For threads that nobody waits for. No lock may be held.
pub(crate) fn run(now: u64) {
    for heap in registry::all() {
        // SAFETY: heaps live for ever; no lock is held.
        while unsafe { some(heap, When::Aged(now)).more } {
            // A thread that waits for the lock gets it before this one takes it again.
            HELPER.breathe();
        }
    }
}

/// Gives back all pages of slabs in use that can go. Returns the bytes. No lock may be held.
pub(crate) fn purge_all() -> usize {
    let mut bytes = 0;
    for heap in registry::all() {
        // The first pass finishes one that was under way.
        for _ in 0..2 {
            loop {
                // SAFETY: heaps live for ever; no lock is held.
                let piece = unsafe { some(heap, When::Now) };
                bytes += piece.bytes;
                if !piece.more {
                    break;
                }
            }
        }
    }
    bytes
}

/// In the child of a fork: a thread that was giving pages back is gone. They count as resident, whether they are or not.
///
/// # Safety
/// Only the forking thread exists, and the locks have been reset.
pub(crate) unsafe fn after_fork(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let _guard = lock(heap);
        restore(heap);
    }
}

/// How many forks the process is the child of. It orders nothing: Relaxed.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// In the child of a fork, whether it looks at the heaps or not.
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Relaxed);
}

/// Lists the slabs whose pages were going when a fork left the thread behind that gave them back. If that is the calling thread,
/// it goes on with them itself: a signal handler of it forked in the middle.
///
/// # Safety
/// The caller holds `heap`'s lock.
unsafe fn restore(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        if (*part).holes.by == thread::me() {
            return;
        }
        let count = core::mem::take(&mut (*part).holes.count);
        for at in 0..count {
            slabs::stay(part, (*part).holes.going[at].slab);
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "../tests/pages_tests.rs"]
mod tests;
