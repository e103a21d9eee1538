//! All checked slabs, under one lock: which block a request gets, what a freed one is compared with, and when a slab goes back.
//!
//! `allocated` and `freed` of a class are the sums over its slabs. A slab of several blocks is in its class's `open` list while
//! some of its blocks were never handed out, else in `used` while some wait, else in none; a slab of one block is in `open`
//! until it is handed out, and in `runs` while it waits.

use super::fill::Fill;
use super::geometry::Kind;
use super::list::List;
use super::mode::{self, Mode};
use super::record::{Event, State};
use super::report::{Finding, What};
use super::site::Call;
use super::slab::{self, Checked};
use crate::base::account;
use crate::base::tuning::checked as tuning;
use crate::os::clock;
use crate::os::lock::Locked;
use crate::os::random::seed;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The slabs of one kind.
pub(super) struct Class {
    pub(super) open: List,
    pub(super) used: List,
    /// Descriptors without a slab, linked by `next`: where all blocks are checked, those that had one of this kind; else
    /// class 0 has all.
    pub(super) spare: *mut Checked,
    pub(super) slabs: usize,
    pub(super) allocated: usize,
    pub(super) freed: usize,
}

pub(super) struct Store {
    pub(super) classes: [Class; Kind::COUNT],
    /// Freed slabs of one block, oldest first, and their bytes.
    pub(super) runs: List,
    pub(super) run_bytes: usize,
    /// Bytes of all slabs, and of all descriptors.
    pub(super) bytes: usize,
    /// Kinds that have [`ROOM`].
    roomy: usize,
    fill: Option<Fill>,
    random: u64,
}

// SAFETY: its pointers are to descriptors, which are never freed, and one thread at a time reaches them: the holder of the lock
// around the store.
unsafe impl Send for Store {}

pub(super) static STORE: Locked<Store> = Locked::new(Store {
    classes: [const {
        Class {
            open: List::new(),
            used: List::new(),
            spare: ptr::null_mut(),
            slabs: 0,
            allocated: 0,
            freed: 0,
        }
    }; Kind::COUNT],
    runs: List::new(),
    run_bytes: 0,
    bytes: 0,
    roomy: 0,
    fill: None,
    random: 0,
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
    pub(super) fn fill(&mut self) -> Fill {
        self.fill.unwrap_or_else(|| self.first_fill())
    }

    #[cold]
    #[inline(never)]
    fn first_fill(&mut self) -> Fill {
        *self
            .fill
            .insert(Fill::new(seed(CANARY), mode::is_hardened()))
    }

    /// The next random number; 0 unless choices are to be random.
    pub(super) fn random(&mut self) -> u64 {
        if !mode::is_hardened() {
            return 0;
        }
        if self.random == 0 || mode::take_forked() {
            // The child of a fork goes on in an order of its own.
            self.random = (seed(ORDER) ^ self.random) | 1;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Blocks of the kind that wait before one of them is given out again.
    pub(super) fn keep(&self, kind: Kind) -> usize {
        let longer = if mode::is_hardened() {
            tuning::HARDENED
        } else {
            1
        };
        let mut least = longer * (tuning::WAITING / kind.stride()).max(tuning::FEWEST);
        if mode::is_sampled() {
            // There may never be another slab of the kind, and the blocks of this one must come round.
            least = least.min(slab::room(kind) / 2);
        }
        let share = self.classes[kind.index()].allocated / tuning::SHARE;
        least.max(longer * share)
    }

    /// A block of the kind for `size` bytes, if there is one without opening a slab.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        size: usize,
        call: &Call,
        need: Need,
    ) -> Result<Option<Taken>, Finding> {
        let open = self.classes[kind.index()].open.first();
        // SAFETY: listed slabs are open, and the lock around `self` is held.
        unsafe {
            if !open.is_null() {
                let at = (*open).pop_fresh();
                if (*open).fresh == 0 {
                    self.classes[kind.index()].open.remove(open);
                    if (*open).freed > 0 {
                        self.classes[kind.index()].used.push(open);
                    }
                }
                return Ok(Some(self.hand_out(open, at, size, call, true)));
            }
            if self.classes[kind.index()].freed <= self.keep(kind) && need == Need::Usual {
                return Ok(None);
            }
            let slab = self.waited_longest(kind);
            if slab.is_null() {
                return Ok(None);
            }
            let random = self.random();
            let at = (*slab).pop_freed(random);
            let class = &mut self.classes[kind.index()];
            class.freed -= 1;
            if (*slab).freed == 0 {
                class.used.remove(slab);
            }
            self.unchanged(slab, at, "the reuse")?;
            Ok(Some(self.hand_out(slab, at, size, call, false)))
        }
    }

    /// A slab from whose queue the next block is taken. One in which few wait is passed over, for a while, so that those wait
    /// longer.
    unsafe fn waited_longest(&mut self, kind: Kind) -> *mut Checked {
        let used = &mut self.classes[kind.index()].used;
        for _ in 0..tuning::LOOKS {
            let slab = used.first();
            // SAFETY: as in `take`.
            unsafe {
                if slab.is_null()
                    || usize::from((*slab).freed) > (*slab).capacity() / tuning::FEW_OF
                {
                    return slab;
                }
                used.remove(slab);
                used.push(slab);
            }
        }
        used.first()
    }

    unsafe fn hand_out(
        &mut self,
        slab: *mut Checked,
        at: usize,
        size: usize,
        call: &Call,
        fresh: bool,
    ) -> Taken {
        let fill = self.fill();
        // SAFETY: as in `take`; the block is nobody's.
        unsafe {
            let slab = &mut *slab;
            self.classes[slab.kind.index()].allocated += 1;
            account::change(account::Kind::Blocks, slab.told, slab.touched);
            slab.told = slab.touched;
            let block = slab.block(at);
            let record = slab.record(at);
            record.state = State::Allocated;
            record.size = size as u32;
            record.allocated = Event::now(call, clock::now_ms());
            fill.guard(block, size, slab.kind.extent(size));
            // What was handed out has the word in front of the next.
            let is_bare = at == 0 || slab.record(at - 1).state == State::Fresh;
            if is_bare && slab.has_front(at) {
                fill.close(slab.before(at), slab.stride);
            }
            Taken {
                ptr: block,
                zero: fresh && slab.claim.clean,
            }
        }
    }

    /// Checks that a block that waits is as it was left, for `asked`.
    pub(super) unsafe fn unchanged(
        &mut self,
        slab: *mut Checked,
        at: usize,
        asked: &'static str,
    ) -> Result<(), Finding> {
        let fill = self.fill();
        // SAFETY: the lock is held; the block is one that waits.
        unsafe {
            let found = &mut *slab;
            let (block, size) = (found.block(at), found.record(at).size as usize);
            match fill.written(block, size) {
                None => self.beside(slab, at, asked, block as usize),
                Some(damage) => Err(Finding::of(
                    What::Written(damage),
                    block as usize + damage.first,
                    found,
                    at,
                )),
            }
        }
    }

    /// The program frees the block at `addr`, of `named` bytes if it says so.
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
            record.freed = Event::now(call, clock::now_ms());
            let size = record.size as usize;
            fill.poison(addr as *mut u8, size);
            found.push_freed(at);
            let class = &mut self.classes[kind.index()];
            class.allocated -= 1;
            class.freed += 1;
            if kind.is_run() {
                self.runs.push(slab);
                self.run_bytes += kind.stride();
                return self.shorten_runs(tuning::RUNS);
            }
            if (*slab).fresh == 0 && (*slab).freed == 1 {
                class.used.push(slab);
            }
            let mut left = Left::default();
            if (*slab).allocated() == 0 {
                let others = class.freed - usize::from((*slab).freed);
                if (*slab).fresh == 0 && others >= self.keep(kind) {
                    left = self.retire(slab)?;
                }
                left = left.and(self.reclaim(kind)?);
            }
            self.show(kind);
            Ok(left)
        }
    }

    /// Gives back slabs without allocated blocks that were kept while more blocks were allocated. Only a few are examined, so
    /// that each call is short.
    fn reclaim(&mut self, kind: Kind) -> Result<Left, Finding> {
        let mut left = Left::default();
        for _ in 0..tuning::LOOKS {
            let class = &mut self.classes[kind.index()];
            let slab = class.used.first();
            // SAFETY: listed slabs are open, and the lock around `self` is held.
            unsafe {
                if slab.is_null() || class.freed - usize::from((*slab).freed) < self.keep(kind) {
                    break;
                }
                if (*slab).allocated() == 0 {
                    left = left.and(self.retire(slab)?);
                } else {
                    let used = &mut self.classes[kind.index()].used;
                    used.remove(slab);
                    used.push(slab);
                }
            }
        }
        Ok(left)
    }

    /// Says whether blocks of the kind can be had, where not all are checked.
    pub(super) fn show(&mut self, kind: Kind) {
        if mode::mode() == Mode::All {
            return;
        }
        let class = &self.classes[kind.index()];
        let has = !class.open.first().is_null() || class.freed > self.keep(kind);
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
