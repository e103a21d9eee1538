//! The mappings of freed large blocks, kept resident for a while. A request takes the best fit, cut and joined as needed. The
//! purge delay and the bound return them to the kernel: first the memory, while the addresses stay for the next block. A
//! mapping that is unmapped from between two others leaves the process with one more, and it may have some 65,000
//! (`vm.max_map_count`).
//!
//! The bound is half of what is live, at least 6 MiB, or the recent largest dip or fall ([`Demand`]): a program that frees buffers
//! and allocates others does not fault in what it freed a moment before. If no thread sees time pass, the bound is small
//! (`account::seen`). Without a purge delay nothing stays.

use super::closed;
use super::run::Run;
use super::runs::{Entry, Runs};
use crate::base::account::{self, Kind};
use crate::base::demand::{Demand, Epoch};
use crate::base::tuning::large::CACHED_RUNS;
use crate::base::tuning::retention;
use crate::knobs;
use crate::os::clock;
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::{self, Mapping};
use crate::os::memory;

/// What is live and what is cached, in blocks and bytes of mapping.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) live_blocks: usize,
    pub(crate) live_bytes: usize,
    pub(crate) cached_bytes: usize,
    /// Bytes of mappings kept without memory.
    pub(crate) address_bytes: usize,
    /// Bytes whose memory went back since the start.
    pub(crate) returned: u64,
    /// Live and cached bytes for which huge pages were requested.
    pub(crate) huge_requested: usize,
}

struct Cache {
    /// Mappings that are resident as far as their blocks were.
    cached: Runs,
    /// Mappings without memory, which read as zero and ask for no huge pages.
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
    /// Changes the cached runs, and the account with them.
    fn cached<R>(&mut self, change: impl FnOnce(&mut Runs) -> R) -> R {
        let was = self.cached.resident();
        let answer = change(&mut self.cached);
        account::change(Kind::Cached, was, self.cached.resident());
        answer
    }

    /// Bytes cached beyond the bound.
    fn over(&self) -> usize {
        self.cached.bytes().saturating_sub(self.bound())
    }

    /// Addresses beyond the bound, taken from the longest run, which is the least likely to lie between two mappings in use.
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
        if delay() == 0 {
            return 0;
        }
        let share = self.counts.live_bytes / retention::LARGE_SHARE;
        let base = share.max(retention::LARGE_LEAST);
        let dip = self.demand.allow(base, retention::WORTH);
        let fallen = self.demand.peak().saturating_sub(self.counts.live_bytes);
        // If blocks of a few sizes take turns, the largest of them needs more than the dip.
        let fallen = match dip > base {
            true => fallen,
            false => account::until_the_delay_ends(fallen),
        };
        account::seen(most().min(dip.max(fallen)), retention::LARGE_UNSEEN)
    }
}

/// Most bytes that may ever be cached.
fn most() -> usize {
    (knobs::get().large_cache_mb as usize) << 20
}

/// Whether a mapping of `len` bytes may be cached, and as many more bytes as that were live within the last purge delay.
pub(super) fn comes_again(len: usize) -> bool {
    let cache = CACHE.lock();
    len <= most() && cache.servable.saturating_add(len) <= cache.demand.peak()
}

fn delay() -> u64 {
    u64::from(knobs::get().purge_delay_ms)
}

/// A cached mapping for about `len` bytes at `align`, cut from the smallest one that fits; the rest stays cached.
pub(super) fn find(len: usize, align: usize) -> Option<Entry> {
    if cached_bytes() == 0 {
        return None;
    }
    CACHE.lock().cached(|cached| cached.best(len, align))
}

/// Kept addresses for about `len` bytes at `align`. They read as zero.
pub(super) fn find_addresses(len: usize, align: usize) -> Option<Run> {
    Some(CACHE.lock().addresses.best(len, align)?.run)
}

/// Kept addresses for `len` bytes from `addr` on.
pub(super) fn find_behind(addr: usize, len: usize) -> Option<Run> {
    Some(CACHE.lock().addresses.from(addr, len)?.run)
}

/// The longest cached mapping below `most` bytes; if there are longer ones, `most` bytes of the smallest of those. `huge`
/// restricts it to those with or without huge pages.
pub(super) fn longest(most: usize, huge: Option<bool>) -> Option<Entry> {
    CACHE.lock().cached(|cached| cached.longest(most, huge))
}

/// Keeps a freed mapping, unless it is longer than the knob's bound, and gives back what exceeds the bound, as far as one call
/// may ([`at_once`]). `bare` bytes of it hold no memory. No lock may be held.
pub(super) fn keep(run: &Run, bare: usize, huge: bool, now: u64) {
    if run.map.len > most() {
        release(*run, huge);
        return;
    }
    let entry = Entry::new(*run, bare, huge, now);
    let mut cache = CACHE.lock();
    let no_room = cache.cached(|cached| cached.put(entry));
    let over = cache.over();
    drop(cache);
    if let Some(entry) = no_room {
        release(entry.run, entry.huge());
    }
    if over > 0 {
        give_back(at_once(over), |cache, _| cache.over());
    }
}

/// Caches a run and returns whether there is room for it. If there is none, it goes back.
pub(super) fn put(run: Run, huge: bool, now: u64) -> bool {
    let entry = Entry::new(run, 0, huge, now);
    let no_room = CACHE.lock().cached(|cached| cached.put(entry));
    if let Some(entry) = no_room {
        release(entry.run, entry.huge());
    }
    no_room.is_none()
}

/// How many bytes of `over` one call of the program gives back.
fn at_once(over: usize) -> usize {
    account::at_once(retention::UNMAPPED_AT_ONCE.max(over / retention::UNMAPPED_SHARE))
}

/// Gives back the oldest entries: of each as many bytes of addresses as `wanted` returns, until that is 0 or `most` bytes of memory
/// were tried. Returns how many bytes of memory went. No lock may be held.
fn give_back(most: usize, wanted: impl Fn(&Cache, &Entry) -> usize) -> usize {
    let (mut tried, mut gone) = (0, 0);
    // Bounded, because what the kernel refuses is put back, to be tried again later.
    for _ in 0..CACHED_RUNS {
        let mut cache = CACHE.lock();
        let Some((index, entry)) = cache.cached.oldest() else {
            break;
        };
        let bytes = wanted(&cache, entry).min(entry.holding(most - tried));
        let divide = |cached: &mut Runs| {
            let entry = cached.take(index)?;
            Some(cached.keep_but(entry, bytes))
        };
        let Some(entry) = (bytes > 0).then(|| cache.cached(divide)).flatten() else {
            break;
        };
        drop(cache);
        let held = entry.held();
        tried = tried.saturating_add(held).min(most);
        if release(entry.run, entry.huge()) {
            gone += held;
        }
    }
    gone
}

/// Gives the memory back. Gives the addresses back as well if there are enough of them, if the program has a limit on them, or
/// if they ask for huge pages. Returns whether the memory went. No lock may be held.
#[inline(never)]
pub(super) fn release(run: Run, huge: bool) -> bool {
    if !huge && !memory::addresses_are_limited() && is_purged(run.map) {
        went(run.map.len, false);
        keep_addresses(run);
        return true;
    }
    unmap(run, huge)
}

pub(super) fn is_purged(map: Mapping) -> bool {
    // SAFETY: the mapping was taken out of the cache or its block's descriptor, and no pointer into it is left.
    unsafe { mapping::purge(map.addr, map.len) }.is_ok()
}

/// Counts bytes whose memory went back.
#[inline(never)]
pub(super) fn went(bytes: usize, huge: bool) {
    let counts = &mut CACHE.lock().counts;
    counts.returned += bytes as u64;
    if huge {
        counts.huge_requested = counts.huge_requested.saturating_sub(bytes);
    }
}

/// Keeps the addresses of a run without memory. Returns the run if there is no room.
fn put_addresses(run: Run) -> Option<Run> {
    let no_room = CACHE.lock().addresses.put(Entry::new(run, 0, false, 0));
    Some(no_room?.run)
}

/// Keeps the addresses of a run without memory, and unmaps those beyond the bound.
#[inline(never)]
pub(super) fn keep_addresses(run: Run) {
    put_addresses(run).map(unmap_addresses);
    // Bounded, because an entry that the kernel refuses would be tried again.
    for _ in 0..CACHED_RUNS {
        let too_many = CACHE.lock().addresses_too_many();
        if !too_many.is_some_and(unmap_addresses) {
            break;
        }
    }
}

/// Unmaps a run without memory and returns whether it went. If the kernel refuses, the run is kept, if there is room.
pub(super) fn unmap_addresses(run: Run) -> bool {
    // SAFETY: as in `is_purged`.
    let unmapped = unsafe { mapping::unmap(run.map) }.is_ok();
    if !unmapped {
        let _ = put_addresses(run);
    }
    unmapped
}

/// Unmaps a run and returns whether its memory went. If the kernel refuses to unmap (its map count is at the limit), the pages
/// go back and the addresses are kept. If the pages stay too, the run is cached again for the next decay. If the cache has no
/// room for it, it is no longer counted.
#[inline(never)]
pub(super) fn unmap(run: Run, huge: bool) -> bool {
    // SAFETY: as in `is_purged`.
    if unsafe { mapping::unmap(run.map) }.is_ok() {
        went(run.map.len, huge);
        return true;
    }
    let purged = is_purged(run.map);
    if purged && !huge {
        went(run.map.len, false);
        let _ = put_addresses(run);
        return true;
    }
    let mut cache = CACHE.lock();
    let again = Entry::new(run, 0, huge, clock::now_ms());
    let kept = cache.cached(|cached| cached.put(again)).is_none();
    if huge && !kept {
        let counts = &mut cache.counts;
        counts.huge_requested = counts.huge_requested.saturating_sub(run.map.len);
    }
    false
}

/// Gives back what was cached for longer than the purge delay or exceeds the bound, as far as one call may. Returns how many
/// bytes. No lock may be held.
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

/// Unmaps everything cached, all kept addresses, and those of freed blocks that are closed. No lock may be held.
pub(crate) fn purge_all() {
    closed::let_all_go();
    give_back(usize::MAX, |_, entry| entry.run.map.len);
    for index in 0..CACHED_RUNS {
        let entry = CACHE.lock().addresses.take(index);
        // What the kernel refuses comes back at an index that was already tried.
        entry.map(|entry| unmap_addresses(entry.run));
    }
}

/// Gives back about `bytes` of what is cached, freed longest ago first. Returns how many. No lock may be held.
pub(crate) fn reclaim(bytes: usize) -> usize {
    give_back(bytes, |_, entry| entry.run.map.len).min(bytes)
}

/// A change of the live blocks.
#[derive(Clone, Copy, Default)]
pub(super) struct Change {
    /// Their number.
    pub(super) blocks: isize,
    /// The bytes of their mappings.
    pub(super) bytes: isize,
    /// Whether the cache could serve the block.
    pub(super) servable: bool,
    /// The bytes that may be resident.
    pub(super) held: isize,
}

/// Updates the counts of live blocks.
#[inline(never)]
pub(super) fn account(change: Change, now: u64) {
    let mut cache = CACHE.lock();
    let counts = &mut cache.counts;
    counts.live_blocks = counts.live_blocks.saturating_add_signed(change.blocks);
    let live = counts.live_bytes.saturating_add_signed(change.bytes);
    counts.live_bytes = live;
    account::change(Kind::Large, 0, change.held as usize);
    if change.servable {
        cache.servable = cache.servable.saturating_add_signed(change.bytes);
    }
    let servable = cache.servable;
    cache.demand.live(servable, Epoch::at(now, delay()));
}

/// Changes the live blocks' bytes for which huge pages were requested.
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

/// For a fork: the cache's lock.
pub(crate) fn fork_lock() -> &'static Lock {
    CACHE.raw()
}
