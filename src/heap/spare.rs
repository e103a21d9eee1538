//! The spare stacks: free blocks between the bins and the slabs, and when they go home.
//!
//! What a full bin holds goes onto the stack (`stack`), an empty one takes as much off it. How much may stay is bounded
//! twice. By class: the limit starts small, grows by what was walked home where a refill then misses it, and shrinks by
//! what a while of use never needed. By the heap as a whole (`slack`): where its slabs and magazines hold far more than is
//! live, and more than the program was seen to come back for, blocks kept here would pin nearly empty slabs, so the class
//! keeps an eighth of what is live at most, its bin too: when everything has been freed, little stays behind for long.

use super::bin::{Bin, bin_limit, room};
use super::heap::{Heap, Spare, lock, shared};
use super::remote::Sorter;
use super::{home, shed, slack, stack, strays, upkeep};
use crate::base::size_class;
use crate::slab::batch::{self, Block};
use crate::slab::directory::DIRECTORY;
use core::ptr;

/// Blocks that go home at a time, about: what takes half a millisecond or so.
pub(super) const AT_ONCE: u32 = 1 << 14;
/// Bytes of one class that may stay on the stack at most.
const CLASS_MOST: usize = 64 << 20;

pub(super) fn first_limit(class: usize) -> u32 {
    if size_class::is_run(class) {
        // The larger ones come from the pool fast enough, and sixteen of them would be 8 MiB.
        u32::from(size_class::size(class) <= 256 << 10)
    } else if size_class::size(class) > 16 << 10 {
        0
    } else {
        2 * bin_limit(class) as u32
    }
}

/// A free that found the bin full: the older half of it goes onto the stack, so that a program that takes and frees by turns
/// does not come again soon; all of it where the last that came was a free as well.
///
/// # Safety
/// `heap` is the calling thread's; `block`, of `class`, is the caller's to give.
pub(super) unsafe fn overflow(heap: *mut Heap, block: *mut Block, class: usize) {
    // SAFETY: bins are the thread's own; the rest is under the lock.
    unsafe {
        let guard = lock(heap);
        let count = Bin::count(heap, class);
        if count > 0 {
            let first = Bin::first(heap, class);
            // A program that does nothing but free would come again as soon as half is full.
            let old = if (*heap).freeing.has(class) {
                count
            } else {
                count.div_ceil(2)
            };
            (*heap).freeing.add(class);
            if old < count || !stack::put_bin(heap, class) {
                stack::put(heap, class, first, old);
                ptr::copy(first.add(old), first, count - old);
                Bin::set_count(heap, class, count - old);
            }
        }
        let mut sorter = Sorter::new(heap, true);
        if size_class::is_run(class) {
            stack::put(heap, class, &raw const block, 1);
        } else if Bin::limit(heap, class) > 0 {
            keep(heap, class, block);
        } else if DIRECTORY.tag(block as usize).owner() != (*heap).id {
            // A thread that frees what others allocate: gather, so that each message carries many.
            Bin::set_limit(heap, class, room(class));
            keep(heap, class, block);
        } else if slack::learnt(shared(heap)) > 0 {
            stack::put(heap, class, &raw const block, 1);
        } else {
            home::blocks(heap, &raw const block, 1, class, &mut sorter);
        }
        bound(heap, class, &mut sorter);
        sorter.post_all();
        let todo = upkeep::look(heap);
        drop(guard);
        todo.run();
    }
}

/// Puts a block into the bin, which has room.
unsafe fn keep(heap: *mut Heap, class: usize, block: *mut Block) {
    // SAFETY: the bin is the calling thread's.
    let kept = unsafe { Bin::push(&raw mut (*heap).front.bins[class], block) };
    debug_assert!(kept, "half the bin was emptied");
}

/// Sends home what the class may not keep, so much at a time.
unsafe fn bound(heap: *mut Heap, class: usize, sorter: &mut Sorter) {
    // SAFETY: the caller holds the lock and is the heap's thread.
    unsafe {
        let part = shared(heap);
        let spare = &raw mut (*part).spare[class];
        let gathers = strays::gathers(heap, class);
        let limit = (*spare).limit;
        let mut keep = limit;
        if let Some(most) = gathers {
            keep = keep.max(most);
            sorter.wait_for(strays::full(class));
        }
        let share = slack::share(part, class);
        keep = keep.min(share.stack);
        bound_bin(heap, class, share.bin);
        let before = (*spare).blocks.min(limit);
        let until = (*spare).blocks.saturating_sub(AT_ONCE);
        while (*spare).blocks > keep.max(until) {
            let gone = send_home(heap, class, (*spare).blocks - keep, sorter);
            if gone == 0 {
                break;
            }
            (*spare).walked = (*spare).walked.saturating_add(gone);
            strays::homed(heap, class, gone);
            if sorter.has_any() {
                // Foreign ones among them: more at once makes fuller messages.
                let most = gathers.map_or((*spare).limit / 2, |_| 0);
                keep = keep.min(most);
            }
        }
        if share.stack < limit {
            slack::cut(part, class, before - (*spare).blocks.min(limit));
            let over = slack::over(part);
            if over > 0 {
                // One sorter at a time has the heap's rows.
                sorter.post_all();
                shed::make_room(heap, class, over);
            }
        }
    }
}

/// Takes a batch off the stack, or about `most` blocks, and sends them home; answers how many.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn send_home(
    heap: *mut Heap,
    class: usize,
    most: u32,
    sorter: &mut Sorter,
) -> u32 {
    // SAFETY: the caller holds the lock. Whoever is sent home to leaves this heap's scratch alone: it opens what is its own.
    unsafe {
        let first = (*shared(heap)).scratch.first();
        let count = stack::take(heap, class, first, (most as usize).min(batch::MOST));
        home::blocks(heap, first, count, class, sorter);
        count as u32
    }
}

/// Bounds a class whose stack grew through the inbox. A bin's worth or two stays whatever the heap holds: its thread seems
/// to need blocks, and each message would be walked home by itself.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn bound_by_limit(heap: *mut Heap, class: usize, sorter: &mut Sorter) {
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        let spare = &raw mut (*part).spare[class];
        let least = first_limit(class);
        if (*spare).blocks <= least {
            return;
        }
        let share = slack::share(part, class);
        let limit = (*spare).limit;
        let keep = limit.min(share.stack).max(least);
        let before = (*spare).blocks.min(limit);
        let until = (*spare).blocks.saturating_sub(AT_ONCE);
        while (*spare).blocks > keep.max(until) {
            let gone = send_home(heap, class, (*spare).blocks - keep, sorter);
            if gone == 0 {
                break;
            }
            (*spare).walked = (*spare).walked.saturating_add(gone);
        }
        if share.stack < limit {
            slack::cut(part, class, before.saturating_sub((*spare).blocks));
        }
    }
}

/// A refill had to go to the slabs for `want` blocks: if blocks of the class were walked home before, they were missed; keep
/// more.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn missed(heap: *mut Heap, class: usize, want: usize) {
    // SAFETY: the caller's promise.
    let spare = unsafe {
        slack::missed(shared(heap), class, want);
        &mut (*shared(heap)).spare[class]
    };
    let walked = core::mem::take(&mut spare.walked);
    if walked > 0 {
        let most = (CLASS_MOST / size_class::size(class)) as u32;
        spare.limit = spare
            .limit
            .saturating_add(walked)
            .min(spare.limit.saturating_mul(64))
            .max(spare.limit.saturating_mul(4))
            .max(first_limit(class))
            .min(most);
    }
}

/// Bounds a bin to `most` blocks: where it holds more, all of it goes onto the stack. One that is empty needs no magazine.
unsafe fn bound_bin(heap: *mut Heap, class: usize, most: u32) {
    // SAFETY: the caller holds the lock and is the heap's thread.
    unsafe {
        if Bin::limit(heap, class) <= most as usize {
            return;
        }
        let count = Bin::count(heap, class);
        if count > most as usize {
            stack::put(heap, class, Bin::first(heap, class), count);
            Bin::set_count(heap, class, 0);
        }
        if Bin::count(heap, class) == 0 {
            stack::leave_magazine(heap, class, most as usize);
        } else {
            Bin::set_limit(heap, class, most as usize);
        }
    }
}

/// Sends home everything on the heap's stacks.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn flush_all(heap: *mut Heap, sorter: &mut Sorter) {
    for class in 1..size_class::CLASSES {
        // SAFETY: the caller's promise.
        unsafe { flush(heap, class, sorter) };
    }
    // SAFETY: the caller's promise.
    unsafe { stack::give_empties(heap) };
}

/// The same for one class.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn flush(heap: *mut Heap, class: usize, sorter: &mut Sorter) {
    // SAFETY: the caller's promise.
    unsafe { while send_home(heap, class, u32::MAX, sorter) > 0 {} }
}

/// The same, and what is in the class's bin.
///
/// # Safety
/// The caller holds `heap`'s lock and is its thread.
pub(super) unsafe fn empty(heap: *mut Heap, class: usize, sorter: &mut Sorter) {
    // SAFETY: the caller's promise.
    unsafe {
        let limit = Bin::limit(heap, class);
        bound_bin(heap, class, 0);
        // What else is freed of the class is not to take the slow path each time.
        Bin::set_limit(heap, class, limit);
        flush(heap, class, sorter);
    }
}

/// What one call of [`shrink_unneeded`] did.
pub(super) struct Shrunk {
    pub(super) blocks: u32,
    pub(super) bytes: usize,
    /// All classes have been looked at. If not, the next call goes on.
    pub(super) done: bool,
}

/// Sends home what the stacks held on to for a whole period without needing it, about `most` blocks at a time.
///
/// # Safety
/// The caller holds `heap`'s lock.
pub(super) unsafe fn shrink_unneeded(heap: *mut Heap, most: u32, sorter: &mut Sorter) -> Shrunk {
    let mut shrunk = Shrunk {
        blocks: 0,
        bytes: 0,
        done: true,
    };
    // SAFETY: the caller's promise.
    unsafe {
        let part = shared(heap);
        for class in core::mem::take(&mut (*part).shrinking).max(1)..size_class::CLASSES {
            let spare: *mut Spare = &raw mut (*part).spare[class];
            let mut surplus = (*spare).low.min((*spare).blocks);
            let mut gone = 0;
            while surplus > gone && shrunk.blocks + gone < most {
                match send_home(heap, class, surplus - gone, sorter) {
                    0 => surplus = 0,
                    some => gone += some,
                }
            }
            if gone > 0 {
                let limit = (*spare).limit.saturating_sub(gone);
                (*spare).limit = limit.max(first_limit(class));
            }
            shrunk.blocks += gone;
            shrunk.bytes += gone as usize * size_class::size(class);
            if surplus > gone {
                (*spare).low = (surplus - gone).min((*spare).blocks);
                (*part).shrinking = class;
                shrunk.done = false;
                break;
            }
            (*spare).low = (*spare).blocks;
        }
        slack::unneeded(part, shrunk.bytes);
        if shrunk.done {
            slack::looked(part);
            stack::shrink_empties(heap);
        }
    }
    shrunk
}
