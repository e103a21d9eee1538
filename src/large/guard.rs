//! What is checked of large blocks: in each call, the size that the program names and the word in front of the block, if it was
//! written; if every block is checked, more bytes in front of it and those behind it too. A call that names no large block in use
//! ends the process, with what is known of the address.

use super::closed;
use super::descriptor::{Descriptor, TAG, descriptor_of};
use crate::base::tuning::large::{BEHIND, FRONT, SEARCHED};
use crate::base::units::{SLOT, SUPERSLAB};
use crate::os::mapping::Mapping;
use crate::slab::directory::DIRECTORY;
use crate::slab::known::{self, CANARY, Known, State, Wrong};
use crate::slab::known_report;
use crate::slab::tell::Report;
use core::slice;
use core::sync::atomic::Ordering::Relaxed;

/// Least bytes behind a checked block.
pub(super) const LEAST: usize = WORD;

const WORD: usize = size_of::<u64>();
/// What the word in front of a block holds.
const MARK: u64 = u64::from_ne_bytes([CANARY; WORD]);

/// The word in front of a block.
#[inline(always)]
fn word_before(start: usize) -> *mut u64 {
    (start - WORD) as *mut u64
}

/// Writes the word in front of a block.
///
/// # Safety
/// The block is the caller's, and its mapping does not begin with it.
#[inline(always)]
pub(super) unsafe fn mark(start: usize) {
    // SAFETY: a block's start is a multiple of 16, and what lies before it in the mapping is not the program's.
    unsafe { word_before(start).write(MARK) };
}

/// The bytes beside a checked block that hold [`CANARY`], in front and behind: each by address and length.
fn beside(map: Mapping, start: usize, size: usize) -> [(usize, usize); 2] {
    let front = FRONT.min(start - map.addr);
    let end = start + size;
    [(start - front, front), (end, BEHIND.min(map.end() - end))]
}

/// Writes to the bytes beside a checked block. Returns where they end.
///
/// # Safety
/// The block is the caller's, and its size at least [`LEAST`] bytes less than the mapping has from its start on.
#[cold]
#[inline(never)]
pub(super) unsafe fn paint(map: Mapping, start: usize, size: usize) -> usize {
    let beside = beside(map, start, size);
    for (addr, len) in beside {
        // SAFETY: parts of the block's mapping that are not the program's.
        unsafe { (addr as *mut u8).write_bytes(CANARY, len) };
    }
    beside[1].0 + beside[1].1
}

impl Descriptor {
    /// Bytes from the block's start that the program may use.
    pub(super) fn usable(&self) -> usize {
        match self.checked {
            true => self.size.load(Relaxed),
            false => self.run.map.end() - self.start,
        }
    }

    /// The most bytes that the block can have without a change of its mapping.
    pub(super) fn room(&self) -> usize {
        let least = if self.checked { LEAST } else { 0 };
        self.run.map.end() - self.start - least
    }

    /// Ends the process if the program names a size for the block that is less than it asked for or more than it may use, or if
    /// bytes beside the block were written to.
    ///
    /// # Safety
    /// The block is in use, and the calling thread's to use.
    #[inline(always)]
    pub(super) unsafe fn check(&self, asked: &str, named: Option<usize>) {
        let size = self.size.load(Relaxed);
        // SAFETY: the word is the block's mapping's.
        let intact = !self.marked || unsafe { word_before(self.start).read() } == MARK;
        let right = named.is_none_or(|named| (size..=self.usable()).contains(&named));
        if !intact || !right || self.checked {
            // SAFETY: the caller's promise.
            unsafe { self.check_all(asked, named) };
        }
    }

    /// As [`Descriptor::check`], with all that is checked of the block.
    ///
    /// # Safety
    /// As there.
    #[cold]
    #[inline(never)]
    unsafe fn check_all(&self, asked: &str, named: Option<usize>) {
        let size = self.size.load(Relaxed);
        let beside = match self.checked {
            true => beside(self.run.map, self.start, size),
            false => {
                let front = if self.marked { WORD } else { 0 };
                [(self.start - front, front), (self.start, 0)]
            }
        };
        let wrong = named
            .filter(|named| !(size..=self.usable()).contains(named))
            .map(Wrong::Size)
            .or_else(|| {
                let [before, behind] = beside
                    // SAFETY: parts of the block's mapping, which nobody has a right to write to.
                    .map(|(addr, len)| unsafe { slice::from_raw_parts(addr as *const u8, len) });
                known::overwritten(before, behind).map(Wrong::Overwritten)
            });
        if let Some(wrong) = wrong {
            known_report::call(asked, self.start as *const u8, wrong, &self.known());
        }
    }
}

/// Ends the process if the address lies in a large block in use or in one that was freed and is closed: the call `asked` names no
/// block. Returns if nothing is known of it.
#[cold]
#[inline(never)]
pub(crate) fn unless_unknown(asked: &str, ptr: *const u8) {
    let addr = ptr as usize;
    let freed = closed::find(addr);
    let Some(known) = freed.or_else(|| around(addr)) else {
        return;
    };
    let wrong = match known.state {
        State::Freed if known.start == addr => Wrong::Freed,
        _ => Wrong::NoStart,
    };
    known_report::call(asked, ptr, wrong, &known)
}

/// The call `asked` names no large block in use.
#[cold]
#[inline(never)]
pub(super) fn not_in_use(asked: &str, ptr: *const u8) -> ! {
    unless_unknown(asked, ptr);
    Report::of(format_args!(
        "{asked} of {ptr:p}: not the start of a large block in use (freed twice?); stopping before memory is damaged"
    ))
    .end()
}

/// The large block in use that an address lies in.
fn around(addr: usize) -> Option<Known> {
    let first = addr & !(SUPERSLAB - 1);
    let mut starts = (0..SEARCHED).map_while(|back| first.checked_sub(back * SUPERSLAB));
    // The directory knows the first 2 MiB of a block alone.
    let at = starts.find(|&at| DIRECTORY.holds(at))?;
    let mut slots = (at..=addr.min(at | (SUPERSLAB - 1))).step_by(SLOT);
    let tagged = slots.find(|&slot| DIRECTORY.tag(slot) == TAG)?;
    // SAFETY: descriptors are never unmapped. If another thread frees the block meanwhile, the report may be wrong, after which
    // the process ends.
    let descriptor = unsafe { descriptor_of(tagged).as_ref() }?;
    let map = descriptor.run.map;
    (map.addr..map.end())
        .contains(&addr)
        .then(|| descriptor.known())
}
