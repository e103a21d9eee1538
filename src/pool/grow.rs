//! Taking superslabs from the kernel.

use super::Account;
use super::place::lock;
use super::purge;
use crate::base::account::{self, Kind};
use crate::base::sync::atomic::Ordering as WordOrdering;
use crate::base::units::{SLOT, SLOTS, SUPERSLAB};
use crate::knobs::{Knobs, Prefault, ThpPolicy};
use crate::os::findings;
use crate::os::huge::{self, Thp};
use crate::os::mapping::{self, Mapping};
use crate::os::memory;
use crate::os::numa::{self, Node};
use crate::os::prefault;
use crate::os::sys::{self, Errno};
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::superslab::{State, Superslab, UNIT};
use core::ptr::NonNull;

/// With `HAKMEM_THP=auto` superslabs stay on small pages until slabs in use hold this many bytes of blocks that were
/// ever handed out: huge pages from the third superslab on cost the experiment of design.md a quarter of the RSS of
/// programs of 5 to 300 MiB, and save seven eighths of the first-touch time of those that keep growing. Blocks, not
/// superslabs or slots: a program whose slabs are sparse (many threads, little live) would get the huge pages and none
/// of the use.
const AUTO_HUGE_FROM: usize = 32 << 20;

/// A slab handed out `bytes` of blocks for the first time.
#[inline]
pub(crate) fn carved(bytes: usize) {
    account::change(Kind::Blocks, 0, bytes);
}

/// A slab of which `bytes` had been handed out is none any more.
#[inline]
pub(crate) fn uncarved(bytes: usize) {
    account::change(Kind::Blocks, bytes, 0);
}

/// Maps one more superslab for the node, on which the calling thread runs, and lists it. Call it with no lock held.
pub(crate) fn grow(knobs: &Knobs, node: Node) -> Result<(), Errno> {
    acquire(knobs, knobs.prefault, node, false).map(drop)
}

/// Maps and populates `count` superslabs; answers how many came to be. They lie on the node of the calling thread and
/// serve the threads of that node: one of each has to call for all to be served.
pub(crate) fn prewarm(knobs: &Knobs, count: usize) -> usize {
    let how = match knobs.prefault {
        Prefault::Off | Prefault::Async => Prefault::Populate,
        other => other,
    };
    let had = (0..count)
        .take_while(|_| acquire(knobs, how, numa::here(), false).is_ok_and(|populated| populated))
        .count();
    purge::retain_prewarmed(had * SUPERSLAB);
    had
}

pub(super) fn acquire(
    knobs: &Knobs,
    how: Prefault,
    node: Node,
    ahead: bool,
) -> Result<bool, Errno> {
    let descriptor = descriptor(node).ok_or(Errno::ENOMEM)?.as_ptr();
    let (map, huge) = match map(knobs, how) {
        Ok(mapped) => mapped,
        Err(error) => {
            put_spare(node, descriptor);
            return Err(error);
        }
    };
    let populated = run_prefault(map, how, huge);
    DIRECTORY
        .descriptor(map.addr)
        .store(descriptor as usize, WordOrdering::Relaxed);
    if populated {
        // What the tables hold of it is prefaulted too. Its slots have no tags yet.
        DIRECTORY.set(map.addr, 1, Tag::NONE);
        // SAFETY: as below; a byte of it is written back as it was.
        unsafe {
            let last = descriptor.cast::<u8>().add(size_of::<Superslab>() - 1);
            last.write_volatile(last.read_volatile());
        }
    }
    let mut pool = lock(node);
    // SAFETY: the descriptor came from the spare list or is fresh: it is in no list, and nobody else has it.
    unsafe {
        (*descriptor).base = map.addr;
        (*descriptor).node = node;
        (*descriptor).free = u32::MAX;
        (*descriptor).dirty = 0;
        let resident = if populated { SLOT / UNIT } else { 0 };
        (*descriptor).touched = [resident as u8; SLOTS];
        (*descriptor).held = 0;
        (*descriptor).huge = huge;
        (*descriptor).split = false;
        (*descriptor).populated = populated;
        (*descriptor).ahead = ahead;
        (*descriptor).in_dirty = false;
        (*descriptor).in_list = false;
        (*descriptor).state = State::Pooled;
        pool.counts.mapped += 1;
        pool.counts.huge_requested += if huge { SUPERSLAB } else { 0 };
        pool.relist(descriptor, Account::NONE);
    }
    Ok(populated)
}

/// Maps a superslab whose tags and descriptor can be set.
fn map(knobs: &Knobs, how: Prefault) -> Result<(Mapping, bool), Errno> {
    let huge = want_huge(knobs, how);
    let window = Some(DIRECTORY.window());
    // For huge pages MAP_POPULATE comes too early: they have to be asked for first. Then `run_prefault` does it.
    let at_once = how == Prefault::MapPopulate
        && !huge
        && huge::system_thp() != Thp::Always
        && memory::allow_populate(SUPERSLAB);
    let map = if at_once {
        mapping::map_aligned_populated(SUPERSLAB, SUPERSLAB, window)?
    } else {
        mapping::map_aligned(SUPERSLAB, SUPERSLAB, window)?
    };
    if let Err(error) = DIRECTORY.prepare(map.addr, map.len) {
        // SAFETY: the mapping is ours and unused. Where even that fails, address space is lost, not memory.
        let _ = unsafe { mapping::unmap(map) };
        return Err(error);
    }
    let _ = sys::name_range(map.addr, map.len, c"hakmem: superslab");
    // SAFETY: advice on our own mapping. A refusal means small pages, and stats() counts what was had, not asked.
    unsafe {
        if huge {
            findings::huge_pages_wished();
            let _ = huge::advise(map.addr, map.len);
        } else if huge::system_thp() == Thp::Always {
            let _ = huge::refuse(map.addr, map.len);
        }
    }
    Ok((map, huge))
}

/// Under auto a superslab that the policy makes resident as a whole asks for a huge page whatever the process holds: it
/// costs no byte more, and one fault instead of 512. Where memory runs short it will not be resident, and stays on OS
/// pages. `map_populate` stays on them as well: populating while mapping comes before huge pages can be asked for.
fn want_huge(knobs: &Knobs, how: Prefault) -> bool {
    match knobs.thp {
        ThpPolicy::Always => true,
        ThpPolicy::Never => false,
        ThpPolicy::Auto if account::of(Kind::Blocks) >= AUTO_HUGE_FROM => true,
        ThpPolicy::Auto => match how {
            Prefault::Off | Prefault::Async | Prefault::MapPopulate => false,
            Prefault::Touch | Prefault::Memset | Prefault::Populate | Prefault::Collapse => {
                memory::allow_populate(SUPERSLAB)
            }
        },
    }
}

/// Does to a new superslab what the policy says; answers whether it is resident now.
fn run_prefault(map: Mapping, how: Prefault, huge: bool) -> bool {
    // SAFETY: the mapping is ours, writable, and nobody else knows of it yet.
    unsafe {
        match how {
            Prefault::Off | Prefault::Async => false,
            Prefault::Touch => prefault::touch(map.addr, map.len) == map.len,
            Prefault::Memset => prefault::fill(map.addr, map.len) == map.len,
            // What MAP_POPULATE brought in is found present, which costs next to nothing.
            Prefault::Populate | Prefault::MapPopulate => {
                prefault::populate(map.addr, map.len).is_ok_and(|n| n == map.len)
            }
            Prefault::Collapse => {
                let populated = prefault::populate(map.addr, map.len).is_ok_and(|n| n == map.len);
                if !huge {
                    let _ = huge::collapse(map.addr, map.len);
                }
                populated
            }
        }
    }
}

fn descriptor(node: Node) -> Option<NonNull<Superslab>> {
    let mut pool = lock(node);
    if let Some(spare) = NonNull::new(pool.spare) {
        // SAFETY: spare descriptors are linked by `list.next` and belong to the lock's holder.
        pool.spare = unsafe { spare.as_ref().list.next };
        return Some(spare);
    }
    drop(pool);
    Superslab::allocate()
}

fn put_spare(node: Node, descriptor: *mut Superslab) {
    let mut pool = lock(node);
    // SAFETY: the caller gives the descriptor up; no superslab is mapped for it.
    unsafe {
        (*descriptor).state = State::Unmapped;
        (*descriptor).list.next = pool.spare;
    }
    pool.spare = descriptor;
}
