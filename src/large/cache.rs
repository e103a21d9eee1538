//! Freed huge mappings, kept resident for a while: bounded by what is live and by the program's demand, decaying, taken by
//! best fit, cut and put together as needed. Then their memory goes back, and their addresses are kept for the next ones: a
//! mapping that goes from between two others leaves the kernel with one more, of which a process may have some 65,000
//! (`vm.max_map_count`).
//!
//! The bound is half of what is live, or the largest dip of late ([`Demand`]): a program that frees buffers and takes
//! others does not fault in what it gave up a moment before. Where nobody sees time pass it is small (`account::seen`).

use super::run::Run;
use super::runs::{Entry, Runs};
use crate::base::account::{self, Kind};
use crate::base::demand::{Demand, Epoch, Price};
use crate::base::tuning::large::CACHED_RUNS;
use crate::base::tuning::retention;
use crate::knobs;
use crate::os::clock;
use crate::os::lock::{Lock, Locked};
use crate::os::{mapping, memory};

/// What is live and what is cached, in blocks and bytes of mapping.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) live_blocks: usize,
    pub(crate) live_bytes: usize,
    pub(crate) cached_bytes: usize,
    /// Bytes of mappings that are kept without memory.
    pub(crate) address_bytes: usize,
    /// Bytes whose memory went back since the start.
    pub(crate) returned: u64,
    /// Live and cached bytes for which huge pages were asked.
    pub(crate) huge_requested: usize,
}

struct Cache {
    /// Resident, as far as their blocks were.
    cached: Runs,
    /// Not resident, reading as zero, and without a wish for huge pages.
    addresses: Runs,
    counts: Counts,
    /// Live bytes that the cache could have served.
    servable: usize,
    demand: Demand,
}

static CACHE: Locked<Cache> = Locked::new(Cache {
    cached: Runs::NONE,
    addresses: Runs::NONE,
    counts: Counts {
        live_blocks: 0,
        live_bytes: 0,
        cached_bytes: 0,
        address_bytes: 0,
        returned: 0,
        huge_requested: 0,
    },
    servable: 0,
    demand: Demand::NONE,
});

impl Cache {
    /// Changes what is cached.
    fn cached<R>(&mut self, change: impl FnOnce(&mut Runs) -> R) -> R {
        let was = self.cached.bytes();
        let answer = change(&mut self.cached);
        account::change(Kind::Cached, was, self.cached.bytes());
        answer
    }

    /// Bytes cached beyond the bound.
    fn over(&self) -> usize {
        self.cached.bytes().saturating_sub(self.bound())
    }

    /// Addresses beyond the bound, of the longest run: it is the least likely to lie between two that are in use.
    fn addresses_too_many(&mut self) -> Option<Run> {
        let most = self.counts.live_bytes.max(retention::ADDRESSES);
        let over = self.addresses.bytes().saturating_sub(most);
        if over == 0 {
            return None;
        }
        let entry = self.addresses.longest(usize::MAX, None)?;
        Some(self.addresses.keep_but(entry, over).run)
    }

    fn bound(&self) -> usize {
        let knobs = knobs::get();
        let (base, price) = match knobs.purge_delay_ms {
            0 => (0, Price::NEVER),
            _ => {
                let share = self.counts.live_bytes / retention::LARGE_SHARE;
                (share.max(retention::LARGE_LEAST), retention::WORTH)
            }
        };
        let dip = self.demand.allow(base, price);
        // Blocks of a few sizes that come and go by turns come back for the largest of them.
        let allowed = if dip > base {
            dip.max(self.demand.peak().saturating_sub(self.counts.live_bytes))
        } else {
            dip
        };
        account::seen(most().min(allowed), retention::LARGE_UNSEEN)
    }
}

/// Most bytes that may ever be cached.
fn most() -> usize {
    (knobs::get().huge_cache_mb as usize) << 20
}

fn delay() -> u64 {
    u64::from(knobs::get().purge_delay_ms)
}

/// A cached mapping for `len` bytes or a little more at `align`: of the smallest that has them, the rest staying cached.
pub(super) fn find(len: usize, align: usize) -> Option<Entry> {
    if cached_bytes() == 0 {
        return None;
    }
    CACHE.lock().cached(|cached| cached.best(len, align))
}

/// Addresses for `len` bytes or a little more at `align` that were kept: they read as zero.
pub(super) fn find_addresses(len: usize, align: usize) -> Option<Run> {
    Some(CACHE.lock().addresses.best(len, align)?.run)
}

/// The same from `addr` on.
pub(super) fn find_behind(addr: usize, len: usize) -> Option<Run> {
    Some(CACHE.lock().addresses.from(addr, len)?.run)
}

/// The longest cached mapping below `most` bytes; where there are as long ones, `most` bytes of the smallest of them. Of
/// those with or without huge pages, if it matters.
pub(super) fn longest(most: usize, huge: Option<bool>) -> Option<Entry> {
    CACHE.lock().cached(|cached| cached.longest(most, huge))
}

/// Whether anything with huge pages is cached, or without.
pub(super) fn has_any(huge: bool) -> bool {
    CACHE.lock().cached.has_any(huge)
}

/// Keeps a freed mapping, unless it is longer than all that may be cached, and gives back what is too much, as far as one call
/// may ([`at_once`]). No lock may be held.
pub(super) fn keep(run: Run, huge: bool, now: u64) {
    if run.map.len > most() {
        release(run, huge);
        return;
    }
    let mut cache = CACHE.lock();
    let no_room = cache.cached(|cached| cached.put(Entry::new(run, huge, now)));
    let over = cache.over();
    drop(cache);
    if let Some(entry) = no_room {
        release(entry.run, entry.huge());
    }
    if over > 0 {
        give_back(at_once(over), |cache, _| cache.over());
    }
}

/// Bytes of `over` that one call of the program gives back, so that none takes long: the next ones go on, or the maintenance
/// thread. Where that may not come, all of them.
fn at_once(over: usize) -> usize {
    if account::is_watched() {
        retention::UNMAPPED_AT_ONCE.max(over / retention::UNMAPPED_SHARE)
    } else {
        over
    }
}

/// Gives back of the oldest entry as many bytes as `wanted` says, and goes on until that is none or `most` were tried; answers
/// how many went. No lock may be held.
fn give_back(most: usize, wanted: impl Fn(&Cache, &Entry) -> usize) -> usize {
    let (mut tried, mut gone) = (0, 0);
    // Bounded: what the kernel does not take is put back, to be tried again later.
    for _ in 0..CACHED_RUNS {
        let mut cache = CACHE.lock();
        let Some((index, entry)) = cache.cached.oldest() else {
            break;
        };
        let bytes = wanted(&cache, entry).min(most - tried);
        let divide = |cached: &mut Runs| {
            let entry = cached.take(index)?;
            Some(cached.keep_but(entry, bytes))
        };
        let Some(entry) = (bytes > 0).then(|| cache.cached(divide)).flatten() else {
            break;
        };
        drop(cache);
        let len = entry.run.map.len;
        tried = tried.saturating_add(len).min(most);
        if release(entry.run, entry.huge()) {
            gone += len;
        }
    }
    gone
}

/// Gives the memory back, and the addresses as well if there are enough of them, the program has a limit on them, or they have
/// a wish for huge pages; answers whether the memory went. No lock may be held.
pub(super) fn release(run: Run, huge: bool) -> bool {
    if !huge && !memory::addresses_are_limited() && is_purged(run) {
        went(run.map.len, false);
        keep_addresses(run);
        return true;
    }
    unmap(run, huge)
}

fn is_purged(run: Run) -> bool {
    // SAFETY: the mapping is ours, and nobody has a pointer into it any more.
    unsafe { mapping::purge(run.map.addr, run.map.len) }.is_ok()
}

/// The memory of so many bytes went back.
fn went(bytes: usize, huge: bool) {
    let counts = &mut CACHE.lock().counts;
    counts.returned += bytes as u64;
    if huge {
        counts.huge_requested = counts.huge_requested.saturating_sub(bytes);
    }
}

/// Puts a run without memory among the addresses. Hands it back if there is no room.
fn put_addresses(run: Run) -> Option<Run> {
    let no_room = CACHE.lock().addresses.put(Entry::new(run, false, 0));
    Some(no_room?.run)
}

/// Keeps the addresses of a run without memory, and unmaps those that are too many.
pub(super) fn keep_addresses(run: Run) {
    put_addresses(run).map(unmap_addresses);
    // Bounded: there are no more, and one that the kernel does not take would be tried again.
    for _ in 0..CACHED_RUNS {
        let too_many = CACHE.lock().addresses_too_many();
        if !too_many.is_some_and(unmap_addresses) {
            break;
        }
    }
}

/// Unmaps a run without memory; answers whether it went. Where the kernel refuses, it is kept, if there is room.
pub(super) fn unmap_addresses(run: Run) -> bool {
    // SAFETY: as in `is_purged`.
    let unmapped = unsafe { mapping::unmap(run.map) }.is_ok();
    if !unmapped {
        let _ = put_addresses(run);
    }
    unmapped
}

/// Unmaps. Where the kernel refuses (its map count is at the limit), the pages at least go back, and the addresses are
/// kept; where the pages stay too, it is tried again with the next decay; and if there is no room for it in the cache
/// either, nobody counts it any more.
pub(super) fn unmap(run: Run, huge: bool) -> bool {
    // SAFETY: as in `is_purged`.
    if unsafe { mapping::unmap(run.map) }.is_ok() {
        went(run.map.len, huge);
        return true;
    }
    let purged = is_purged(run);
    if purged && !huge {
        went(run.map.len, false);
        let _ = put_addresses(run);
        return true;
    }
    let mut cache = CACHE.lock();
    let again = Entry::new(run, huge, clock::now_ms());
    let kept = cache.cached(|cached| cached.put(again)).is_none();
    if huge && !kept {
        let counts = &mut cache.counts;
        counts.huge_requested = counts.huge_requested.saturating_sub(run.map.len);
    }
    false
}

/// Gives back what was cached for longer than the purge delay, or is too much, as far as one call may; answers how many bytes.
/// No lock may be held.
pub(crate) fn decay(now: u64) -> usize {
    let cached = cached_bytes();
    if cached == 0 {
        return 0;
    }
    give_back(at_once(cached), |cache, entry| {
        if entry.since.saturating_add(delay()) <= now {
            entry.run.map.len
        } else {
            cache.over()
        }
    })
}

/// Unmaps everything cached, and all addresses. No lock may be held.
pub(crate) fn purge_all() {
    give_back(usize::MAX, |_, entry| entry.run.map.len);
    for index in 0..CACHED_RUNS {
        let entry = CACHE.lock().addresses.take(index);
        // What is refused comes back at an index that was tried.
        entry.map(|entry| unmap_addresses(entry.run));
    }
}

/// Gives back about `bytes` of what is cached, what was freed longest ago first; answers how many. No lock may be held.
pub(crate) fn reclaim(bytes: usize) -> usize {
    give_back(bytes, |_, entry| entry.run.map.len).min(bytes)
}

/// What became of live blocks: changes of their number, their bytes, and the bytes for which huge pages were asked.
#[derive(Clone, Copy, Default)]
pub(super) struct Change {
    pub(super) blocks: isize,
    pub(super) bytes: isize,
    pub(super) huge: isize,
    /// Whether the cache could serve the block.
    pub(super) servable: bool,
    /// The bytes that may be resident.
    pub(super) held: isize,
}

/// Brings the counts of live blocks up to date.
pub(super) fn account(change: Change, now: u64) {
    let mut cache = CACHE.lock();
    let counts = &mut cache.counts;
    counts.live_blocks = counts.live_blocks.saturating_add_signed(change.blocks);
    counts.huge_requested = counts.huge_requested.saturating_add_signed(change.huge);
    let live = counts.live_bytes.saturating_add_signed(change.bytes);
    counts.live_bytes = live;
    account::change(Kind::Large, 0, change.held as usize);
    if change.servable {
        cache.servable = cache.servable.saturating_add_signed(change.bytes);
    }
    let servable = cache.servable;
    cache.demand.live(servable, Epoch::at(now, delay()));
}

/// Huge pages were asked for `bytes` more of live blocks, or fewer.
pub(super) fn account_huge(bytes: isize) {
    let mut cache = CACHE.lock();
    cache.counts.huge_requested = cache.counts.huge_requested.saturating_add_signed(bytes);
}

pub(crate) fn counts() -> Counts {
    let cache = CACHE.lock();
    Counts {
        cached_bytes: cache.cached.bytes(),
        address_bytes: cache.addresses.bytes(),
        ..cache.counts
    }
}

/// Bytes cached, as a hint.
pub(crate) fn cached_bytes() -> usize {
    account::of(Kind::Cached)
}

/// For fork: the cache's lock.
pub(crate) fn fork_lock() -> &'static Lock {
    CACHE.raw()
}
