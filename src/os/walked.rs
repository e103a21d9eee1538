//! Walks that were made before, each with a number that the caller has for what it found. What a walk from the same registers finds
//! depends on the words of the stack that it reads: one whose words are all still there is not made again. A word is compared in
//! a few instructions, where a step takes some seventy.
//!
//! An object that is loaded where another one was may be given that one's walks, as it may be given its rules. So may a stack that
//! lies where another one did, and ends earlier: what was read then may be gone now.

use super::context::Registers;
use super::sys;
use crate::base::units::row;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicUsize, fence};
use spin::Mutex;

/// Most words that a kept walk reads.
const WORDS: usize = 40;
/// A program has some hundred calls that lead to an allocation. Walks from the same depth of the stack share a row.
const ROWS: usize = 64;
const WAYS: usize = 4;

/// The words that a walk's outcome depends on.
pub(super) struct Reads {
    /// Addresses and what was read there. Each address follows from what comes before it.
    words: [[usize; 2]; WORDS],
    /// How many there are. If they are more than fit, the walk is not kept.
    count: usize,
    /// The frame pointer at the start, if it matters.
    first: Option<usize>,
    fp: FramePointer,
    /// Whether tables led to each of the words. Frame pointers may lead anywhere.
    pub(super) certain: bool,
}

/// Where the frame pointer of a step comes from. Most code keeps anything in that register, which matters if a step goes by it.
enum FramePointer {
    Start,
    Word([usize; 2]),
    /// It is among the words, or a rule says what it is.
    Settled,
}

impl Reads {
    pub(super) fn new() -> Reads {
        Reads {
            words: [[0; 2]; WORDS],
            count: 0,
            first: None,
            fp: FramePointer::Start,
            certain: true,
        }
    }

    /// A step depends on this word.
    pub(super) fn note(&mut self, at: usize, word: usize) {
        if let Some(place) = self.words.get_mut(self.count) {
            *place = [at, word];
        }
        self.count += 1;
    }

    /// The next step's frame pointer is this word, if there is one.
    pub(super) fn set_frame_pointer(&mut self, word: Option<[usize; 2]>) {
        self.fp = word.map_or(FramePointer::Settled, FramePointer::Word);
    }

    /// A step goes by the frame pointer, which is `value`.
    pub(super) fn use_frame_pointer(&mut self, value: usize) {
        match core::mem::replace(&mut self.fp, FramePointer::Settled) {
            FramePointer::Start => self.first = Some(value),
            FramePointer::Word([at, word]) => self.note(at, word),
            FramePointer::Settled => {}
        }
    }

    /// The outcome depends on more than words.
    pub(super) fn give_up(&mut self) {
        self.count = WORDS + 1;
    }
}

struct Kept {
    /// The stack pointer at the start. 0 if there is nothing here, or not all of it yet: a signal handler or a fork may come
    /// while it is written.
    sp: AtomicUsize,
    /// The other registers at the start.
    pc: usize,
    link: usize,
    /// Whether the frame pointer at the start matters, and what it is.
    needs_fp: bool,
    fp: usize,
    words: [[usize; 2]; WORDS],
    count: usize,
    /// The least of their addresses, and the greatest.
    lowest: usize,
    highest: usize,
    /// As of [`Reads`].
    certain: bool,
    number: u32,
}

/// Zeros are a table without entries.
struct Walks {
    rows: [[Kept; WAYS]; ROWS],
    /// Which place of a row is written next.
    next: usize,
}

/// The table, once it is mapped: most programs need none.
struct Table(*mut Walks);

// SAFETY: the table is never unmapped, and one thread at a time reaches it: the holder of the lock.
unsafe impl Send for Table {}

/// Nobody waits for it, so that it may be held by a thread that a signal handler interrupts, or that a forked child does not have.
static WALKS: Mutex<Table> = Mutex::new(Table(ptr::null_mut()));

impl Table {
    /// `None` if memory is refused.
    fn get(&mut self) -> Option<&mut Walks> {
        if self.0.is_null() {
            let _errno = sys::ErrnoGuard::new();
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping, at an address of the kernel's choice.
            let at = unsafe { sys::mmap(0, size_of::<Walks>(), rights, 0) }.ok()?;
            self.0 = ptr::with_exposed_provenance_mut(at);
        }
        // SAFETY: mapped and zeroed, and the lock is held.
        Some(unsafe { &mut *self.0 })
    }
}

/// The number of a walk from `start`, if it was made before. All of `known` to which tables lead can be read, and `may_read` says
/// whether any other word can. Nobody waits for another thread's.
pub(super) fn find(
    start: Registers,
    known: Range<usize>,
    mut may_read: impl FnMut(usize) -> bool,
) -> Option<u32> {
    let mut table = WALKS.try_lock()?;
    let walks = table.get()?;
    let mut ways = walks.rows[row(start.sp, ROWS)].iter();
    let kept = ways.find(|kept| {
        // Acquire pairs with the Release in `keep`.
        (kept.sp.load(Acquire), kept.pc, kept.link) == (start.sp, start.pc, start.link)
            && (!kept.needs_fp || kept.fp == start.fp)
            && kept.is_there(&known, &mut may_read)
    })?;
    Some(kept.number)
}

impl Kept {
    /// Whether all words are as they were.
    #[inline(always)]
    fn is_there(&self, known: &Range<usize>, may_read: &mut impl FnMut(usize) -> bool) -> bool {
        let mut words = self.words[..self.count].iter();
        // SAFETY: the word can be read, as the caller says. It is a multiple of 8, as it was read before.
        let is = |&[at, word]: &[usize; 2]| unsafe { read(at) } == word;
        if self.certain && known.start <= self.lowest && self.highest < known.end {
            return words.all(is);
        }
        let is_known = |at| self.certain && known.contains(&at);
        words.all(|word| (is_known(word[0]) || may_read(word[0])) && is(word))
    }
}

/// A word of the stack.
///
/// # Safety
/// It can be read.
#[inline]
pub(super) unsafe fn read(at: usize) -> usize {
    // SAFETY: the caller's promise. It is memory of the calling thread's stack, or whatever a damaged one leads to.
    unsafe { ptr::with_exposed_provenance::<usize>(at).read_volatile() }
}

/// Keeps a walk, with the number of what it found.
pub(super) fn keep(start: Registers, reads: &Reads, number: u32) {
    if reads.count > WORDS {
        return;
    }
    let Some(mut table) = WALKS.try_lock() else {
        return;
    };
    let Some(walks) = table.get() else {
        return;
    };
    walks.next += 1;
    let way = walks.next % WAYS;
    let kept = &mut walks.rows[row(start.sp, ROWS)][way];
    kept.sp.store(0, Relaxed);
    // Whoever sees what follows sees that the entry is empty.
    fence(Release);
    (kept.pc, kept.link) = (start.pc, start.link);
    (kept.needs_fp, kept.fp) = (reads.first.is_some(), reads.first.unwrap_or(0));
    (kept.words, kept.count) = (reads.words, reads.count);
    let places = || reads.words[..reads.count].iter().map(|word| word[0]);
    kept.lowest = places().min().unwrap_or(0);
    kept.highest = places().max().unwrap_or(0);
    (kept.certain, kept.number) = (reads.certain, number);
    kept.sp.store(start.sp, Release);
}

/// In the child of a fork: whoever held the lock may not exist there.
///
/// # Safety
/// The calling thread is the only one.
pub(crate) unsafe fn after_fork() {
    // SAFETY: an entry that is half written is empty. A signal handler's thread that goes on with one afterwards frees a lock that
    // is free.
    unsafe { WALKS.force_unlock() };
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
        keep(start, &reads, 5);
        assert_eq!(find(start, 0..0, readable::is), Some(5));
        assert_eq!(find(start, known(), |_| false), Some(5));
        let from_elsewhere = Registers { pc: 2, ..start };
        assert_eq!(find(from_elsewhere, known(), |_| true), None);
        reads.certain = false;
        let by_frame_pointers = Registers { pc: 4, ..start };
        keep(by_frame_pointers, &reads, 6);
        assert_eq!(find(by_frame_pointers, known(), |_| false), None);
        assert_eq!(find(by_frame_pointers, known(), readable::is), Some(6));
        // SAFETY: as above.
        unsafe { sys::munmap(map.addr, map.len).expect("unmapped") };
        assert_eq!(find(start, 0..0, readable::is), None);
    }
}
