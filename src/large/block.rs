//! One large block: its descriptor, its allocation and its end.

use super::cache::{self, Change};
use super::closed;
use super::descriptor::{
    Descriptor, Held, TAG, descriptor_of, drop_descriptor, new_checked, new_descriptor,
};
use super::evidence::{Asked, Extent};
use super::exchange;
use super::guard::{self, LEAST, not_in_use};
use super::parts;
use super::run::Run;
use super::seen;
use crate::base::account::{self, Kind};
use crate::base::tuning::large::{CLEARED_MOST, COLOURS, PARTS};
use crate::base::tuning::retention;
use crate::base::units::{CACHE_LINE, SUPERSLAB, Slots, round_up};
use crate::os::huge::{Thp, system_thp};
use crate::os::mapping::{self, Mapping, Place};
use crate::os::{clock, memory, sys};
use crate::pool;
use crate::slab::directory::DIRECTORY;
use crate::slab::known::Call;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

static COLOUR: AtomicUsize = AtomicUsize::new(0);

/// A new large block, and whether it is known to be zero.
pub(crate) struct NewBlock {
    pub(crate) ptr: *mut u8,
    pub(crate) zero: bool,
}

/// Allocates a large block of `size` bytes at `align`, `checked` or not. No lock may be held.
#[inline(never)]
pub(crate) fn alloc(size: usize, align: usize, zeroed: bool, checked: bool) -> Option<NewBlock> {
    if size > isize::MAX as usize {
        return None;
    }
    // Whole superslabs begin at one, so that all of them may be huge pages.
    let is_whole = size.is_multiple_of(SUPERSLAB) && !checked;
    let offset = if align <= CACHE_LINE && !is_whole {
        (COLOUR.fetch_add(1, Ordering::Relaxed) * 5 % COLOURS + 1) * CACHE_LINE
    } else if checked && align < SUPERSLAB {
        align
    } else {
        0
    };
    let least = if checked { LEAST } else { 0 };
    let used = size.max(1).checked_add(offset + least)?;
    let len = round_up(used, SUPERSLAB)?;
    let block = Extent {
        addr: 0,
        len: used,
        asked: Asked::new(zeroed),
    };
    let descriptor = if checked {
        new_checked()
    } else {
        new_descriptor()
    }?;
    let servable = may_serve(len, zeroed);
    // A zeroed block may stay untouched, and would be cleared where it is resident.
    if servable && !zeroed {
        exchange::borrow(block);
    }
    let obtained = obtain(len, block, align.max(SUPERSLAB), zeroed);
    let Some(Obtained { run, huge, zero }) = obtained else {
        // SAFETY: it was never published.
        unsafe { drop_descriptor(descriptor) };
        return None;
    };
    let addr = run.map.addr + offset;
    // A word on a huge page that nobody touched would make all of that resident.
    let marked = !checked && offset > 0 && !(zero && on_huge_page(huge));
    let mut end = addr + size;
    // SAFETY: the block is this call's, the length leaves room, and a word has room in front of a block that does not begin its
    // mapping.
    unsafe {
        if checked {
            end = guard::paint(run.map, addr, size);
        } else if marked {
            guard::mark(addr);
        }
    }
    let held = held(run.map, end, huge, !zero);
    // SAFETY: no other thread knows of the descriptor until the tag is set.
    unsafe {
        descriptor.write(Descriptor {
            run,
            start: 0,
            size: AtomicUsize::new(size),
            checked,
            marked,
            calls: (*descriptor).calls,
            huge,
            fresh: zero,
            asked: block.asked,
            servable,
            shows: zeroed && len > CLEARED_MOST,
            held,
            next_free: ptr::null_mut(),
        })
    };
    run.count_in();
    let change = Change {
        blocks: 1,
        bytes: run.map.len as isize,
        servable,
        held: held.bytes as isize,
    };
    cache::account(change, clock::now_ms());
    publish(addr, descriptor);
    Some(NewBlock {
        ptr: addr as *mut u8,
        zero,
    })
}

pub(super) fn publish(addr: usize, descriptor: *mut Descriptor) {
    // SAFETY: only the caller uses it until the tag is set.
    unsafe { (*descriptor).start = addr };
    DIRECTORY
        .descriptor(addr)
        .store(descriptor as usize, Ordering::Relaxed);
    DIRECTORY.set(addr, Slots::ONE, TAG);
}

/// Memory for a new block.
struct Obtained {
    run: Run,
    huge: bool,
    /// Whether it is known to be zero.
    zero: bool,
}

/// Whether untouched memory may get a huge page where it is touched first: it asks for them (`huge`), or need not ask.
fn on_huge_page(huge: bool) -> bool {
    huge || system_thp() == Thp::Always
}

/// Whether the cache may serve such a block. For a zeroed request a cached mapping has to be cleared. That is faster than page
/// faults, in which the kernel clears as well. But a large table may never be touched all over, and fresh pages come only when
/// they are touched: the last one freed shows what to expect.
fn may_serve(len: usize, zeroed: bool) -> bool {
    !zeroed || len <= CLEARED_MOST || seen::zeroed_are_filled()
}

/// A mapping of at least `len` bytes for a block, from the cache or the kernel.
fn obtain(len: usize, block: Extent, align: usize, zeroed: bool) -> Option<Obtained> {
    if may_serve(len, zeroed)
        && let Some(entry) = cache::find(len, align)
    {
        // Cached memory is not in the directory, because it may be cut and joined, and another block may have its index
        // meanwhile. Then it is unmapped: the next request would find it again.
        if DIRECTORY.enter(entry.run.map.addr) == Ok(true) {
            let run = entry.run;
            return Some(Obtained {
                run,
                huge: entry.huge() && seen::stays(run.map, block.at(run.map), None),
                zero: false,
            });
        }
        cache::unmap(entry.run, entry.huge());
    }
    // A zeroed request clears all of the block and so makes it resident: it takes cached memory only if that can be at least half
    // of the block.
    let gathers = !zeroed || (may_serve(len, zeroed) && cache::cached_bytes() >= len / 2);
    if gathers
        && parts::may_gather()
        && let Some(map) = map_new(len, align)
    {
        match parts::gather(map, PARTS, false) {
            Some(gathered) if gathered.fresh < map.len => {
                let run = gathered.run;
                let (at, unseen) = (block.at(run.map), gathered.fresh > 0);
                let huge = match gathered.huge {
                    true => seen::stays(run.map, at, unseen.then_some(0)),
                    false => unseen && seen::ask_for_new(run.map, at, false),
                };
                return Some(Obtained {
                    run,
                    huge,
                    zero: false,
                });
            }
            // Another thread has taken what was cached.
            Some(_) => return Some(obtain_fresh(Run::new(map), block)),
            None => DIRECTORY.leave(map.addr),
        }
    }
    Some(obtain_fresh(fresh(len, align)?, block))
}

fn obtain_fresh(run: Run, block: Extent) -> Obtained {
    Obtained {
        run,
        huge: seen::ask_for_new(run.map, block.at(run.map), true),
        zero: true,
    }
}

/// As [`fresh_now`]. If that fails, gives back what is cached and tries again.
pub(super) fn fresh(len: usize, align: usize) -> Option<Run> {
    fresh_now(len, align).or_else(|| {
        cache::purge_all();
        pool::unmap_empty();
        fresh_now(len, align)
    })
}

/// Memory that reads as zero, entered into the directory. Its last owner makes the directory leave it.
fn fresh_now(len: usize, align: usize) -> Option<Run> {
    if let Some(run) = cache::find_addresses(len, align) {
        if DIRECTORY.enter(run.map.addr) == Ok(true) {
            return Some(run);
        }
        // It is unmapped: the next request would find it again.
        cache::unmap_addresses(run);
    }
    map_new(len, align).map(Run::new)
}

/// Fresh memory that is one mapping to the kernel.
#[inline(never)]
pub(super) fn map_new(len: usize, align: usize) -> Option<Mapping> {
    mapping::map_aligned(len, align, Some(&DIRECTORY)).ok()
}

/// Frees a large block, of `named` bytes if the program says so.
///
/// # Safety
/// `ptr` is a large block that the caller does not use again. No lock may be held.
pub(crate) unsafe fn free(ptr: *mut u8, named: Option<usize>) {
    let descriptor = claim(ptr).unwrap_or_else(|| not_in_use("free", ptr));
    // SAFETY: the claim makes this thread the descriptor's only user, until the end.
    let block = unsafe { &*descriptor };
    // SAFETY: the caller gives the block up.
    unsafe { block.check("free", named) };
    let (run, held) = (&block.run, block.held);
    if block.shows {
        seen::zeroed_went(block.extent());
    }
    DIRECTORY.leave(run.map.addr);
    let now = clock::now_ms();
    let change = Change {
        blocks: -1,
        bytes: -(run.map.len as isize),
        servable: block.servable,
        held: -(held.bytes as isize),
    };
    held.count(false);
    cache::account(change, now);
    run.count_out();
    let huge = seen::went(run.map, block.extent(), block.huge);
    // SAFETY: as above.
    if block.checked && unsafe { close(descriptor, huge) } {
        return;
    }
    cache::keep(run, run.map.len - held.bytes, huge, now);
    // SAFETY: as above; this is the end.
    unsafe { drop_descriptor(descriptor) };
}

/// Takes the access to the memory of a freed block away, which goes back, and the descriptor with it. Returns false if it is to be
/// kept like any other: addresses are limited, or the kernel refuses.
///
/// # Safety
/// The caller is the descriptor's only user.
#[cold]
#[inline(never)]
unsafe fn close(descriptor: *mut Descriptor, huge: bool) -> bool {
    // SAFETY: the caller's promise; nobody uses the freed block, which is checked and so has calls.
    unsafe {
        let map = (*descriptor).run.map;
        if memory::addresses_are_limited() || !cache::is_purged(map) {
            return false;
        }
        (*(*descriptor).calls).freed = Call::now();
        if !closed::close(descriptor) {
            // Part of it may be closed.
            if mapping::make_writable(map.addr, map.len).is_ok() {
                return false;
            }
            mapping::abandon(map);
            drop_descriptor(descriptor);
        }
        cache::went(map.len, huge);
    }
    true
}

/// Takes a block's tag and descriptor, so that no other thread can. `None` if `ptr` is no large block in use.
pub(super) fn claim(ptr: *mut u8) -> Option<*mut Descriptor> {
    let addr = ptr as usize;
    if !DIRECTORY.holds(addr) || !DIRECTORY.claim(addr, TAG) {
        return None;
    }
    // Read after the claim: of several threads that free the same block, only one gets here.
    let descriptor = descriptor_of(addr);
    // SAFETY: a tagged block has a descriptor, and the claim makes this thread its only user.
    if unsafe { (*descriptor).start } != addr {
        DIRECTORY.set(addr, Slots::ONE, TAG);
        return None;
    }
    DIRECTORY.descriptor(addr).store(0, Ordering::Relaxed);
    Some(descriptor)
}

/// The descriptor of the block at `ptr`, whose tag says that it is a large block's. Ends the process if it is no block's start, or
/// freed at this moment by another thread; `asked` is what the program called.
pub(super) fn in_use<'a>(ptr: *mut u8, asked: &str) -> &'a Descriptor {
    let descriptor = descriptor_of(ptr as usize);
    // SAFETY: descriptors are never unmapped. While a block is in use, what is read here does not change.
    let found = unsafe { descriptor.as_ref() }.filter(|found| found.start == ptr as usize);
    found.unwrap_or_else(|| not_in_use(asked, ptr))
}

/// Bytes of the block at `ptr` that the program may use: to the end of its mapping, or what was asked for if it is checked. As
/// [`in_use`] for what is no block. Ends the process if bytes beside a checked block were written to.
pub(crate) fn usable_size(ptr: *mut u8, asked: &str) -> usize {
    let found = in_use(ptr, asked);
    if found.checked {
        // SAFETY: the program has it for this call.
        unsafe { found.check(asked, None) };
    }
    found.usable()
}

/// Which part may be resident of a mapping in which a block ends at `end`. Memory behind the end may be resident too if it was
/// `used` before. It is given back if all blocks' tails together exceed their bound.
#[inline(never)]
pub(super) fn held(map: Mapping, end: usize, huge: bool, used: bool) -> Held {
    let page = if huge { SUPERSLAB } else { sys::page_size() };
    let whole = end.next_multiple_of(page).min(map.end());
    let mut held = Held {
        bytes: whole - map.addr,
        tail: map.end() - whole,
        rest: if huge { whole - end } else { 0 },
    };
    let most = retention::TAILS.max(account::of(Kind::Large) / retention::TAILS_SHARE);
    let too_many = held.tail > 0 && account::of(Kind::Tails) + held.tail > most;
    // SAFETY: the pages belong to the block and lie behind what its owner requested.
    if !used || too_many && unsafe { mapping::purge(whole, held.tail) }.is_ok() {
        held.tail = 0;
    }
    held.bytes += held.tail;
    held.count(true);
    held
}
