//! What large blocks showed of whether such blocks are filled, and which are looked at.

use crate::base::tuning::{
    EXPECTED, GRANTED, LAST_LOOK, UNPROVEN_BLOCKS, UNPROVEN_SHARE, UNSEEN_BLOCK,
};
use crate::base::units::SUPERSLAB;
use crate::os::mapping::Mapping;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A live block: from the beginning of its mapping to its own end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) addr: usize,
    pub(super) len: usize,
    pub(super) asked: Asked,
}

/// What a block was asked for as. No variant is 0: then `None` is, and an empty record takes no space in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Asked {
    Plain = 1,
    Zeroed = 2,
}

impl Asked {
    pub(super) fn new(zeroed: bool) -> Asked {
        if zeroed { Asked::Zeroed } else { Asked::Plain }
    }

    fn index(self) -> usize {
        self as usize - 1
    }
}

impl Extent {
    /// The block in a mapping.
    pub(super) fn at(self, map: Mapping) -> Extent {
        Extent {
            addr: map.addr,
            ..self
        }
    }

    /// Bytes of its last huge page behind its end.
    pub(super) fn end(self) -> usize {
        self.len.next_multiple_of(SUPERSLAB) - self.len
    }
}

/// What blocks of one kind showed: those asked for zeroed, or the others.
#[derive(Clone, Copy)]
pub(super) struct Evidence {
    /// Bytes of blocks found filled on OS pages since one was found that was not.
    filled: usize,
    /// The longest block found filled since then.
    longest: usize,
    /// Bytes of blocks that got huge pages since then for that.
    granted: usize,
    /// A live block on OS pages, which was not found filled. It is the one at [`WATCHED`].
    watched: Option<Looked>,
}

/// A live block that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Looked {
    block: Extent,
    /// How many requests there were for a look.
    asked: u32,
}

pub(super) struct Seen {
    kinds: [Evidence; 2],
    /// Live blocks on huge pages that were not found filled.
    unproven: [Option<Looked>; UNPROVEN_BLOCKS],
}

/// The addresses of the watched blocks, or 0; written under the lock around [`Seen`]. A block's owner compares them with its own,
/// which it wrote itself if it is there: Relaxed.
static WATCHED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

impl Evidence {
    const NONE: Evidence = Evidence {
        filled: 0,
        longest: 0,
        granted: 0,
        watched: None,
    };

    /// Whether a block of `len` bytes will be filled, judging by those that were.
    fn expects(&self, len: usize) -> bool {
        len <= EXPECTED * self.longest && self.granted + len <= GRANTED * self.filled
    }

    /// Notes what was found of a watched block, or of one on huge pages that is not filled.
    pub(super) fn found(&mut self, len: usize, filled: bool) {
        *self = match filled {
            true => Evidence {
                filled: self.filled + len,
                longest: self.longest.max(len),
                ..*self
            },
            false => Evidence {
                watched: self.watched,
                ..Evidence::NONE
            },
        };
    }

    /// Notes that a block was filled when it grew. It may have grown before, so it adds nothing.
    pub(super) fn grew(&mut self, len: usize) {
        self.filled = self.filled.max(len);
        self.longest = self.longest.max(len);
    }
}

impl Seen {
    pub(super) const NONE: Seen = Seen {
        kinds: [Evidence::NONE; 2],
        unproven: [None; UNPROVEN_BLOCKS],
    };

    /// What the blocks showed that were asked for as this one.
    pub(super) fn kind(&mut self, block: Extent) -> &mut Evidence {
        &mut self.kinds[block.asked.index()]
    }

    /// Admits a block as unproven, if one more may be. `live`: bytes of large blocks.
    pub(super) fn admit(&mut self, block: Extent, live: usize) -> bool {
        let unproven: usize = self.unproven.iter().flatten().map(|at| at.block.len).sum();
        let expected = self.kind(block).expects(block.len);
        let unseen = block.len >= UNSEEN_BLOCK && block.asked == Asked::Plain;
        let fits = match unproven {
            0 => expected || unseen,
            _ => expected && unproven + block.len <= live / UNPROVEN_SHARE,
        };
        if !fits || !self.put(block) {
            return false;
        }
        if expected {
            self.kind(block).granted += block.len;
        }
        true
    }

    /// Makes a block unproven. Returns false if there is no place.
    pub(super) fn put(&mut self, block: Extent) -> bool {
        let free = self.unproven.iter_mut().find(|at| at.is_none());
        let put = free.map(|at| *at = Some(Looked { block, asked: 0 }));
        put.is_some()
    }

    /// Ends a block's being unproven, and returns whether it was.
    pub(super) fn take(&mut self, addr: usize) -> bool {
        let is = |at: &&mut Option<Looked>| at.is_some_and(|at| at.block.addr == addr);
        let taken = self.unproven.iter_mut().find(is).and_then(Option::take);
        taken.is_some()
    }

    /// Watches a block, if none of its kind is.
    pub(super) fn watch(&mut self, block: Extent) {
        let kind = self.kind(block);
        if kind.watched.is_none() {
            kind.watched = Some(Looked { block, asked: 0 });
            WATCHED[block.asked.index()].store(block.addr, Ordering::Relaxed);
        }
    }

    /// Ends a block's being watched, and returns its kind if it was.
    pub(super) fn unwatch(&mut self, addr: usize) -> Option<&mut Evidence> {
        let is = |kind: &Evidence| kind.watched.is_some_and(|at| at.block.addr == addr);
        let index = self.kinds.iter().position(is)?;
        self.kinds[index].watched = None;
        WATCHED[index].store(0, Ordering::Relaxed);
        Some(&mut self.kinds[index])
    }

    /// Notes what was found of a block that was unproven or watched. It may have been freed meanwhile. All that a huge page holds
    /// is resident, so an unproven block that seems filled adds no bytes.
    pub(super) fn settle(&mut self, block: Extent, filled: bool) {
        if let Some(kind) = self.unwatch(block.addr) {
            kind.found(block.len, filled);
        } else if self.take(block.addr) {
            let kind = self.kind(block);
            match filled {
                true => kind.longest = kind.longest.max(block.len),
                false => kind.found(block.len, false),
            }
        }
    }

    /// Blocks that are to be looked at now: rarer and rarer each, because a look takes a system call for each part of a block.
    /// Watched ones come with whether this is their last look.
    pub(super) fn due(&mut self) -> [Option<(Extent, bool)>; UNPROVEN_BLOCKS + 2] {
        let watched = self.kinds.iter_mut().map(|kind| (&mut kind.watched, true));
        let unproven = self.unproven.iter_mut().map(|at| (at, false));
        let mut due = [None; UNPROVEN_BLOCKS + 2];
        for (due, (at, watched)) in due.iter_mut().zip(watched.chain(unproven)) {
            if let Some(at) = at {
                at.asked = at.asked.saturating_add(1);
                let last = watched && at.asked >= LAST_LOOK;
                *due = at.asked.is_power_of_two().then_some((at.block, last));
            }
        }
        due
    }
}

pub(super) fn is_watched(addr: usize) -> bool {
    WATCHED.iter().any(|at| at.load(Ordering::Relaxed) == addr)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn block(index: usize, len: usize) -> Extent {
        Extent {
            addr: (1 + index) << 32,
            len,
            asked: Asked::Plain,
        }
    }

    fn zeroed(index: usize, len: usize) -> Extent {
        Extent {
            asked: Asked::Zeroed,
            ..block(index, len)
        }
    }

    #[test]
    fn one_block_may_be_unproven_and_more_by_what_is_live() {
        let least = UNSEEN_BLOCK;
        let mut seen = Seen::NONE;
        assert!(!seen.admit(block(0, least - 1), 0), "nothing was found");
        assert!(seen.admit(block(0, 100 * least), 0), "long");
        assert!(!seen.admit(block(1, least), usize::MAX), "one at a time");
        assert!(seen.take(block(0, 1).addr));
        seen.kind(block(0, 1)).found(least, true);
        let live = UNPROVEN_SHARE * 3 * least;
        for index in 1..=3 {
            assert!(seen.admit(block(index, least), live));
        }
        assert!(!seen.admit(block(4, least), live), "more than a share");
        for index in 4..=UNPROVEN_BLOCKS {
            assert!(seen.admit(block(index, least), usize::MAX));
        }
        assert!(!seen.admit(block(9, least), usize::MAX), "no place");
        assert!((1..=UNPROVEN_BLOCKS).all(|index| seen.take(block(index, 1).addr)));
        assert!(!seen.take(block(1, 1).addr), "it was taken");
    }

    #[test]
    fn what_is_granted_is_bounded_by_what_was_found_filled() {
        let mut seen = Seen::NONE;
        let admit = |seen: &mut Seen, block: Extent| {
            let admitted = seen.admit(block, 0);
            assert_eq!(seen.take(block.addr), admitted);
            admitted
        };
        let one = block(1, 1000);
        assert!(!admit(&mut seen, one));
        seen.kind(one).found(1000, true);
        assert!(!admit(&mut seen, block(1, EXPECTED * 1000 + 1)), "too long");
        assert!(
            admit(&mut seen, block(1, EXPECTED * 1000)),
            "a table that doubles"
        );
        let left = GRANTED - EXPECTED;
        assert!((0..left).all(|_| admit(&mut seen, one)));
        assert!(!admit(&mut seen, one), "all is granted");
        seen.kind(one).found(1000, true);
        assert!(admit(&mut seen, one), "more was found");
        assert!(
            !admit(&mut seen, zeroed(2, 1)),
            "nothing was found of these"
        );
        assert!(
            !admit(&mut seen, zeroed(2, UNSEEN_BLOCK)),
            "long ones neither"
        );
        seen.kind(zeroed(2, 1)).found(1, true);
        assert!(admit(&mut seen, zeroed(2, 1)));
        seen.kind(one).found(1, false);
        assert!(!admit(&mut seen, one), "one was not filled");
        assert!(admit(&mut seen, zeroed(2, 1)), "of the other kind");
        seen.kind(one).grew(500);
        seen.kind(one).grew(500);
        assert!(admit(&mut seen, block(1, 1500)));
        assert!(
            !admit(&mut seen, block(1, GRANTED * 500 - 1499)),
            "it counts once"
        );
    }

    #[test]
    fn looks_become_rarer_and_a_watched_block_is_given_up() {
        let mut seen = Seen::NONE;
        assert!(seen.put(block(1, 10)));
        seen.watch(zeroed(2, 20));
        seen.watch(zeroed(3, 30));
        seen.kind(zeroed(2, 1)).found(20, true);
        let looks: std::vec::Vec<_> = (1..=LAST_LOOK)
            .map(|_| {
                seen.due()
                    .into_iter()
                    .flatten()
                    .collect::<std::vec::Vec<_>>()
            })
            .collect();
        let due = looks.iter().filter(|due| !due.is_empty()).count();
        assert_eq!(due, LAST_LOOK.ilog2() as usize + 1);
        assert_eq!(looks[0], [(zeroed(2, 20), false), (block(1, 10), false)]);
        let last = looks.last().expect("some");
        assert_eq!(last[..], [(zeroed(2, 20), true), (block(1, 10), false)]);
        seen.settle(zeroed(2, 20), false);
        assert_eq!(seen.kind(zeroed(2, 1)).filled, 0);
        seen.watch(zeroed(3, 30));
        assert!(seen.unwatch(zeroed(3, 30).addr).is_some(), "there was room");
        assert!(!is_watched(zeroed(3, 30).addr));
        // A block on huge pages that seems filled adds no bytes.
        seen.settle(block(1, 10), true);
        assert_eq!(seen.kind(block(1, 10)).filled, 0);
        assert_eq!(seen.kind(block(1, 10)).longest, 10);
        assert!(!seen.take(block(1, 10).addr));
    }
}
