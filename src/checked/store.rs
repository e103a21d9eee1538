//! All checked slabs, under one lock: which block a request gets, what a freed one is compared with, and when a slab goes back.
//!
//! `allocated` and `freed` of a group are the sums over its slabs. A slab of several blocks is in its group's `open` list while
//! some of its blocks were never handed out, else in `used` while some wait, else in none; a slab of one block is in `open`
//! until it is handed out, and in `runs` while it waits.

use super::fill::Fill;
use super::geometry::Kind;
use super::list::List;
use super::mode::{self, Mode};
use super::record::{Event, State};
use super::report::Finding;
use super::site::Call;
use super::slab::{self, Checked};
use crate::base::tuning::checked as tuning;
use crate::os::clock;
use crate::os::lock::Locked;
use crate::os::random::seed;
use crate::os::sys::ErrnoGuard;
use crate::os::walked::Walks;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The slabs of one kind.
pub(super) struct Group {
    pub(super) open: List,
    pub(super) used: List,
    /// Descriptors without a slab, linked by `next`: where all blocks are checked, those that had one of this kind; else
    /// the first group has all.
    pub(super) spare: *mut Checked,
    pub(super) slabs: usize,
    pub(super) allocated: usize,
    pub(super) freed: usize,
    /// Blocks that wait in any case before one of them is given out again.
    pub(super) least: usize,
}

pub(super) struct Store {
    pub(super) groups: [Group; Kind::COUNT],
    /// Freed slabs of one block, oldest first, and their bytes.
    pub(super) runs: List,
    pub(super) run_bytes: usize,
    /// Bytes of all slabs, and of all descriptors.
    pub(super) bytes: usize,
    /// Kinds that have [`ROOM`].
    roomy: usize,
    fill: Option<Fill>,
    random: u64,
    /// Of the calls that are served, if all blocks are checked.
    pub(super) walks: Walks,
    /// What the clock said, and how often it was asked for since.
    time: u64,
    asked: u32,
}

// SAFETY: its pointers are to descriptors, which are never freed, and one thread at a time reaches them: the holder of the lock
// around the store.
unsafe impl Send for Store {}

pub(super) static STORE: Locked<Store> = Locked::new(Store {
    groups: [const {
        Group {
            open: List::new(),
            used: List::new(),
            spare: ptr::null_mut(),
            slabs: 0,
            allocated: 0,
            freed: 0,
            least: 0,
        }
    }; Kind::COUNT],
    runs: List::new(),
    run_bytes: 0,
    bytes: 0,
    roomy: 0,
    fill: None,
    random: 0,
    walks: Walks::new(),
    time: 0,
    asked: 0,
});

/// Kinds of which a block can be had without opening a slab. A hint, written under the lock: Relaxed.
static ROOM: [AtomicBool; Kind::COUNT] = [const { AtomicBool::new(false) }; Kind::COUNT];

/// How badly a block is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    Usual,
    /// Nothing else is left: freed blocks need not wait.
    Last,
}

/// A block for the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) ptr: *mut u8,
    /// Its bytes are zero.
    pub(crate) zero: bool,
}

/// What the caller does once it holds no lock.
#[derive(Clone, Copy, Default, Debug)]
#[must_use]
pub(super) struct Left {
    /// A slab went back to the pool.
    pub(super) went: bool,
    /// More is retained there than the bound allows.
    pub(super) trim: bool,
}

impl Store {
    #[inline(always)]
    pub(super) fn fill(&mut self) -> Fill {
        self.fill.unwrap_or_else(|| self.first_fill())
    }

    #[cold]
    #[inline(never)]
    fn first_fill(&mut self) -> Fill {
        let _errno = ErrnoGuard::new();
        *self
            .fill
            .insert(Fill::new(seed(CANARY), mode::is_hardened()))
    }

    /// Milliseconds of the clock. If all blocks are checked, as of one of the last [`CALLS`](tuning::CALLS) calls: reading it takes
    /// a tenth of what else is done for one.
    #[inline(always)]
    pub(super) fn now(&mut self) -> u64 {
        if self.asked == 0 {
            self.time = clock::now_ms();
            self.asked = match mode::mode() {
                Mode::All => tuning::CALLS,
                _ => 1,
            };
        }
        self.asked -= 1;
        self.time
    }

    /// The next random number; 0 unless choices are to be random.
    #[inline(always)]
    pub(super) fn random(&mut self) -> u64 {
        if mode::is_hardened() {
            self.next_random()
        } else {
            0
        }
    }

    fn next_random(&mut self) -> u64 {
        if self.random == 0 || mode::take_forked() {
            let _errno = ErrnoGuard::new();
            // The child of a fork goes on in an order of its own.
            self.random = (seed(ORDER) ^ self.random) | 1;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Blocks of the kind that wait before one of them is given out again.
    #[inline(always)]
    pub(super) fn keep(&self, kind: Kind) -> usize {
        let group = &self.groups[kind.index()];
        let share = group.allocated / tuning::SHARE;
        let share = match mode::is_hardened() {
            true => tuning::HARDENED * share,
            false => share,
        };
        group.least.max(share)
    }

    /// How many blocks of the kind wait in any case.
    pub(super) fn least(kind: Kind) -> usize {
        let longer = match mode::is_hardened() {
            true => tuning::HARDENED,
            false => 1,
        };
        let least = longer * (tuning::WAITING / kind.stride()).max(tuning::FEWEST);
        if mode::is_sampled() {
            // There may never be another slab of the kind, and the blocks of this one must come round.
            return least.min(slab::room(kind) / 2);
        }
        least
    }

    /// The program frees the block at `addr`, of `named` bytes if it says so.
    #[inline(always)]
    pub(super) fn give(
        &mut self,
        addr: usize,
        named: Option<usize>,
        call: &Call,
    ) -> Result<Left, Finding> {
        let (slab, at) = self.of_size(addr, "free", named)?;
        let fill = self.fill();
        // SAFETY: an open slab, under the lock; the block is the program's to give.
        unsafe {
            let found = &mut *slab;
            let kind = found.kind;
            let record = found.record(at);
            record.state = State::Freed;
            record.freed = Event::now(call, self.now());
            let size = record.size as usize;
            fill.poison(addr as *mut u8, size);
            found.push_freed(at);
            let group = &mut self.groups[kind.index()];
            group.allocated -= 1;
            group.freed += 1;
            if kind.is_run() {
                self.runs.push(slab);
                self.run_bytes += kind.stride();
                let _errno = ErrnoGuard::new();
                return self.shorten_runs(tuning::RUNS);
            }
            if (*slab).fresh == 0 && (*slab).freed == 1 {
                group.used.push(slab);
            }
            if (*slab).allocated() == 0 {
                return self.emptied(slab);
            }
            self.show(kind);
            Ok(Left::default())
        }
    }

    /// The last allocated block of a slab was freed.
    #[inline(never)]
    unsafe fn emptied(&mut self, slab: *mut Checked) -> Result<Left, Finding> {
        let _errno = ErrnoGuard::new();
        let mut left = Left::default();
        // SAFETY: as in `give`.
        unsafe {
            let (kind, own) = ((*slab).kind, usize::from((*slab).freed));
            let others = self.groups[kind.index()].freed - own;
            if (*slab).fresh == 0 && others >= self.keep(kind) {
                left = self.retire(slab)?;
            }
            left = left.and(self.reclaim(kind)?);
            self.show(kind);
        }
        Ok(left)
    }

    /// Gives back slabs without allocated blocks that were kept while more blocks were allocated. Only a few are examined, so
    /// that each call is short.
    fn reclaim(&mut self, kind: Kind) -> Result<Left, Finding> {
        let mut left = Left::default();
        for _ in 0..tuning::LOOKS {
            let group = &mut self.groups[kind.index()];
            let slab = group.used.first();
            // SAFETY: listed slabs are open, and the lock around `self` is held.
            unsafe {
                if slab.is_null() || group.freed - usize::from((*slab).freed) < self.keep(kind) {
                    break;
                }
                if (*slab).allocated() == 0 {
                    left = left.and(self.retire(slab)?);
                } else {
                    let used = &mut self.groups[kind.index()].used;
                    used.remove(slab);
                    used.push(slab);
                }
            }
        }
        Ok(left)
    }

    /// Says whether blocks of the kind can be had, where not all are checked.
    #[inline(always)]
    pub(super) fn show(&mut self, kind: Kind) {
        if mode::mode() != Mode::All {
            self.show_some(kind);
        }
    }

    #[inline(never)]
    fn show_some(&mut self, kind: Kind) {
        let group = &self.groups[kind.index()];
        let has = !group.open.first().is_null() || group.freed > self.keep(kind);
        if ROOM[kind.index()].swap(has, Relaxed) != has {
            self.roomy = if has { self.roomy + 1 } else { self.roomy - 1 };
        }
        mode::show(self.roomy > 0);
    }
}

pub(super) fn has_room(kind: Kind) -> bool {
    ROOM[kind.index()].load(Relaxed)
}

/// What a random number is for.
const CANARY: u64 = 0x9216_D5D9_8979_FB1B;
const ORDER: u64 = 0xD131_0BA6_98DF_B5AC;

impl Left {
    pub(super) fn and(self, other: Left) -> Left {
        Left {
            went: self.went | other.went,
            trim: self.trim | other.trim,
        }
    }
}
