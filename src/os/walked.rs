//! Walks that were made before, each with a number that the caller has for what it found. What a walk from the same registers finds
//! depends on the words of the stack that it reads: one whose words are all still there is not made again. A word is compared in
//! a few instructions, where a step takes some seventy.
//!
//! An object that is loaded where another one was may be given that one's walks, as it may be given its rules.

use super::context::Registers;
use super::sys;
use crate::base::units::row;
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
    /// Whether tables led to each of the words. If the words before it are there, so is the next: a call that is under way has a
    /// return address.
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
    link: usize,
    /// Whether the frame pointer at the start matters, and what it is.
    needs_fp: bool,
    fp: usize,
    words: [[usize; 2]; WORDS],
    count: usize,
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

/// The number of a walk from `start`, if it was made before. `may_read` says whether a word can be read to which tables alone did
/// not lead. Nobody waits for another thread's.
pub(super) fn find(start: Registers, mut may_read: impl FnMut(usize) -> bool) -> Option<u32> {
    let mut table = WALKS.try_lock()?;
    let walks = table.get()?;
    let mut ways = walks.rows[row(start.sp, ROWS)].iter();
    let kept = ways.find(|kept| {
        // Acquire pairs with the Release in `keep`.
        (kept.sp.load(Acquire), kept.link) == (start.sp, start.link)
            && (!kept.needs_fp || kept.fp == start.fp)
            && match kept.certain {
                // SAFETY: as in `is`; the words before each are as they were when the walk was kept.
                true => kept.words().iter().all(|word| unsafe { is(word) }),
                false => kept.is_there(&mut may_read),
            }
    })?;
    Some(kept.number)
}

impl Kept {
    fn words(&self) -> &[[usize; 2]] {
        &self.words[..self.count]
    }

    /// Whether all words are as they were, of a walk that tables alone did not lead.
    #[cold]
    #[inline(never)]
    fn is_there(&self, may_read: &mut impl FnMut(usize) -> bool) -> bool {
        let _errno = sys::ErrnoGuard::new();
        // SAFETY: the caller says that it can be read.
        let is = |word: &[usize; 2]| may_read(word[0]) && unsafe { is(word) };
        self.words().iter().all(is)
    }
}

/// Whether a word of the stack is as it was.
///
/// # Safety
/// It can be read: it could when the walk was kept, and tables led to it by what came before, or the kernel says so.
#[inline(always)]
unsafe fn is(&[at, value]: &[usize; 2]) -> bool {
    // SAFETY: the caller's promise; it is a multiple of 8, as it was read before.
    unsafe { read(at) == value }
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
    kept.link = start.link;
    (kept.needs_fp, kept.fp) = (reads.first.is_some(), reads.first.unwrap_or(0));
    (kept.words, kept.count) = (reads.words, reads.count);
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
