//! Walks that were made before, each with a number that the caller has for what it found. What a walk from the same registers finds
//! depends on the words of the stack that it reads: one whose words are all still there is not made again. A word is compared in
//! five instructions, where a step by tables takes some fifty ([`Steps`]) and any other some 150.
//!
//! An object that is loaded where another one was may be given that one's walks, as it may be given its rules. So may a stack that
//! lies where another one did, and ends earlier: what was read then may be gone now.

use super::context::Registers;
use super::reads::{Reads, Words, read};
use super::steps::Steps;
use super::sys;
use crate::base::tuning::walks::{KEPT, ROWS, WAYS};
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering::Release;
use core::sync::atomic::compiler_fence;

/// No place that walks begin at has a frame of so many bytes.
const FRAME: usize = 4096;
/// Places of this crate that walks begin at.
const STARTS: usize = 4;

#[derive(Clone, Copy)]
struct Kept {
    /// The stack pointer at the start. 0 if there is nothing here, or not all of it yet: a signal handler or a fork may come
    /// while it is written.
    sp: usize,
    /// The other registers at the start.
    pc: usize,
    link: usize,
    fp: usize,
    /// Whether the frame pointer at the start matters.
    needs_fp: bool,
    /// As of [`Reads`].
    certain: bool,
    /// How many words there are.
    count: u8,
    number: u32,
    /// An address not below any of theirs, if all are above the start; else the greatest there is.
    highest: usize,
    words: Words,
}

#[derive(Clone, Copy)]
struct Row {
    /// The way that was found last, from which the next search begins.
    last: u16,
    /// Which of the kept; 0 for none.
    ways: [u16; WAYS],
}

/// Zeros are a table without entries.
struct Table {
    /// Which is kept next, and which place of a row is written next.
    next: usize,
    rows: [Row; ROWS],
    kept: [Kept; KEPT],
    steps: Steps,
}

impl Table {
    /// Which of the kept is written next.
    #[inline]
    fn next(&self) -> usize {
        // The first is none.
        1 + self.next % (KEPT - 1)
    }

    /// That one has a walk now, from a depth of the stack by code that returns to `back`.
    #[inline]
    fn enter(&mut self, sp: usize, back: usize) {
        let which = self.next();
        let ways = &mut self.rows[row(sp, back)].ways;
        let free = ways.iter().position(|&way| way == 0);
        ways[free.unwrap_or(self.next % WAYS)] = which as u16;
        self.next += 1;
    }
}

/// Where a place of this crate has its own return address.
#[derive(Clone, Copy)]
struct Start {
    pc: usize,
    /// How far above the stack pointer.
    by: usize,
}

/// The table, once it is mapped: most programs need none.
pub(crate) struct Walks {
    table: *mut Table,
    starts: [Start; STARTS],
}

// SAFETY: the table is never unmapped, and the owner of this is the only one that reaches it.
unsafe impl Send for Walks {}

impl Walks {
    pub(crate) const fn new() -> Walks {
        Walks {
            table: ptr::null_mut(),
            starts: [const { Start { pc: 0, by: 0 } }; STARTS],
        }
    }

    /// The number of a walk from `start`, if it was made before. `place` says which one of this crate that is. Up to `end`, all to
    /// which tables lead can be read. Nothing else is.
    #[inline(always)]
    pub(super) fn find(&mut self, place: usize, start: Registers, end: usize) -> Option<u32> {
        let back = self.back(place, start)?;
        if back >= end {
            return None;
        }
        // SAFETY: the word lies in what can be read.
        self.find_if(start, unsafe { read(back) }, |kept| {
            // SAFETY: the words lie in what can be read.
            kept.highest < end && unsafe { kept.words.are_there(usize::from(kept.count), start.sp) }
        })
    }

    /// As [`Walks::find`]. Tables lead to all of `known`, and `may_read` says whether any other word can be read.
    pub(super) fn find_anywhere(
        &mut self,
        place: usize,
        start: Registers,
        known: Range<usize>,
        mut may_read: impl FnMut(usize) -> bool,
    ) -> Option<u32> {
        let back = self.back(place, start)?;
        if !known.contains(&back) && !may_read(back) {
            return None;
        }
        // SAFETY: as the caller says.
        self.find_if(start, unsafe { read(back) }, |kept| {
            // In the order of the walk: each address follows from the words before.
            kept.words.all(usize::from(kept.count), |by, word| {
                let at = start.sp.wrapping_add_signed(by as i32 as isize);
                let can_be_read = kept.certain && known.contains(&at) || may_read(at);
                // SAFETY: as the caller says.
                can_be_read && unsafe { read(at) } == word
            })
        })
    }

    /// Where the return address of the place lies, if a walk from there was kept: the table is mapped then.
    #[inline(always)]
    fn back(&self, place: usize, start: Registers) -> Option<usize> {
        let Start { pc, by } = self.starts[place];
        (pc == start.pc).then(|| start.sp.wrapping_add(by))
    }

    /// `back` is the return address, and the table is mapped.
    #[inline(always)]
    fn find_if(
        &mut self,
        start: Registers,
        back: usize,
        mut is: impl FnMut(&Kept) -> bool,
    ) -> Option<u32> {
        // SAFETY: mapped and zeroed, and `self` is the only way to it.
        let table = unsafe { &mut *self.table };
        let row = &mut table.rows[row(start.sp, back)];
        for _ in 0..WAYS {
            let kept = &table.kept[usize::from(row.ways[usize::from(row.last) % WAYS]) % KEPT];
            let is_same = (kept.sp, kept.pc) == (start.sp, start.pc)
                && (cfg!(target_arch = "x86_64") || kept.link == start.link)
                && (!kept.needs_fp || kept.fp == start.fp);
            if is_same && is(kept) {
                return Some(kept.number);
            }
            row.last = row.last.wrapping_add(1);
        }
        None
    }

    /// Makes a walk to which tables alone lead, and keeps it with the number that `enter` gives to its calls. `None` if it is not
    /// such a walk, or the first of its place. The stack can be read up to `end`.
    #[inline]
    pub(super) fn make<const N: usize>(
        &mut self,
        place: usize,
        start: Registers,
        end: usize,
        enter: impl Fn(&[usize; N]) -> u32,
    ) -> Option<u32> {
        let back = self.back(place, start).filter(|&back| back < end)?;
        // SAFETY: mapped and zeroed, and `self` is the only way to it. The word lies in what can be read.
        let (table, back) = unsafe { (&mut *self.table, read(back)) };
        let kept = &mut table.kept[table.next()];
        kept.sp = 0;
        compiler_fence(Release);
        let mut calls = [0; N];
        // SAFETY: the caller's promise.
        let walked = unsafe { table.steps.walk(start, end, &mut calls, &mut kept.words) }?;
        kept.words.fill_group(walked.count);
        (kept.pc, kept.link) = (start.pc, start.link);
        (kept.needs_fp, kept.fp) = (walked.needs_fp, start.fp);
        (kept.certain, kept.count) = (true, walked.count as u8);
        kept.highest = walked.end - 1;
        let number = enter(&calls);
        kept.number = number;
        compiler_fence(Release);
        kept.sp = start.sp;
        table.enter(start.sp, back);
        Some(number)
    }

    /// Keeps a walk, with the number of what it found.
    pub(super) fn keep(&mut self, place: usize, start: Registers, reads: &Reads, number: u32) {
        let Some(words @ &[[first, back], ..]) = reads.words.get(..reads.count) else {
            return;
        };
        let by = |at: usize| i32::try_from(at.wrapping_sub(start.sp) as isize).ok();
        // A return address that is further away is none of this crate's: a frame pointer led there.
        let start_by = first.wrapping_sub(start.sp);
        if start_by >= FRAME || words.iter().any(|&[at, _]| by(at).is_none()) {
            return;
        }
        if self.table.is_null() {
            let _errno = sys::ErrnoGuard::new();
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping, at an address of the kernel's choice.
            let Ok(at) = (unsafe { sys::mmap(0, size_of::<Table>(), rights, 0) }) else {
                return;
            };
            self.table = ptr::with_exposed_provenance_mut(at);
        }
        self.starts[place] = Start {
            pc: start.pc,
            by: start_by,
        };
        // SAFETY: mapped and zeroed, and `self` is the only way to it.
        let table = unsafe { &mut *self.table };
        let kept = &mut table.kept[table.next()];
        kept.sp = 0;
        compiler_fence(Release);
        for (i, &[at, word]) in words.iter().enumerate() {
            kept.words.note(i, by(at).unwrap_or(0) as usize, word);
        }
        kept.words.fill_group(words.len());
        let places = || words.iter().map(|word| word[0]);
        let is_above = reads.certain && places().all(|at| at >= start.sp);
        (kept.pc, kept.link) = (start.pc, start.link);
        (kept.needs_fp, kept.fp) = (reads.first.is_some(), reads.first.unwrap_or(0));
        (kept.certain, kept.count, kept.number) = (reads.certain, words.len() as u8, number);
        kept.highest = places().max().filter(|_| is_above).unwrap_or(usize::MAX);
        compiler_fence(Release);
        kept.sp = start.sp;
        table.enter(start.sp, back);
    }
}

/// The row for walks from a depth of the stack by code that returns to `back`.
#[inline(always)]
fn row(sp: usize, back: usize) -> usize {
    let mixed = (sp ^ back.rotate_left(20)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 48) % ROWS
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;
    use crate::os::{mapping, readable};

    /// As where a stack ended further up that lay in the same place.
    #[test]
    fn what_is_gone_is_not_read() {
        let map = mapping::map_aligned(sys::page_size(), sys::page_size(), None).expect("maps");
        let mut reads = Reads::new();
        // SAFETY: the test's own memory.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(map.addr).write(11) };
        reads.note(map.addr, 11);
        let start = Registers {
            pc: 1,
            sp: map.addr - 8,
            fp: 3,
            link: 0,
        };
        let known = || map.addr..map.addr + 8;
        let mut walks = Walks::new();
        walks.keep(0, start, &reads, 5);
        assert_eq!(walks.find(0, start, known().end), Some(5));
        assert_eq!(walks.find(0, start, map.addr), None);
        assert_eq!(walks.find_anywhere(0, start, 0..0, readable::is), Some(5));
        assert_eq!(walks.find_anywhere(0, start, known(), |_| false), Some(5));
        let from_elsewhere = Registers { pc: 2, ..start };
        assert_eq!(
            walks.find_anywhere(0, from_elsewhere, known(), |_| true),
            None
        );
        reads.certain = false;
        let by_frame_pointers = Registers { pc: 40, ..start };
        walks.keep(1, by_frame_pointers, &reads, 6);
        let mut find =
            |may_read: bool| walks.find_anywhere(1, by_frame_pointers, known(), |_| may_read);
        assert_eq!(find(false), None);
        assert_eq!(find(true), Some(6));
        assert_eq!(walks.find(1, by_frame_pointers, known().end), None);
        // SAFETY: as above.
        unsafe { sys::munmap(map.addr, map.len).expect("unmapped") };
        assert_eq!(walks.find(0, start, map.addr), None);
        assert_eq!(walks.find_anywhere(0, start, 0..0, readable::is), None);
    }
}
