//! Taking superslabs from the kernel.

use super::exchange::{Lender, borrow};
use super::place::lock;
use super::{Claim, Want, claim, evidence, purge};
use crate::base::account::{self, Kind};
use crate::base::sync::atomic::Ordering as WordOrdering;
use crate::base::tuning::addresses::PREWARM_SPARES;
use crate::base::tuning::pool::{TOGETHER_MOST, TOGETHER_SHARE};
use crate::base::units::{SUPERSLAB, Slots};
use crate::knobs::{Knobs, Prefault, ThpPolicy};
use crate::os::huge;
use crate::os::mapping::{self, Mapping, Place};
use crate::os::memory;
use crate::os::numa::{self, Node};
use crate::os::prefault;
use crate::os::sys::{self, Errno};
use crate::os::trial;
use crate::slab::directory::{DIRECTORY, Tag};
use crate::slab::superslab::{State, Superslab};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Slots for a heap, and whether a superslab was mapped for them.
pub(crate) struct Obtained {
    pub(crate) claim: Claim,
    pub(crate) mapped: bool,
}

/// Claims slots for a thread on the node: from its pool, else from what `lender` has, else from the kernel, else from another
/// node's pool. No lock may be held.
pub(crate) fn obtain(knobs: &Knobs, node: Node, want: Want, lender: Lender) -> Option<Obtained> {
    let had = |claim| Obtained {
        claim,
        mapped: false,
    };
    if let Some(claim) = claim(node, knobs.thp, want) {
        return Some(had(claim));
    }
    let dense = evidence::is_dense(knobs.thp, node, want.usage);
    // Looked at here, so that no start runs the code that borrows.
    if account::of(Kind::Cached) >= SUPERSLAB
        && let Some(claim) = borrow(knobs, node, dense, want, lender)
    {
        return Some(had(claim));
    }
    if let Some(claim) = reopen(node, dense, want) {
        return Some(had(claim));
    }
    let begin = Begin::For(want, dense);
    match acquire(knobs, knobs.prefault, node, begin) {
        Ok(Acquired {
            claim: Some(claim), ..
        }) => Some(Obtained {
            claim,
            mapped: true,
        }),
        _ => elsewhere(knobs.thp, node, dense, want).map(had),
    }
}

/// As [`obtain`], but from the pools of the other nodes only.
pub(super) fn elsewhere(thp: ThpPolicy, node: Node, dense: bool, want: Want) -> Option<Claim> {
    numa::all()
        .filter(|other| *other != node)
        .find_map(|other| claim(other, thp, want).or_else(|| reopen(other, dense, want)))
}

/// Claims from an empty superslab of the pool without memory, and first settles which pages it gets.
fn reopen(node: Node, dense: bool, want: Want) -> Option<Claim> {
    let mut pool = lock(node);
    let superslab = pool.by_free.bare()?;
    // SAFETY: listed, under the lock; while it is in flight it is ours alone, as no slot of it is claimed.
    unsafe {
        if (*superslab).huge != dense {
            pool.take_out(superslab);
            drop(pool);
            let taken = if dense {
                trial::huge_pages_wished();
                huge::advise((*superslab).base, SUPERSLAB)
            } else {
                huge::refuse((*superslab).base, SUPERSLAB)
            };
            pool = lock(node);
            if taken.is_ok() {
                pool.is_whole_again(superslab);
                (*superslab).huge = dense;
                let [more, less] = [dense, !dense].map(|huge| if huge { SUPERSLAB } else { 0 });
                pool.counts.huge_requested = pool.counts.huge_requested + more - less;
            }
            pool.put_back(superslab);
        } else if !dense {
            pool.is_whole_again(superslab);
        }
        pool.began(superslab, (*superslab).huge, want.usage);
        Some(pool.claim_in(superslab, 0, want))
    }
}

/// Maps and populates up to `count` superslabs. Returns how many it made. They lie on the node of the calling thread and serve
/// that node's threads; to serve all nodes, one thread of each has to call.
pub(crate) fn prewarm(knobs: &Knobs, count: usize) -> usize {
    let how = match knobs.prefault {
        Prefault::Off | Prefault::Async => Prefault::Populate,
        other => other,
    };
    // What a program asks for next needs addresses too, the allocator's own metadata first of all.
    let spared = memory::addresses_are_limited()
        .then(|| mapping::map_aligned(PREWARM_SPARES, sys::page_size(), None));
    let mut had = 0;
    if !matches!(spared, Some(Err(_))) {
        had = (0..count)
            .take_while(|_| is_populated(acquire(knobs, how, numa::here(), Begin::OnRequest)))
            .count();
    }
    if let Some(Ok(map)) = spared {
        // SAFETY: mapped above, and nobody else knows of it.
        unsafe { mapping::abandon(map) };
    }
    purge::retain_prewarmed(had * SUPERSLAB);
    had
}

/// What a superslab is mapped for.
#[derive(Clone, Copy)]
pub(super) enum Begin {
    /// Slots that are wanted now, and whether they will be densely written.
    For(Want, bool),
    OnRequest,
    AheadOfDemand,
}

pub(super) struct Acquired {
    /// The slots that were wanted of it.
    claim: Option<Claim>,
    populated: bool,
}

/// Whether one more exists and all of it is resident.
pub(super) fn is_populated(acquired: Result<Acquired, Errno>) -> bool {
    acquired.is_ok_and(|one| one.populated)
}

/// Maps one more superslab for the node, on which the calling thread runs, and lists it. No lock may be held.
pub(super) fn acquire(
    knobs: &Knobs,
    how: Prefault,
    node: Node,
    begin: Begin,
) -> Result<Acquired, Errno> {
    let descriptor = descriptor(node).ok_or(Errno::ENOMEM)?.as_ptr();
    let (dense, many) = match begin {
        Begin::For(_, dense) if how == Prefault::Off => (dense, together(node)),
        Begin::For(_, dense) => (dense, 1),
        Begin::OnRequest | Begin::AheadOfDemand => (false, 1),
    };
    let (map, huge) = match map(knobs, how, dense, many) {
        Ok(mapped) => mapped,
        Err(error) => {
            put_spare(node, descriptor);
            return Err(error);
        }
    };
    let map = match map.len {
        SUPERSLAB => map,
        _ => split_off(node, map, huge),
    };
    let populated = run_prefault(map, how, huge);
    DIRECTORY
        .descriptor(map.addr)
        .store(descriptor as usize, WordOrdering::Relaxed);
    if populated {
        // The words that describe it are prefaulted too. Its slots have no tags yet.
        DIRECTORY.set(map.addr, Slots::ONE, Tag::NONE);
        // SAFETY: as below.
        unsafe { Superslab::prefault(descriptor) };
    }
    let mut pool = lock(node);
    // SAFETY: the descriptor came from the spare list or is fresh: it is in no list, and no other thread refers to it.
    unsafe {
        (*descriptor).ahead = matches!(begin, Begin::AheadOfDemand);
        pool.add(descriptor, node, map.addr, huge, populated);
        let claim = match begin {
            Begin::For(want, _) => {
                pool.began(descriptor, huge, want.usage);
                Some(pool.claim_in(descriptor, 0, want))
            }
            Begin::OnRequest | Begin::AheadOfDemand => None,
        };
        Ok(Acquired { claim, populated })
    }
}

/// Whether a fresh mapping was found resident: the process locks its future mappings (`mlockall(MCL_FUTURE)`), so those made ahead
/// of demand cost memory. A hint that orders nothing, so Relaxed.
static LOCKS_MAPPINGS: AtomicBool = AtomicBool::new(false);

/// How many superslabs to map by one call. A large process needs further ones soon.
fn together(node: Node) -> usize {
    if LOCKS_MAPPINGS.load(Relaxed) {
        return 1;
    }
    (lock(node).counts.mapped / TOGETHER_SHARE).clamp(1, TOGETHER_MOST)
}

/// Lists all superslabs of a new mapping but the first, which it returns. They have no memory yet. If one cannot be entered into
/// the directory or gets no descriptor, it is unmapped with those behind it; all are if they have memory already.
#[cold]
#[inline(never)]
fn split_off(node: Node, map: Mapping, huge: bool) -> Mapping {
    let locked = mapping::is_resident(map.addr);
    if locked {
        LOCKS_MAPPINGS.store(true, Relaxed);
    }
    for base in (map.addr..map.end()).step_by(SUPERSLAB).skip(1) {
        let entered = match locked {
            true => Ok(false),
            false => DIRECTORY.enter(base),
        };
        let spare = match entered {
            Ok(true) => descriptor(node),
            _ => None,
        };
        let Some(spare) = spare else {
            if let Ok(true) = entered {
                DIRECTORY.leave(base);
            }
            let rest = Mapping {
                addr: base,
                len: map.end() - base,
            };
            // SAFETY: mapped by the caller, and nobody else knows of the rest.
            unsafe { mapping::abandon(rest) };
            break;
        };
        let spare = spare.as_ptr();
        DIRECTORY
            .descriptor(base)
            .store(spare as usize, WordOrdering::Relaxed);
        let mut pool = lock(node);
        // SAFETY: the lock is held; the descriptor came from the spare list or is fresh.
        unsafe {
            (*spare).ahead = false;
            pool.add(spare, node, base, huge, false);
        }
    }
    Mapping {
        addr: map.addr,
        len: SUPERSLAB,
    }
}

/// Maps superslabs, `many` of them or one, and enters the first into the directory. Returns whether huge pages were requested.
fn map(knobs: &Knobs, how: Prefault, dense: bool, many: usize) -> Result<(Mapping, bool), Errno> {
    let huge = want_huge(knobs.thp, how, dense);
    // With MAP_POPULATE huge pages would be requested too late, after the memory has come. `run_prefault` populates then.
    let at_once = how == Prefault::MapPopulate
        && !huge
        && huge::system_thp() != huge::Thp::Always
        && memory::allow_populate(SUPERSLAB);
    let map = if at_once {
        mapping::map_aligned_populated(SUPERSLAB, SUPERSLAB, Some(&DIRECTORY))?
    } else {
        let map = |many| mapping::map_aligned(many * SUPERSLAB, SUPERSLAB, Some(&DIRECTORY));
        match map(many) {
            Err(_) if many > 1 => map(1)?,
            mapped => mapped?,
        }
    };
    // SAFETY: advice on our own mapping. A refusal leaves OS pages; stats() counts what was achieved, not what was requested.
    unsafe {
        if huge {
            trial::huge_pages_wished();
            let _ = huge::advise(map.addr, map.len);
        } else if is_refused(how, huge::system_thp) {
            let _ = huge::refuse(map.addr, map.len);
        }
    }
    Ok((map, huge))
}

/// Whether a new superslab that asks for no huge pages refuses them. If the system's policy is "always", a first touch brings in
/// 2 MiB. The kernel's word on that is a file, and reading it costs ten times as much as refusing, so it is read only for what is
/// to be collapsed: the kernel collapses nothing that was refused.
fn is_refused(how: Prefault, system: impl FnOnce() -> huge::Thp) -> bool {
    how != Prefault::Collapse || system() == huge::Thp::Always
}

/// Whether a new superslab asks for huge pages. Under auto it does if it will be densely written, or if the policy makes all of
/// it resident anyway: that costs no byte more, and one fault instead of 512. If memory runs short, not all will be resident,
/// so it stays on OS pages. `map_populate` stays on them as well, because it populates before huge pages can be requested.
fn want_huge(thp: ThpPolicy, how: Prefault, dense: bool) -> bool {
    match thp {
        ThpPolicy::Always => true,
        ThpPolicy::Never => false,
        ThpPolicy::Auto if dense => true,
        ThpPolicy::Auto => match how {
            Prefault::Off | Prefault::Async | Prefault::MapPopulate => false,
            Prefault::Touch | Prefault::Memset | Prefault::Populate | Prefault::Collapse => {
                memory::allow_populate(SUPERSLAB)
            }
        },
    }
}

/// Prefaults a new superslab as the policy says. Returns whether all of it is resident now.
fn run_prefault(map: Mapping, how: Prefault, huge: bool) -> bool {
    // SAFETY: the mapping is ours, writable, and nobody else knows of it yet.
    unsafe {
        match how {
            Prefault::Off | Prefault::Async => false,
            Prefault::Touch => prefault::touch(map.addr, map.len) == map.len,
            Prefault::Memset => prefault::fill(map.addr, map.len) == map.len,
            // Populating what MAP_POPULATE brought in finds it present, which costs next to nothing.
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

pub(super) fn descriptor(node: Node) -> Option<NonNull<Superslab>> {
    let mut pool = lock(node);
    if let Some(spare) = NonNull::new(pool.spare) {
        // SAFETY: spare descriptors are linked by `list.next` and belong to the lock's holder.
        pool.spare = unsafe { spare.as_ref().list.next };
        return Some(spare);
    }
    drop(pool);
    Superslab::allocate()
}

pub(super) fn put_spare(node: Node, descriptor: *mut Superslab) {
    let mut pool = lock(node);
    // SAFETY: the caller abandons the descriptor, and no superslab is mapped for it.
    unsafe {
        (*descriptor).state = State::Unmapped;
        (*descriptor).list.next = pool.spare;
    }
    pool.spare = descriptor;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_collapsed_is_refused_only_to_a_system_that_always_gives() {
        assert!(!is_refused(Prefault::Collapse, || huge::Thp::Madvise));
        assert!(!is_refused(Prefault::Collapse, || huge::Thp::Never));
        assert!(is_refused(Prefault::Collapse, || huge::Thp::Always));
        assert!(is_refused(Prefault::Off, || unreachable!(
            "no file is read"
        )));
    }
}
