//! The tick: now and then a slow path looks at the clock, and does what time asks for.

use crate::base::account;
use crate::base::demand::Epoch;
use crate::base::tuning::LOOK_EVERY;
use crate::heap::cache::{budget, flush, incoming};
use crate::heap::data::heap::{Heap, shared};
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

/// Heaps left behind by a fork that one tick in the child empties.
const RECOVERED: usize = 4;

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

/// What is left to do once no lock is held.
#[must_use]
#[derive(Clone, Copy, Default)]
pub(crate) struct Todo {
    trim: bool,
    /// When the clock was looked at.
    looked: Option<u64>,
}

impl Todo {
    pub(crate) fn run(self) {
        drain::catch_up();
        if self.trim {
            pool::trim();
        }
        maintain::wake();
        if let Some(now) = self.looked {
            pass(now);
        }
    }
}

/// Forgets what the heap's previous thread looked at and learnt: another one begins with it.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn begin(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        (*part).has_looked = false;
        ((*part).shrinks_left, (*part).shrinking) = (0, 0);
        budget::forget(part);
    }
}

/// Looks at the clock at times, and does what time asks for in the heap. Refills and overflows call it before they release the
/// lock.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(crate) unsafe fn look(heap: *mut Heap) -> Todo {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let mut todo = Todo {
            trim: core::mem::take(&mut (*part).over_bound),
            ..Todo::default()
        };
        (*part).slow_ops = (*part).slow_ops.wrapping_add(1);
        budget::show(part);
        if (*part).shrinks_left == 0 {
            if !(*part).slow_ops.is_multiple_of(LOOK_EVERY) {
                return todo;
            }
            let now = clock::now_ms();
            todo.looked = Some(now);
            let (epoch, last) = (epoch(now), (*part).looked);
            if epoch <= last {
                return todo;
            }
            (*part).looked = epoch;
            // If hardly anything happened for the whole delay, what is on the stacks was not needed, whenever it came. The
            // first round marks it, the second sends it home.
            let looked = core::mem::replace(&mut (*part).has_looked, true);
            let was_idle = looked && epoch.is_a_window_after(last);
            (*part).shrinks_left = 1 + u8::from(was_idle);
            let mut sorter = Sorter::new(heap, true);
            incoming::open_pending(heap, usize::MAX, &mut sorter);
            drain::post_all(&mut sorter);
        }
        shrink(heap);
        budget::show(part);
        todo.trim |= core::mem::take(&mut (*part).over_bound);
        todo
    }
}

/// Goes on with sending home what was not needed.
unsafe fn shrink(heap: *mut Heap) {
    // SAFETY: the caller holds the lock.
    unsafe {
        let part = shared(heap);
        let mut sorter = Sorter::new(heap, true);
        let mut left = flush::AT_ONCE;
        while left > 0 && (*part).shrinks_left > 0 {
            let shrunk = flush::shrink_unneeded(heap, left, &mut sorter);
            left = left.saturating_sub(shrunk.blocks);
            (*part).shrinks_left -= u8::from(shrunk.done);
        }
        drain::post_all(&mut sorter);
    }
}
