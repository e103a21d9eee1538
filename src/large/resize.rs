//! Changes the length of a large block: grows it without copying if the kernel moves its mappings, into cached memory if there is
//! some, and gives back what it shrinks by.

use super::block::{claim, fresh, held, in_use, map_new, publish};
use super::cache::{self, Change};
use super::descriptor::Descriptor;
use super::guard::{self, not_in_use};
use super::parts;
use super::run::Run;
use super::seen;
use crate::base::tuning::large::{BEHIND, COPIED, TAIL_SHARE};
use crate::base::units::{SUPERSLAB, round_up};
use crate::os::mapping::{self, Mapping, Place};
use crate::os::{clock, huge};
use crate::slab::directory::DIRECTORY;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

/// Makes a large block at least `new_size` bytes long by moving page tables instead of bytes; it copies what the kernel does not
/// move. `None` if memory is out: then the block is unchanged. The program says that it asked for `old_size` bytes.
///
/// # Safety
/// `ptr` is a large block in use, allocated at `align`. No lock may be held.
#[inline(never)]
pub(crate) unsafe fn realloc(
    ptr: *mut u8,
    old_size: usize,
    align: usize,
    new_size: usize,
) -> Option<*mut u8> {
    let found = in_use(ptr, "realloc");
    // SAFETY: the caller's promise.
    unsafe { found.check("realloc", Some(old_size)) };
    let (room, checked) = (found.room(), found.checked);
    let tail = room.saturating_sub(new_size);
    if new_size <= room && tail <= new_size / TAIL_SHARE {
        resized(found, ptr as usize, new_size);
        return Some(ptr);
    }
    let descriptor = claim(ptr).unwrap_or_else(|| not_in_use("realloc", ptr));
    // SAFETY: the claim makes this thread the descriptor's only user, until it is published again.
    let block = unsafe { &mut *descriptor };
    let (map, thp) = (block.run.map, block.huge);
    let offset = ptr as usize - map.addr;
    let least = map.end() - ptr as usize - room;
    let len = new_size
        .checked_add(offset + least)
        .and_then(|len| round_up(len, SUPERSLAB));
    let was = block.extent();
    let unproven = seen::changes(map.addr, thp);
    let grows = len > Some(map.len);
    let filled = grows && seen::grows_filled(was, block.fresh);
    let mut huge = thp;
    if len != Some(map.len) {
        let changed = len.and_then(|len| change_length(&block.run, len, align.max(SUPERSLAB), thp));
        let Some(changed) = changed else {
            if unproven {
                seen::changed(was);
            }
            publish(ptr as usize, descriptor);
            return None;
        };
        block.run.count_out();
        changed.run.count_in();
        if thp && changed.fresh > 0 {
            cache::account_huge(changed.fresh as isize);
        }
        huge = changed.huge;
        block.run = changed.run;
        // Behind it may lie memory that was used before.
        block.fresh &= block.run.is_whole();
    }
    let new = block.run.map;
    if new.addr != map.addr {
        DIRECTORY.leave(map.addr);
    }
    let start = new.addr + offset;
    let end = start + new_size + if checked { BEHIND } else { 0 };
    resized(block, start, new_size);
    block.start = start;
    let extent = block.extent();
    if unproven && !grows {
        seen::changed(extent);
    }
    let before = block.held;
    before.count(false);
    block.huge = match huge {
        true if grows && !filled => !seen::leaves(new),
        true => seen::stays(new, extent, grows.then_some(was.len)),
        false => filled && seen::ask_for_grown(new, extent, was.len),
    };
    let held = held(new, end.min(new.end()), block.huge, new_size < room);
    block.held = held;
    let change = Change {
        blocks: 0,
        bytes: new.len as isize - map.len as isize,
        servable: block.servable,
        held: held.bytes as isize - before.bytes as isize,
    };
    cache::account(change, clock::now_ms());
    publish(start, descriptor);
    Some(start as *mut u8)
}

/// Notes the new size of the block at `start`, which the calling thread has for this call.
fn resized(block: &Descriptor, start: usize, new_size: usize) {
    block.size.store(new_size, Relaxed);
    if block.checked {
        // SAFETY: the block is the caller's, and its mapping long enough.
        unsafe { guard::paint(block.run.map, start, new_size) };
    }
}

/// A block's memory after a change of its length.
struct Changed {
    run: Run,
    /// Whether it asks for huge pages.
    huge: bool,
    /// How many of its bytes inherit the block's request for them and are not counted yet.
    fresh: usize,
}

/// Makes a block's memory `len` bytes long, which it is not.
fn change_length(run: &Run, len: usize, align: usize, thp: bool) -> Option<Changed> {
    let map = run.map;
    let with = |run, huge| Changed {
        run,
        huge,
        fresh: 0,
    };
    if len < map.len {
        // To the kernel, not to the cache: a buffer that shrinks to what it holds is done growing.
        let (run, behind) = run.divide(len);
        cache::release(behind, thp);
        return Some(with(run, thp));
    }
    if let Some((run, huge)) = extend(run, len, align, thp) {
        return Some(with(run, huge));
    }
    if let Some(run) = grow_in_place(run, len, thp) {
        return Some(with(run, thp));
    }
    let grown = |run| Changed {
        run,
        huge: thp,
        fresh: len - map.len,
    };
    if !run.is_whole() {
        // The kernel moves one mapping at a time.
        return copy_to_new(&[*run], len, align, thp).map(grown);
    }
    // SAFETY: the mapping is the block's, which the caller has claimed.
    match unsafe { mapping::remap(map, len, align, Some(&DIRECTORY)) } {
        Ok(new) => Some(grown(Run::new(new))),
        Err(error) if error.intact => copy_to_new(&[*run], len, align, thp).map(grown),
        Err(_) => memory_is_lost(),
    }
}

#[cold]
#[inline(never)]
fn memory_is_lost() -> ! {
    crate::os::message::fatal!("mremap of a large block failed after it had moved: memory is lost")
}

/// Grows a block into the addresses kept behind it, if both are one mapping to the kernel.
fn grow_in_place(run: &Run, len: usize, thp: bool) -> Option<Run> {
    if thp {
        return None;
    }
    let behind = cache::find_behind(run.map.end(), len - run.map.len)?;
    let grown = run.join(&behind).filter(Run::is_whole);
    if grown.is_none() {
        cache::keep_addresses(behind);
    }
    grown
}

/// Grows a block by cached memory: its own memory moves to a new place, and cached memory follows behind it. `None` if the
/// block was not moved. Returns whether it asks for huge pages: if some of the cached memory does, all of the block does.
fn extend(run: &Run, len: usize, align: usize, thp: bool) -> Option<(Run, bool)> {
    // The kernel grows one mapping by itself. A block of several mappings is moved part by part.
    let worth = !run.is_whole() || cache::cached_bytes() > 0;
    if !worth || !parts::may_move() || !run.may_join() {
        return None;
    }
    let target = map_new(len, align)?;
    let front = Mapping {
        addr: target.addr,
        len: run.map.len,
    };
    let tail = Mapping {
        addr: front.end(),
        len: len - front.len,
    };
    let Some(gathered) = parts::gather(tail, run.room(), thp) else {
        DIRECTORY.leave(target.addr);
        cache::release(Run::new(front), false);
        return None;
    };
    let moved = parts::move_run(run, front);
    if moved.map.len == front.len {
        if gathered.huge && !thp {
            parts::ask(front.addr, front.len);
        }
        let grown = moved.join(&gathered.run).or_else(|| memory_is_lost());
        return grown.map(|run| (run, gathered.huge));
    }
    DIRECTORY.leave(target.addr);
    cache::keep(&gathered.run, 0, gathered.huge, clock::now_ms());
    if moved.map.len == 0 {
        return None;
    }
    // Part of the block moved, and the kernel refuses the rest: both places are copied into a new one.
    let left = run.divide(moved.map.len).1;
    let copied = copy_to_new(&[moved, left], len, align, thp).or_else(|| memory_is_lost());
    copied.map(|run| (run, thp))
}

/// Copies a block that the kernel would not move. What was copied goes back at once: otherwise the block would be resident
/// twice.
#[inline(never)]
fn copy_to_new(from: &[Run], len: usize, align: usize, thp: bool) -> Option<Run> {
    let run = fresh(len, align)?;
    if thp {
        // SAFETY: advice on our own mapping; the request is counted with its block.
        let _ = unsafe { huge::advise(run.map.addr, run.map.len) };
    }
    let mut to = run.map.addr;
    for old in from {
        let map = old.map;
        for done in (0..map.len).step_by(COPIED) {
            let step = COPIED.min(map.len - done);
            let from = map.addr + done;
            // SAFETY: both are the block's and do not overlap, and the new one is at least as long as all old ones together.
            // Nothing fails after this, so nobody needs what was copied.
            unsafe {
                ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, step);
                if map.len > COPIED {
                    // If it is refused (a locked page), the memory goes with the mapping.
                    let _ = mapping::purge(from, step);
                }
            }
            to += step;
        }
        // Its request for huge pages is counted with the block, which still has it.
        if thp {
            cache::unmap(*old, false);
        } else {
            cache::release(*old, false);
        }
    }
    Some(run)
}
