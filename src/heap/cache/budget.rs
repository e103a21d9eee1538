//! How much free memory a heap may hold, its *budget*: in its slabs, on its stacks and in its magazines.
//!
//! Blocks on the stacks pin their slabs, so the budget is small: what the knob says, or an eighth of what is live if that is
//! more. A program that frees many MiB and takes as many again pays for a small budget with two ways for each block, into its
//! slab and out of it again. So the budget learns the program's demand, as the pool's does: blocks of a class that returned for
//! lack of budget, and then were taken from the slabs again, could have stayed, and as many bytes more are allowed.
//!
//! Two conditions bound this. It must happen often enough to matter. And most of what was live must have gone: if much stays,
//! returning blocks to their slabs brings them together, while what is kept lies scattered. (python3's json took no less time for
//! five of sixty MiB more.) What lay on the stacks for a whole look lowers the allowance again. And what is kept for one class
//! is reclaimed while another one grows (`reclaim`), so that phases of different sizes do not each hold their own.

use crate::base::account::{self, Kind};
use crate::base::size_class::{self, Class};
use crate::base::tuning::heap_cache::{
    AUTO_KB, AUTO_SPEED_KB, BYTES_AS_BLOCK, CHEAP_PER_MS, FEW, LEAST, LIVE_SHARE, LOW, PATIENCE,
    RUNS, SHARED_FROM, SHARED_LEAST, SHOWN_MOST, SHOWN_SHARE, SHOWN_WITHIN, STILL_MS,
};
use crate::base::wanted;
use crate::heap::data::bin::{Bin, bin_limit};
use crate::heap::data::heap::{HeldHeap, Shared};
use crate::heap::data::registry;
use crate::heap::data::state::Budget;
use crate::heap::slabs::holes;
use crate::knobs::{self, Profile};
use crate::os::clock;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

impl Budget {
    fn saw(&mut self, amount: usize, live: usize, all: usize) {
        self.could = self.could.max(all);
        self.most = self.most.max(amount);
        if live > self.peak {
            (self.peak, self.trough) = (live, live);
        }
        self.trough = self.trough.min(live);
    }

    /// Whether most of what was live has gone. If much stays, what is free lies scattered among it; returning it to its slabs
    /// brings it together.
    fn ran_low(&self) -> bool {
        self.peak > 0 && self.trough <= self.peak / LOW
    }
}

/// The sum of what all heaps learnt. An estimate that orders nothing, so Relaxed.
static DEMANDS: AtomicUsize = AtomicUsize::new(0);

/// Bytes that all heaps together may hold because of what they learnt.
pub(crate) fn demand_of_all() -> usize {
    DEMANDS.load(Relaxed)
}

/// Bytes that the heap holds free.
pub(crate) fn amount(part: &Shared) -> usize {
    // What was never handed out holds no memory. A few blocks in each of dozens of classes are dozens of slots.
    let held = part.carved_bytes + part.stack_bytes + part.empties.held_bytes();
    held.saturating_sub(part.allocated_bytes)
}

/// Whether what the account was last told is off by much.
#[inline]
pub(crate) fn is_off(part: &Shared) -> bool {
    let stacks = part.stack_bytes.abs_diff(part.shown_bytes);
    stacks.max(part.holes.unsettled.abs_diff(part.holes.shown)) > part.shown_within
}

/// Tells the account, if it is `due` or what it was last told is off by much, and has a thread look whether the maintenance thread
/// is wanted. Threads that tell it each time wait for each other's cache line.
pub(crate) fn show_at_times(part: &mut Shared, due: bool) {
    if !due && !is_off(part) {
        return;
    }
    if due {
        part.shown_within = (bound(part) / SHOWN_SHARE).clamp(SHOWN_WITHIN, SHOWN_MOST);
    }
    show(part);
    wanted::note();
}

/// Tells the account what the stacks hold, and what returned to slabs.
pub(crate) fn show(part: &mut Shared) {
    account::change(Kind::Stacks, part.shown_bytes, part.stack_bytes);
    part.shown_bytes = part.stack_bytes;
    holes::show(part);
}

/// The bytes the heap would hold if all its blocks were free and none had returned.
fn all_free(part: &Shared) -> usize {
    part.carved_bytes.max(part.stack_bytes) + part.empties.held_bytes()
}

/// The least budget: bytes a heap may hold whatever is live and was learnt.
pub(crate) fn least() -> usize {
    let knobs = knobs::get();
    let auto = match knobs.profile {
        Profile::Speed => AUTO_SPEED_KB,
        Profile::Balanced | Profile::Lean | Profile::Hardened => AUTO_KB,
    };
    (knobs.heap_cache_kb.unwrap_or(auto) as usize) << 10
}

/// Bytes that the program has, or that wait in bins, outboxes and inboxes.
fn live(part: &Shared) -> usize {
    part.allocated_bytes.saturating_sub(part.stack_bytes)
}

/// The budget before what was learnt. If there are many heaps, they share the least.
pub(crate) fn bound(part: &Shared) -> usize {
    let heaps = registry::live_count().max(SHARED_FROM);
    (least() * SHARED_FROM / heaps)
        .max(SHARED_LEAST)
        .max(live(part) / LIVE_SHARE)
}

/// Most blocks that a class may keep in its bin and on its stack.
pub(crate) struct Share {
    pub(crate) bin: u32,
    pub(crate) stack: u32,
}

impl Share {
    const ALL: Share = Share {
        bin: u32::MAX,
        stack: u32::MAX,
    };
}

/// What a class may keep. In a heap over its budget: an eighth of its live blocks, or a few. In a heap that is within it only
/// by what it learnt: all on the stack, where other threads find them while the heap's own sleeps; in the bin, where they do
/// not, half as many as are live, so that it runs empty with the class.
pub(crate) fn share(heap: &mut HeldHeap, class: Class) -> Share {
    let amount = amount(heap);
    let (live, all) = (live(heap), all_free(heap));
    heap.budget.saw(amount, live, all);
    let bound = bound(heap);
    if amount <= bound {
        return Share::ALL;
    }
    let live = heap.allocated_blocks[class].saturating_sub(heap.stacks[class].blocks.into());
    // A stack holds far less than this, so that clamping changes nothing.
    let live = u32::try_from(live).unwrap_or(u32::MAX);
    if amount <= bound + believed(heap) {
        return Share {
            bin: live / 2,
            ..Share::ALL
        };
    }
    // Blocks in the bin are no reason to keep as many more, and a few of the largest runs are much.
    let is_much = size_class::is_run(class) && first_limit(class) == 0;
    let most = if is_much { 0 } else { FEW };
    // SAFETY: the lock is held. If the bin is another thread's, the count may be off by what that does at the moment.
    let in_bin = unsafe { Bin::count(heap.heap(), class) } as u32;
    let few = live.saturating_sub(in_bin).min(most);
    let most = (live / LIVE_SHARE as u32).max(few);
    Share {
        bin: most,
        stack: most,
    }
}

/// How much of what was learnt the heap may hold: less if no thread sees time pass.
fn believed(part: &Shared) -> usize {
    account::seen(part.budget.demand, 0)
}

/// Bytes that the heap may hold beyond its bound, from what it learnt.
pub(crate) fn demand(part: &Shared) -> usize {
    part.budget.demand
}

/// Bytes by which a heap that is mostly empty is over its budget: what other classes than the one at hand keep, in bins too, pins
/// slabs by the dozen. 0 for a heap that is mostly live, as what is free in it lies scattered, and 0 if all that is free may stay
/// even if the process never calls again.
pub(crate) fn over(part: &Shared) -> usize {
    let amount = amount(part);
    let over = amount.saturating_sub(bound(part) + believed(part));
    if amount > live(part) && !account::may_stay(amount) {
        over
    } else {
        0
    }
}

/// Notes that `blocks` of a class were returned that its limit would have kept.
pub(crate) fn cut(part: &mut Shared, class: Class, blocks: u32) {
    let cut = &mut part.stacks[class].cut;
    *cut = cut.saturating_add(blocks);
    part.budget.any_cut |= blocks > 0;
}

/// Notes that about `want` blocks of a class come from the slabs: those once returned for lack of budget were missed.
pub(crate) fn missed(part: &mut Shared, class: Class, want: usize) {
    let cut = &mut part.stacks[class].cut;
    let back = (*cut).min(want as u32);
    if back > 0 && knobs::get().heap_cache_kb.is_none() {
        *cut -= back;
        // Cap it at what would have kept every block: a bound slightly too small still returns everything, and sizes that
        // take turns miss each other's blocks. Half of the bound is left for magazines.
        let could = part.budget.could.max(all_free(part));
        let most = could.saturating_sub(bound(part) / 2);
        let budget = &mut part.budget;
        let now = clock::now_ms();
        let cheap = now.saturating_sub(budget.paid_at) * CHEAP_PER_MS;
        let price = 1 + size_class::size(class) as u64 / BYTES_AS_BLOCK;
        budget.paid = budget.paid.saturating_sub(cheap) + u64::from(back) * price;
        budget.paid_at = now;
        // Once a program's usage is known to rise and fall, further misses count at once.
        if budget.ran_low() && (budget.demand > 0 || budget.paid > PATIENCE) {
            budget.paid = PATIENCE;
            let room = most.saturating_sub(budget.demand);
            let bytes = (back as usize * size_class::size(class)).min(room);
            if bytes > 0 {
                budget.demand += bytes;
                DEMANDS.fetch_add(bytes, Relaxed);
            }
        }
    }
}

/// Lowers what was learnt by `bytes` that were not needed since the last look.
pub(crate) fn unneeded(part: &mut Shared, bytes: usize) {
    let budget = &mut part.budget;
    set(budget, budget.demand.saturating_sub(bytes));
}

/// Ends a look: halves what was learnt if none of it was needed.
pub(crate) fn looked(part: &mut Shared) {
    if part.budget.any_cut {
        // What returned long ago would hardly have stayed until now.
        part.budget.any_cut = halve_cuts(part);
    }
    let bound = bound(part);
    let (amount, all, live) = (amount(part), all_free(part), live(part));
    let budget = &mut part.budget;
    let mut left = budget.demand;
    if budget.most <= bound {
        left = if left > LEAST { left / 2 } else { 0 };
    }
    (budget.most, budget.could) = (amount, all);
    (budget.peak, budget.trough) = (live, live);
    set(budget, left);
}

/// Forgets what was learnt, and what the next thread would learn from: the heap's thread ends, or nothing it kept is left.
pub(crate) fn forget(part: &mut Shared) {
    let budget = &mut part.budget;
    set(budget, 0);
    (budget.most, budget.could, budget.peak) = (0, 0, 0);
    (budget.trough, budget.paid) = (0, 0);
    if core::mem::take(&mut budget.any_cut) {
        part.stacks.iter_mut().for_each(|stack| stack.cut = 0);
    }
}

/// Halves every `cut`. Returns whether any is left.
fn halve_cuts(part: &mut Shared) -> bool {
    let stacks = &mut part.stacks;
    stacks.iter_mut().fold(false, |any, stack| {
        stack.cut /= 2;
        any || stack.cut > 0
    })
}

fn set(budget: &mut Budget, learnt: usize) {
    debug_assert!(learnt <= budget.demand);
    if learnt != budget.demand {
        DEMANDS.fetch_sub(budget.demand - learnt, Relaxed);
        budget.demand = learnt;
    }
}

/// Whether the heap's thread took no slow path for a while, as far as earlier calls saw.
pub(crate) fn is_still(part: &mut Shared, now: u64) -> bool {
    let budget = &mut part.budget;
    if budget.seen != part.slow_ops {
        (budget.seen, budget.seen_ms) = (part.slow_ops, now);
        return false;
    }
    now.saturating_sub(budget.seen_ms) >= STILL_MS
}

/// What the limit of the class's stack begins with, and does not fall below.
pub(crate) fn first_limit(class: Class) -> u32 {
    if size_class::is_run(class) {
        (RUNS / size_class::size(class)) as u32
    } else if size_class::size(class) > 16 << 10 {
        0
    } else {
        2 * bin_limit(class) as u32
    }
}
