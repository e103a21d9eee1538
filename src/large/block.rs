//! One huge block: its descriptor, its birth, growth and end.

use super::cache::{self, Change};
use super::parts::{self, Run};
use crate::base::account::{self, Kind};
use crate::base::size_class::HUGE;
use crate::base::tuning::retention;
use crate::base::units::{CACHE_LINE, SUPERSLAB, round_up};
use crate::knobs::{self, ThpPolicy};
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::{self, Mapping};
use crate::os::{clock, huge, sys};
use crate::pool;
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::meta;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The tag of every huge block.
const TAG: Tag = Tag::new(0, HUGE);
/// A vector that has grown this far by moving pages is dense: worth huge pages under `HAKMEM_THP=auto`.
const AUTO_HUGE_GROWN: usize = 32 << 20;
/// Cache lines the start of a block may be moved by.
const COLOURS: usize = 32;

struct Descriptor {
    run: Run,
    /// The address the program has.
    start: usize,
    /// Whether huge pages were asked for.
    huge: bool,
    /// Whether the cache could have served it.
    servable: bool,
    /// What of its memory may be resident.
    held: Held,
    next_free: *mut Descriptor,
}

struct FreeDescriptors(*mut Descriptor);
// SAFETY: only reached through the lock around it.
unsafe impl Send for FreeDescriptors {}
static FREE: Locked<FreeDescriptors> = Locked::new(FreeDescriptors(ptr::null_mut()));
static COLOUR: AtomicUsize = AtomicUsize::new(0);

/// A new huge block, and whether it is known to be zero.
pub(crate) struct NewBlock {
    pub(crate) ptr: *mut u8,
    pub(crate) zero: bool,
}

fn new_descriptor() -> Option<*mut Descriptor> {
    let mut free = FREE.lock();
    let first = free.0;
    if first.is_null() {
        drop(free);
        return meta::allocate::<Descriptor>().map(|fresh| fresh.as_ptr());
    }
    // SAFETY: free descriptors are linked under the lock.
    free.0 = unsafe { (*first).next_free };
    Some(first)
}

unsafe fn drop_descriptor(descriptor: *mut Descriptor) {
    let mut free = FREE.lock();
    // SAFETY: the caller took it out of the directory and gives it up.
    unsafe { (*descriptor).next_free = free.0 };
    free.0 = descriptor;
}

fn descriptor_of(addr: usize) -> *mut Descriptor {
    DIRECTORY.descriptor(addr).load(Ordering::Relaxed) as *mut Descriptor
}

/// Allocates a huge block of `size` bytes at `align`. No lock may be held.
pub(crate) fn alloc(size: usize, align: usize, zeroed: bool) -> Option<NewBlock> {
    if size > isize::MAX as usize {
        return None;
    }
    let offset = if align <= CACHE_LINE {
        COLOUR.fetch_add(1, Ordering::Relaxed) * 5 % COLOURS * CACHE_LINE
    } else {
        0
    };
    let len = round_up(size.max(1).checked_add(offset)?, SUPERSLAB)?;
    let descriptor = new_descriptor()?;
    let servable = may_serve(len, zeroed);
    let Some(Obtained { run, huge, zero }) = obtain(len, align.max(SUPERSLAB), zeroed) else {
        // SAFETY: never published.
        unsafe { drop_descriptor(descriptor) };
        return None;
    };
    let end = run.map.addr + offset + size;
    let held = held(run.map, end, huge, !zero);
    // SAFETY: the descriptor is ours until the tag is set.
    unsafe {
        descriptor.write(Descriptor {
            run,
            start: 0,
            huge,
            servable,
            held,
            next_free: ptr::null_mut(),
        })
    };
    run.count_in();
    let change = Change {
        blocks: 1,
        bytes: run.map.len as isize,
        huge: 0,
        servable,
        held: held.bytes as isize,
    };
    cache::account(change, clock::now_ms());
    let addr = run.map.addr + offset;
    publish(addr, descriptor);
    Some(NewBlock {
        ptr: addr as *mut u8,
        zero,
    })
}

fn publish(addr: usize, descriptor: *mut Descriptor) {
    // SAFETY: the caller's own until the tag is set.
    unsafe { (*descriptor).start = addr };
    DIRECTORY
        .descriptor(addr)
        .store(descriptor as usize, Ordering::Relaxed);
    DIRECTORY.set(addr, 1, TAG);
}

/// Longest mapping from the cache that is cleared for a zeroed request.
const CLEARED_MOST: usize = 16 << 20;

/// Memory for a new block.
struct Obtained {
    run: Run,
    huge: bool,
    /// Whether it is known to be zero.
    zero: bool,
}

/// Whether the cache serves such a block. A cached mapping has to be cleared for a zeroed request. That is quicker than
/// faults, in which the kernel clears as well; but a large table may never be touched all over, and fresh pages come only
/// when touched.
fn may_serve(len: usize, zeroed: bool) -> bool {
    !zeroed || len <= CLEARED_MOST
}

/// A mapping of at least `len` bytes, from the cache or the kernel.
fn obtain(len: usize, align: usize, zeroed: bool) -> Option<Obtained> {
    if may_serve(len, zeroed)
        && let Some(entry) = cache::find(len, align)
    {
        // It may be the rest of one that was cut, and start where no descriptor was ever set.
        if DIRECTORY.prepare(entry.run.map.addr, SUPERSLAB).is_ok() {
            return Some(Obtained {
                run: entry.run,
                huge: entry.huge(),
                zero: false,
            });
        }
        cache::keep(entry.run, entry.huge(), clock::now_ms());
    }
    let map = map_at_last(len, align)?;
    if !zeroed && parts::may_gather() {
        match parts::gather(map, parts::MOST, None) {
            Some(gathered) if gathered.fresh < map.len => {
                return Some(Obtained {
                    run: gathered.run,
                    huge: gathered.huge,
                    zero: false,
                });
            }
            // Another thread was quicker.
            Some(_) => {}
            None => return Some(obtain_fresh(map_at_last(len, align)?)),
        }
    }
    Some(obtain_fresh(map))
}

fn obtain_fresh(map: Mapping) -> Obtained {
    Obtained {
        run: Run::new(map),
        huge: knobs::get().thp == ThpPolicy::Always && advise(map),
        zero: true,
    }
}

/// As [`map_new`], giving up what is cached where that is in the way.
fn map_at_last(len: usize, align: usize) -> Option<Mapping> {
    map_new(len, align).or_else(|| {
        cache::purge_all();
        pool::unmap_empty();
        map_new(len, align)
    })
}

fn map_new(len: usize, align: usize) -> Option<Mapping> {
    let map = mapping::map_aligned(len, align, Some(DIRECTORY.window())).ok()?;
    if DIRECTORY.prepare(map.addr, SUPERSLAB).is_err() {
        cache::release(Run::new(map), false);
        return None;
    }
    let _ = sys::name_range(map.addr, map.len, c"hakmem: huge block");
    Some(map)
}

/// Asks for huge pages; answers whether the kernel took the wish.
fn advise(map: Mapping) -> bool {
    // SAFETY: advice on our own mapping, whole. A refusal means small pages.
    let taken = unsafe { huge::advise(map.addr, map.len) }.is_ok();
    if taken {
        cache::account_huge(map.len as isize);
    }
    taken
}

/// Makes the descriptor of a block that would start at `addr` writable: before pages move there.
fn prepare(addr: usize) -> Result<(), sys::Errno> {
    DIRECTORY.prepare(addr, SUPERSLAB)
}

/// For fork: the lock of the free descriptors.
pub(crate) fn descriptor_lock() -> &'static Lock {
    FREE.raw()
}

/// Frees a huge block.
///
/// # Safety
/// `ptr` is a huge block, given up by the caller. No lock may be held.
pub(crate) unsafe fn free(ptr: *mut u8) {
    let (descriptor, run) = claim(ptr).unwrap_or_else(|| not_in_use(ptr));
    // SAFETY: the claim made the descriptor ours alone.
    let (thp, servable, held) = unsafe {
        let descriptor = &*descriptor;
        (descriptor.huge, descriptor.servable, descriptor.held)
    };
    // SAFETY: as above.
    unsafe { drop_descriptor(descriptor) };
    let now = clock::now_ms();
    let change = Change {
        blocks: -1,
        bytes: -(run.map.len as isize),
        huge: 0,
        servable,
        held: -(held.bytes as isize),
    };
    account::change(Kind::Tails, held.tail, 0);
    cache::account(change, now);
    run.count_out();
    cache::keep(run, thp, now);
}

#[cold]
fn not_in_use(ptr: *mut u8) -> ! {
    crate::os::message::fatal!(
        "free of {ptr:p}: not the start of a huge block in use (freed twice?); stopping before memory is damaged"
    )
}

/// Takes a block's tag and descriptor away from everybody else.
fn claim(ptr: *mut u8) -> Option<(*mut Descriptor, Run)> {
    let addr = ptr as usize;
    if !DIRECTORY.covers(addr) {
        return None;
    }
    if !DIRECTORY.claim(addr, TAG) {
        return None;
    }
    // Read only now: of several threads that free the same block one comes here.
    let descriptor = descriptor_of(addr);
    // SAFETY: a tagged block has a descriptor, and it is ours now.
    let (run, start) = unsafe { ((*descriptor).run, (*descriptor).start) };
    if start != addr {
        DIRECTORY.set(addr, 1, TAG);
        return None;
    }
    DIRECTORY.descriptor(addr).store(0, Ordering::Relaxed);
    Some((descriptor, run))
}

/// Bytes from `ptr` to the end of its mapping.
///
/// # Safety
/// `ptr` is a huge block in use.
pub(crate) unsafe fn usable_size(ptr: *mut u8) -> usize {
    let descriptor = descriptor_of(ptr as usize);
    // SAFETY: a block in use has a descriptor.
    let map = unsafe { (*descriptor).run.map };
    map.addr + map.len - ptr as usize
}

/// Bytes behind its new end that stay with a block that shrinks, as one part in so many of what it keeps.
const TAIL_SHARE: usize = 16;

/// Makes a huge block `new_size` bytes long, moving page tables instead of bytes. `None`: out of memory, and the block
/// is as it was.
///
/// # Safety
/// `ptr` is a huge block in use, at `align`. No lock may be held.
pub(crate) unsafe fn realloc(ptr: *mut u8, align: usize, new_size: usize) -> Option<*mut u8> {
    // SAFETY: the caller's promise.
    let usable = unsafe { usable_size(ptr) };
    let tail = usable.saturating_sub(new_size);
    if new_size <= usable && tail <= new_size / TAIL_SHARE {
        return Some(ptr);
    }
    let (descriptor, run) = claim(ptr).unwrap_or_else(|| not_in_use(ptr));
    let offset = ptr as usize - run.map.addr;
    let grown = new_size
        .checked_add(offset)
        .and_then(|len| round_up(len, SUPERSLAB));
    // SAFETY: the claim made the descriptor ours alone.
    let (thp, servable) = unsafe { ((*descriptor).huge, (*descriptor).servable) };
    let moved = grown.and_then(|len| change_length(run, len, align.max(SUPERSLAB), thp));
    let Some(Changed {
        run: changed,
        fresh,
    }) = moved
    else {
        publish(ptr as usize, descriptor);
        return None;
    };
    run.count_out();
    changed.count_in();
    let (map, new) = (run.map, changed.map);
    let held = held(new, new.addr + offset + new_size, thp, new_size < usable);
    // SAFETY: as above.
    let before = unsafe { core::mem::replace(&mut (*descriptor).held, held) };
    let change = Change {
        blocks: 0,
        bytes: new.len as isize - map.len as isize,
        huge: if thp { fresh as isize } else { 0 },
        servable,
        held: held.bytes as isize - before.bytes as isize,
    };
    account::change(Kind::Tails, before.tail, 0);
    cache::account(change, clock::now_ms());
    // SAFETY: as above.
    unsafe {
        (*descriptor).run = changed;
        if !thp
            && new.len > map.len
            && new.len >= AUTO_HUGE_GROWN
            && knobs::get().thp == ThpPolicy::Auto
        {
            (*descriptor).huge = advise(new);
        }
    }
    publish(new.addr + offset, descriptor);
    Some((new.addr + offset) as *mut u8)
}

/// What of a block's mapping may be resident.
#[derive(Clone, Copy)]
struct Held {
    /// From its beginning on.
    bytes: usize,
    /// Of those, behind the block's end.
    tail: usize,
}

/// What may be resident of a mapping in which a block ends at `end`. What lies behind may be too, if it was `used` before:
/// as far as all blocks' tails are too much, it is given back.
fn held(map: Mapping, end: usize, huge: bool, used: bool) -> Held {
    let page = if huge { SUPERSLAB } else { sys::page_size() };
    let end = end.next_multiple_of(page).min(map.end());
    let (bytes, tail) = (end - map.addr, map.end() - end);
    if tail == 0 || !used {
        return Held { bytes, tail: 0 };
    }
    let most = retention::TAILS.max(account::of(Kind::Large) / retention::TAILS_SHARE);
    // SAFETY: the pages are the block's, behind what its owner asked for.
    if account::of(Kind::Tails) + tail > most && unsafe { mapping::purge(end, tail) }.is_ok() {
        return Held { bytes, tail: 0 };
    }
    account::change(Kind::Tails, 0, tail);
    Held {
        bytes: map.len,
        tail,
    }
}

/// A block's memory after a change of its length, and how many bytes of it share the block's wish for huge pages and are
/// not counted yet.
struct Changed {
    run: Run,
    fresh: usize,
}

/// Makes a block's memory `len` bytes long.
fn change_length(run: Run, len: usize, align: usize, thp: bool) -> Option<Changed> {
    let map = run.map;
    if len == map.len {
        return Some(Changed { run, fresh: 0 });
    }
    if len < map.len {
        // To the kernel, not to the cache: a buffer that is shrunk to what was used of it is done growing.
        let (run, behind) = run.divide(len);
        cache::release(behind, thp);
        return Some(Changed { run, fresh: 0 });
    }
    if let Some(run) = extend(&run, len, align, thp) {
        return Some(Changed { run, fresh: 0 });
    }
    let grown = |run| Changed {
        run,
        fresh: len - map.len,
    };
    if !run.is_whole() {
        // The kernel moves one mapping at a time.
        return copy_to_new(&[map], len, align, thp).map(grown);
    }
    // SAFETY: the mapping is the block's, claimed by the caller.
    match unsafe { mapping::remap_checked(map, len, align, Some(DIRECTORY.window()), &prepare) } {
        Ok(new) => Some(grown(Run::new(new))),
        Err(error) if error.intact => copy_to_new(&[map], len, align, thp).map(grown),
        Err(_) => memory_is_lost(),
    }
}

#[cold]
fn memory_is_lost() -> ! {
    crate::os::message::fatal!("mremap of a huge block failed after it had moved: memory is lost")
}

/// Grows a block by what is cached: its memory moves to a new place, and cached memory behind it. `None`: it lies where it
/// lay.
fn extend(run: &Run, len: usize, align: usize, thp: bool) -> Option<Run> {
    if !parts::may_gather() || !run.may_join() || !cache::has_any(thp) {
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
    let Some(gathered) = parts::gather(tail, run.room(), Some(thp)) else {
        cache::release(Run::new(front), false);
        return None;
    };
    let done = match parts::move_run(run, front) {
        Ok(moved) => return moved.join(&gathered.run).or_else(|| memory_is_lost()),
        Err(done) => done,
    };
    cache::keep(gathered.run, thp, clock::now_ms());
    if done == 0 {
        return None;
    }
    // Half of it moved, and the kernel refuses the rest: what lies in two places is copied into one.
    let moved = Mapping { len: done, ..front };
    let left = Mapping {
        addr: run.map.addr + done,
        len: run.map.len - done,
    };
    copy_to_new(&[moved, left], len, align, thp).or_else(|| memory_is_lost())
}

/// Bytes that are copied at a time.
const COPIED: usize = 16 << 20;

/// The kernel would not move the pages: copy. What was copied goes back at once, or the block would be held twice.
fn copy_to_new(from: &[Mapping], len: usize, align: usize, thp: bool) -> Option<Run> {
    let new = map_at_last(len, align)?;
    if thp {
        // SAFETY: advice on our own mapping; the wish is counted with its block.
        let _ = unsafe { huge::advise(new.addr, new.len) };
    }
    let mut to = new.addr;
    for map in from {
        for done in (0..map.len).step_by(COPIED) {
            let step = COPIED.min(map.len - done);
            let from = map.addr + done;
            // SAFETY: both are ours and do not overlap; the new one is longer than all of the others. Nothing can fail any
            // more, so nobody needs what was copied.
            unsafe {
                ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, step);
                if map.len > COPIED {
                    // Where it is refused (a locked page) the memory goes with the mapping.
                    let _ = mapping::purge(from, step);
                }
            }
            to += step;
        }
        cache::release(Run::new(*map), false);
    }
    Some(Run::new(new))
}
