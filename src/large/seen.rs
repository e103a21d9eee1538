//! Which large blocks are in huge pages under `HAKMEM_THP=auto`, and whether they turned out to be filled.
//!
//! Memory that was not asked for zeroed is nearly always filled from the front, but while it is handed out nobody can know.
//! So a block in huge pages is *unproven* until its OS pages are found resident. One may always be unproven, others as far
//! as they are a fraction of what is proven: a program that touches a page here and there pays for one block.

use super::cache;
use crate::base::tuning::{DENSE_SIXTEENTHS, HUGE_BLOCK_FROM, UNPROVEN_BLOCKS, UNPROVEN_SHARE};
use crate::base::units::SUPERSLAB;
use crate::knobs::{self, ThpPolicy};
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::Mapping;
use crate::os::{huge, sys};

/// The live blocks in huge pages: `bytes` is the sum over all, `unproven` are some of them.
struct Seen {
    bytes: usize,
    unproven: [Option<Mapping>; UNPROVEN_BLOCKS],
}

// What is done with the answers is done without the lock: a block that goes meanwhile, and another in its place, lead to a
// wrong guess at worst.
static SEEN: Locked<Seen> = Locked::new(Seen::NONE);

impl Seen {
    const NONE: Seen = Seen {
        bytes: 0,
        unproven: [None; UNPROVEN_BLOCKS],
    };

    /// The block is unproven no longer: it was found filled, or has no huge pages. It may have gone since.
    fn settle(&mut self, map: Mapping) {
        let _ = self.take(map);
    }

    /// Lets a block in as unproven, if there may be one more; [`Seen::came`] follows.
    fn admit(&mut self, map: Mapping) -> bool {
        if map.len < HUGE_BLOCK_FROM {
            return false;
        }
        let unproven: usize = self.unproven.iter().flatten().map(|map| map.len).sum();
        let proven = self.bytes.saturating_sub(unproven);
        let fits = unproven == 0 || unproven + map.len <= proven / UNPROVEN_SHARE;
        let free = self.unproven.iter().position(Option::is_none);
        let Some(place) = free.filter(|_| fits) else {
            return false;
        };
        self.unproven[place] = Some(map);
        true
    }

    /// A block is in huge pages from now on.
    fn came(&mut self, map: Mapping) {
        self.bytes += map.len;
    }

    /// A block in huge pages goes; whether it is proven.
    fn went(&mut self, map: Mapping) -> bool {
        self.bytes -= map.len;
        !self.take(map)
    }

    /// A block in huge pages lies elsewhere now, or has another length.
    fn moved(&mut self, from: Mapping, to: Mapping) {
        if let Some(place) = self.unproven.iter_mut().find(|at| **at == Some(from)) {
            *place = Some(to);
        }
        self.bytes = self.bytes - from.len + to.len;
    }

    fn take(&mut self, map: Mapping) -> bool {
        let mut unproven = self.unproven.iter_mut();
        unproven
            .find(|at| **at == Some(map))
            .and_then(Option::take)
            .is_some()
    }
}

/// For fork: the lock of what was seen.
pub(crate) fn seen_lock() -> &'static Lock {
    SEEN.raw()
}

/// Asks for huge pages for a new block, if the policy is for it; answers whether they were asked for.
pub(super) fn ask_for_new(map: Mapping, zeroed: bool) -> bool {
    match knobs::get().thp {
        ThpPolicy::Always => ask(map),
        ThpPolicy::Auto => !zeroed && ask_unproven(map),
        ThpPolicy::Never => false,
    }
}

/// As before, for a block that was filled when it had `filled` bytes, and has more now. Twice as many are half proven.
pub(super) fn ask_for_grown(map: Mapping, filled: usize) -> bool {
    let asked = match knobs::get().thp {
        ThpPolicy::Always | ThpPolicy::Never => false,
        ThpPolicy::Auto if map.len <= 2 * filled => ask(map),
        ThpPolicy::Auto => ask_unproven(map),
    };
    if asked {
        came(map);
    }
    asked
}

fn ask_unproven(map: Mapping) -> bool {
    if map.len < HUGE_BLOCK_FROM {
        return false;
    }
    let unproven = SEEN.lock().unproven;
    for block in unproven.into_iter().flatten() {
        if is_filled(block) {
            SEEN.lock().settle(block);
        }
    }
    let admitted = SEEN.lock().admit(map);
    let taken = admitted && ask(map);
    if admitted && !taken {
        SEEN.lock().settle(map);
    }
    taken
}

/// Asks for huge pages; answers whether the kernel took the wish.
fn ask(map: Mapping) -> bool {
    // SAFETY: advice on our own mapping, whole. A refusal means small pages.
    let taken = unsafe { huge::advise(map.addr, map.len) }.is_ok();
    if taken {
        cache::account_huge(map.len as isize);
    }
    taken
}

/// A block in huge pages is handed out.
pub(super) fn came(map: Mapping) {
    SEEN.lock().came(map);
}

/// A block in huge pages lies elsewhere now, or has another length.
pub(super) fn moved(from: Mapping, to: Mapping) {
    SEEN.lock().moved(from, to);
}

/// A block in huge pages was freed; answers whether it stays in them. One that was never filled stays as it is.
pub(super) fn went(map: Mapping) -> bool {
    let proven = SEEN.lock().went(map);
    if proven || is_filled(map) {
        return true;
    }
    // SAFETY: advice on our own memory, whole.
    let refused = unsafe { huge::refuse(map.addr, map.len) }.is_ok();
    if refused {
        cache::account_huge(-(map.len as isize));
    }
    !refused
}

/// Pages of a block that are looked at.
const LOOKS: usize = 16;

/// Whether a block in `map` is filled, as far as sixteen OS pages tell. Its end may lie anywhere in the last superslab.
pub(super) fn is_filled(map: Mapping) -> bool {
    let page = sys::page_size();
    let len = map.len.saturating_sub(SUPERSLAB).max(page);
    let looks = (0..LOOKS).map(|look| (len / LOOKS * look) & !(page - 1));
    let resident = looks
        .filter(|offset| {
            let mut one = [0; 16];
            sys::mincore(map.addr + offset, page, &mut one).is_ok() && one[0] & 1 != 0
        })
        .count();
    resident >= DENSE_SIXTEENTHS
}

const _: () = assert!(LOOKS == 16, "looks are counted in sixteenths");

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn block(index: usize, len: usize) -> Mapping {
        Mapping {
            addr: (1 + index) << 32,
            len,
        }
    }

    #[test]
    fn one_block_may_be_unproven_and_more_by_what_is_proven() {
        let least = HUGE_BLOCK_FROM;
        let mut seen = Seen::NONE;
        let admit = |seen: &mut Seen, map| {
            let admitted = seen.admit(map);
            if admitted {
                seen.came(map);
            }
            admitted
        };
        assert!(!admit(&mut seen, block(0, least - SUPERSLAB)), "too short");
        assert!(admit(&mut seen, block(0, 100 * least)));
        assert!(!admit(&mut seen, block(1, least)), "one at a time");
        seen.settle(block(0, 100 * least));
        // A quarter of a hundred, and no more blocks than there are places.
        assert!(admit(&mut seen, block(1, 20 * least)));
        assert!(!admit(&mut seen, block(2, 6 * least)));
        for index in 2..UNPROVEN_BLOCKS + 1 {
            assert!(admit(&mut seen, block(index, least)));
        }
        assert!(!admit(&mut seen, block(9, least)), "no place");
        assert!(!seen.went(block(1, 20 * least)));
        seen.moved(block(2, least), block(20, 2 * least));
        assert!(!seen.went(block(20, 2 * least)), "still unproven");
        assert!(seen.went(block(0, 100 * least)));
        (3..UNPROVEN_BLOCKS + 1).for_each(|index| assert!(!seen.went(block(index, least))));
        assert_eq!(seen.bytes, 0);
        assert!(admit(&mut seen, block(1, least)), "as at first");
    }
}
