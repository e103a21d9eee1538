//! Freed huge mappings, kept resident for a while: bounded by what is live, decaying, taken by best fit, cut and joined
//! as needed.

use crate::base::swing::Swing;
use crate::base::units::SUPERSLAB;
use crate::knobs;
use crate::os::clock;
use crate::os::lock::{Lock, Locked};
use crate::os::mapping::{self, Mapping};
use core::sync::atomic::{AtomicUsize, Ordering};

const ENTRIES: usize = 64;

#[derive(Clone, Copy)]
struct Entry {
    map: Mapping,
    huge: bool,
    since: u64,
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
});
static CACHED: AtomicUsize = AtomicUsize::new(0);

/// What a request got: a mapping at least as long as asked, or one to be grown.
pub(super) enum Found {
    Fits(Mapping, bool),
    Shorter(Mapping, bool),
}

impl Cache {
    fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries[index].take()?;
        self.counts.cached_bytes -= entry.map.len;
        CACHED.store(self.counts.cached_bytes, Ordering::Relaxed);
        Some(entry)
    }

    /// Puts a mapping in, joined with its neighbours. Hands it back where there is no room.
    fn put(&mut self, mut entry: Entry) -> Option<Entry> {
        while let Some(index) = self.neighbour(&entry) {
            let Some(other) = self.take(index) else { break };
            entry.map = Mapping {
                addr: entry.map.addr.min(other.map.addr),
                len: entry.map.len + other.map.len,
            };
            entry.since = entry.since.max(other.since);
        }
        let Some(free) = self.entries.iter().position(Option::is_none) else {
            return Some(entry);
        };
        self.counts.cached_bytes += entry.map.len;
        CACHED.store(self.counts.cached_bytes, Ordering::Relaxed);
        self.entries[free] = Some(entry);
        None
    }

    fn neighbour(&self, entry: &Entry) -> Option<usize> {
        let (start, end) = (entry.map.addr, entry.map.addr + entry.map.len);
        self.entries.iter().position(|other| {
            other.as_ref().is_some_and(|other| {
                other.huge == entry.huge
                    && (other.map.addr == end || other.map.addr + other.map.len == start)
            })
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
        let live = self.counts.live_bytes / 4;
        most.min(live.max(self.swing.allowance()))
    }
}

fn delay() -> u64 {
    u64::from(knobs::get().purge_delay_ms)
}

/// `bytes` come fresh from the kernel, as the cache had none for them.
pub(super) fn took(bytes: usize) {
    let mut cache = CACHE.lock();
    if cache.swing.is_open() {
        cache.swing.took(bytes, clock::now_ms(), delay(), true);
    }
}

/// A cached mapping for `len` bytes: the smallest that holds them, its rest staying cached; else the longest of at
/// least half, to be grown by its new owner, if `shorter` ones will do.
pub(super) fn find(len: usize, shorter: bool) -> Option<Found> {
    if CACHED.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let mut cache = CACHE.lock();
    let len_of = |cache: &Cache, index: usize| {
        cache.entries[index]
            .as_ref()
            .map_or(0, |entry| entry.map.len)
    };
    let best = (0..ENTRIES)
        .filter(|&i| len_of(&cache, i) >= len)
        .min_by_key(|&i| len_of(&cache, i));
    if let Some(index) = best {
        let entry = cache.take(index)?;
        let rest = Mapping {
            addr: entry.map.addr + len,
            len: entry.map.len - len,
        };
        let map = if rest.len > 0 && cache.put(Entry { map: rest, ..entry }).is_none() {
            Mapping { len, ..entry.map }
        } else {
            entry.map
        };
        return Some(Found::Fits(map, entry.huge));
    }
    let longest = (0..ENTRIES).max_by_key(|&i| len_of(&cache, i))?;
    if !shorter || len_of(&cache, longest) * 2 < len {
        return None;
    }
    let entry = cache.take(longest)?;
    Some(Found::Shorter(entry.map, entry.huge))
}

/// Keeps a freed mapping, or unmaps it and others as far as the bound asks. No lock may be held.
pub(super) fn keep(map: Mapping, huge: bool, now: u64) {
    let mut cache = CACHE.lock();
    let mut gone = cache.put(Entry {
        map,
        huge,
        since: now,
    });
    loop {
        let entry = match gone.take() {
            Some(entry) => entry,
            None if cache.counts.cached_bytes > cache.bound() => {
                let Some(entry) = cache.oldest().and_then(|index| cache.take(index)) else {
                    return;
                };
                // Only as much of it as is too much.
                let over =
                    (cache.counts.cached_bytes + entry.map.len).saturating_sub(cache.bound());
                let over = over.div_ceil(SUPERSLAB) * SUPERSLAB;
                if over < entry.map.len {
                    let kept = Mapping {
                        addr: entry.map.addr,
                        len: entry.map.len - over,
                    };
                    let _ = cache.put(Entry { map: kept, ..entry });
                    Entry {
                        map: Mapping {
                            addr: kept.addr + kept.len,
                            len: over,
                        },
                        ..entry
                    }
                } else {
                    entry
                }
            }
            None => return,
        };
        cache.swing.gave(entry.map.len, now, delay());
        drop(cache);
        if !release(entry.map, entry.huge) {
            // Not now: the kernel's map count is at its limit. It is cached again, and tried again later.
            return;
        }
        cache = CACHE.lock();
    }
}

/// Unmaps. Where the kernel refuses (its map count is at the limit), the pages at least go back, and the address space
/// is tried again with the next decay.
pub(super) fn release(map: Mapping, huge: bool) -> bool {
    // SAFETY: the mapping is ours, and nobody has a pointer into it any more.
    let unmapped = unsafe { mapping::unmap(map) }.is_ok();
    let mut cache = CACHE.lock();
    if unmapped {
        cache.counts.returned += map.len as u64;
        if huge {
            cache.counts.huge_requested = cache.counts.huge_requested.saturating_sub(map.len);
        }
    } else {
        // SAFETY: as above.
        let _ = unsafe { mapping::purge(map.addr, map.len) };
        let _ = cache.put(Entry {
            map,
            huge,
            since: clock::now_ms(),
        });
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
            cache.swing.unneeded(entry.map.len);
        }
        drop(cache);
        release(entry.map, entry.huge);
    }
}

/// Brings the count of live blocks up to date.
pub(super) fn account(blocks: isize, bytes: isize, huge_bytes: isize) {
    let mut cache = CACHE.lock();
    cache.counts.live_blocks = cache.counts.live_blocks.saturating_add_signed(blocks);
    cache.counts.live_bytes = cache.counts.live_bytes.saturating_add_signed(bytes);
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
