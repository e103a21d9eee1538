//! Blocks of other heaps: gathered in `out`, posted batch by batch, drained when nobody else will.

use super::bin::Bin;
use super::heap::{Heap, IDLE, by_id, shared};
use super::left_over::LeftOver;
use super::out::{MOST_BATCHED, Out, batch_limit};
use super::{home, hot, keep, maintain, registry, slabs, slack, spare, stack, strays};
use crate::base::size_class;
use crate::os::lock::Guard;
use crate::os::sys;
use crate::pool;
use crate::slab::batch::{Batch, Block};
use crate::slab::depot::DEPOT;
use crate::slab::directory::Tag;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering, fence};

/// Bytes in an inbox, about, from which on the poster tries to walk it home itself: its owner sleeps or does not allocate.
const LARGE_INBOX: usize = 512 << 10;
/// Owners told apart on a walk home.
const OWNERS: usize = 8;

/// The blocks of a [`Sorter`]'s rows; on no stack, for a thread may have little.
pub(super) type Rows = [[MaybeUninit<*mut Block>; MOST_BATCHED]; OWNERS];

/// Gathers foreign blocks by owner, so that each message carries many. One at a time has any of a heap's, under its lock.
pub(super) struct Sorter {
    heap: *mut Heap,
    rows: [Row; OWNERS],
    used: usize,
    /// Whether inboxes nobody comes for may be drained on the way: not while draining one.
    may_drain: bool,
    /// Least blocks in a row that do not wait for more.
    full: usize,
}

#[derive(Clone, Copy)]
struct Row {
    owner: u32,
    class: u32,
    /// How many of the row's blocks are there.
    count: usize,
}

impl Sorter {
    /// A sorter of what the holder of `heap`'s lock sends home.
    pub(super) fn new(heap: *mut Heap, may_drain: bool) -> Sorter {
        Sorter {
            heap,
            may_drain,
            full: 0,
            rows: [Row {
                owner: 0,
                class: 0,
                count: 0,
            }; OWNERS],
            used: 0,
        }
    }

    /// Lets rows wait for `full` blocks where a batch is less: one a little larger than a batch would make one message
    /// that is full and one of a few.
    pub(super) fn wait_for(&mut self, full: usize) {
        self.full = full;
    }

    /// Whether blocks wait to be posted.
    pub(super) fn has_any(&self) -> bool {
        self.used > 0
    }

    /// Adds a foreign block.
    ///
    /// # Safety
    /// The caller owns `block`, whose tag is `tag`, and holds the lock of the sorter's heap.
    pub(super) unsafe fn add(&mut self, block: *mut Block, tag: Tag) {
        let (owner, class) = (tag.owner(), tag.class());
        let found = self.rows[..self.used]
            .iter()
            .position(|row| row.owner == owner && row.class == class as u32);
        let index = match found {
            Some(index) => index,
            None => {
                let index = if self.used < OWNERS {
                    // SAFETY: the lock is held.
                    let sorting = unsafe { &mut (*shared(self.heap)).sorting };
                    debug_assert!(self.used > 0 || !*sorting, "two sorters share their rows");
                    *sorting = true;
                    self.used += 1;
                    self.used - 1
                } else {
                    let fullest = (0..OWNERS).max_by_key(|&i| self.rows[i].count);
                    let index = fullest.unwrap_or(0);
                    // SAFETY: the row's blocks are ours.
                    unsafe { self.post_row(index) };
                    index
                };
                self.rows[index] = Row {
                    owner,
                    class: class as u32,
                    count: 0,
                };
                index
            }
        };
        let row = &mut self.rows[index];
        // SAFETY: the lock is held; a row is posted before it has more than it has room for.
        unsafe {
            (*shared(self.heap)).rows[index][row.count].write(block);
        }
        row.count += 1;
        if row.count >= batch_limit(class).max(self.full).min(MOST_BATCHED) {
            // SAFETY: the row's blocks are ours.
            unsafe { self.post_row(index) };
        }
    }

    /// Posts everything gathered.
    ///
    /// # Safety
    /// The caller holds the lock of the sorter's heap, and has since the first was added.
    pub(super) unsafe fn post_all(&mut self) {
        if self.used == 0 {
            return;
        }
        for index in 0..self.used {
            // SAFETY: as above.
            unsafe { self.post_row(index) };
        }
        self.used = 0;
        // SAFETY: the lock is held.
        unsafe { (*shared(self.heap)).sorting = false };
    }

    unsafe fn post_row(&mut self, index: usize) {
        let row = &mut self.rows[index];
        let count = core::mem::take(&mut row.count);
        if count == 0 {
            return;
        }
        // SAFETY: the first `count` blocks of the row were written, are the caller's, and of the row's class.
        unsafe {
            let blocks = &raw const (*shared(self.heap)).rows[index];
            let last = blocks.cast::<*mut Block>().add(count - 1);
            let batch = Batch::of(last, count, size_class::size(row.class as usize));
            post(row.owner, batch, self.may_drain);
        }
    }
}

/// Posts a batch to its owner; where nobody may come for it, walks the owner's inbox home.
///
/// # Safety
/// The caller owns the batch, and holds no lock but that of its own thread's heap if it may drain.
unsafe fn post(owner: u32, batch: Batch, may_drain: bool) {
    // SAFETY: tags name heaps that exist, and heaps live for ever.
    unsafe {
        let heap = by_id(owner);
        if heap.is_null() {
            crate::os::message::fatal!(
                "block {:p}: its slab names a heap that does not exist",
                batch.head()
            );
        }
        let class = super::refill::class_of(batch.head());
        let each = batch_limit(class) * size_class::size(class);
        let waiting = (*heap).inbox.post(batch);
        // SeqCst, with the fence in `exit::detach`: either this thread sees that the heap is idle, or its last drain
        // sees this batch.
        fence(Ordering::SeqCst);
        let nobody_comes = (*heap).state.load(Ordering::Relaxed) == IDLE;
        if nobody_comes || waiting * each >= LARGE_INBOX {
            if may_drain {
                try_drain(heap);
            } else {
                LEFT.leave();
            }
        }
    }
}

/// Walks a heap's inbox home on its behalf, unless somebody is at it. Does not recurse: what turns out to be foreign
/// is posted onward and left there.
///
/// # Safety
/// The caller holds at most one other heap's lock.
pub(super) unsafe fn try_drain(heap: *mut Heap) {
    // SAFETY: heaps live for ever.
    unsafe {
        if let Some(guard) = (*heap).lock.try_lock() {
            drain_and_unlock(heap, guard);
            look_again(heap);
        }
    }
}

/// Walks an inbox home under a lock that is let go with it.
///
/// # Safety
/// `guard` is of `heap`'s lock.
pub(super) unsafe fn drain_and_unlock(heap: *mut Heap, guard: Guard<'_>) {
    // SAFETY: the lock is held until the guard goes.
    let over = unsafe {
        drain_locked(heap);
        if (*heap).state.load(Ordering::Relaxed) == IDLE {
            slabs::note_idle_classes(heap);
        }
        slack::show(shared(heap));
        core::mem::take(&mut (*shared(heap)).over_bound)
    };
    drop(guard);
    if over {
        // The caller may hold a lock of its own: the trimming is left to `catch_up`.
        OVER.store(true, Ordering::Relaxed);
    }
}

/// To be called after the lock of a heap that may be idle was let go: a poster that found it held has gone away and
/// counts on whoever held it. (Poster: push, fence, `try_lock` fails; so the holder's unlock comes later, and its look
/// after the fence below sees the push.)
///
/// # Safety
/// The caller does not hold `heap`'s lock.
pub(super) unsafe fn look_again(heap: *mut Heap) {
    // SAFETY: heaps live for ever.
    unsafe {
        loop {
            fence(Ordering::SeqCst);
            if (*heap).state.load(Ordering::Relaxed) != IDLE || (*heap).inbox.is_empty() {
                return;
            }
            let Some(guard) = (*heap).lock.try_lock() else {
                return;
            };
            drain_and_unlock(heap, guard);
        }
    }
}

/// Memory was freed on behalf of others beyond the pool's bound.
static OVER: AtomicBool = AtomicBool::new(false);
/// A batch was posted to a heap nobody comes for, by somebody who could not drain it.
static LEFT: LeftOver = LeftOver::new();

/// Says that some idle heap may hold batches that nobody opened: the caller kept locks, and let them go.
pub(super) fn leave() {
    LEFT.leave();
}

/// Does what was left undone under locks. No lock may be held.
pub(super) fn catch_up() {
    if LEFT.take() {
        for heap in registry::all() {
            // SAFETY: heaps live for ever; no lock is held.
            unsafe {
                if (*heap).state.load(Ordering::Relaxed) == IDLE {
                    try_drain(heap);
                }
            }
        }
    }
    if OVER.load(Ordering::Relaxed) && OVER.swap(false, Ordering::Relaxed) {
        pool::trim();
    }
    DEPOT.catch_up();
}

/// Walks everything in the inbox and among the pending home.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn drain_locked(heap: *mut Heap) {
    // SAFETY: the caller's promise; posted batches are nobody else's.
    unsafe {
        let mut sorter = Sorter::new(heap, false);
        // What is posted meanwhile is for the next: the lock is not held for as long as others keep posting.
        super::refill::gather_pending(heap);
        let part = shared(heap);
        while let Some(batch) = (*part).pending {
            let class = super::refill::class_of(batch.head());
            (*part).pending = home::next_posted(batch);
            (*part).drained += 1;
            home::batch(heap, batch, class, &mut sorter);
        }
        sorter.post_all();
    }
}

/// A free of a block that belongs to another heap, by a thread that has one.
///
/// # Safety
/// `heap` is the calling thread's; `block`, tagged `tag`, is the caller's to give.
pub(super) unsafe fn free_foreign(heap: *mut Heap, block: *mut Block, tag: Tag) {
    let class = tag.class();
    // SAFETY: `out` is the thread's own.
    unsafe {
        if Out::owner(heap, class).is_some_and(|owner| owner != tag.owner()) {
            // A second owner: into the bin; the way back sorts.
            (*heap).mixed.add(class);
            strays::came(heap, class);
            return hot::push_foreign(heap, block, class);
        }
        (*heap).gathered.add(class);
        if let Some(batch) = Out::add_end(heap, class, block, tag.owner()) {
            let _errno = crate::os::sys::ErrnoGuard::new();
            post(tag.owner(), batch, true);
            catch_up();
            maintain::wake_if_grown();
        }
    }
}

/// A free by a thread without a heap.
///
/// # Safety
/// `block`, tagged `tag`, is the caller's to give; no lock is held.
pub(super) unsafe fn post_single(block: *mut Block, tag: Tag) {
    // SAFETY: the caller's promise.
    unsafe {
        let batch = Batch::of(&raw const block, 1, size_class::size(tag.class()));
        post(tag.owner(), batch, true);
    }
    catch_up();
}

/// Posts what the thread gathered for others, and sends its bins home.
///
/// # Safety
/// `heap`'s thread gives it up (or is gone), and the caller holds its lock.
pub(super) unsafe fn flush_private(heap: *mut Heap, sorter: &mut Sorter) {
    for class in 1..crate::base::size_class::CLASSES {
        // SAFETY: nobody else uses the private part any more.
        unsafe {
            flush_bin(heap, class, sorter);
            let (gathered, count) = Out::take(heap, class);
            home::blocks(heap, gathered, count, class, sorter);
        }
    }
}

/// Sends the bin of one class home.
///
/// # Safety
/// As for [`flush_private`].
pub(super) unsafe fn flush_bin(heap: *mut Heap, class: usize, sorter: &mut Sorter) {
    // SAFETY: nobody else uses the bin any more.
    unsafe {
        let count = Bin::count(heap, class);
        Bin::set_count(heap, class, 0);
        home::blocks(heap, Bin::first(heap, class), count, class, sorter);
        stack::leave_magazine(heap, class, 0);
    }
}

/// Drains, flushes the stacks of, and publishes what can be reused of a heap that is not the caller's; answers whether the
/// pool holds too much now.
///
/// # Safety
/// The caller holds no lock.
pub(super) unsafe fn settle(heap: *mut Heap) -> bool {
    let mut over = false;
    // SAFETY: the caller's promise.
    unsafe {
        while settle_some(heap, &mut over) {
            // Whoever waits for the lock is to have it before this thread takes it again.
            sys::sleep_us(100);
        }
    }
    over
}

/// Some of that, so that the lock is not held for long; answers whether there is more to do.
unsafe fn settle_some(heap: *mut Heap, over: &mut bool) -> bool {
    // SAFETY: heaps live for ever.
    unsafe {
        let Some(guard) = (*heap).lock.try_lock() else {
            return false;
        };
        let mut done = true;
        drain_locked(heap);
        let mut sorter = Sorter::new(heap, false);
        if (*heap).state.load(Ordering::Relaxed) == IDLE {
            keep::look(heap, &mut sorter);
            slabs::note_idle_classes(heap);
        } else {
            done = spare::shrink_unneeded(heap, spare::AT_ONCE, &mut sorter).done;
            if done {
                (*shared(heap)).shrinks_left = 0;
                slabs::retire_empty(heap);
            }
        }
        sorter.post_all();
        slack::show(shared(heap));
        *over |= core::mem::take(&mut (*shared(heap)).over_bound);
        drop(guard);
        look_again(heap);
        !done
    }
}
