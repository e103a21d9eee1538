//! Blocks assembled from several cached mappings. The kernel moves page tables, so resident memory in pieces serves a block
//! longer than any of them without a page fault.

use super::cache;
use super::run::{self, Parts, Run, new_origin};
use crate::os::mapping::{self, Mapping};
use crate::os::{clock, huge};

/// Memory for a block, assembled from what was cached.
pub(super) struct Gathered {
    pub(super) run: Run,
    /// Whether huge pages were requested.
    pub(super) huge: bool,
    /// Bytes at the end that are fresh from the kernel.
    pub(super) fresh: usize,
}

/// Fills `target`, which was just mapped and whose address no other thread has, with cached memory, longest first, in at most
/// `room` parts. If some of it is on huge pages, or `huge` is true, all of it asks for them. `None` if it failed: what is left of
/// the target is cached or given back.
pub(super) fn gather(target: Mapping, room: usize, mut huge: bool) -> Option<Gathered> {
    let mut parts = Parts::NONE;
    let mut done = 0;
    while done < target.len && parts.count + 1 < room {
        let Some(entry) = cache::longest(target.len - done, None) else {
            break;
        };
        if entry.huge() && !huge {
            ask(target.addr, done);
            huge = true;
        }
        let mut run = entry.run;
        while parts.count + 1 < room {
            let Some((len, _)) = run.parts.each().next() else {
                break;
            };
            let piece = Mapping { len, ..run.map };
            // SAFETY: the run was taken out of the cache, and the target is the caller's. No pointer into either is left.
            if unsafe { mapping::move_over(piece, target.addr + done) }.is_err() {
                let moved = Run {
                    map: Mapping {
                        addr: target.addr,
                        len: done,
                    },
                    parts,
                };
                let behind = Mapping {
                    addr: target.addr + done + len,
                    len: target.len - done - len,
                };
                give_up((moved, huge), behind, (run, entry.huge()));
                return None;
            }
            if huge && !entry.huge() {
                ask(target.addr + done, len);
            }
            parts.push(len, new_origin());
            done += len;
            if len == run.map.len {
                run.map.len = 0;
                break;
            }
            run = run.divide(len).1;
        }
        if run.map.len > 0 {
            cache::keep(&run, 0, entry.huge(), clock::now_ms());
            break;
        }
    }
    let fresh = target.len - done;
    if fresh > 0 {
        parts.push(fresh, new_origin());
        if huge {
            ask(target.addr + done, fresh);
        }
    }
    Some(Gathered {
        run: Run { map: target, parts },
        huge,
        fresh,
    })
}

/// Requests huge pages for part of a block, and counts that. A refusal leaves OS pages there.
pub(super) fn ask(addr: usize, len: usize) {
    if len > 0 {
        // SAFETY: advice on the caller's mapping.
        let _ = unsafe { huge::advise(addr, len) };
        cache::account_huge(len as isize);
    }
}

/// Moves a run over `target`, which is as long and was just mapped. Returns what was moved before the kernel refused a part.
/// What lies behind that part in the target is given back then.
pub(super) fn move_run(run: &Run, target: Mapping) -> Run {
    let mut parts = Parts::NONE;
    let mut done = 0;
    for (len, _) in run.parts.each() {
        let piece = Mapping {
            addr: run.map.addr + done,
            len,
        };
        // SAFETY: both are the caller's, and no other thread has the target's address. The result has no more parts than `run`,
        // so there is room.
        if unsafe { mapping::move_over(piece, target.addr + done) }.is_err() {
            let behind = done + len;
            if behind < target.len {
                cache::release(
                    Run::new(Mapping {
                        addr: target.addr + behind,
                        len: target.len - behind,
                    }),
                    false,
                );
            }
            break;
        }
        parts.push(len, new_origin());
        done += len;
    }
    let addr = target.addr;
    Run {
        map: Mapping { addr, len: done },
        parts,
    }
}

/// After a refused move: caches what was moved at its new place, and what was not tried at its old one. The piece that could
/// not be moved goes back to the kernel, because the next block would try it again. The address it could not be moved to counts
/// as stranded.
#[cold]
fn give_up((moved, all_huge): (Run, bool), behind: Mapping, (left, huge): (Run, bool)) {
    let now = clock::now_ms();
    if moved.map.len > 0 {
        cache::keep(&moved, 0, all_huge, now);
    }
    if behind.len > 0 {
        cache::release(Run::new(behind), false);
    }
    let tried = left.parts.each().next().map_or(0, |(len, _)| len);
    let failed = if tried < left.map.len {
        let (failed, untried) = left.divide(tried);
        cache::keep(&untried, 0, huge, now);
        failed
    } else {
        left
    };
    cache::release(failed, huge);
}

/// Whether a block of several parts may be made now.
pub(super) fn may_gather() -> bool {
    cache::cached_bytes() > 0 && may_move()
}

/// Whether parts of blocks may be moved.
pub(super) fn may_move() -> bool {
    run::may_have_more() && mapping::may_move()
}
