//! Second frees, and frees of what is no block's start, where they are made.
//!
//! The first frees of each heap are looked at one by one. A heap begins with a tag that matches nothing, so that each free of its
//! thread takes the slow path, which asks here whether the block is free already: in the bin, in the outbox, on the stack, in its
//! slab. When that has cost as much as it may, the heap gets its own tag, and frees take the fast path. So a mistake in a short
//! program, or early in a long one, is found where it is made.

use crate::base::size_class::{self, Class};
use crate::base::tuning::watch::{EACH, OPENED, TOGETHER};
use crate::heap::cache::shelf;
use crate::heap::data::bin::Bin;
use crate::heap::data::heap::{HeapRef, HeldHeap, NOBODY};
use crate::heap::data::state::Outbox;
use crate::heap::data::{registry, tls};
use crate::heap::home::{drain, open};
use crate::os::sys::ErrnoGuard;
use crate::slab::batch::{self, Block};
use crate::slab::check;
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::magazine::Magazine;
use crate::slab::report;
use crate::slab::slab::Blocks;
use crate::slab::superslab::Superslab;
use core::slice;

/// Whether a block is among others. Takes what that costs off what is left. Half of each address is compared first, because
/// processors compare four of those at once.
#[inline(never)]
fn among(blocks: &[*mut Block], block: *mut Block, left: &mut usize) -> bool {
    *left = left.saturating_sub(blocks.len() / TOGETHER);
    let half = |block: *mut Block| block as usize as u32;
    let hits = blocks.iter().fold(0, |hits, &other| {
        hits | u32::from(half(other) == half(block))
    });
    hits != 0 && blocks.contains(&block)
}

/// Whether a block is in the bin.
///
/// Blocks that were never handed out lie there in a row, the highest address lowest: among those the place of one is computed. A
/// row stays one for as long as its blocks are there. They only go, newest first, until a free comes here and cuts it to what is
/// left, before its own block is put on top. Whatever else puts blocks in sets `rows` to 0.
///
/// # Safety
/// The heap is the calling thread's, the block one of `class`, and the heap is watched: nothing is freed without a look.
pub(in crate::heap) unsafe fn in_bin(
    heap: HeapRef,
    block: *mut Block,
    class: Class,
    left: &mut usize,
) -> bool {
    // SAFETY: the caller's promise.
    let (blocks, row) = unsafe {
        (
            Bin::blocks(heap, class),
            &mut (*heap.ptr()).rows[class.index()],
        )
    };
    let Some(&oldest) = blocks.first() else {
        *row = 0;
        return false;
    };
    let size = size_class::size(class);
    if *row == 0 {
        let follows =
            |pair: &&[*mut Block]| pair[0] as usize == (pair[1] as usize).wrapping_add(size);
        *row = 1 + blocks.windows(2).take_while(follows).count() as u16;
        *left = left.saturating_sub(usize::from(*row));
    }
    *row = (*row).min(blocks.len() as u16);
    let (in_row, others) = blocks.split_at(usize::from(*row));
    let below = (oldest as usize).wrapping_sub(block as usize);
    let at = Blocks::of(class).index(below);
    at.and_then(|at| in_row.get(at)) == Some(&block) || among(others, block, left)
}

/// Looks at a block that is being freed, if the heap is watched.
///
/// # Safety
/// `heap` is the calling thread's, and no lock is held. `block`, tagged `tag`, lies in a slab of ours.
#[inline]
pub(crate) unsafe fn look(heap: HeapRef, block: *mut Block, tag: Tag) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*heap.ptr()).watch > 0 {
            in_use(heap, block, tag, "free");
        }
    }
}

/// Looks at a block that is not being freed, for the call `asked`, if the thread's heap is watched.
///
/// # Safety
/// `block` lies in a slab of ours; no lock is held.
#[inline]
pub(crate) unsafe fn look_at(block: *const u8, asked: &str) {
    let front = tls::get();
    // SAFETY: the thread's front, or a stand-in.
    if unsafe { (*front).tag } == Tag::of_owner(NOBODY).0 {
        look_at_slow(block.cast_mut().cast(), asked);
    }
}

#[cold]
#[inline(never)]
fn look_at_slow(block: *mut Block, asked: &str) {
    // SAFETY: the thread's own heap.
    if let Some(heap) = tls::current().filter(|heap| unsafe { (*heap.ptr()).watch } > 0) {
        // SAFETY: as above.
        unsafe { in_use(heap, block, DIRECTORY.own_tag(block as usize), asked) };
    }
}

/// Ends the process if the block is free already, or no block's start. When that has cost what the heap had left, it is
/// watched no more.
///
/// # Safety
/// As for [`look`], and the heap is watched.
#[cold]
#[inline(never)]
unsafe fn in_use(heap: HeapRef, block: *mut Block, tag: Tag, asked: &str) {
    let class = tag.class();
    if !check::is_start(block, class) {
        report::no_start(asked, block, class);
    }
    let _errno = ErrnoGuard::new();
    // SAFETY: bin and outbox are the calling thread's; the rest is looked at under its heap's lock.
    unsafe {
        let mut left = (*heap.ptr()).watch.saturating_sub(EACH);
        // A free of a run needs no look: `run_freed` checks each.
        let mut free = match size_class::is_run(class) {
            true => asked != "free" && Superslab::is_free_run(block),
            false => {
                in_bin(heap, block, class, &mut left)
                    || (heap.gathered.has(class)
                        && among(Outbox::blocks(heap, class), block, &mut left))
            }
        };
        if !free && !size_class::is_run(class) {
            let owner = registry::heap(tag.owner());
            free = has(heap, true, block, class, &mut left)
                || owner.is_some_and(|owner| {
                    owner != heap && has(owner, false, block, class, &mut left)
                });
        }
        if free {
            report::free_already(asked, block, class);
        }
        (*heap.ptr()).watch = left;
        if left == 0 {
            (*heap.ptr()).front.tag = Tag::of_owner(heap.id).0;
        }
    }
}

/// [`shelved`], as far as the heap's lock is free.
///
/// # Safety
/// `heap` is the calling thread's, if it is `mine`; `block` is as for [`shelved`].
unsafe fn has(
    heap: HeapRef,
    mine: bool,
    block: *mut Block,
    class: Class,
    left: &mut usize,
) -> bool {
    let Some(mut held) = heap.try_lock() else {
        return false;
    };
    // SAFETY: the caller's promise.
    let free = unsafe { shelved(&mut held, block, class, left) };
    if mine {
        held.unlock().leave();
    } else {
        drain::release(held).run();
    }
    free
}

/// Whether a block lies on a heap's stack, or free in its slab if that is the heap's.
///
/// # Safety
/// `block` is one of `class`, which is none of runs.
unsafe fn shelved(heap: &mut HeldHeap, block: *mut Block, class: Class, left: &mut usize) -> bool {
    // SAFETY: the caller's promise. Whose a slab is changes under its owner's lock alone. Batches are read, and stay as they
    // are.
    unsafe {
        let mut magazine = heap.stacks[class].magazine;
        while !magazine.is_null() && *left > 0 {
            if among(Magazine::blocks(magazine), block, left) {
                return true;
            }
            magazine = (*magazine).below;
        }
        if among(shelf::blocks(heap, class), block, left) {
            return true;
        }
        let mut next = heap.stacks[class].top;
        while let Some(batch) = next.filter(|_| *left > 0) {
            let first = heap.scratch();
            let count = open::open(batch, class, first, batch::MOST);
            *left = left.saturating_sub(OPENED * count);
            if among(slice::from_raw_parts(first, count), block, left) {
                return true;
            }
            next = open::on_stack(batch, class, count).1;
        }
        DIRECTORY.tag(block as usize) == Tag::new(heap.heap().id, class)
            && (*Superslab::slab_of(block as usize)).is_free(block as usize)
    }
}

/// Notes that a run is being freed. Ends the process if it is free already, or no run's start.
///
/// # Safety
/// `run` is tagged with `class`, one of runs.
pub(crate) unsafe fn run_freed(run: *mut Block, class: Class) {
    if !check::is_start(run, class) {
        // Or it was returned meanwhile, and the slab says that nothing of it is out.
        report::no_start("free", run, class);
    }
    // SAFETY: the start of a run of ours.
    if unsafe { Superslab::run_freed(run) } {
        report::free_already("free", run, class);
    }
}

/// Ends the process if a bin gave nothing out because its newest block lies there twice.
///
/// # Safety
/// `bin`, of `class`, is the calling thread's, or a stand-in.
#[inline]
pub(crate) unsafe fn unless_empty(bin: *mut Bin, class: Class) {
    // SAFETY: the caller's promise.
    if let Some(block) = unsafe { Bin::twice(bin) } {
        report::free_already("free", block, class);
    }
}
