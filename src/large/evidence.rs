//! What large blocks showed of whether such blocks are filled, and which are looked at.

use crate::base::tuning::{
    END_SHARE, EXPECTED, LAST_LOOK, UNPROVEN_BLOCKS, UNPROVEN_SHARE, UNSEEN_BLOCK,
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

    /// Whether these are few, so that it may ever be on huge pages.
    pub(super) fn ends_well(self) -> bool {
        self.end() <= self.len / END_SHARE
    }
}

/// What blocks of one kind showed: those asked for zeroed, or the others.
#[derive(Clone, Copy)]
pub(super) struct Evidence {
    /// Bytes of the longest block found filled since one was found sparse.
    pub(super) longest: usize,
    /// A live block on OS pages, which was not found filled. It is the one at [`WATCHED`].
    watched: Option<Looked>,
}

/// What a block shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shows {
    Filled,
    /// Half or more of it is filled, and so many bytes are missing: as of a table that doubles.
    Partly(usize),
    Sparse,
}

/// A live block that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Looked {
    block: Extent,
    /// Bytes of it that were not found filled.
    missing: usize,
    /// How many requests there were for a look.
    asked: u32,
}

impl Looked {
    fn new(block: Extent, missing: usize) -> Looked {
        Looked {
            block,
            missing,
            asked: 0,
        }
    }
}

pub(super) struct Seen {
    kinds: [Evidence; 2],
    /// Live blocks on huge pages that were not found filled as a whole.
    unproven: [Option<Looked>; UNPROVEN_BLOCKS],
}

/// The addresses of the watched blocks, or 0; written under the lock around [`Seen`]. A block's owner compares them with its own,
/// which it wrote itself if it is there: Relaxed.
static WATCHED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

impl Evidence {
    const NONE: Evidence = Evidence {
        longest: 0,
        watched: None,
    };

    /// Notes what a block of `len` bytes showed.
    pub(super) fn found(&mut self, len: usize, shows: Shows) {
        self.longest = match shows {
            Shows::Filled => self.longest.max(len),
            Shows::Partly(_) => self.longest,
            Shows::Sparse => 0,
        };
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

    /// Admits a block as unproven, if one more may be. `live`: bytes of large blocks. `filled`: bytes of it that are filled.
    pub(super) fn admit(&mut self, block: Extent, filled: usize, live: usize) -> bool {
        let missing: usize = self.unproven.iter().flatten().map(|at| at.missing).sum();
        let expected = block.len <= EXPECTED * self.kind(block).longest.max(filled);
        let unseen = block.len >= UNSEEN_BLOCK && block.asked == Asked::Plain;
        // Where nothing was found, one at a time.
        let most = if expected { live / UNPROVEN_SHARE } else { 0 };
        missing <= most && (expected || unseen) && self.put(block, filled)
    }

    /// Makes a block unproven, of which `filled` bytes are filled. Returns false if there is no place.
    pub(super) fn put(&mut self, block: Extent, filled: usize) -> bool {
        let free = self.unproven.iter_mut().find(|at| at.is_none());
        let put = free.map(|at| *at = Some(Looked::new(block, block.len - filled)));
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
            kind.watched = Some(Looked::new(block, block.len));
            WATCHED[block.asked.index()].store(block.addr, Ordering::Relaxed);
        }
    }

    /// Ends a block's being watched, and returns whether it was.
    pub(super) fn unwatch(&mut self, addr: usize) -> bool {
        let is = |kind: &Evidence| kind.watched.is_some_and(|at| at.block.addr == addr);
        let Some(index) = self.kinds.iter().position(is) else {
            return false;
        };
        self.kinds[index].watched = None;
        WATCHED[index].store(0, Ordering::Relaxed);
        true
    }

    /// Removes the blocks of which `is_live` is false.
    pub(super) fn retain(&mut self, is_live: impl Fn(usize) -> bool) {
        let is_gone = |at: &Looked| !is_live(at.block.addr);
        self.unproven.iter_mut().for_each(|at| {
            at.take_if(|at| is_gone(at));
        });
        for index in 0..self.kinds.len() {
            if let Some(gone) = self.kinds[index].watched.filter(is_gone) {
                self.unwatch(gone.block.addr);
            }
        }
    }

    /// Notes what a look showed of a block, if that is still unproven or watched: it may have been freed or resized meanwhile. `last`:
    /// if it is watched, it is no more.
    pub(super) fn settle(&mut self, block: Extent, shows: Shows, last: bool) {
        let is = |at: &Looked| at.block == block;
        let filled = shows == Shows::Filled;
        if self.kind(block).watched.as_ref().is_some_and(is) {
            if filled || last {
                self.unwatch(block.addr);
                self.kind(block).found(block.len, shows);
            }
            return;
        }
        let mut unproven = self.unproven.iter_mut();
        let Some(at) = unproven.find(|at| at.as_ref().is_some_and(is)) else {
            return;
        };
        match (at.as_mut(), shows) {
            (Some(at), Shows::Partly(missing)) => at.missing = missing,
            (_, Shows::Filled) => {
                *at = None;
                self.kind(block).found(block.len, shows);
            }
            _ => {}
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
        assert!(!seen.admit(block(0, least - 1), 0, 0), "nothing was found");
        assert!(seen.admit(block(0, 100 * least), 0, 0), "long");
        assert!(!seen.admit(block(1, least), 0, usize::MAX), "one at a time");
        assert!(seen.take(block(0, 1).addr));
        seen.kind(block(0, 1)).found(least, Shows::Filled);
        let live = UNPROVEN_SHARE * 2 * least;
        for index in 1..=3 {
            assert!(seen.admit(block(index, least), 0, live));
        }
        assert!(!seen.admit(block(4, least), 0, live), "more than a share");
        seen.settle(block(3, least), Shows::Partly(1), false);
        assert!(!seen.admit(block(4, least), 0, live), "a byte more");
        seen.settle(block(2, least), Shows::Partly(least - 1), false);
        assert!(seen.admit(block(4, least), 0, live));
        for index in 5..=UNPROVEN_BLOCKS {
            assert!(seen.admit(block(index, least), 0, usize::MAX));
        }
        let more = block(UNPROVEN_BLOCKS + 1, least);
        assert!(!seen.admit(more, 0, usize::MAX), "no place");
        assert!((1..=UNPROVEN_BLOCKS).all(|index| seen.take(block(index, 1).addr)));
        assert!(!seen.take(block(1, 1).addr), "it was taken");
    }

    #[test]
    fn blocks_as_long_as_others_that_were_filled_are_expected_to_be() {
        let mut seen = Seen::NONE;
        let admit = |seen: &mut Seen, block: Extent| {
            let admitted = seen.admit(block, 0, 0);
            assert_eq!(seen.take(block.addr), admitted);
            admitted
        };
        let one = block(1, 1000);
        assert!(!admit(&mut seen, one));
        seen.kind(one).found(1000, Shows::Filled);
        let [most, longer] = [0, 1].map(|more| block(1, EXPECTED * 1000 + more));
        assert!(admit(&mut seen, most), "a table that doubles");
        assert!(!admit(&mut seen, longer), "too long");
        seen.kind(one).found(500, Shows::Filled);
        assert!(admit(&mut seen, most), "the longest counts");
        let [short, long] = [1, UNSEEN_BLOCK].map(|len| zeroed(2, len));
        assert!(!admit(&mut seen, short), "nothing was found of these");
        assert!(!admit(&mut seen, long), "long ones neither");
        seen.kind(short).found(1, Shows::Filled);
        assert!(admit(&mut seen, short));
        seen.kind(one).found(1, Shows::Sparse);
        assert!(!admit(&mut seen, one), "one was not filled");
        assert!(admit(&mut seen, short), "of the other kind");
    }

    #[test]
    fn a_forks_child_forgets_blocks_that_are_gone() {
        let mut seen = Seen::NONE;
        for index in [1, 2, 3] {
            assert!(seen.put(block(index, 10), 0));
        }
        seen.watch(block(4, 10));
        seen.watch(zeroed(5, 10));
        let live = [2, 5].map(|index| block(index, 1).addr);
        seen.retain(|addr| live.contains(&addr));
        let left = [1, 2, 3].map(|index| seen.take(block(index, 1).addr));
        assert_eq!(left, [false, true, false]);
        let left = [block(4, 1), zeroed(5, 1)].map(|block| seen.unwatch(block.addr));
        assert_eq!(left, [false, true]);
    }

    #[test]
    fn looks_become_rarer_and_a_watched_block_is_given_up() {
        let mut seen = Seen::NONE;
        assert!(seen.put(block(1, 10), 0));
        seen.watch(zeroed(2, 20));
        seen.watch(zeroed(3, 30));
        seen.kind(zeroed(2, 1)).found(20, Shows::Filled);
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
        seen.settle(zeroed(2, 20), Shows::Sparse, true);
        assert_eq!(seen.kind(zeroed(2, 1)).longest, 0);
        seen.watch(zeroed(3, 30));
        assert!(seen.unwatch(zeroed(3, 30).addr), "there was room");
        assert!(!is_watched(zeroed(3, 30).addr));
        seen.settle(block(1, 10), Shows::Filled, false);
        assert_eq!(seen.kind(block(1, 10)).longest, 10);
        assert!(!seen.take(block(1, 10).addr));
    }
}
