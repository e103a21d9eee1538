//! A table of free runs. Neighbours are joined, and any run may be cut.

use super::run::Run;
use crate::base::tuning::large::CACHED_RUNS;
use crate::base::units::{SUPERSLAB, round_up};

#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) run: Run,
    pages: Pages,
    /// Milliseconds of the clock.
    pub(super) since: u64,
}

impl Entry {
    pub(super) fn new(run: Run, huge: bool, since: u64) -> Entry {
        let pages = if huge { Pages::Huge } else { Pages::Small };
        Entry { run, pages, since }
    }

    /// Whether huge pages were requested for it.
    pub(super) fn huge(&self) -> bool {
        self.pages == Pages::Huge
    }
}

/// The pages requested. No variant is 0: then `None` is, and an empty table takes no space in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Pages {
    Small = 1,
    Huge = 2,
}

/// A table of runs.
pub(super) struct Runs {
    entries: [Option<Entry>; CACHED_RUNS],
    bytes: usize,
}

impl Runs {
    pub(super) const NONE: Runs = Runs {
        entries: [None; CACHED_RUNS],
        bytes: 0,
    };

    /// The sum of the lengths.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries[index].take()?;
        self.bytes -= entry.run.map.len;
        Some(entry)
    }

    /// Adds a run and joins it with its neighbours. Returns the entry if there is no room.
    pub(super) fn put(&mut self, mut entry: Entry) -> Option<Entry> {
        while let Some((index, run)) = self.neighbour(&entry) {
            let Some(other) = self.take(index) else { break };
            // Weighted by length: a small block that comes and goes beside a large one does not keep that for ever.
            let weighted = |part: &Entry| u128::from(part.since) * part.run.map.len as u128;
            let sum = weighted(&entry) + weighted(&other);
            entry.since = (sum / run.map.len as u128) as u64;
            entry.run = run;
        }
        let Some(free) = self.entries.iter().position(Option::is_none) else {
            return Some(entry);
        };
        self.bytes += entry.run.map.len;
        self.entries[free] = Some(entry);
        None
    }

    /// Divides an entry that was taken out: keeps all but about `bytes` at its end, and returns those.
    pub(super) fn keep_but(&mut self, entry: Entry, bytes: usize) -> Entry {
        let len = entry.run.map.len;
        let gone = bytes.div_ceil(SUPERSLAB) * SUPERSLAB;
        if gone == 0 || gone >= len {
            return entry;
        }
        let (kept, gone) = entry.run.divide(len - gone);
        // There is room, because the entry was taken out.
        let none = self.put(Entry { run: kept, ..entry });
        debug_assert!(none.is_none(), "an entry was taken out just now");
        Entry { run: gone, ..entry }
    }

    /// The index of an entry beside this one, and the run that both form.
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

    pub(super) fn oldest(&self) -> Option<(usize, &Entry)> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
            .min_by_key(|(_, entry)| entry.since)
    }

    fn len(&self, index: usize) -> usize {
        self.entries[index]
            .as_ref()
            .map_or(0, |entry| entry.run.map.len)
    }

    /// Bytes from an entry's start to the first multiple of `align` in it. `None` if fewer than `len` bytes follow.
    fn offset(&self, index: usize, len: usize, align: usize) -> Option<usize> {
        let map = self.entries[index].as_ref()?.run.map;
        let offset = round_up(map.addr, align)? - map.addr;
        (offset.checked_add(len)? <= map.len).then_some(offset)
    }

    /// Takes about `len` bytes at `align` from the shortest entry that has them.
    pub(super) fn best(&mut self, len: usize, align: usize) -> Option<Entry> {
        if self.bytes < len {
            return None;
        }
        let (best, offset) = (0..CACHED_RUNS)
            .filter_map(|index| Some((index, self.offset(index, len, align)?)))
            .min_by_key(|&(index, _)| self.len(index))?;
        self.cut(best, offset, len)
    }

    /// Takes the longest entry below `most` bytes; if there are longer ones, `most` bytes of the shortest of those. `huge`
    /// restricts it to entries with or without huge pages.
    pub(super) fn longest(&mut self, most: usize, huge: Option<bool>) -> Option<Entry> {
        let suits = |entry: &Entry| huge.is_none_or(|huge| entry.huge() == huge);
        // Lengths of at least `most` rank before shorter ones, the smallest of them first.
        let rank = |len: usize| if len < most { len } else { usize::MAX - len };
        let best = (0..CACHED_RUNS)
            .filter(|&index| self.entries[index].as_ref().is_some_and(suits))
            .max_by_key(|&index| rank(self.len(index)))?;
        if self.len(best) <= most {
            return self.take(best);
        }
        let entry = self.cut(best, 0, most)?;
        if entry.run.map.len == most {
            return Some(entry);
        }
        // There was no room for the rest.
        let _ = self.put(entry);
        None
    }

    /// Takes `len` bytes from `addr` on, if an entry that has them begins there.
    pub(super) fn from(&mut self, addr: usize, len: usize) -> Option<Entry> {
        if self.bytes < len {
            return None;
        }
        let begins = |entry: &Entry| entry.run.map.addr == addr && entry.run.map.len >= len;
        let mut entries = self.entries.iter();
        let found = entries.position(|entry| entry.as_ref().is_some_and(begins));
        self.cut(found?, 0, len)
    }

    /// Whether any entry is with huge pages, or without.
    pub(super) fn has_any(&self, huge: bool) -> bool {
        let mut entries = self.entries.iter().flatten();
        entries.any(|entry| entry.huge() == huge)
    }

    /// Takes `len` bytes of an entry from `offset` on. The rest stays in the table if there is room; otherwise it is taken too.
    fn cut(&mut self, index: usize, offset: usize, len: usize) -> Option<Entry> {
        let mut entry = self.take(index)?;
        if offset > 0 {
            let (head, run) = entry.run.divide(offset);
            let before = Entry { run: head, ..entry };
            // There is room, because the entry was taken out.
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
