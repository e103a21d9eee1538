//! Freed huge mappings, kept resident for a while: bounded by what is live and by the program's demand, decaying, taken by
//! best fit, cut and put together as needed.
//!
//! The bound is half of what is live, or the largest dip of late ([`Demand`]): a program that frees buffers and takes
//! others does not fault in what it gave up a moment before. Where nobody sees time pass it is small (`account::seen`).

use super::parts::Run;
use crate::base::account::{self, Kind};
use crate::base::demand::{Demand, Epoch, Price};
use crate::base::tuning::large::CACHED_RUNS;
use crate::base::tuning::retention;
use crate::base::units::{SUPERSLAB, round_up};
use crate::knobs;
use crate::os::clock;
use crate::os::lock::{Lock, Locked};
use crate::os::mapping;

#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) run: Run,
    pages: Pages,
    since: u64,
}

impl Entry {
    fn new(run: Run, huge: bool, since: u64) -> Entry {
        let pages = if huge { Pages::Huge } else { Pages::Small };
        Entry { run, pages, since }
    }

    /// Whether huge pages were asked for it.
    pub(super) fn huge(&self) -> bool {
        self.pages == Pages::Huge
    }
}

/// The pages asked for. Neither is 0, so that an entry that is `None` is, and an empty cache takes no room in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Pages {
    Small = 1,
    Huge = 2,
}

/// What is live and what is cached, in blocks and bytes of mapping.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) live_blocks: usize,
    pub(crate) live_bytes: usize,
    pub(crate) cached_bytes: usize,
    /// Bytes unmapped since the start.
    pub(crate) returned: u64,
    /// Live and cached bytes for which huge pages were asked.
    pub(crate) huge_requested: usize,
}

struct Cache {
    entries: [Option<Entry>; CACHED_RUNS],
    counts: Counts,
    /// Live bytes that the cache could have served.
    servable: usize,
    demand: Demand,
}

static CACHE: Locked<Cache> = Locked::new(Cache {
    entries: [None; CACHED_RUNS],
    counts: Counts {
        live_blocks: 0,
        live_bytes: 0,
        cached_bytes: 0,
        returned: 0,
        huge_requested: 0,
    },
    servable: 0,
    demand: Demand::NONE,
});

impl Cache {
    fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries[index].take()?;
        self.set_cached(self.counts.cached_bytes - entry.run.map.len);
        Some(entry)
    }

    /// Puts a run in, joined with its neighbours. Hands it back where there is no room.
    fn put(&mut self, mut entry: Entry) -> Option<Entry> {
        while let Some((index, run)) = self.neighbour(&entry) {
            let Some(other) = self.take(index) else { break };
            // By length: a small block that comes and goes beside a large one does not keep that for ever.
            let weighted = |part: &Entry| u128::from(part.since) * part.run.map.len as u128;
            let sum = weighted(&entry) + weighted(&other);
            entry.since = (sum / run.map.len as u128) as u64;
            entry.run = run;
        }
        let Some(free) = self.entries.iter().position(Option::is_none) else {
            return Some(entry);
        };
        self.set_cached(self.counts.cached_bytes + entry.run.map.len);
        self.entries[free] = Some(entry);
        None
    }

    /// Divides an entry that was taken out: keeps all but about `bytes` at its end, and hands those back.
    fn keep_but(&mut self, entry: Entry, bytes: usize) -> Entry {
        let len = entry.run.map.len;
        let gone = bytes.div_ceil(SUPERSLAB) * SUPERSLAB;
        if gone == 0 || gone >= len {
            return entry;
        }
        let (kept, gone) = entry.run.divide(len - gone);
        // There is room: the entry's own.
        let none = self.put(Entry { run: kept, ..entry });
        debug_assert!(none.is_none(), "an entry was taken out just now");
        Entry { run: gone, ..entry }
    }

    fn set_cached(&mut self, bytes: usize) {
        account::change(Kind::Cached, self.counts.cached_bytes, bytes);
        self.counts.cached_bytes = bytes;
    }

    /// An entry beside this one, and what both are together.
    fn neighbour(&self, entry: &Entry) -> Option<(usize, Run)> {
        let map = entry.run.map;
        self.entries.iter().enumerate().find_map(|(index, other)| {
            let other = other.as_ref().filter(|other| other.pages == entry.pages)?;
            let run = if other.run.map.addr == map.end() {
                entry.run.join(&other.run)
            } else if other.run.map.end() == map.addr {
                other.run.join(&entry.run)
            } else {
                None
            };
            Some((index, run?))
        })
    }

    fn oldest(&self) -> Option<(usize, &Entry)> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
            .min_by_key(|(_, entry)| entry.since)
    }

    /// Bytes cached beyond the bound.
    fn over(&self) -> usize {
        self.counts.cached_bytes.saturating_sub(self.bound())
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

    fn len(&self, index: usize) -> usize {
        self.entries[index]
            .as_ref()
            .map_or(0, |entry| entry.run.map.len)
    }

    /// Bytes from an entry's start to the first multiple of `align` in it; `None` where fewer than `len` follow.
    fn offset(&self, index: usize, len: usize, align: usize) -> Option<usize> {
        let map = self.entries[index].as_ref()?.run.map;
        let offset = round_up(map.addr, align)? - map.addr;
        (offset.checked_add(len)? <= map.len).then_some(offset)
    }

    /// Takes `len` bytes of an entry from `offset` on, which it has; the rest stays cached where there is room for it.
    fn cut(&mut self, index: usize, offset: usize, len: usize) -> Option<Entry> {
        let mut entry = self.take(index)?;
        if offset > 0 {
            let (head, run) = entry.run.divide(offset);
            let before = Entry { run: head, ..entry };
            // There is room: the entry's own.
            let none = self.put(before);
            debug_assert!(none.is_none(), "an entry was taken out just now");
            entry.run = run;
        }
        if entry.run.map.len == len {
            return Some(entry);
        }
        let (run, rest) = entry.run.divide(len);
        let kept = self.put(Entry { run: rest, ..entry }).is_none();
        Some(if kept { Entry { run, ..entry } } else { entry })
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
    let mut cache = CACHE.lock();
    let (best, offset) = (0..CACHED_RUNS)
        .filter_map(|index| Some((index, cache.offset(index, len, align)?)))
        .min_by_key(|&(index, _)| cache.len(index))?;
    cache.cut(best, offset, len)
}

/// The longest cached mapping below `most` bytes; where there are as long ones, `most` bytes of the smallest of them. Of
/// those with or without huge pages, if it matters.
pub(super) fn longest(most: usize, huge: Option<bool>) -> Option<Entry> {
    let mut cache = CACHE.lock();
    let suits = |entry: &Entry| huge.is_none_or(|huge| entry.huge() == huge);
    // Lengths from `most` on come before those below it, and grow downwards.
    let rank = |len: usize| if len < most { len } else { usize::MAX - len };
    let best = (0..CACHED_RUNS)
        .filter(|&index| cache.entries[index].as_ref().is_some_and(suits))
        .max_by_key(|&index| rank(cache.len(index)))?;
    if cache.len(best) <= most {
        return cache.take(best);
    }
    let entry = cache.cut(best, 0, most)?;
    if entry.run.map.len == most {
        return Some(entry);
    }
    // There was no room for the rest.
    let _ = cache.put(entry);
    None
}

/// Whether anything with huge pages is cached, or without.
pub(super) fn has_any(huge: bool) -> bool {
    let cache = CACHE.lock();
    let mut entries = cache.entries.iter().flatten();
    entries.any(|entry| entry.huge() == huge)
}

/// Keeps a freed mapping, unless it is longer than all that may be cached, and unmaps what is too much, as far as one call
/// may ([`at_once`]). No lock may be held.
pub(super) fn keep(run: Run, huge: bool, now: u64) {
    if run.map.len > most() {
        release(run, huge);
        return;
    }
    let mut cache = CACHE.lock();
    let no_room = cache.put(Entry::new(run, huge, now));
    let over = cache.over();
    drop(cache);
    if let Some(entry) = no_room {
        release(entry.run, entry.huge());
    }
    if over > 0 {
        give_back(at_once(over), |cache, _| cache.over());
    }
}

/// Bytes of `over` that one call of the program unmaps, so that none takes long: the next ones go on, or the maintenance
/// thread. Where that may not come, all of them.
fn at_once(over: usize) -> usize {
    if account::is_watched() {
        retention::UNMAPPED_AT_ONCE.max(over / retention::UNMAPPED_SHARE)
    } else {
        over
    }
}

/// Unmaps of the oldest entry as many bytes as `wanted` says, and goes on until that is none or `most` were tried; answers
/// how many went. No lock may be held.
fn give_back(most: usize, wanted: impl Fn(&Cache, &Entry) -> usize) -> usize {
    let (mut tried, mut gone) = (0, 0);
    // Bounded: an unmap that fails puts its entry back, to be tried again later.
    for _ in 0..CACHED_RUNS {
        let mut cache = CACHE.lock();
        let Some((index, entry)) = cache.oldest() else {
            break;
        };
        let bytes = wanted(&cache, entry).min(most - tried);
        let Some(entry) = (bytes > 0).then(|| cache.take(index)).flatten() else {
            break;
        };
        let entry = cache.keep_but(entry, bytes);
        drop(cache);
        let len = entry.run.map.len;
        tried = tried.saturating_add(len).min(most);
        if release(entry.run, entry.huge()) {
            gone += len;
        }
    }
    gone
}

/// Unmaps. Where the kernel refuses (its map count is at the limit), the pages at least go back, and the address space
/// is tried again with the next decay; if there is no room for it in the cache either, nobody counts it any more.
pub(super) fn release(run: Run, huge: bool) -> bool {
    let map = run.map;
    // SAFETY: the mapping is ours, and nobody has a pointer into it any more.
    let unmapped = unsafe { mapping::unmap(map) }.is_ok();
    if !unmapped {
        // SAFETY: as above.
        let _ = unsafe { mapping::purge(map.addr, map.len) };
    }
    let mut cache = CACHE.lock();
    let kept = !unmapped && cache.put(Entry::new(run, huge, clock::now_ms())).is_none();
    let counts = &mut cache.counts;
    if unmapped {
        counts.returned += map.len as u64;
    }
    if huge && !kept {
        counts.huge_requested = counts.huge_requested.saturating_sub(map.len);
    }
    unmapped
}

/// Unmaps what was cached for longer than the purge delay, or is too much, as far as one call may; answers how many bytes.
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

/// Unmaps everything cached. No lock may be held.
pub(crate) fn purge_all() {
    give_back(usize::MAX, |_, entry| entry.run.map.len);
}

/// Unmaps about `bytes` of what is cached, what was freed longest ago first; answers how many. No lock may be held.
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
    CACHE.lock().counts
}

/// Bytes cached, as a hint.
pub(crate) fn cached_bytes() -> usize {
    account::of(Kind::Cached)
}

/// For fork: the cache's lock.
pub(crate) fn fork_lock() -> &'static Lock {
    CACHE.raw()
}
