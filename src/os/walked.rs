//! Walks that were made before, each with a number that the caller has for what it found. A walk from the same depth of the stack
//! whose return addresses are all still there is not made again. A word is compared in five instructions, where a step by tables
//! takes some fifty ([`Steps`]) and any other some 150.
//!
//! An object that is loaded where another one was may be given that one's walks, as it may be given its rules. So may a stack that
//! lies where another one did, and ends earlier: what was read then may be gone now.

use super::context::Registers;
use super::reads::{Words, read};
use super::steps::Steps;
use super::sys;
use crate::base::tuning::walks::{KEPT, ROWS, WAYS, WORDS};
use crate::base::units::row;
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
    /// An address not below any of its words, if all are above the start; else the greatest there is.
    highest: usize,
    number: u32,
    /// How many words there are.
    count: u8,
    /// Whether tables alone led to each.
    certain: bool,
    /// The return addresses of the calls.
    words: Words,
}

/// A walk that was made by any rule: where its calls return to, in order.
pub(super) struct Found<const N: usize> {
    /// Where the place of this crate has its return address, and its caller its own.
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) at: [usize; N],
    /// How many calls are to be compared.
    pub(super) count: usize,
    /// As of [`Kept`].
    pub(super) certain: bool,
}

/// Zeros are a table without entries.
struct Table {
    /// Which is kept next.
    next: usize,
    /// Which of the kept belong to a row, the one that was found last first; 0 for none.
    rows: [[u16; WAYS]; ROWS],
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

    /// That one has a walk now, in that row.
    #[inline]
    fn enter(&mut self, row: usize) {
        let which = self.next();
        let ways = &mut self.rows[row];
        ways.copy_within(..WAYS - 1, 1);
        ways[0] = which as u16;
        self.next += 1;
    }
}

/// Where a place of this crate has its own return address.
#[derive(Clone, Copy)]
struct Start {
    pc: usize,
    /// How far above the stack pointer.
    by: usize,
    /// The same of its caller's, if that is in libhakmem.so; else of its own.
    by_next: usize,
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
            starts: [const {
                Start {
                    pc: 0,
                    by: 0,
                    by_next: 0,
                }
            }; STARTS],
        }
    }

    /// The number of a walk from `start`, if it was made before. `place` says which one of this crate that is. Up to `end`, all to
    /// which tables lead can be read. Nothing else is.
    #[inline(always)]
    pub(super) fn find(&mut self, place: usize, start: Registers, end: usize) -> Option<u32> {
        let row = self.row(place, start, |at| at < end)?;
        self.find_if(start.sp, row, |kept| {
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
        let row = self.row(place, start, |at| known.contains(&at) || may_read(at))?;
        self.find_if(start.sp, row, |kept| {
            // In the order of the walk: each address follows from the words before.
            kept.words.all(usize::from(kept.count), |by, word| {
                let at = start.sp.wrapping_add_signed(by as i32 as isize);
                let can_be_read = kept.certain && known.contains(&at) || may_read(at);
                // SAFETY: as the caller says.
                can_be_read && unsafe { read(at) } == word
            })
        })
    }

    /// The row of a walk, if one from its place was kept: the table is mapped then. Walks from the same depth of the stack by the
    /// same code share one.
    #[inline(always)]
    fn row(
        &self,
        place: usize,
        start: Registers,
        mut may_read: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let Start { pc, by, by_next } = self.starts[place];
        let [back, next] = [by, by_next].map(|by| start.sp.wrapping_add(by));
        if pc != start.pc || !may_read(back) || !may_read(next) {
            return None;
        }
        // SAFETY: both can be read.
        let [back, next] = [back, next].map(|at| unsafe { read(at) });
        let mixed = start.sp ^ back.rotate_left(20) ^ next.rotate_left(40);
        Some(row(mixed, ROWS))
    }

    /// The table is mapped.
    #[inline(always)]
    fn find_if(&mut self, sp: usize, row: usize, mut is: impl FnMut(&Kept) -> bool) -> Option<u32> {
        // SAFETY: mapped and zeroed, and `self` is the only way to it.
        let table = unsafe { &mut *self.table };
        let ways = &mut table.rows[row];
        for way in 0..WAYS {
            let which = ways[way];
            let kept = &table.kept[usize::from(which) % KEPT];
            if kept.sp == sp && is(kept) {
                if way > 0 {
                    ways.copy_within(..way, 1);
                    ways[0] = which;
                }
                return Some(kept.number);
            }
        }
        None
    }

    /// Makes a walk to which tables alone lead, and keeps it with the number that `known` gives to its newest `told` calls, or
    /// else `enter` to all. `None` if it is not such a walk, or the first of its place. The stack can be read up to `end`.
    #[inline]
    pub(super) fn make<const N: usize>(
        &mut self,
        place: usize,
        start: Registers,
        end: usize,
        told: usize,
        known: impl Fn(&[usize; N]) -> u32,
        enter: impl Fn(&[usize; N]) -> u32,
    ) -> Option<u32> {
        let row = self.row(place, start, |at| at < end)?;
        // SAFETY: mapped and zeroed, and `self` is the only way to it.
        let table = unsafe { &mut *self.table };
        let kept = &mut table.kept[table.next()];
        kept.sp = 0;
        compiler_fence(Release);
        let mut calls = [0; N];
        let (steps, words) = (&mut table.steps, &mut kept.words);
        // SAFETY: the caller's promise, here and below.
        let count = unsafe { steps.walk(start, end, told, &mut calls, words) }?;
        let mut number = known(&calls);
        if number == 0 {
            if count == told && told < N {
                // SAFETY: as above.
                unsafe { steps.walk(start, end, N, &mut calls, words) }?;
            }
            number = enter(&calls);
        }
        if count == 0 {
            return Some(number);
        }
        kept.words.fill_group(count);
        (kept.number, kept.certain, kept.count) = (number, true, count as u8);
        kept.highest = start.sp + kept.words.last(count);
        compiler_fence(Release);
        kept.sp = start.sp;
        table.enter(row);
        Some(number)
    }

    /// Keeps a walk, with the number of what it found.
    pub(super) fn keep<const N: usize>(
        &mut self,
        place: usize,
        start: Registers,
        found: &Found<N>,
        number: u32,
    ) {
        let Some(places @ [_, ..]) = found.at.get(..found.count.min(WORDS)) else {
            return;
        };
        let by = |at: usize| i32::try_from(at.wrapping_sub(start.sp) as isize).ok();
        // A return address that is further away is none of this crate's: a frame pointer led there.
        let next = match places[0] == found.first {
            true => found.first,
            false => found.second,
        };
        let [start_by, by_next] = [found.first, next].map(|at| at.wrapping_sub(start.sp));
        let is_there = |&at: &usize| at != 0 && by(at).is_some();
        if start_by.max(by_next) >= FRAME || !places.iter().all(is_there) {
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
            by_next,
        };
        // The walk has read both.
        let Some(row) = self.row(place, start, |_| true) else {
            return;
        };
        // SAFETY: mapped and zeroed, and `self` is the only way to it.
        let table = unsafe { &mut *self.table };
        let kept = &mut table.kept[table.next()];
        kept.sp = 0;
        compiler_fence(Release);
        for (i, &at) in places.iter().enumerate() {
            // SAFETY: the walk has read them.
            let word = unsafe { read(at) };
            kept.words.note(i, by(at).unwrap_or(0) as usize, word);
        }
        kept.words.fill_group(places.len());
        let is_above = found.certain && places.iter().all(|&at| at >= start.sp);
        kept.number = number;
        (kept.certain, kept.count) = (found.certain, places.len() as u8);
        let highest = places.iter().max().filter(|_| is_above);
        kept.highest = highest.copied().unwrap_or(usize::MAX);
        compiler_fence(Release);
        kept.sp = start.sp;
        table.enter(row);
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;
    use crate::os::{mapping, readable};

    /// As where a stack ended further up that lay in the same place.
    #[test]
    fn what_is_gone_is_not_read() {
        let map = mapping::map_aligned(sys::page_size(), sys::page_size(), None).expect("maps");
        let mut found = Found {
            first: map.addr,
            second: 0,
            at: [map.addr],
            count: 1,
            certain: true,
        };
        // SAFETY: the test's own memory.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(map.addr).write(11) };
        let start = Registers {
            pc: 1,
            sp: map.addr - 8,
            fp: 3,
            link: 0,
        };
        let known = || map.addr..map.addr + 8;
        let mut walks = Walks::new();
        walks.keep(0, start, &found, 5);
        assert_eq!(walks.find(0, start, known().end), Some(5));
        assert_eq!(walks.find(0, start, map.addr), None);
        assert_eq!(walks.find_anywhere(0, start, 0..0, readable::is), Some(5));
        assert_eq!(walks.find_anywhere(0, start, known(), |_| false), Some(5));
        let from_elsewhere = Registers { pc: 2, ..start };
        assert_eq!(
            walks.find_anywhere(0, from_elsewhere, known(), |_| true),
            None
        );
        found.certain = false;
        let by_frame_pointers = Registers {
            pc: 40,
            sp: start.sp - 8,
            ..start
        };
        walks.keep(1, by_frame_pointers, &found, 6);
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
