//! Memory that changes between the cache of large blocks and the pool: see `pool::exchange`.

use super::cache;
use super::evidence::Extent;
use super::parts;
use super::run::Run;
use super::seen;
use crate::base::account::{self, Kind};
use crate::base::tuning::large::LOOKS;
use crate::base::units::SUPERSLAB;
use crate::os::clock;
use crate::os::mapping::Place;
use crate::pool;
use crate::slab::directory::DIRECTORY;

/// Gives a superslab's worth of what is cached to the pool: its address, entered into the directory, and whether it is on huge
/// pages. If they are asked for, nothing else serves. What is hardly resident, as behind a block's end, goes back instead. No lock
/// may be held.
pub(crate) fn lend(huge: bool) -> Option<(usize, bool)> {
    for _ in 0..LOOKS {
        let suited = cache::longest(SUPERSLAB, Some(huge));
        let entry = match suited {
            None if !huge => cache::longest(SUPERSLAB, None),
            suited => suited,
        }?;
        let (run, huge) = (entry.run, entry.huge());
        if !pool::is_resident(run.map.addr) {
            cache::release(run, huge);
        } else if DIRECTORY.enter(run.map.addr) != Ok(true) {
            // The next request would find it again.
            cache::unmap(run, huge);
        } else {
            if huge {
                cache::account_huge(-(SUPERSLAB as isize));
            }
            return Some((run.map.addr, huge));
        }
    }
    None
}

/// Has the pool's free superslabs cached for a block, of one kind of pages, until as much is, but for less than one: if that much
/// was live a while ago, and the pool seems to have what is missing. No lock may be held.
pub(super) fn borrow(block: Extent) {
    let len = block.len;
    let missing = len.saturating_sub(cache::cached_bytes());
    let has = missing >= SUPERSLAB && account::of(Kind::FreeSlots) >= missing;
    if !has || !parts::may_move() || !cache::comes_again(len) {
        return;
    }
    let now = clock::now_ms();
    let may_be_huge = seen::end_fits(block);
    let mut first = None;
    for _ in 0..missing / SUPERSLAB {
        let Some((map, huge)) = pool::lend(may_be_huge) else {
            break;
        };
        if huge {
            cache::account_huge(SUPERSLAB as isize);
        }
        let has_room = cache::put(Run::new(map), huge, now);
        if !has_room || *first.get_or_insert(huge) != huge {
            break;
        }
    }
}
