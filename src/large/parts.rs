//! Blocks put together from several cached mappings: the kernel moves page tables, so that memory which is resident in
//! pieces serves a block longer than any of them without a fault.
//!
//! Pieces that were moved next to each other stay mappings of their own to the kernel, and a call that moves or grows one
//! must not span two. So every mapping has an *origin*, which the pieces cut from it share: neighbours of one origin are
//! one mapping, others may not be. A run of memory, a block's or a cached one, remembers the parts it is made of.

use super::cache;
use crate::base::tuning::large::{EXTRA_PARTS, PARTS};
use crate::base::units::SUPERSLAB;
use crate::os::mapping::{self, Mapping};
use crate::os::{clock, huge};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Parts beyond the first of all live blocks. Only a bound, so Relaxed.
static EXTRA: AtomicUsize = AtomicUsize::new(0);

/// What the mapping came from; no two calls answer the same.
fn new_origin() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// The parts of a piece of memory, from its first byte on: their lengths, in superslabs, and origins.
#[derive(Clone, Copy)]
struct Parts {
    lens: [u32; PARTS],
    origins: [u64; PARTS],
    count: usize,
}

impl Parts {
    const NONE: Parts = Parts {
        lens: [0; PARTS],
        origins: [0; PARTS],
        count: 0,
    };

    /// Adds a part behind the others; false where there is no room for it.
    fn push(&mut self, len: usize, origin: u64) -> bool {
        debug_assert!(len.is_multiple_of(SUPERSLAB) && len > 0);
        let len = (len / SUPERSLAB) as u32;
        if self.count > 0 && self.origins[self.count - 1] == origin {
            self.lens[self.count - 1] += len;
        } else if self.count < PARTS {
            self.lens[self.count] = len;
            self.origins[self.count] = origin;
            self.count += 1;
        } else {
            return false;
        }
        true
    }

    fn each(&self) -> impl Iterator<Item = (usize, u64)> {
        self.lens
            .iter()
            .zip(&self.origins)
            .take(self.count)
            .map(|(&len, &origin)| (len as usize * SUPERSLAB, origin))
    }
}

/// A piece of memory without a gap: a huge block's, or cached.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) map: Mapping,
    /// Their lengths add up to the mapping's.
    parts: Parts,
}

impl Run {
    /// What the kernel mapped, grew or moved just now, as one mapping.
    pub(super) fn new(map: Mapping) -> Run {
        let mut parts = Parts::NONE;
        parts.push(map.len, new_origin());
        Run { map, parts }
    }

    /// Whether the kernel knows it as one mapping.
    pub(super) fn is_whole(&self) -> bool {
        self.parts.count == 1
    }

    /// Parts that may follow those of this run.
    pub(super) fn room(&self) -> usize {
        PARTS - self.parts.count
    }

    /// Whether a cached part and a fresh one may follow.
    pub(super) fn may_join(&self) -> bool {
        self.room() >= 2
    }

    /// Divides the run at `len` bytes, fewer than it has: those before, and those behind.
    pub(super) fn divide(&self, len: usize) -> (Run, Run) {
        let (mut before, mut behind) = (Parts::NONE, Parts::NONE);
        let mut at = 0;
        for (here, origin) in self.parts.each() {
            let first = len.saturating_sub(at).min(here);
            // As many on either side as there were, so that there is room.
            if first > 0 {
                before.push(first, origin);
            }
            if first < here {
                behind.push(here - first, origin);
            }
            at += here;
        }
        let run = |addr, len, parts| Run {
            map: Mapping { addr, len },
            parts,
        };
        (
            run(self.map.addr, len, before),
            run(self.map.addr + len, self.map.len - len, behind),
        )
    }

    /// This run with one that begins where it ends; `None` where that would be too many parts.
    pub(super) fn join(&self, behind: &Run) -> Option<Run> {
        debug_assert!(self.map.end() == behind.map.addr);
        let mut parts = self.parts;
        let map = Mapping {
            addr: self.map.addr,
            len: self.map.len + behind.map.len,
        };
        behind
            .parts
            .each()
            .all(|(len, origin)| parts.push(len, origin))
            .then_some(Run { map, parts })
    }

    /// Counts the parts of a live block, or no longer.
    pub(super) fn count_in(&self) {
        EXTRA.fetch_add(self.parts.count - 1, Relaxed);
    }

    pub(super) fn count_out(&self) {
        EXTRA.fetch_sub(self.parts.count - 1, Relaxed);
    }
}

/// Memory for a block, put together from what was cached.
pub(super) struct Gathered {
    pub(super) run: Run,
    /// Whether huge pages were asked for.
    pub(super) huge: bool,
    /// Bytes at the end that come fresh from the kernel.
    pub(super) fresh: usize,
}

/// Fills `target`, which was mapped just now, with what is cached, longest first, in `room` parts at most; of what has huge
/// pages or has not, if it matters. Nothing of the target may be known to anybody. `None`: it failed, and what is left of
/// the target is cached or given back.
pub(super) fn gather(target: Mapping, room: usize, mut huge: Option<bool>) -> Option<Gathered> {
    let mut parts = Parts::NONE;
    let mut done = 0;
    while done < target.len && parts.count + 1 < room {
        let Some(entry) = cache::longest(target.len - done, huge) else {
            break;
        };
        huge = Some(entry.huge());
        let mut run = entry.run;
        while parts.count + 1 < room {
            let Some((len, _)) = run.parts.each().next() else {
                break;
            };
            let piece = Mapping { len, ..run.map };
            // SAFETY: the run was taken out of the cache, the target is the caller's, and nobody has a pointer into
            // either.
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
                give_up(moved, behind, run, entry.huge());
                return None;
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
            cache::keep(run, entry.huge(), clock::now_ms());
            break;
        }
    }
    let (fresh, huge) = (target.len - done, huge.unwrap_or(false));
    if fresh > 0 {
        parts.push(fresh, new_origin());
        if huge {
            // SAFETY: advice on the caller's mapping. A refusal means small pages there; the wish is counted with its block.
            let _ = unsafe { huge::advise(target.addr + done, fresh) };
            cache::account_huge(fresh as isize);
        }
    }
    Some(Gathered {
        run: Run { map: target, parts },
        huge,
        fresh,
    })
}

/// Moves a run over `target`, as long as it, which was mapped just now; as many bytes as were moved before the kernel
/// refused one of its parts. What lay behind them in the target is given back then.
pub(super) fn move_run(run: &Run, target: Mapping) -> Result<Run, usize> {
    let mut parts = Parts::NONE;
    let mut done = 0;
    for (len, _) in run.parts.each() {
        let piece = Mapping {
            addr: run.map.addr + done,
            len,
        };
        // SAFETY: both are the caller's, and the target is known to nobody. Parts were pushed before: there is room.
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
            return Err(done);
        }
        parts.push(len, new_origin());
        done += len;
    }
    Ok(Run { map: target, parts })
}

/// What was moved is cached where it lies now, and what was not tried where it was. The piece that could not be moved goes
/// back to the kernel, whatever is left of it: it would be tried again with the next block. The place it could not be
/// moved to is nobody's.
#[cold]
fn give_up(moved: Run, behind: Mapping, left: Run, huge: bool) {
    let now = clock::now_ms();
    if moved.map.len > 0 {
        cache::keep(moved, huge, now);
    }
    if behind.len > 0 {
        cache::release(Run::new(behind), false);
    }
    let tried = left.parts.each().next().map_or(0, |(len, _)| len);
    let failed = if tried < left.map.len {
        let (failed, untried) = left.divide(tried);
        cache::keep(untried, huge, now);
        failed
    } else {
        left
    };
    cache::release(failed, huge);
}

/// Whether a block of several parts may be made.
pub(super) fn may_gather() -> bool {
    cache::cached_bytes() > 0 && may_move()
}

/// Whether parts of blocks may be moved.
pub(super) fn may_move() -> bool {
    EXTRA.load(Relaxed) < EXTRA_PARTS && mapping::may_move()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn run(addr: usize, lens: &[(usize, u64)]) -> Run {
        let mut parts = Parts::NONE;
        lens.iter()
            .for_each(|&(len, origin)| assert!(parts.push(len * SUPERSLAB, origin)));
        let len = lens.iter().map(|(len, _)| len * SUPERSLAB).sum();
        Run {
            map: Mapping { addr, len },
            parts,
        }
    }

    fn lens(run: Run) -> Vec<(usize, u64)> {
        let lens = run.parts.each();
        let sum: usize = run.parts.each().map(|(len, _)| len).sum();
        assert_eq!(sum, run.map.len);
        lens.map(|(len, origin)| (len / SUPERSLAB, origin))
            .collect()
    }

    #[test]
    fn runs_divide_anywhere_and_join_again() {
        type Lens = &'static [(usize, u64)];
        let all: Lens = &[(3, 7), (2, 8), (1, 9)];
        let whole = run(1 << 30, all);
        assert!(!whole.is_whole());
        let cases: [(usize, Lens, Lens); 4] = [
            (1, &[(1, 7)], &[(2, 7), (2, 8), (1, 9)]),
            (3, &[(3, 7)], &[(2, 8), (1, 9)]),
            (4, &[(3, 7), (1, 8)], &[(1, 8), (1, 9)]),
            (5, &[(3, 7), (2, 8)], &[(1, 9)]),
        ];
        for (at, before, behind) in cases {
            let (first, second) = whole.divide(at * SUPERSLAB);
            assert_eq!(first.map.end(), second.map.addr);
            assert_eq!((&lens(first)[..], &lens(second)[..]), (before, behind));
            let again = first.join(&second).expect("as many parts as before");
            assert_eq!((again.map, &lens(again)[..]), (whole.map, all));
        }
    }

    #[test]
    fn runs_of_too_many_parts_are_not_joined() {
        let many: Vec<_> = (0..PARTS).map(|origin| (1, origin as u64)).collect();
        let first = run(1 << 30, &many);
        assert!(first.join(&run(first.map.end(), &[(1, 99)])).is_none());
        let same = first.join(&run(first.map.end(), &[(1, PARTS as u64 - 1)]));
        assert_eq!(same.expect("of one origin").parts.count, PARTS);
        assert!(run(1 << 30, &[(4, 1)]).is_whole());
    }
}
