//! A run of memory, and the parts it consists of.
//!
//! Pieces that were moved next to each other stay separate mappings to the kernel, and a call that moves or grows a mapping
//! must not span two. So every mapping has an *origin*, which the pieces cut from it share: neighbours of one origin are one
//! mapping, neighbours of two may not be. A run, a block's or a cached one, records the parts it consists of.

use crate::base::tuning::large::{EXTRA_PARTS, PARTS};
use crate::base::units::SUPERSLAB;
use crate::os::mapping::Mapping;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The parts beyond the first that all live blocks have. It is only a bound, so Relaxed.
static EXTRA: AtomicUsize = AtomicUsize::new(0);

/// An origin that no other call returns.
pub(super) fn new_origin() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// The parts of a run, from its first byte on: their lengths in superslabs, and their origins.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    lens: [u32; PARTS],
    origins: [u64; PARTS],
    pub(super) count: usize,
}

impl Parts {
    pub(super) const NONE: Parts = Parts {
        lens: [0; PARTS],
        origins: [0; PARTS],
        count: 0,
    };

    /// Adds a part behind the others. Returns false if there is no room for it.
    pub(super) fn push(&mut self, len: usize, origin: u64) -> bool {
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

    pub(super) fn each(&self) -> impl Iterator<Item = (usize, u64)> {
        self.lens
            .iter()
            .zip(&self.origins)
            .take(self.count)
            .map(|(&len, &origin)| (len as usize * SUPERSLAB, origin))
    }
}

/// Memory without a gap: a large block's, or cached.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) map: Mapping,
    /// The parts of the mapping. Their lengths add up to its own.
    pub(super) parts: Parts,
}

impl Run {
    /// A run that the kernel just mapped, grew or moved as one mapping.
    pub(super) fn new(map: Mapping) -> Run {
        let mut parts = Parts::NONE;
        parts.push(map.len, new_origin());
        Run { map, parts }
    }

    /// Whether it is one mapping to the kernel.
    pub(super) fn is_whole(&self) -> bool {
        self.parts.count == 1
    }

    /// How many parts may follow those of this run.
    pub(super) fn room(&self) -> usize {
        PARTS - self.parts.count
    }

    /// Whether a cached part and a fresh one may follow.
    pub(super) fn may_join(&self) -> bool {
        self.room() >= 2
    }

    /// Divides the run at `len` bytes, which is less than its length, and returns the front and the rest.
    #[inline(never)]
    pub(super) fn divide(&self, len: usize) -> (Run, Run) {
        let (mut before, mut behind) = (Parts::NONE, Parts::NONE);
        let mut at = 0;
        for (here, origin) in self.parts.each() {
            let first = len.saturating_sub(at).min(here);
            // Neither side gets more parts than there were, so there is room.
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

    /// This run and one that begins at its end, joined. `None` if that has too many parts.
    #[inline(never)]
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

    /// Counts the parts of a block that becomes live.
    pub(super) fn count_in(&self) {
        EXTRA.fetch_add(self.parts.count - 1, Relaxed);
    }

    pub(super) fn count_out(&self) {
        EXTRA.fetch_sub(self.parts.count - 1, Relaxed);
    }
}

/// Whether live blocks may have more parts in all.
pub(super) fn may_have_more() -> bool {
    EXTRA.load(Relaxed) < EXTRA_PARTS
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
