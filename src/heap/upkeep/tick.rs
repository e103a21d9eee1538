//! The tick: now and then a slow path looks at the clock, and does what time asks for.

use crate::base::account;
use crate::base::demand::Epoch;
use crate::base::size_class::Class;
use crate::base::tuning::LOOK_EVERY;
use crate::base::tuning::heap_cache::AT_ONCE;
use crate::base::tuning::heap_cache::RECOVERED;
use crate::heap::cache::{budget, flush, incoming};
use crate::heap::data::errands::Errands;
use crate::heap::data::heap::HeldHeap;
use crate::heap::home::drain;
use crate::heap::home::sorter::Sorter;
use crate::heap::upkeep::{give_up, idle_cache, maintain, pages, settle};
use crate::os::clock;
use crate::{knobs, large, pool};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The epoch the process is in, as of the last look. The thread that advances it acts on it. It publishes nothing: Relaxed.
static EPOCH: AtomicU64 = AtomicU64::new(0);

/// Looks at the clock. The first thread to find that an epoch has passed does what time asks for. No lock may be held.
pub(crate) fn pass(now: u64) {
    let epoch = epoch(now);
    let last = EPOCH.load(Relaxed);
    let advanced = || EPOCH.compare_exchange(last, epoch.number(), Relaxed, Relaxed);
    if epoch.number() > last && advanced().is_ok() {
        tick(now, epoch.windows_since(last));
    }
}

/// Does what time asks for in the process. [`look`] sees to each heap's own stacks, and the maintenance thread does more of the
/// same between ticks. `windows` began since the last tick.
fn tick(now: u64, windows: u64) {
    if windows > 0 {
        account::period_passed(windows > 1);
    }
    settle::recover(RECOVERED);
    give_up::give_up_gone();
    idle_cache::decay(now);
    pages::tick(now);
    pool::decay(now);
    large::decay(now);
    maintain::wake();
}

fn epoch(now: u64) -> Epoch {
    Epoch::at(now, u64::from(knobs::get().purge_delay_ms))
}

/// Does the errands of a slow path. No lock may be held.
pub(crate) fn run(errands: Errands) {
    let ticks = errands.ticks();
    errands.run();
    maintain::wake_if_noted();
    if ticks {
        pass(clock::now_ms());
    }
}

/// Forgets what the heap's previous thread looked at and learnt: another one begins with it.
pub(crate) fn begin(heap: &mut HeldHeap) {
    heap.has_looked = false;
    heap.shown_within = 0;
    (heap.shrinks_left, heap.shrinking) = (0, Class::NONE);
    heap.fed.clear();
    budget::forget(heap);
}

/// Looks at the clock at times, and does what time asks for in the heap. Refills and overflows call it before they release the
/// lock.
#[inline]
pub(crate) fn look(held: &mut HeldHeap) {
    held.slow_ops = held.slow_ops.wrapping_add(1);
    let due = held.slow_ops.is_multiple_of(LOOK_EVERY);
    if due || held.shrinks_left > 0 || budget::is_off(held) {
        look_closely(held, due);
    }
}

#[cold]
#[inline(never)]
fn look_closely(held: &mut HeldHeap, due: bool) {
    budget::show_at_times(held, due);
    if held.shrinks_left == 0 {
        if !due {
            return;
        }
        let (epoch, last) = (epoch(clock::now_ms()), held.looked);
        if epoch <= last {
            return;
        }
        held.errands.tick();
        held.looked = epoch;
        // If hardly anything happened for the whole delay, what is on the stacks was not needed, whenever it came. The
        // first round marks it, the second returns it to its slabs.
        let looked = core::mem::replace(&mut held.has_looked, true);
        let was_idle = looked && epoch.is_a_window_after(last);
        held.shrinks_left = 1 + u8::from(was_idle);
        let mut sorter = Sorter::new(held, true);
        incoming::open_pending(held, usize::MAX, &mut sorter);
        drain::post_all(held, &mut sorter);
    }
    shrink(held);
    budget::show(held);
}

/// Goes on with returning what was not needed.
fn shrink(held: &mut HeldHeap) {
    let mut sorter = Sorter::new(held, true);
    let mut left = AT_ONCE;
    while left > 0 && held.shrinks_left > 0 {
        let shrunk = flush::shrink_unneeded(held, left, &mut sorter);
        left = left.saturating_sub(shrunk.blocks);
        held.shrinks_left -= u8::from(shrunk.done);
    }
    drain::post_all(held, &mut sorter);
}
