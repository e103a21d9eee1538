//! One huge block: its descriptor, its birth, growth and end.

use super::cache;
use super::parts::{self, Gathered, Run};
use crate::base::size_class::HUGE;
use crate::base::units::{CACHE_LINE, SUPERSLAB, round_up};
use crate::knobs::{self, ThpPolicy};
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::{self, Mapping, Place};
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
    let Some(Obtained { run, huge, zero }) = obtain(len, align.max(SUPERSLAB), zeroed) else {
        // SAFETY: never published.
        unsafe { drop_descriptor(descriptor) };
        return None;
    };
    // SAFETY: the descriptor is ours until the tag is set.
    unsafe {
        descriptor.write(Descriptor {
            run,
            start: 0,
            huge,
            next_free: ptr::null_mut(),
        })
    };
    run.count_in();
    cache::account(1, run.map.len as isize, 0);
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

/// A mapping of at least `len` bytes, from the cache or the kernel.
fn obtain(len: usize, align: usize, zeroed: bool) -> Option<Obtained> {
    // A cached mapping has to be cleared for a zeroed request. That is quicker than faults, in which the kernel clears as
    // well; but a large table may never be touched all over, and fresh pages come only when touched.
    let cached = (!zeroed || len <= CLEARED_MOST) && align == SUPERSLAB;
    if cached && let Some(entry) = cache::find(len) {
        // Cached memory is not entered: it may be cut and joined, and another block may have its index meanwhile.
        if DIRECTORY.enter(entry.run.map.addr) == Ok(true) {
            return Some(Obtained {
                run: entry.run,
                huge: entry.huge(),
                zero: false,
            });
        }
        cache::keep(entry.run, entry.huge(), clock::now_ms());
    }
    let map = map_at_last(len, align)?;
    if cached && !zeroed && parts::may_gather() {
        match parts::gather(map) {
            Some(gathered) if gathered.fresh < map.len => return Some(from_pieces(gathered)),
            // Somebody was quicker.
            Some(_) => {}
            None => {
                DIRECTORY.leave(map.addr);
                return obtain_fresh(map_at_last(len, align)?, cached);
            }
        }
    }
    obtain_fresh(map, cached)
}

fn obtain_fresh(map: Mapping, cached: bool) -> Option<Obtained> {
    if cached {
        // What the cache could not have served says nothing about how much it should hold.
        cache::took(map.len);
    }
    Some(Obtained {
        run: Run::new(map),
        huge: knobs::get().thp == ThpPolicy::Always && advise(map),
        zero: true,
    })
}

fn from_pieces(gathered: Gathered) -> Obtained {
    let fresh = gathered.fresh;
    let new = Mapping {
        addr: gathered.run.map.end() - fresh,
        len: fresh,
    };
    cache::took(fresh);
    if fresh > 0 && gathered.huge {
        // SAFETY: advice on our own mapping. A refusal means small pages there; the wish is counted with its block.
        let _ = unsafe { huge::advise(new.addr, new.len) };
        cache::account(0, 0, fresh as isize);
    }
    Obtained {
        run: gathered.run,
        huge: gathered.huge,
        zero: false,
    }
}

/// A mapping that is entered into the directory, giving up what is cached where that is in the way.
fn map_at_last(len: usize, align: usize) -> Option<Mapping> {
    map_new(len, align).or_else(|| {
        cache::purge_all();
        pool::unmap_empty();
        map_new(len, align)
    })
}

fn map_new(len: usize, align: usize) -> Option<Mapping> {
    let map = mapping::map_aligned(len, align, Some(&DIRECTORY)).ok()?;
    let _ = sys::name_range(map.addr, map.len, c"hakmem: huge block");
    Some(map)
}

/// Asks for huge pages; answers whether the kernel took the wish.
fn advise(map: Mapping) -> bool {
    // SAFETY: advice on our own mapping, whole. A refusal means small pages.
    let taken = unsafe { huge::advise(map.addr, map.len) }.is_ok();
    if taken {
        cache::account(0, 0, map.len as isize);
    }
    taken
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
    let (descriptor, run) = claim(ptr).unwrap_or_else(|| not_in_use("free", ptr));
    // SAFETY: the claim made the descriptor ours alone.
    let thp = unsafe { (*descriptor).huge };
    // SAFETY: as above.
    unsafe { drop_descriptor(descriptor) };
    DIRECTORY.leave(run.map.addr);
    cache::account(-1, -(run.map.len as isize), 0);
    run.count_out();
    cache::keep(run, thp, clock::now_ms());
}

#[cold]
fn not_in_use(asked: &str, ptr: *mut u8) -> ! {
    crate::os::message::fatal!(
        "{asked} of {ptr:p}: not the start of a huge block in use (freed twice?); stopping before memory is damaged"
    )
}

/// Takes a block's tag and descriptor away from everybody else.
fn claim(ptr: *mut u8) -> Option<(*mut Descriptor, Run)> {
    let addr = ptr as usize;
    if !DIRECTORY.holds(addr) || !DIRECTORY.claim(addr, TAG) {
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

/// Makes a huge block `new_size` bytes long, moving page tables instead of bytes. `None`: out of memory, and the block
/// is as it was.
///
/// # Safety
/// `ptr` is a huge block in use, at `align`. No lock may be held.
pub(crate) unsafe fn realloc(ptr: *mut u8, align: usize, new_size: usize) -> Option<*mut u8> {
    // SAFETY: the caller's promise.
    let usable = unsafe { usable_size(ptr) };
    if new_size <= usable && new_size >= usable / 2 {
        return Some(ptr);
    }
    let (descriptor, run) = claim(ptr).unwrap_or_else(|| not_in_use("realloc", ptr));
    let offset = ptr as usize - run.map.addr;
    let grown = new_size
        .checked_add(offset)
        .and_then(|len| round_up(len, SUPERSLAB));
    // SAFETY: the claim made the descriptor ours alone.
    let thp = unsafe { (*descriptor).huge };
    let moved = grown.and_then(|len| change_length(run, len, align.max(SUPERSLAB), thp));
    let Some(changed) = moved else {
        publish(ptr as usize, descriptor);
        return None;
    };
    run.count_out();
    changed.count_in();
    let (map, new) = (run.map, changed.map);
    if new.addr != map.addr {
        DIRECTORY.leave(map.addr);
    }
    let more = new.len as isize - map.len as isize;
    // A tail that was cut off keeps its share in the cache.
    cache::account(0, more, if thp { more.max(0) } else { 0 });
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

/// Makes a block's memory `len` bytes long.
fn change_length(run: Run, len: usize, align: usize, thp: bool) -> Option<Run> {
    let map = run.map;
    if len == map.len {
        return Some(run);
    }
    if len < map.len {
        let (before, behind) = run.divide(len);
        cache::keep(behind, thp, clock::now_ms());
        return Some(before);
    }
    if !run.is_whole() {
        // The kernel moves one mapping at a time, and a move that fails half way could not be undone.
        return copy_to_new(run, len, align, thp);
    }
    // SAFETY: the mapping is the block's, claimed by the caller.
    match unsafe { mapping::remap(map, len, align, Some(&DIRECTORY)) } {
        Ok(new) => Some(Run::new(new)),
        Err(error) if error.intact => copy_to_new(run, len, align, thp),
        Err(_) => {
            crate::os::message::fatal!(
                "mremap of a huge block failed after it had moved: memory is lost"
            )
        }
    }
}

/// Bytes that are copied at a time.
const COPIED: usize = 16 << 20;

/// The kernel would not move the pages: copy. What was copied goes back at once, or the block would be held twice.
fn copy_to_new(run: Run, len: usize, align: usize, thp: bool) -> Option<Run> {
    let map = run.map;
    let new = map_at_last(len, align)?;
    if thp {
        // SAFETY: advice on our own mapping; the wish is counted with its block.
        let _ = unsafe { huge::advise(new.addr, new.len) };
    }
    for done in (0..map.len).step_by(COPIED) {
        let step = COPIED.min(map.len - done);
        let from = map.addr + done;
        // SAFETY: both are ours and do not overlap; the new one is longer. Nothing can fail any more, so nobody needs what
        // was copied.
        unsafe {
            ptr::copy_nonoverlapping(from as *const u8, (new.addr + done) as *mut u8, step);
            if map.len > COPIED {
                // Where it is refused (a locked page) the memory goes with the mapping.
                let _ = mapping::purge(from, step);
            }
        }
    }
    cache::release(run, false);
    Some(Run::new(new))
}
