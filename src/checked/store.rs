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
use super::slab::{self, Checked};
use super::table;
use crate::base::account;
use crate::base::size_class::CHECKED;
use crate::base::tuning::checked as tuning;
use crate::base::units::SLOT;
use crate::os::clock;
use crate::os::lock::Locked;
use crate::os::sys;
use crate::pool::{self, Claim};
use crate::slab::directory::{DIRECTORY, Tag};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The slabs of one kind.
pub(super) struct Class {
    pub(super) open: List,
    pub(super) used: List,
    /// Descriptors without a slab, linked by `next`.
    spare: *mut Checked,
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
    bytes: usize,
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

/// For whom a block is taken: every block is checked, or one now and then; or nothing else is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    Usual,
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
        *self
            .fill
            .get_or_insert_with(|| Fill::new(sys::random(), mode::is_hardened()))
    }

    /// The next random number; 0 unless choices are to be random.
    fn random(&mut self) -> u64 {
        if !mode::is_hardened() {
            return 0;
        }
        if self.random == 0 {
            self.random = sys::random() | 1;
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
        let least = (tuning::WAITING / kind.stride()).max(tuning::FEWEST);
        let share = self.classes[kind.index()].allocated / tuning::SHARE;
        longer * least.max(share)
    }

    /// A block of the kind for `size` bytes, if there is one without opening a slab.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        size: usize,
        thread: u32,
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
                return Ok(Some(self.hand_out(open, at, size, thread, true)));
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
            self.unchanged(slab, at)?;
            Ok(Some(self.hand_out(slab, at, size, thread, false)))
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
        thread: u32,
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
            record.allocated = Event::now(thread, clock::now_ms());
            fill.guard(block, size, slab.kind.stride());
            Taken {
                ptr: block,
                zero: fresh && slab.claim.clean,
            }
        }
    }

    /// Whether a block that waited is as it was left.
    pub(super) unsafe fn unchanged(
        &mut self,
        slab: *mut Checked,
        at: usize,
    ) -> Result<(), Finding> {
        let fill = self.fill();
        // SAFETY: the lock is held; the block is one that waits.
        unsafe {
            let slab = &mut *slab;
            let (block, size) = (slab.block(at), slab.record(at).size as usize);
            let inside = fill.written(block, size);
            match inside.or_else(|| fill.overflow(block, size, slab.kind.stride())) {
                None => Ok(()),
                Some(damage) => Err(Finding::of(
                    What::Written(damage),
                    block as usize + damage.first,
                    slab,
                    at,
                )),
            }
        }
    }

    /// Finds the block at an address, for the call `asked`.
    fn locate(
        &mut self,
        addr: usize,
        asked: &'static str,
    ) -> Result<(*mut Checked, usize), Finding> {
        let tag = DIRECTORY.own_tag(addr);
        let slab = match tag.class() == CHECKED as usize {
            true => table::get(tag.owner()),
            false => ptr::null_mut(),
        };
        // SAFETY: descriptors live for ever, and the lock is held.
        let Some(found) = (unsafe { slab.as_mut() }).filter(|slab| slab.base != 0) else {
            return Err(Finding::nowhere(asked, addr));
        };
        let offset = addr.wrapping_sub(found.base);
        if let Some(at) = found.kind.starting_at(offset) {
            return Ok((slab, at));
        }
        let (at, inside) = (offset / found.kind.stride(), offset % found.kind.stride());
        Err(if at < found.capacity() {
            Finding::of(What::Inside(asked, inside), addr, found, at)
        } else {
            Finding::nowhere(asked, addr)
        })
    }

    /// Finds the allocated block at an address, for the call `asked`, and whether nothing was written behind it.
    fn in_use(
        &mut self,
        addr: usize,
        asked: &'static str,
    ) -> Result<(*mut Checked, usize), Finding> {
        let fill = self.fill();
        let (slab, at) = self.locate(addr, asked)?;
        // SAFETY: an open slab, under the lock.
        unsafe {
            let found = &mut *slab;
            let (state, size) = (found.record(at).state, found.record(at).size as usize);
            if state != State::Allocated {
                return Err(Finding::of(What::NotInUse(asked, state), addr, found, at));
            }
            match fill.overflow(found.block(at), size, found.kind.stride()) {
                None => Ok((slab, at)),
                Some(damage) => Err(Finding::of(What::Overflow(asked, damage), addr, found, at)),
            }
        }
    }

    /// As [`Store::in_use`], for a caller that says how large the block is.
    fn of_size(
        &mut self,
        addr: usize,
        asked: &'static str,
        named: Option<usize>,
    ) -> Result<(*mut Checked, usize), Finding> {
        let (slab, at) = self.in_use(addr, asked)?;
        // SAFETY: as there.
        let found = unsafe { &mut *slab };
        match named {
            Some(named) if named != found.record(at).size as usize => {
                Err(Finding::of(What::Size(asked, named), addr, found, at))
            }
            _ => Ok((slab, at)),
        }
    }

    /// The program frees the block at `addr`, of `named` bytes if it says so.
    pub(super) fn give(
        &mut self,
        addr: usize,
        named: Option<usize>,
        thread: u32,
    ) -> Result<Left, Finding> {
        let (slab, at) = self.of_size(addr, "free", named)?;
        let fill = self.fill();
        // SAFETY: an open slab, under the lock; the block is the program's to give.
        unsafe {
            let found = &mut *slab;
            let kind = found.kind;
            let record = found.record(at);
            record.state = State::Freed;
            record.freed = Event::now(thread, clock::now_ms());
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
            if found.fresh == 0 && found.freed == 1 {
                class.used.push(slab);
            }
            let others = class.freed - usize::from(found.freed);
            let left = if found.allocated() == 0 && found.fresh == 0 && others >= self.keep(kind) {
                self.retire(slab)?
            } else {
                Left::default()
            };
            self.show(kind);
            Ok(left)
        }
    }

    /// Lets freed slabs of one block go, oldest first, until those that wait have at most so many bytes.
    pub(super) fn shorten_runs(&mut self, most: usize) -> Result<Left, Finding> {
        let most = if mode::is_hardened() {
            most * tuning::HARDENED
        } else {
            most
        };
        let mut left = Left::default();
        while self.run_bytes > most {
            let oldest = self.runs.first();
            // SAFETY: listed slabs are open, and the lock is held.
            unsafe { left = left.and(self.retire(oldest)?) };
        }
        Ok(left)
    }

    /// Gives the slots of a listed slab back of which nothing is allocated.
    ///
    /// # Safety
    /// The lock is held, and the slab is open.
    pub(super) unsafe fn retire(&mut self, slab: *mut Checked) -> Result<Left, Finding> {
        // SAFETY: the caller's promise.
        unsafe {
            let found = &mut *slab;
            debug_assert!(found.allocated() == 0 && found.in_list);
            for before in 0..usize::from(found.freed) {
                let at = (*slab).waiting_at(before);
                self.unchanged(slab, at)?;
            }
            let kind = found.kind;
            let class = &mut self.classes[kind.index()];
            if found.fresh > 0 {
                class.open.remove(slab);
            } else if kind.is_run() {
                self.runs.remove(slab);
                self.run_bytes -= kind.stride();
            } else {
                class.used.remove(slab);
            }
            class.freed -= usize::from(found.freed);
            class.slabs -= 1;
            self.bytes -= kind.slots() * SLOT;
            // The tags go first (rule 2).
            DIRECTORY.set(found.base, kind.slots(), Tag::NONE);
            account::change(account::Kind::Blocks, found.told, 0);
            let (superslab, slot) = (found.claim.superslab, found.claim.slot);
            let used = found.touched;
            found.base = 0;
            found.next = class.spare;
            class.spare = slab;
            Ok(Left {
                went: true,
                trim: pool::release(superslab, slot, kind.slots(), used, clock::now_ms()),
            })
        }
    }

    /// A descriptor for a slab of the kind, and room for it within `most` bytes of all.
    pub(super) fn descriptor(&mut self, kind: Kind, most: usize) -> Option<*mut Checked> {
        let spare = self.classes[kind.index()].spare;
        let new = if spare.is_null() {
            slab::overhead(kind)
        } else {
            0
        };
        if self.bytes + kind.slots() * SLOT + new > most {
            return None;
        }
        if !spare.is_null() {
            // SAFETY: a descriptor without a slab; the lock is held.
            self.classes[kind.index()].spare = unsafe { (*spare).next };
            return Some(spare);
        }
        if !table::has_room() {
            return None;
        }
        let slab = Checked::allocate(kind);
        if slab.is_null() {
            return None;
        }
        // SAFETY: there is room, and the descriptor is new.
        unsafe { table::enter(slab) };
        self.bytes += new;
        Some(slab)
    }

    /// Puts back what [`Store::descriptor`] gave.
    pub(super) fn no_slab(&mut self, kind: Kind, slab: *mut Checked) {
        let class = &mut self.classes[kind.index()];
        // SAFETY: as there.
        unsafe { (*slab).next = class.spare };
        class.spare = slab;
    }

    /// Makes claimed slots a slab.
    pub(super) fn open(&mut self, slab: *mut Checked, claim: Claim) {
        let random = self.random();
        // SAFETY: a descriptor without a slab, under the lock; nobody else knows of the slots yet.
        unsafe {
            let found = &mut *slab;
            found.open(claim, random);
            let kind = found.kind;
            let class = &mut self.classes[kind.index()];
            class.slabs += 1;
            class.open.push(slab);
            self.bytes += kind.slots() * SLOT;
            DIRECTORY.set(found.base, kind.slots(), Tag::new(found.number, CHECKED));
        }
    }

    /// What is asked for the size of a block in use.
    pub(super) fn size(&mut self, addr: usize, asked: &'static str) -> Result<usize, Finding> {
        let (slab, at) = self.in_use(addr, asked)?;
        // SAFETY: an open slab, under the lock.
        Ok(unsafe { (*slab).record(at).size as usize })
    }

    /// The block at `addr`, of `old` bytes, is to have `new`; whether it does now.
    pub(super) fn resize(
        &mut self,
        addr: usize,
        old: usize,
        new: usize,
        align: usize,
        thread: u32,
    ) -> Result<bool, Finding> {
        let (slab, at) = self.of_size(addr, "realloc", Some(old))?;
        let fill = self.fill();
        // SAFETY: an open slab, under the lock; the block is the program's, which waits for this call.
        unsafe {
            let found = &mut *slab;
            if Kind::of(new, align) != Some(found.kind) {
                return Ok(false);
            }
            let record = found.record(at);
            record.size = new as u32;
            record.allocated = Event::now(thread, clock::now_ms());
            fill.guard(addr as *mut u8, new, found.kind.stride());
            Ok(true)
        }
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

impl Left {
    pub(super) fn and(self, other: Left) -> Left {
        Left {
            went: self.went | other.went,
            trim: self.trim | other.trim,
        }
    }
}
