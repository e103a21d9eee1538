//! What slow paths do beside their own work: now and then a look at the clock, and what time asks for.

use super::heap::{Heap, shared};
use super::remote::{self, Sorter};
use super::{exit, fork, keep, maintain, refill, slack, spare};
use crate::knobs;
use crate::large;
use crate::os::clock;
use crate::pool;

/// Slow operations between looks at the clock.
const LOOK_EVERY: u32 = 64;

/// What is left to do when no lock is held any more.
#[must_use]
#[derive(Clone, Copy, Default)]
pub(super) struct Todo {
    trim: bool,
    wake: bool,
    /// Bytes that nobody needed for the whole delay, and that are the pool's from now on.
    unneeded: usize,
    decay: Option<u64>,
}

impl Todo {
    pub(super) fn run(self) {
        remote::catch_up();
        if self.unneeded > 0 {
            pool::unneeded(self.unneeded);
        }
        if self.trim {
            pool::trim();
        }
        if self.trim || self.wake {
            maintain::wake();
        }
        if let Some(now) = self.decay {
            fork::recover();
            exit::give_up_gone();
            keep::decay(now);
            pool::decay(now);
            large::decay(now);
            maintain::wake();
        }
    }
}

/// A thread begins with a heap that another one had, or a fork left behind: what lies there is new to it.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn begin(heap: *mut Heap) {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        (*part).has_looked = false;
        ((*part).shrinks_left, (*part).shrinking) = (0, 0);
        slack::forget(part);
    }
}

/// To be called at the end of every slow path, still under the lock: now and then looks at the clock, and does what
/// time asks for.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn look(heap: *mut Heap) -> Todo {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let mut todo = Todo {
            trim: core::mem::take(&mut (*part).over_bound),
            wake: slack::learns(part),
            ..Todo::default()
        };
        (*part).slow_ops = (*part).slow_ops.wrapping_add(1);
        if (*part).shrinks_left == 0 {
            if !(*part).slow_ops.is_multiple_of(LOOK_EVERY) {
                return todo;
            }
            let now = clock::now_ms();
            let delay = u64::from(knobs::get().purge_delay_ms);
            let since = now.saturating_sub((*part).looked_ms);
            if since < (delay / 4).max(10) {
                return todo;
            }
            (*part).looked_ms = now;
            // Where hardly anything happened for the whole delay, what is on the stacks was not needed, whenever it came: the
            // first time marks it, the second sends it home.
            let looked = core::mem::replace(&mut (*part).has_looked, true);
            (*part).was_idle = looked && since >= delay.max(10);
            (*part).shrinks_left = 1 + u8::from((*part).was_idle);
            let mut sorter = Sorter::new(heap, true);
            refill::open_pending(heap, usize::MAX, &mut sorter);
            sorter.post_all();
            todo.decay = Some(now);
        }
        todo.unneeded = shrink(heap);
        todo.trim |= core::mem::take(&mut (*part).over_bound);
        todo
    }
}

/// Goes on with sending home what was not needed; answers how many bytes of that nobody had needed for the whole delay.
unsafe fn shrink(heap: *mut Heap) -> usize {
    // SAFETY: the caller holds the lock.
    unsafe {
        let part = shared(heap);
        let mut sorter = Sorter::new(heap, true);
        let (mut left, mut unneeded) = (spare::AT_ONCE, 0);
        while left > 0 && (*part).shrinks_left > 0 {
            let shrunk = spare::shrink_unneeded(heap, left, &mut sorter);
            left = left.saturating_sub(shrunk.blocks);
            if (*part).was_idle && (*part).shrinks_left == 1 {
                unneeded += shrunk.bytes;
            }
            (*part).shrinks_left -= u8::from(shrunk.done);
        }
        sorter.post_all();
        unneeded
    }
}
