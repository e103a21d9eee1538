//! Gives back pages of slabs in use, a few slabs at a time: which thread does it, when, and what a fork finds of it (`holes`).

use crate::base::size_class;
use crate::base::tuning::holes as tuning;
use crate::base::units::SLOT;
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::{HeapRef, HeldHeap};
use crate::heap::data::holes::{Going, When};
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

/// Does a piece of a heap's pass. No lock may be held.
fn some(heap: HeapRef, when: When) -> Piece {
    let Some(mut held) = heap.try_lock() else {
        return Piece::NOTHING;
    };
    if held.holes.count != 0 && held.holes.generation != GENERATION.load(Relaxed) {
        restore(&mut held);
    }
    // While pages go, another thread works on the heap.
    let mine = held.holes.count == 0 && held.holes.begin(when);
    // SAFETY: none of the heap's slabs is going.
    let more = mine && unsafe { gather(&mut held, when) };
    let state = &mut held.holes;
    if mine {
        (state.by, state.generation) = (thread::me(), GENERATION.load(Relaxed));
    }
    let (going, count) = (state.going, state.count);
    show(&mut held);
    let mut errands = drain::release(held);
    let mut bytes = 0;
    if mine && count > 0 {
        let mut gone = [0; tuning::TOGETHER];
        for (gone, going) in gone.iter_mut().zip(&going[..count]) {
            // SAFETY: the slab is out of its heap's lists until `finish`, and no lock is held.
            *gone = unsafe { purge(going) };
        }
        // SAFETY: only the thread that gathered slabs takes them on, and their pages went.
        bytes = unsafe { finish(heap, &gone, &mut errands) };
    }
    // Only now: what is going is in no list meanwhile.
    errands.run();
    Piece { more, bytes }
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
///
/// # Safety
/// The calling thread gathered the slabs, and nobody restored them since.
unsafe fn finish(heap: HeapRef, gone: &[Pages; tuning::TOGETHER], errands: &mut Errands) -> usize {
    let mut bytes = 0;
    let mut held = heap.lock();
    let count = core::mem::take(&mut held.holes.count);
    for (at, &gone) in gone.iter().enumerate().take(count) {
        let Going {
            slab,
            base,
            superslab,
            chance,
            ..
        } = held.holes.going[at];
        // SAFETY: the slab is the heap's, and was taken out of its list when its pages went.
        unsafe {
            slabs::changing(&mut held, slab, |slab| slab.lost(gone));
            let page = sys::page_size();
            let went = (gone & chance.used).count_ones() as usize * page;
            let slot = (base - (*superslab).base) / SLOT;
            let slots = size_class::slots((*slab).class.get());
            pool::gave_back(superslab, slot, slots, went, (*slab).touched());
            bytes += went;
            slabs::stay(&mut held, slab);
        }
    }
    if heap.attended().is_idle() && !rest::is_warm(heap) {
        // A thread that took a look meanwhile did not see them.
        slabs::note_idle_classes(&held);
    }
    errands.add(drain::release(held));
    bytes
}

/// The heap whose turn it is. A hint, so Relaxed.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// Time has passed: goes on with the passes of a few heaps, for a bounded time. No lock may be held.
pub(crate) fn tick(now: u64) {
    let until = clock::now_ns() + tuning::TICK_NS;
    for heap in registry::in_turn(&TURN, tuning::PER_TICK) {
        while some(heap, When::Aged(now)).more {
            if clock::now_ns() >= until {
                return;
            }
        }
    }
}

/// The same for all heaps, each pass to its end. For threads that nobody waits for. No lock may be held.
pub(crate) fn run(now: u64) {
    for heap in registry::all() {
        while some(heap, When::Aged(now)).more {
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
                let piece = some(heap, When::Now);
                bytes += piece.bytes;
                if !piece.more {
                    break;
                }
            }
        }
    }
    bytes
}

/// In the child of a fork: a thread that was giving pages back is gone. They count as resident, whether they are or not. Only the
/// forking thread exists, and the locks have been reset.
pub(crate) fn after_fork(heap: HeapRef) {
    let mut held = heap.lock();
    restore(&mut held);
    held.unlock().leave();
}

/// How many forks the process is the child of. It orders nothing: Relaxed.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// In the child of a fork, whether it looks at the heaps or not.
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Relaxed);
}

/// Lists the slabs whose pages were going when a fork left the thread behind that gave them back. If that is the calling thread,
/// it goes on with them itself: a signal handler of it forked in the middle.
fn restore(held: &mut HeldHeap) {
    if held.holes.by == thread::me() {
        return;
    }
    let count = core::mem::take(&mut held.holes.count);
    for at in 0..count {
        // SAFETY: a slab of the heap, taken out of its list when its pages went.
        unsafe { slabs::stay(held, held.holes.going[at].slab) };
    }
}

#[cfg(all(test, not(loom)))]
#[path = "../tests/pages_tests.rs"]
mod tests;
