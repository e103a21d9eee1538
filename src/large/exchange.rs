//! Memory that changes between the cache of large blocks and the pool: see `pool::exchange`.

use super::cache;
use super::run::Run;
use crate::base::account::{self, Kind};
use crate::base::tuning::large::{HUGE_REST_SHARE, LOOKS};
use crate::base::units::SUPERSLAB;
use crate::os::clock;
use crate::os::mapping::Place;
use crate::pool;
use crate::slab::directory::DIRECTORY;

/// Gives a superslab's worth of what is cached to the pool: its address, entered into the directory, and whether it is on huge
/// pages, as is asked for if there is any such. What is hardly resident, as behind a block's end, goes back instead. No lock may be
/// held.
pub(crate) fn lend(huge: bool) -> Option<(usize, bool)> {
    for _ in 0..LOOKS {
        if cache::cached_bytes() < SUPERSLAB {
            return None;
        }
        let suited = cache::longest(SUPERSLAB, Some(huge));
        let entry = suited.or_else(|| cache::longest(SUPERSLAB, None))?;
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

/// Has the pool's free superslabs cached until `len` bytes are, but for less than one, if it seems to have as many. No lock may be
/// held.
pub(super) fn borrow(len: usize) {
    let missing = len.saturating_sub(cache::cached_bytes());
    if missing < SUPERSLAB || account::of(Kind::FreeSlots) < missing || !cache::may_hold(len) {
        return;
    }
    let now = clock::now_ms();
    // Of a huge page behind the block's end all is resident.
    let rest = len.next_multiple_of(SUPERSLAB) - len;
    let may_be_huge = rest <= len / HUGE_REST_SHARE;
    for _ in 0..missing / SUPERSLAB {
        let Some((map, huge)) = pool::lend(may_be_huge) else {
            break;
        };
        if huge {
            cache::account_huge(SUPERSLAB as isize);
        }
        if !cache::put(Run::new(map), huge, now) {
            break;
        }
    }
}
