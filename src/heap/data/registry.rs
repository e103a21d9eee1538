//! All heaps by id, the idle ones, and those whose threads may be gone.

use crate::base::size_class::Class;
use crate::base::tuning::idle_heaps::ENDING_LOOKS;
use crate::base::tuning::watch;
use crate::heap::data::bin::Bin;
use crate::heap::data::ending::Queue;
use crate::heap::data::heap::{Heap, HeapRef, IDLE, NOBODY, Shared};
use crate::heap::data::rest;
use crate::os::lock::{Lock, Locked};
use crate::os::{sys, thread};
use crate::slab::directory::Tag;
use crate::slab::meta;
use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// A shelf is short: the first one shares its page with the first heap, which is made right after it.
const SHELF: usize = 64;
const MOST_SHELVES: usize = MOST.div_ceil(SHELF as u32) as usize;
/// Ids end here. Threads beyond that share the threadless heap.
const MOST: u32 = NOBODY;
/// The *threadless heap*: it serves threads that have no heap of their own, under its lock.
pub(crate) const SHARED_ID: u32 = 1;

type Shelf = [AtomicPtr<Heap>; SHELF];

static SHELVES: [AtomicPtr<Shelf>; MOST_SHELVES] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MOST_SHELVES];
/// The next id. Id 0 is never a heap's.
static NEXT_ID: AtomicU32 = AtomicU32::new(SHARED_ID);
static IDLE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Two lists of idle heaps, and the queue of heaps whose threads may be gone. `warm` heaps were left with blocks in their bins,
/// and threads adopt them first. `cold` heaps are the others.
struct Idle {
    warm: Option<HeapRef>,
    cold: Option<HeapRef>,
    ending: Queue,
}

// SAFETY: only reached through the lock around it.
unsafe impl Send for Idle {}

impl Idle {
    /// Lists a heap, which is idle and in no list.
    fn push(&mut self, heap: HeapRef) {
        // A heap emptied meanwhile is moved later (`relist`).
        let list = if rest::is_warm(heap) {
            &mut self.warm
        } else {
            &mut self.cold
        };
        set_after(heap, *list);
        *list = Some(heap);
    }

    /// Moves heaps that were emptied since to the cold list, and calls `warm` for those that stay, in order.
    fn relist(&mut self, mut warm: impl FnMut(HeapRef)) {
        let mut at = self.warm.take();
        let mut last = None;
        while let Some(heap) = at {
            at = after(heap);
            if rest::is_warm(heap) {
                warm(heap);
                set_after(heap, None);
                link(&mut self.warm, last, Some(heap));
                last = Some(heap);
            } else {
                self.push(heap);
            }
        }
    }

    /// As [`Queue::take_gone`]. `None` in a child of `vfork`, to which every thread seems gone.
    fn take_gone(&mut self, most: usize) -> Option<HeapRef> {
        if !thread::is_of_process() {
            return None;
        }
        let gone = self.ending.take_gone(most, thread::is_gone);
        ENDING.store(self.ending.len(), Ordering::Relaxed);
        gone.map(|ending| {
            let heap = ending.wrapping_byte_sub(offset_of!(Heap, public.ending));
            // SAFETY: a queued `Ending` lies in its heap.
            unsafe { HeapRef::of(NonNull::new_unchecked(heap.cast())) }
        })
    }

    /// Takes the idle heap that was left last, a warm one if there is any.
    fn pop(&mut self) -> Option<HeapRef> {
        let list = if self.warm.is_none() {
            &mut self.cold
        } else {
            &mut self.warm
        };
        let heap = (*list)?;
        *list = after(heap);
        Some(heap)
    }
}

static IDLE_HEAPS: Locked<Idle> = Locked::new(Idle {
    warm: None,
    cold: None,
    ending: Queue::new(),
});
/// Length of the queue. A hint, so Relaxed.
static ENDING: AtomicUsize = AtomicUsize::new(0);

/// The heap of this id, if there is one.
#[inline]
pub(crate) fn heap(id: u32) -> Option<HeapRef> {
    // Acquire pairs with the Release in `create`: the shelf and the heap in it are initialised.
    let shelf = SHELVES.get(id as usize / SHELF)?.load(Ordering::Acquire);
    if shelf.is_null() {
        return None;
    }
    // SAFETY: shelves are never freed, and what lies on them are heaps.
    unsafe {
        let heap = (*shelf)[id as usize % SHELF].load(Ordering::Acquire);
        NonNull::new(heap).map(|heap| HeapRef::of(heap))
    }
}

/// Takes a heap that no thread has: one whose thread is gone, else an idle one, if there is any.
pub(crate) fn take_left() -> Option<HeapRef> {
    let mut idle = IDLE_HEAPS.lock();
    let gone = if ENDING.load(Ordering::Relaxed) > 0 {
        idle.take_gone(ENDING_LOOKS)
    } else {
        None
    };
    if gone.is_some() {
        return gone;
    }
    let heap = idle.pop()?;
    IDLE_COUNT.fetch_sub(1, Ordering::Relaxed);
    Some(heap)
}

/// A new heap. `None` if memory or ids ran out.
pub(crate) fn make() -> Option<HeapRef> {
    create(&mut IDLE_HEAPS.lock())
}

/// Queues `heap`, so that others find out when its thread is gone.
pub(crate) fn note_ending(heap: HeapRef) {
    let mut idle = IDLE_HEAPS.lock();
    // SAFETY: heaps live for ever, and are in no other queue.
    unsafe { idle.ending.add(&raw mut (*heap.ptr()).public.ending) };
    ENDING.store(idle.ending.len(), Ordering::Relaxed);
}

/// Takes a heap whose thread is gone. It is the caller's, as the thread left it.
pub(crate) fn take_gone() -> Option<HeapRef> {
    let most = ENDING.load(Ordering::Relaxed);
    if most == 0 {
        return None;
    }
    IDLE_HEAPS.lock().take_gone(most)
}

/// Makes the threadless heap.
pub(crate) fn create_shared() -> bool {
    let mut idle = IDLE_HEAPS.lock();
    if heap(SHARED_ID).is_some() {
        return true;
    }
    let Some(heap) = create(&mut idle) else {
        return false;
    };
    // Idle for ever: its posters drain it.
    heap.state.store(IDLE, Ordering::SeqCst);
    true
}

fn create(_locked: &mut Idle) -> Option<HeapRef> {
    let id = NEXT_ID.load(Ordering::Relaxed);
    if id >= MOST {
        return None;
    }
    let shelf_slot = &SHELVES[id as usize / SHELF];
    let mut shelf = shelf_slot.load(Ordering::Relaxed);
    if shelf.is_null() {
        shelf = meta::allocate::<Shelf>()?.as_ptr();
        // Release pairs with the Acquire in `heap`. Zeroed memory is a shelf of nulls.
        shelf_slot.store(shelf, Ordering::Release);
    }
    // A small process has no use for the threadless heap.
    let heap = match id {
        SHARED_ID => meta::allocate::<Heap>()?,
        _ => meta::allocate_apart::<Heap>()?,
    };
    // SAFETY: fresh zeroed memory, which is a valid heap but for its id, tag and bins.
    let heap = unsafe {
        let new = heap.as_ptr();
        // Each thread comes to what lies before the large tables. A page that is read before it is written takes two faults.
        if id != SHARED_ID {
            let page = sys::page_size();
            let mut at = 0;
            while at < offset_of!(Heap, shared) + offset_of!(Shared, slabs) {
                new.cast::<u8>().add(at).write_volatile(0);
                at += page;
            }
        }
        (*new).public.id = id;
        // Its first frees are looked at one by one, on the slow path (`slow::watch`).
        (*new).front.tag = Tag::of_owner(NOBODY).0;
        (*new).watch = watch::BUDGET;
        Bin::init_all(HeapRef::of(heap));
        (*shelf)[id as usize % SHELF].store(new, Ordering::Release);
        HeapRef::of(heap)
    };
    NEXT_ID.store(id + 1, Ordering::Relaxed);
    Some(heap)
}

/// Lists an idle heap, where the next thread finds it. The caller holds no heap's lock.
///
/// # Safety
/// The heap's thread is gone or uses it no more, and it is in no list: else two threads get it.
pub(crate) unsafe fn publish_idle(heap: HeapRef) {
    let mut idle = IDLE_HEAPS.lock();
    idle.push(heap);
    // Under the lock: whoever takes the heap counts it after this.
    IDLE_COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Looks at up to `most` cold idle heaps and calls `visit` for those that say they have slabs with room in `class`, until it
/// returns true. The registry's lock is held meanwhile: the heaps stay idle.
pub(crate) fn find_idle(class: Class, most: usize, mut visit: impl FnMut(HeapRef) -> bool) -> bool {
    if IDLE_COUNT.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let mut idle = IDLE_HEAPS.lock();
    if rest::take_any_emptied() {
        idle.relist(|_| ());
    }
    let mut at = idle.cold;
    for _ in 0..most {
        let Some(heap) = at else { break };
        if heap.idle_classes.has(class) && visit(heap) {
            return true;
        }
        at = after(heap);
    }
    false
}

/// Takes the warm idle heap that was left longest ago, of those that are `wanted`, off its list. The caller publishes it again.
pub(crate) fn take_oldest_warm(wanted: impl Fn(HeapRef) -> bool) -> Option<HeapRef> {
    let mut idle = IDLE_HEAPS.lock();
    let (mut found, mut before, mut at) = (None, None, idle.warm);
    while let Some(heap) = at {
        if wanted(heap) {
            found = Some((before, heap));
        }
        (before, at) = (Some(heap), after(heap));
    }
    let (before, heap) = found?;
    link(&mut idle.warm, before, after(heap));
    IDLE_COUNT.fetch_sub(1, Ordering::Relaxed);
    Some(heap)
}

/// The idle heap listed after this one. The caller holds the registry's lock, which orders the accesses: Relaxed.
fn after(heap: HeapRef) -> Option<HeapRef> {
    let next = NonNull::new(heap.next_idle.load(Ordering::Relaxed));
    // SAFETY: only heaps are listed.
    next.map(|next| unsafe { HeapRef::of(next) })
}

fn set_after(heap: HeapRef, next: Option<HeapRef>) {
    let next = next.map_or(ptr::null_mut(), HeapRef::ptr);
    heap.next_idle.store(next, Ordering::Relaxed);
}

/// Has `heap` follow `before` in a list, or begin it.
fn link(list: &mut Option<HeapRef>, before: Option<HeapRef>, heap: Option<HeapRef>) {
    match before {
        Some(before) => set_after(before, heap),
        None => *list = heap,
    }
}

/// Fills `places` with idle heaps that keep blocks or slabs, and returns how many it filled. If there are more, it prefers warm
/// heaps to cold ones, and those left longest ago to others. On the way it moves heaps that were emptied since from the warm list
/// to the cold one.
pub(crate) fn keeping(places: &mut [Option<HeapRef>]) -> usize {
    let mut idle = IDLE_HEAPS.lock();
    let mut count = 0;
    let mut add = |heap: HeapRef| {
        // The list begins with the heap left last, so older ones overwrite newer ones.
        places[count % places.len()] = Some(heap);
        count += 1;
    };
    let mut at = idle.cold;
    while let Some(heap) = at {
        if heap.rest.load(Ordering::Relaxed) == rest::SLABS {
            add(heap);
        }
        at = after(heap);
    }
    idle.relist(add);
    count.min(places.len())
}

/// Heaps made so far, the threadless one included.
pub(crate) fn count() -> usize {
    (NEXT_ID.load(Ordering::Relaxed) - SHARED_ID) as usize
}

/// Idle heaps. The threadless one is neither live nor idle.
pub(crate) fn idle_count() -> usize {
    IDLE_COUNT.load(Ordering::Relaxed)
}

/// Heaps that are not idle.
pub(crate) fn live_count() -> usize {
    // The counts are read one after the other, so this may be off by threads that come or go.
    count().saturating_sub(1 + idle_count())
}

/// Every heap.
pub(crate) fn all() -> impl Iterator<Item = HeapRef> {
    (SHARED_ID..NEXT_ID.load(Ordering::Relaxed)).filter_map(heap)
}

/// `most` heaps, none of them twice. The walk begins with the heap at which the previous one was left, or behind it if that one
/// came to its end. `turn` is a hint, so Relaxed: two walks at a time may visit the same heaps.
pub(crate) fn in_turn(turn: &AtomicUsize, most: usize) -> impl Iterator<Item = HeapRef> {
    let count = count();
    let mut place = turn.load(Ordering::Relaxed);
    let mut left = most.min(count);
    let each = core::iter::from_fn(move || {
        turn.store(place, Ordering::Relaxed);
        left = left.checked_sub(1)?;
        let heap = heap(SHARED_ID + (place % count) as u32);
        place = place.wrapping_add(1);
        Some(heap)
    });
    each.flatten()
}

/// For fork: the registry's lock.
pub(crate) fn fork_lock() -> &'static Lock {
    IDLE_HEAPS.raw()
}

/// In the child of a fork: makes every heap but `keep` and the threadless one idle.
///
/// # Safety
/// Only the calling thread exists, its heap is `keep`, and the registry's lock has been reset.
pub(crate) unsafe fn rebuild_idle(keep: Option<HeapRef>) {
    let mut idle = IDLE_HEAPS.lock();
    (idle.warm, idle.cold) = (None, None);
    let mut count = 0;
    for heap in all() {
        if keep == Some(heap) || heap.id == SHARED_ID {
            continue;
        }
        heap.state.store(IDLE, Ordering::SeqCst);
        idle.push(heap);
        count += 1;
    }
    IDLE_COUNT.store(count, Ordering::Relaxed);
}
