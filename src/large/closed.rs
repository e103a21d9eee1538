//! Freed large blocks that were checked: their memory goes back, and their addresses stay for a while without access, so that each
//! use of one faults. The handler of faults reads the addresses without a lock.

use super::descriptor::{Descriptor, drop_descriptor};
use crate::base::tuning::large::CLOSED;
use crate::os::lock::{Lock, Locked};
use crate::os::mapping;
use crate::slab::known::{Known, State};
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicUsize, fence};

/// Where the closed memory of a place begins, and how long it is: 0 for none. Written under the lock.
struct Range {
    addr: AtomicUsize,
    len: AtomicUsize,
}

static RANGES: [Range; CLOSED] = [const {
    Range {
        addr: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
    }
}; CLOSED];

impl Range {
    fn set(&self, addr: usize, len: usize) {
        self.len.store(0, Relaxed);
        // Release pairs with the fence in `holds`: who sees this address sees the length gone.
        self.addr.store(addr, Release);
        // Release pairs with the Acquire there: the length comes with its address, or with a later one.
        self.len.store(len, Release);
    }

    fn holds(&self, addr: usize) -> bool {
        let len = self.len.load(Acquire);
        let within = addr.wrapping_sub(self.addr.load(Relaxed)) < len;
        // If the length is still that, the address was its own.
        fence(Acquire);
        within && self.len.load(Relaxed) == len
    }
}

/// The blocks of the places, and which place is next.
struct Closed {
    blocks: [*mut Descriptor; CLOSED],
    next: usize,
}

// SAFETY: descriptors are never unmapped, and those here belong to the holder of the lock.
unsafe impl Send for Closed {}

static BLOCKS: Locked<Closed> = Locked::new(Closed {
    blocks: [ptr::null_mut(); CLOSED],
    next: 0,
});

impl Closed {
    /// Empties a place and returns the block that was there.
    fn take(&mut self, place: usize) -> *mut Descriptor {
        RANGES[place].set(0, 0);
        core::mem::replace(&mut self.blocks[place], ptr::null_mut())
    }

    fn find(&self, addr: usize) -> Option<Known> {
        let place = place_of(addr)?;
        // SAFETY: a block of the lock's holder.
        let descriptor = unsafe { self.blocks.get(place)?.as_ref() }?;
        Some(Known {
            state: State::Freed,
            ..descriptor.known()
        })
    }
}

/// Takes the access to a freed block's memory away, which has gone back to the kernel, and keeps the descriptor. Returns false if
/// the kernel refuses, perhaps after part of it.
///
/// # Safety
/// The caller is the only user of the descriptor, and no pointer into the memory is left that may be used.
pub(super) unsafe fn close(descriptor: *mut Descriptor) -> bool {
    // SAFETY: the caller's promise.
    let map = unsafe { (*descriptor).run.map };
    let mut closed = BLOCKS.lock();
    let place = closed.next;
    let before = closed.take(place);
    // First: a fault may come as soon as the access is gone. Under the lock, so that nobody unmaps the memory meanwhile.
    RANGES[place].set(map.addr, map.len);
    // SAFETY: the caller's promise.
    let done = unsafe { mapping::make_inaccessible(map.addr, map.len) }.is_ok();
    if done {
        closed.blocks[place] = descriptor;
        closed.next = (place + 1) % CLOSED;
    } else {
        RANGES[place].set(0, 0);
    }
    drop(closed);
    let_go(before);
    done
}

/// Unmaps what a closed block had.
#[cold]
#[inline(never)]
fn let_go(descriptor: *mut Descriptor) {
    if !descriptor.is_null() {
        // SAFETY: taken from its place by the caller, who alone has it.
        unsafe {
            mapping::abandon((*descriptor).run.map);
            drop_descriptor(descriptor);
        }
    }
}

/// Unmaps all of them. No lock may be held.
pub(super) fn let_all_go() {
    loop {
        let mut closed = BLOCKS.lock();
        let Some(place) = closed.blocks.iter().position(|block| !block.is_null()) else {
            return;
        };
        let block = closed.take(place);
        drop(closed);
        let_go(block);
    }
}

/// The freed block in whose memory an address lies.
pub(super) fn find(addr: usize) -> Option<Known> {
    BLOCKS.lock().find(addr)
}

/// As [`find`], in a handler of signals. `None` while another thread holds the lock.
pub(crate) fn try_closed(addr: usize) -> Option<Option<Known>> {
    BLOCKS.try_lock().map(|closed| closed.find(addr))
}

/// Whether an address lies in the memory of a freed block. May be called anywhere.
pub(crate) fn is_closed(addr: usize) -> bool {
    place_of(addr).is_some()
}

#[inline(never)]
fn place_of(addr: usize) -> Option<usize> {
    RANGES.iter().position(|range| range.holds(addr))
}

/// For a fork: the lock.
pub(crate) fn closed_lock() -> &'static Lock {
    BLOCKS.raw()
}
