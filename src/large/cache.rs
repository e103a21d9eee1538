//! Freed huge mappings, kept resident for a while: bounded by what is live, decaying, taken by best fit, cut and put
//! together as needed.
//!
//! The bound is a quarter of what is live, or what the program has shown to come back for (`Swing`). A program that swings
//! may keep more: as much as was live within the last purge delay, together with what is live now. Its memory then never
//! exceeds what it needed a moment ago, and it does not fault in what it gave up a moment before.

use super::parts::Run;
use crate::base::swing::Swing;
use crate::base::units::SUPERSLAB;
use crate::knobs;
use crate::os::clock;
use crate::os::lock::{Lock, Locked};
use crate::os::mapping;
use core::sync::atomic::{AtomicUsize, Ordering};

const ENTRIES: usize = 96;

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

/// The pages asked for. Neither is 0, so that an entry that is `None` is, and a cache without any takes no room in the
/// program's file: with a `bool` in its place `None` is 2, and the cache 22 KiB of data.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Pages {
    Small = 1,
    Huge = 2,
}

/// The most that was live in the purge delay that runs, and in the one before.
struct Peak {
    now: usize,
    before: usize,
    /// When the delay that runs began.
    since: u64,
}

impl Peak {
    /// Looks at what is live.
    fn see(&mut self, live: usize, now: u64, delay: u64) {
        let passed = now.saturating_sub(self.since);
        if passed >= delay {
            self.before = if passed < 2 * delay { self.now } else { live };
            (self.now, self.since) = (live, now);
        }
        self.now = self.now.max(live);
    }

    fn most(&self) -> usize {
        self.now.max(self.before)
    }
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
    entries: [Option<Entry>; ENTRIES],
    counts: Counts,
    swing: Swing,
    peak: Peak,
}

static CACHE: Locked<Cache> = Locked::new(Cache {
    entries: [None; ENTRIES],
    counts: Counts {
        live_blocks: 0,
        live_bytes: 0,
        cached_bytes: 0,
        returned: 0,
        huge_requested: 0,
    },
    swing: Swing::NONE,
    peak: Peak {
        now: 0,
        before: 0,
        since: 0,
    },
});
static CACHED: AtomicUsize = AtomicUsize::new(0);

impl Cache {
    fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries[index].take()?;
        self.counts.cached_bytes -= entry.run.map.len;
        CACHED.store(self.counts.cached_bytes, Ordering::Relaxed);
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
        self.counts.cached_bytes += entry.run.map.len;
        CACHED.store(self.counts.cached_bytes, Ordering::Relaxed);
        self.entries[free] = Some(entry);
        None
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

    fn oldest(&self) -> Option<usize> {
        let age = |index: &usize| {
            self.entries[*index]
                .as_ref()
                .map_or(u64::MAX, |entry| entry.since)
        };
        (0..ENTRIES)
            .filter(|&index| self.entries[index].is_some())
            .min_by_key(age)
    }

    fn bound(&self) -> usize {
        let most = (knobs::get().huge_cache_mb as usize) << 20;
        let live = self.counts.live_bytes;
        let learnt = self.swing.allowance();
        let lately = if learnt > 0 { self.peak.most() } else { 0 };
        most.min((live / 4).max(learnt).max(lately.saturating_sub(live)))
    }

    fn len(&self, index: usize) -> usize {
        self.entries[index]
            .as_ref()
            .map_or(0, |entry| entry.run.map.len)
    }

    /// Takes `len` bytes of an entry that has as many at least; the rest stays cached where there is room for it.
    fn cut(&mut self, index: usize, len: usize) -> Option<Entry> {
        let entry = self.take(index)?;
        if entry.run.map.len == len {
            return Some(entry);
        }
        let (run, rest) = entry.run.divide(len);
        if self.put(Entry { run: rest, ..entry }).is_some() {
            return Some(entry);
        }
        Some(Entry { run, ..entry })
    }
}

fn delay() -> u64 {
    u64::from(knobs::get().purge_delay_ms)
}

/// `bytes` come fresh from the kernel, as the cache had none for them.
pub(super) fn took(bytes: usize) {
    let mut cache = CACHE.lock();
    if cache.swing.is_open() {
        cache.swing.took(bytes, clock::now_ms(), delay());
    }
}

/// A cached mapping for `len` bytes or a little more: the smallest that holds them, its rest staying cached.
pub(super) fn find(len: usize) -> Option<Entry> {
    if cached_bytes() == 0 {
        return None;
    }
    let mut cache = CACHE.lock();
    let best = (0..ENTRIES)
        .filter(|&index| cache.len(index) >= len)
        .min_by_key(|&index| cache.len(index))?;
    cache.cut(best, len)
}

/// The longest cached mapping below `most` bytes; where there are as long ones, `most` bytes of the smallest of them. Of
/// those with or without huge pages, if it matters.
pub(super) fn longest(most: usize, huge: Option<bool>) -> Option<Entry> {
    let mut cache = CACHE.lock();
    let suits = |entry: &Entry| huge.is_none_or(|huge| entry.huge() == huge);
    // Lengths from `most` on come before those below it, and grow downwards.
    let rank = |len: usize| if len < most { len } else { usize::MAX - len };
    let best = (0..ENTRIES)
        .filter(|&index| cache.entries[index].as_ref().is_some_and(suits))
        .max_by_key(|&index| rank(cache.len(index)))?;
    if cache.len(best) <= most {
        return cache.take(best);
    }
    let entry = cache.cut(best, most)?;
    if entry.run.map.len == most {
        return Some(entry);
    }
    // There was no room for the rest.
    let _ = cache.put(entry);
    None
}

/// Keeps a freed mapping, or unmaps it and others as far as the bound asks. No lock may be held.
pub(super) fn keep(run: Run, huge: bool, now: u64) {
    let mut cache = CACHE.lock();
    let live = cache.counts.live_bytes;
    cache.peak.see(live, now, delay());
    let mut gone = cache.put(Entry::new(run, huge, now));
    loop {
        let entry = match gone.take() {
            Some(entry) => entry,
            None if cache.counts.cached_bytes > cache.bound() => {
                let Some(entry) = cache.oldest().and_then(|index| cache.take(index)) else {
                    return;
                };
                // Only as much of it as is too much.
                let len = entry.run.map.len;
                let over = (cache.counts.cached_bytes + len).saturating_sub(cache.bound());
                let over = over.div_ceil(SUPERSLAB) * SUPERSLAB;
                if over < len {
                    let (kept, gone) = entry.run.divide(len - over);
                    let _ = cache.put(Entry { run: kept, ..entry });
                    Entry { run: gone, ..entry }
                } else {
                    entry
                }
            }
            None => return,
        };
        cache.swing.gave(entry.run.map.len, now, delay());
        drop(cache);
        if !release(entry.run, entry.huge()) {
            // Not now: the kernel's map count is at its limit. It is cached again, and tried again later.
            return;
        }
        cache = CACHE.lock();
    }
}

/// Unmaps. Where the kernel refuses (its map count is at the limit), the pages at least go back, and the address space
/// is tried again with the next decay.
pub(super) fn release(run: Run, huge: bool) -> bool {
    let map = run.map;
    // SAFETY: the mapping is ours, and nobody has a pointer into it any more.
    let unmapped = unsafe { mapping::unmap(map) }.is_ok();
    if !unmapped {
        // SAFETY: as above.
        let _ = unsafe { mapping::purge(map.addr, map.len) };
    }
    let mut cache = CACHE.lock();
    if unmapped {
        cache.counts.returned += map.len as u64;
        if huge {
            cache.counts.huge_requested = cache.counts.huge_requested.saturating_sub(map.len);
        }
    } else {
        let _ = cache.put(Entry::new(run, huge, clock::now_ms()));
    }
    unmapped
}

/// Unmaps what was cached for longer than the purge delay. No lock may be held.
pub(crate) fn decay(now: u64) {
    release_while(|entry| entry.since.saturating_add(delay()) <= now, true);
}

/// Unmaps everything cached. No lock may be held.
pub(crate) fn purge_all() {
    release_while(|_| true, false);
}

fn release_while(go_on: impl Fn(&Entry) -> bool, unneeded: bool) {
    // Bounded: an unmap that fails puts its entry back.
    for _ in 0..ENTRIES {
        if CACHED.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut cache = CACHE.lock();
        let Some(index) = cache.oldest() else { return };
        if !cache.entries[index].as_ref().is_some_and(&go_on) {
            return;
        }
        let Some(entry) = cache.take(index) else {
            return;
        };
        if unneeded {
            cache.swing.unneeded(entry.run.map.len);
        }
        drop(cache);
        release(entry.run, entry.huge());
    }
}

/// Brings the count of live blocks up to date.
pub(super) fn account(blocks: isize, bytes: isize, huge_bytes: isize) {
    let mut cache = CACHE.lock();
    cache.counts.live_blocks = cache.counts.live_blocks.saturating_add_signed(blocks);
    cache.counts.live_bytes = cache.counts.live_bytes.saturating_add_signed(bytes);
    cache.peak.now = cache.peak.now.max(cache.counts.live_bytes);
    cache.counts.huge_requested = cache
        .counts
        .huge_requested
        .saturating_add_signed(huge_bytes);
}

/// A snapshot of the counts.
pub(crate) fn counts() -> Counts {
    CACHE.lock().counts
}

/// Bytes cached, as a hint.
pub(crate) fn cached_bytes() -> usize {
    CACHED.load(Ordering::Relaxed)
}

/// For fork: the cache's lock.
pub(crate) fn fork_lock() -> &'static Lock {
    CACHE.raw()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_remembered_for_one_delay_at_least_and_two_at_most() {
        const DELAY: u64 = 100;
        let mut peak = Peak {
            now: 0,
            before: 0,
            since: 1000,
        };
        peak.see(80, 1010, DELAY);
        peak.see(20, 1099, DELAY);
        assert_eq!(peak.most(), 80);
        peak.see(30, 1100, DELAY);
        assert_eq!(peak.most(), 80, "it was the one before");
        peak.see(10, 1199, DELAY);
        assert_eq!(peak.most(), 80);
        peak.see(10, 1200, DELAY);
        assert_eq!(peak.most(), 30, "two delays later it is forgotten");
        peak.see(5, 1500, DELAY);
        assert_eq!(peak.most(), 5, "nobody looked for long");
    }
}
