//! The pools: superslabs in use, retained and purged, and the slots heaps claim from them.
//!
//! There is one pool for each NUMA node ([`numa`](crate::os::numa)), with one lock each. Only a fork holds two of the locks at
//! once. A heap that needs slots asks on which node its thread runs, claims them from that node's pool, and makes that pool
//! grow rather than take another's. Only if the kernel refuses to map more do other nodes' free slots serve. The kernel places
//! a page on the node of the thread that first touches it; a policy that populates does so on the claiming thread too. Slots go
//! back to the pool they came from, whichever thread frees. What a heap holds stays its own when its thread moves to another
//! node, and goes to the heap's adopter, wherever that runs. The bounds on retained memory are those of the whole process: see
//! `place`.
//!
//! Each pool lists the superslabs with free slots by how many they have; a claim takes from the fullest first. Those with
//! *dirty* free slots (memory that was used and is still resident) also stand in a queue by age. Memory goes back to the kernel
//! from this queue: at once above the bound, otherwise after the purge delay. Nothing is mapped, populated or purged under the
//! lock: a thread takes the superslab out of the lists, owns it during the call, and puts it back with its bits changed only if
//! the call succeeded.

mod account;
mod evidence;
mod exchange;
mod forked;
mod grow;
mod holes;
mod lists;
#[cfg(test)]
mod nodes_tests;
mod pass;
mod place;
mod purge;
#[cfg(all(test, not(loom)))]
mod split_tests;
mod stock;
mod unmap;

pub(crate) use crate::os::numa::{Node, here};
pub(crate) use evidence::{Usage, is_resident};
pub(crate) use exchange::lend;
pub(crate) use forked::restore_in_flight;
pub(crate) use grow::{obtain, prewarm};
pub(crate) use holes::{HugePage, gave_back, huge_page, leave_huge_page};
pub(crate) use place::{counts, fork_locks, is_valid};
pub(crate) use purge::{decay, purge_all, reclaim, set_retain, trim};
pub(crate) use stock::{ready, serving, stock, unstock};
pub(crate) use unmap::unmap_empty;

use crate::base::demand::{Demand, Epoch};
use crate::base::tuning::pool::WORTH_A_LOOK;
use crate::base::units::{SLOT, SLOT_SHIFT, Slots};
use crate::knobs::ThpPolicy;
use crate::os::clock;
use crate::slab::superslab::{State, Superslab, UNIT};
use account::{Account, NONE, recount, units};
use core::ptr;
use evidence::Larger;
use lists::{ByFree, PLAIN, Pick, Queue, SPREADING};
use place::lock;

struct Pool {
    by_free: ByFree,
    /// Superslabs with dirty free slots, oldest first.
    dirty: Queue,
    /// Superslabs that a thread is mapping or purging.
    in_flight: Queue,
    /// Descriptors without a superslab.
    spare: *mut Superslab,
    counts: Counts,
    larger: Larger,
    /// Demand for claimed slots, in bytes.
    demand: Demand,
    /// The value of `counts.dirty_bytes` that the account was last told.
    shown_dirty: usize,
}

// SAFETY: its pointers are to descriptors, which are never freed, and one thread at a time reaches them: the holder of the lock
// around the pool.
unsafe impl Send for Pool {}

/// What the pool counts, in superslabs: `mapped = in use + retained + purged + in flight`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) mapped: usize,
    /// Superslabs with a slot claimed.
    pub(crate) in_use: usize,
    /// Wholly free superslabs with resident pages.
    pub(crate) retained: usize,
    /// Wholly free superslabs without resident pages.
    pub(crate) purged: usize,
    pub(crate) claimed_slots: Slots,
    /// Of the claimed slots: those of classes that fill their slabs, and those of blocks that may stay untouched.
    pub(crate) filled_slots: Slots,
    pub(crate) larger_slots: Slots,
    /// Free memory that is still resident, in bytes. Only what was handed out in blocks counts.
    pub(crate) dirty_bytes: usize,
    /// Bytes for which huge pages were requested.
    pub(crate) huge_requested: usize,
    /// Superslabs that refuse huge pages since a purge split them.
    pub(crate) left_huge: usize,
    /// Bytes given back to the kernel since the start.
    pub(crate) returned: u64,
}

impl Counts {
    const NONE: Counts = Counts {
        mapped: 0,
        in_use: 0,
        retained: 0,
        purged: 0,
        claimed_slots: Slots::NONE,
        filled_slots: Slots::NONE,
        larger_slots: Slots::NONE,
        dirty_bytes: 0,
        huge_requested: 0,
        left_huge: 0,
        returned: 0,
    };

    /// Replaces what a superslab contributed (`was`) by what it contributes now (`is`).
    fn change(&mut self, was: Account, is: Account) {
        self.in_use = self.in_use + is.in_use - was.in_use;
        self.retained = self.retained + is.retained - was.retained;
        self.purged = self.purged + is.purged - was.purged;
        self.dirty_bytes = self.dirty_bytes + is.dirty_bytes - was.dirty_bytes;
    }
}

/// Slots handed to a heap. They are the heap's until [`release`].
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) superslab: *mut Superslab,
    pub(crate) slot: usize,
    /// The memory is known to be zero.
    pub(crate) clean: bool,
}

impl Claim {
    pub(crate) fn addr(&self) -> usize {
        // SAFETY: `base` does not change while a slot is claimed.
        unsafe { (*self.superslab).base + (self.slot << SLOT_SHIFT) }
    }
}

/// What a heap needs for a slab.
#[derive(Clone, Copy)]
pub(crate) struct Want {
    /// How many neighbouring slots.
    pub(crate) slots: Slots,
    pub(crate) usage: Usage,
}

/// Claims slots from the node's fullest superslab that has them, resident slots first. Light use takes slots that hold little,
/// because what it leaves unused could be neither used nor purged. Blocks that may stay untouched come from superslabs on OS
/// pages, and from others only if the slots are resident. `None` means that a superslab has to be begun.
fn claim(node: Node, thp: ThpPolicy, want: Want) -> Option<Claim> {
    let mut pool = lock(node);
    let kinds: &[usize] = match want.usage {
        usage if !pool.may_spread(thp, usage) => &[PLAIN],
        Usage::Filled => &[SPREADING, PLAIN],
        // What may stay untouched costs less on OS pages, and shows there whether it does: these fill up first.
        _ => &[PLAIN, SPREADING],
    };
    let first = if want.usage == Usage::Light {
        Some(Pick::Light)
    } else {
        (pool.counts.dirty_bytes >= WORTH_A_LOOK).then_some(Pick::Resident)
    };
    // SAFETY: superslabs in the lists are the pool's, and the lock is held.
    unsafe {
        let find = |pick| {
            let mut kinds = kinds.iter();
            kinds.find_map(|&kind| pool.by_free.find(kind, want.slots, pick))
        };
        let (superslab, slot) = first
            .and_then(find)
            .or_else(|| find(Pick::Any))
            .or_else(|| pool.by_free.find(SPREADING, want.slots, Pick::Resident))?;
        Some(pool.claim_in(superslab, slot, want))
    }
}

/// Gives slots back. The first `used` bytes of them were handed out at some time. The caller has already cleared their tags.
/// Returns whether more is retained than the bound allows: then the caller calls [`trim`] once it holds no lock.
///
/// # Safety
/// The slots were claimed, no block in them is allocated, and they are not used again.
#[must_use]
pub(crate) unsafe fn release(
    superslab: *mut Superslab,
    slot: usize,
    slots: Slots,
    used: usize,
    now: u64,
) -> bool {
    let bits = Superslab::bits(slot, slots);
    // SAFETY: the superslab stays mapped while a slot of it is claimed, and its node with it.
    let mut pool = lock(unsafe { (*superslab).node });
    // SAFETY: as above, and the lock is held.
    unsafe {
        debug_assert!(
            (*superslab).free & bits == 0,
            "slots are claimed when they are released"
        );
        let pooled = (*superslab).state == State::Pooled;
        let was = Account::of(superslab);
        if pooled && (*superslab).in_list {
            pool.by_free.remove(superslab);
        }
        let whole = (*superslab).is_whole() || (*superslab).populated;
        for (index, touched) in (&mut (*superslab).touched)[slot..slot + slots.count()]
            .iter_mut()
            .enumerate()
        {
            let here = if whole {
                SLOT
            } else {
                used.saturating_sub(index * SLOT).min(SLOT)
            };
            *touched = (*touched).max(here.div_ceil(UNIT) as u8);
        }
        (*superslab).held += units(superslab, bits) as u16;
        (*superslab).free |= bits;
        if !(*superslab).in_dirty {
            (*superslab).dirty_since = now;
        }
        pool.counts.claimed_slots -= slots;
        pool.counts.filled_slots -= Slots::in_bits((*superslab).filled & bits);
        pool.counts.larger_slots -= Slots::in_bits((*superslab).larger & bits);
        (*superslab).filled &= !bits;
        (*superslab).larger &= !bits;
        pool.note_demand(now);
        if pooled {
            pool.relist(superslab, was);
        }
    }
    let whole = pool.whole();
    whole.dirty_bytes > purge::bound(&whole)
}

impl Pool {
    const fn new() -> Pool {
        Pool {
            by_free: ByFree::new(),
            dirty: Queue::new(),
            in_flight: Queue::new(),
            spare: ptr::null_mut(),
            counts: Counts::NONE,
            demand: Demand::NONE,
            shown_dirty: 0,
            larger: Larger::NONE,
        }
    }

    /// Claims the slots from `slot` on in a listed superslab, and updates the counts.
    unsafe fn claim_in(&mut self, superslab: *mut Superslab, slot: usize, want: Want) -> Claim {
        let slots = want.slots;
        let bits = Superslab::bits(slot, slots);
        // SAFETY: the caller holds the lock around `self`, the superslab is listed in this pool, and the slots are free.
        unsafe {
            let was = Account::of(superslab);
            self.by_free.remove(superslab);
            let fresh = Slots::in_bits(bits & !(*superslab).dirty);
            (*superslab).held -= units(superslab, (*superslab).dirty & bits) as u16;
            (*superslab).free &= !bits;
            (*superslab).dirty |= bits;
            self.counts.claimed_slots += slots;
            match want.usage {
                Usage::Filled => {
                    (*superslab).filled |= bits;
                    self.counts.filled_slots += slots;
                }
                Usage::Larger => {
                    (*superslab).larger |= bits;
                    self.counts.larger_slots += slots;
                }
                Usage::Light | Usage::Few => {}
            }
            let bytes = self.counts.claimed_slots.bytes();
            self.demand
                .rise(bytes, || Epoch::at(clock::now_ms(), purge::delay()));
            self.relist(superslab, was);
            Claim {
                superslab,
                slot,
                clean: fresh == slots,
            }
        }
    }

    /// Records that time has passed.
    fn note_time(&mut self, now: u64) {
        self.demand.advance(Epoch::at(now, purge::delay()));
    }

    /// Records that fewer slots are claimed.
    fn note_demand(&mut self, now: u64) {
        let bytes = self.counts.claimed_slots.bytes();
        self.demand.fall(bytes, Epoch::at(now, purge::delay()));
    }

    /// Puts a superslab into the lists its bits ask for and updates the counts. The superslab is in no list by free slots;
    /// `was` is what it contributed before.
    unsafe fn relist(&mut self, superslab: *mut Superslab, was: Account) {
        // SAFETY: the caller holds the lock around `self`, and the superslab is the pool's.
        unsafe {
            let is = Account::of(superslab);
            self.counts.change(was, is);
            if (*superslab).state != State::Pooled {
                return;
            }
            if (*superslab).free != 0 {
                self.by_free.insert(superslab);
            }
            if is.dirty_slots > Slots::NONE && !(*superslab).in_dirty {
                self.dirty.push_back(superslab);
                (*superslab).in_dirty = true;
            } else if is.dirty_slots == Slots::NONE && (*superslab).in_dirty {
                self.dirty.remove(superslab);
                (*superslab).in_dirty = false;
            }
        }
    }

    /// Takes a superslab out of all lists for a call that must not run under the lock.
    unsafe fn take_out(&mut self, superslab: *mut Superslab) {
        // SAFETY: as in `relist`.
        unsafe {
            let was = Account::of(superslab);
            if (*superslab).in_list {
                self.by_free.remove(superslab);
            }
            if (*superslab).in_dirty {
                self.dirty.remove(superslab);
                (*superslab).in_dirty = false;
            }
            (*superslab).state = State::InFlight;
            self.in_flight.push_back(superslab);
            self.relist(superslab, was);
        }
    }

    /// Puts back a superslab that [`Pool::take_out`] took and of which a part went: the rest keeps its age, and the turn that it had in
    /// the dirty queue.
    unsafe fn put_back_in_turn(&mut self, superslab: *mut Superslab, turn: u64, since: u64) {
        // SAFETY: as in `relist`.
        unsafe {
            self.in_flight.remove(superslab);
            (*superslab).state = State::Pooled;
            // Slots may have been released meanwhile.
            (*superslab).dirty_since = since;
            self.dirty.insert(superslab, turn);
            (*superslab).in_dirty = true;
            self.relist(superslab, NONE);
        }
    }

    /// Puts back a superslab that [`Pool::take_out`] took.
    unsafe fn put_back(&mut self, superslab: *mut Superslab) {
        // SAFETY: as in `relist`.
        unsafe {
            self.in_flight.remove(superslab);
            (*superslab).state = State::Pooled;
            self.relist(superslab, NONE);
            if (*superslab).in_dirty {
                // Not all could be given back, or slots were released meanwhile: it counts as fresh again, at the end of the
                // queue.
                (*superslab).dirty_since = clock::now_ms();
            }
        }
    }
}
