//! The OS pages of guarded blocks, and what is known of each block.

use super::handler;
use crate::base::account::{self, Kind};
use crate::base::size_class::{GUARDED, MIN_ALIGN};
use crate::base::tuning::guarded::SLOTS;
use crate::base::units::{SUPERSLAB, Slots};
use crate::knobs;
use crate::os::lock::{Lock, Locked, LockedGuard};
use crate::os::mapping;
use crate::os::memory;
use crate::os::message::message;
use crate::os::segv::Watch;
use crate::os::sys::{self, Errno, ErrnoGuard};
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::known::{self, CANARY, Call, Known as Slot, State, Wrong};
use crate::slab::known_report;
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU64, AtomicUsize};

struct All {
    /// No more blocks are guarded.
    over: bool,
    /// Blocks so far, and frees of them.
    made: u64,
    freed: u64,
    slots: [Slot; SLOTS],
}

static ALL: Locked<All> = Locked::new(All {
    over: false,
    made: 0,
    freed: 0,
    slots: [Slot::UNUSED; SLOTS],
});

/// Where the 2 MiB begin; 0 before they are there. Written under the lock, and they stay.
static BASE: AtomicUsize = AtomicUsize::new(0);
/// Which slots hold a live block, a bit each. A handler of signals reads it without the lock, which the thread that it interrupts
/// may hold, and so may one that is stopped.
static OPEN: AtomicU64 = AtomicU64::new(0);
const _: () = assert!(SLOTS <= 64, "a bit each");

/// How many slots there are: a page each, and one more page than slots between and around them.
fn count() -> usize {
    ((SUPERSLAB / sys::page_size() - 1) / 2).min(SLOTS)
}

/// Bytes of a page that a block takes up with its alignment. `None` if it does not fit.
fn room(size: usize, align: usize) -> Option<usize> {
    let room = size.max(1).checked_next_multiple_of(align.max(MIN_ALIGN))?;
    (room <= sys::page_size()).then_some(room)
}

/// Where the page of a slot begins. Relaxed, here and in [`slot_at`]: whoever holds the lock or asked [`holds`] sees it.
fn page(index: usize) -> usize {
    BASE.load(Relaxed) + (2 * index + 1) * sys::page_size()
}

/// The slot on whose page an address lies.
fn slot_at(addr: usize) -> Option<usize> {
    let page = addr.wrapping_sub(BASE.load(Relaxed)) / sys::page_size();
    (page % 2 == 1 && page / 2 < count()).then_some(page / 2)
}

/// Whether such a block may be guarded.
pub(super) fn fits(size: usize, align: usize) -> bool {
    room(size, align).is_some()
}

impl All {
    /// The slot of the live block that starts at an address.
    fn block_at(&self, addr: usize) -> Result<usize, Wrong> {
        let Some(index) = slot_at(addr) else {
            return Err(Wrong::NoBlock);
        };
        let slot = &self.slots[index];
        match slot.state {
            State::Unused => Err(Wrong::NoBlock),
            _ if slot.start != addr => Err(Wrong::NoStart),
            State::Freed => Err(Wrong::Freed),
            State::Live => Ok(index),
        }
    }

    /// The block that an address without access is nearest to.
    fn nearest(&self, addr: usize) -> Option<Slot> {
        let page = addr.wrapping_sub(BASE.load(Relaxed)) / sys::page_size();
        let near = if page % 2 == 1 {
            page / 2..page / 2 + 1
        } else {
            (page / 2).saturating_sub(1)..page / 2 + 1
        };
        let slots = self.slots.get(near.start..near.end.min(count()))?;
        let used = slots.iter().filter(|slot| slot.state != State::Unused);
        used.min_by_key(|slot| slot.distance(addr)).copied()
    }

    /// Makes the reservation, once.
    fn make_ready(&mut self) -> Result<(), Errno> {
        if BASE.load(Relaxed) != 0 {
            return Ok(());
        }
        let map = mapping::reserve_inaccessible(SUPERSLAB, SUPERSLAB, &DIRECTORY)?;
        DIRECTORY.set(map.addr, Slots::SUPERSLAB, Tag::new(0, GUARDED));
        // Release pairs with the Acquire in `holds`.
        BASE.store(map.addr, Release);
        Ok(())
    }

    /// The slot to use next: one that never was, else the one that was freed first.
    fn next(&self) -> Option<usize> {
        let slots = self.slots.iter().take(count()).enumerate();
        let free = slots.filter(|(_, slot)| slot.state != State::Live);
        free.min_by_key(|(_, slot)| slot.order).map(|(i, _)| i)
    }

    /// The parts of a slot's page that its block leaves.
    fn beside(&self, index: usize) -> [(usize, usize); 2] {
        let (page, slot) = (page(index), &self.slots[index]);
        let end = page + sys::page_size();
        [(page, slot.start - page), (slot.end(), end - slot.end())]
    }

    /// How far beyond the block the farthest byte lies that was overwritten beside it, negative in front of it.
    ///
    /// # Safety
    /// The slot's page is accessible.
    unsafe fn overwritten(&self, index: usize) -> Option<isize> {
        let [before, behind] = self.beside(index);
        // SAFETY: parts of the page, which no other thread may write to.
        let [before, behind] = [before, behind]
            .map(|(addr, len)| unsafe { core::slice::from_raw_parts(addr as *const u8, len) });
        known::overwritten(before, behind)
    }

    /// The slot of the live block that starts at an address, of `size` bytes if the program says so.
    fn block_of(&self, addr: usize, size: Option<usize>) -> Result<usize, Wrong> {
        let index = self.block_at(addr)?;
        match size.filter(|&size| size != self.slots[index].size) {
            Some(named) => Err(Wrong::Size(named)),
            None => Ok(index),
        }
    }

    /// Frees the block that starts at an address. Returns what the kernel said, with the block freed in any case, if the program
    /// made no mistake.
    fn free(
        &mut self,
        addr: usize,
        size: Option<usize>,
        call: Call,
    ) -> Result<Result<(), Errno>, Wrong> {
        let index = self.block_of(addr, size)?;
        let page_size = sys::page_size();
        // The program may have taken the access to its page away, or kept the page from a forked child.
        // SAFETY: the page is the block's, which the caller gives up.
        let opened = unsafe { mapping::make_writable(page(index), page_size) };
        if opened.is_ok() {
            // SAFETY: just opened.
            let overwritten = unsafe { self.overwritten(index) };
            if let Some(far) = overwritten {
                return Err(Wrong::Overwritten(far));
            }
        }
        self.freed += 1;
        // Before the page is closed: a fault from then on is a use after the free. Relaxed: written under the lock. A thread that
        // may use the block learnt of it through the allocation, and one that may not may see either.
        OPEN.fetch_and(!(1 << index), Relaxed);
        let slot = &mut self.slots[index];
        slot.state = State::Freed;
        slot.freed = call;
        slot.order = self.freed;
        account::change(Kind::Blocks, page_size, 0);
        // SAFETY: the caller gave up the only block of the page.
        let closed = unsafe { mapping::make_inaccessible(page(index), page_size) };
        Ok(opened.and(closed))
    }
}

/// No more blocks are guarded. The line is written once the lock is free: whoever reads it may be slow.
fn give_up(mut all: LockedGuard<'_, All>, what: &str, errno: Errno) {
    all.over = true;
    drop(all);
    if knobs::get().verbose {
        message!("guarded blocks: {what} was refused ({errno}); no more are made");
    }
}

/// A guarded block, if there is room for one. Faults in the memory of such blocks go to `watch`. `errno` is the caller's to keep.
#[inline(never)]
pub(super) fn alloc(size: usize, align: usize, watch: &'static Watch) -> Option<*mut u8> {
    let page_size = sys::page_size();
    let room = room(size, align)?;
    if memory::addresses_are_limited() {
        return None;
    }
    // Before the stack is walked. Relaxed: it is checked again under the lock.
    if OPEN.load(Relaxed).count_ones() as usize == count() {
        return None;
    }
    let call = Call::now();
    match handler::is_installed(watch) {
        Ok(true) => {}
        Ok(false) => return None,
        Err(errno) => {
            give_up(ALL.lock(), "a handler of faults", errno);
            return None;
        }
    }
    let mut all = ALL.lock();
    if all.over {
        return None;
    }
    if let Err(errno) = all.make_ready() {
        give_up(all, "memory", errno);
        return None;
    }
    let index = all.next()?;
    let page = page(index);
    // SAFETY: a page of the reservation that holds no live block.
    if let Err(errno) = unsafe { mapping::make_writable(page, page_size) } {
        give_up(all, "mprotect", errno);
        return None;
    }
    all.made += 1;
    let start = match all.made % 2 {
        1 => page + page_size - room,
        _ => page,
    };
    all.slots[index] = Slot {
        state: State::Live,
        start,
        size,
        made: call,
        ..Slot::UNUSED
    };
    for (addr, len) in all.beside(index) {
        // SAFETY: parts of the page, which is nobody's yet.
        unsafe { ptr::write_bytes(addr as *mut u8, CANARY, len) };
    }
    // Relaxed: see `free`.
    OPEN.fetch_or(1 << index, Relaxed);
    account::change(Kind::Blocks, 0, page_size);
    Some(start as *mut u8)
}

/// Frees a guarded block, of `size` bytes if the program says so. Ends the process if it is none, or was written beyond.
#[cold]
#[inline(never)]
pub(crate) fn free(ptr: *mut u8, size: Option<usize>) {
    let _errno = ErrnoGuard::new();
    let call = Call::now();
    let mut all = ALL.lock();
    match all.free(ptr as usize, size, call) {
        Ok(Ok(())) => {}
        Ok(Err(errno)) => give_up(all, "mprotect", errno),
        Err(wrong) => end(all, "free", ptr, wrong),
    }
}

/// Ends the process. The line is written once the lock is free: a handler of SIGABRT may allocate.
fn end(all: LockedGuard<'_, All>, asked: &str, ptr: *const u8, wrong: Wrong) -> ! {
    let slot = slot_at(ptr as usize).map_or(Slot::UNUSED, |index| all.slots[index]);
    drop(all);
    known_report::call(asked, ptr, wrong, &slot)
}

/// Bytes of the guarded block at `ptr`: what was asked for. Ends the process if it is none; `asked` is what the program called.
#[cold]
#[inline(never)]
pub(crate) fn size_of(ptr: *const u8, asked: &str) -> usize {
    let all = ALL.lock();
    match all.block_at(ptr as usize) {
        Ok(index) => all.slots[index].size,
        Err(wrong) => end(all, asked, ptr, wrong),
    }
}

/// The program says that the guarded block at `ptr` has `size` bytes. Ends the process if that is not so.
pub(crate) fn compare(ptr: *const u8, size: usize) {
    let all = ALL.lock();
    if let Err(wrong) = all.block_of(ptr as usize, Some(size)) {
        end(all, "realloc", ptr, wrong);
    }
}

/// Makes the guarded block at `ptr` smaller where it is. Returns false, with the block as it was, if `size` is more than it has.
pub(crate) fn shrink(ptr: *mut u8, size: usize) -> bool {
    let mut all = ALL.lock();
    let index = match all.block_at(ptr as usize) {
        Ok(index) => index,
        Err(wrong) => end(all, "realloc", ptr, wrong),
    };
    let slot = &mut all.slots[index];
    if size > slot.size {
        return false;
    }
    let gone = slot.size - size;
    slot.size = size;
    // SAFETY: bytes of the block that its owner gives up.
    unsafe { ptr::write_bytes((slot.start + size) as *mut u8, CANARY, gone) };
    true
}

/// Calls `visit` with the size of each live guarded block.
pub(crate) fn each_size(mut visit: impl FnMut(usize)) {
    let all = ALL.lock();
    let live = all.slots.iter().filter(|slot| slot.state == State::Live);
    live.for_each(|slot| visit(slot.size));
}

/// Bytes of address space reserved.
pub(crate) fn mapped() -> usize {
    // Relaxed: a number for statistics.
    if BASE.load(Relaxed) == 0 {
        0
    } else {
        SUPERSLAB
    }
}

/// For fork: the lock.
pub(crate) fn fork_lock() -> &'static Lock {
    ALL.raw()
}

/// Whether an address lies in the memory of guarded blocks. May be called anywhere.
pub(super) fn holds(addr: usize) -> bool {
    // Acquire pairs with the Release in `make_ready`.
    let base = BASE.load(Acquire);
    base != 0 && addr.wrapping_sub(base) < SUPERSLAB
}

/// Whether an address that [`holds`] lies on the page of a live block. May be called anywhere.
pub(super) fn is_open(addr: usize) -> bool {
    slot_at(addr).is_some_and(|index| OPEN.load(Relaxed) >> index & 1 != 0)
}

/// The block that an address without access is nearest to. `None` while another thread holds the lock.
pub(super) fn try_nearest(addr: usize) -> Option<Option<Slot>> {
    ALL.try_lock().map(|all| all.nearest(addr))
}

#[cfg(test)]
pub(super) mod seen {
    use super::*;

    pub(in super::super) fn live() -> usize {
        OPEN.load(Relaxed).count_ones() as usize
    }

    pub(in super::super) fn is_over() -> bool {
        ALL.lock().over
    }

    pub(in super::super) fn most() -> usize {
        count()
    }
}
