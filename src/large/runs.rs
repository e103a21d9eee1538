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
    /// Bytes of it that hold no memory.
    bare: usize,
}

impl Entry {
    pub(super) fn new(run: Run, bare: usize, huge: bool, since: u64) -> Entry {
        let pages = if huge { Pages::Huge } else { Pages::Small };
        let bare = Entry::bare_of(&run, bare);
        Entry {
            run,
            pages,
            since,
            bare,
        }
    }

    /// `bytes` of a run as bare ones: fewer than all, since one that holds nothing would never seem worth giving back.
    fn bare_of(run: &Run, bytes: usize) -> usize {
        let len = run.map.len;
        bytes.min(len - len / 512)
    }

    /// Bytes of it that hold memory.
    pub(super) fn held(&self) -> usize {
        self.run.map.len - self.bare
    }

    /// Bytes of addresses that hold `bytes` of its memory.
    pub(super) fn holding(&self, bytes: usize) -> usize {
        let superslabs = self.run.map.len / SUPERSLAB;
        let each = SUPERSLAB - self.bare / superslabs;
        bytes.div_ceil(each).min(superslabs) * SUPERSLAB
    }

    /// Its first `len` bytes, and the rest. Each counts as bare in the same share.
    fn divide(self, len: usize) -> (Entry, Entry) {
        let of_each = self.bare / (self.run.map.len / SUPERSLAB);
        let share = of_each * (len / SUPERSLAB);
        let (first, rest) = self.run.divide(len);
        let part = |run, bare| Entry {
            run,
            bare: Entry::bare_of(&run, bare),
            ..self
        };
        (part(first, share), part(rest, self.bare - share))
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
    /// Where the used part of the table ends. Most processes use a few entries, and each takes four cache lines.
    end: usize,
    bytes: usize,
    bare: usize,
}

impl Runs {
    pub(super) const NONE: Runs = Runs {
        entries: [None; CACHED_RUNS],
        end: 0,
        bytes: 0,
        bare: 0,
    };

    /// The sum of the lengths.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that hold memory.
    pub(super) fn resident(&self) -> usize {
        self.bytes - self.bare
    }

    pub(super) fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries[index].take()?;
        self.bytes -= entry.run.map.len;
        self.bare -= entry.bare;
        while self.end > 0 && self.entries[self.end - 1].is_none() {
            self.end -= 1;
        }
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
            entry.bare += other.bare;
            entry.run = run;
        }
        let free = self.used().position(Option::is_none).unwrap_or(self.end);
        let Some(place) = self.entries.get_mut(free) else {
            return Some(entry);
        };
        self.bytes += entry.run.map.len;
        self.bare += entry.bare;
        *place = Some(entry);
        self.end = self.end.max(free + 1);
        None
    }

    /// Divides an entry that was taken out: keeps all but about `bytes` at its end, and returns those.
    pub(super) fn keep_but(&mut self, entry: Entry, bytes: usize) -> Entry {
        let len = entry.run.map.len;
        let gone = bytes.div_ceil(SUPERSLAB) * SUPERSLAB;
        if gone == 0 || gone >= len {
            return entry;
        }
        let (kept, gone) = entry.divide(len - gone);
        // There is room, because the entry was taken out.
        let none = self.put(kept);
        debug_assert!(none.is_none(), "an entry was taken out just now");
        gone
    }

    /// The used part of the table.
    fn used(&self) -> core::slice::Iter<'_, Option<Entry>> {
        self.entries[..self.end].iter()
    }

    /// The index of an entry beside this one, and the run that both form.
    fn neighbour(&self, entry: &Entry) -> Option<(usize, Run)> {
        let map = entry.run.map;
        self.used().enumerate().find_map(|(index, other)| {
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
        let entries = self.used().enumerate();
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
        let (best, offset) = (0..self.end)
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
        let best = (0..self.end)
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
        let mut entries = self.used();
        let found = entries.position(|entry| entry.as_ref().is_some_and(begins));
        self.cut(found?, 0, len)
    }

    /// Takes `len` bytes of an entry from `offset` on. The rest stays in the table if there is room; otherwise it is taken too.
    fn cut(&mut self, index: usize, offset: usize, len: usize) -> Option<Entry> {
        let mut entry = self.take(index)?;
        if offset > 0 {
            let (before, behind) = entry.divide(offset);
            // There is room, because the entry was taken out.
            let none = self.put(before);
            debug_assert!(none.is_none(), "an entry was taken out just now");
            entry = behind;
        }
        if entry.run.map.len == len {
            return Some(entry);
        }
        let (first, rest) = entry.divide(len);
        let kept = self.put(rest).is_none();
        Some(if kept { first } else { entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::mapping::Mapping;

    /// A search of the used part finds what one of the whole table finds.
    #[test]
    fn nothing_lies_behind_the_used_part() {
        let mut runs = Runs::NONE;
        let mut random = 1u64;
        let mut seen_full = false;
        for _ in 0..if cfg!(miri) { 500 } else { 20_000 } {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (what, which) = ((random >> 33) % 5, (random >> 40) as usize);
            let all = || runs.entries.iter().flatten();
            let count = all().count();
            match what {
                0..=2 => {
                    // Of four superslabs two at most, so that no two runs are neighbours.
                    let (addr, len) = ((1 + which % 1000 * 4) * SUPERSLAB, 1 + which % 2);
                    let is_there =
                        |e: &Entry| e.run.map.addr / SUPERSLAB / 4 == addr / SUPERSLAB / 4;
                    if !all().any(is_there) {
                        let map = Mapping {
                            addr,
                            len: len * SUPERSLAB,
                        };
                        let entry = Entry::new(Run::new(map), which % SUPERSLAB, false, 0);
                        let refused = runs.put(entry).is_some();
                        assert_eq!(refused, count == CACHED_RUNS);
                        seen_full |= refused;
                    }
                }
                3 => {
                    let was = runs.entries[which % CACHED_RUNS].is_some();
                    assert_eq!(runs.take(which % CACHED_RUNS).is_some(), was);
                }
                _ => {
                    let len = (1 + which % 2) * SUPERSLAB;
                    let fits = all().filter(|e| e.run.map.len >= len);
                    let shortest = fits.map(|e| e.run.map.len).min();
                    let before = runs.bytes();
                    let found = runs.best(len, SUPERSLAB).map(|e| e.run.map.len);
                    assert_eq!(found, shortest.map(|_| len));
                    assert_eq!(runs.bytes(), before - found.unwrap_or(0));
                    // The shortest that fits is the one that is cut.
                    let now = runs.entries.iter().flatten().count();
                    let cut = shortest.is_some_and(|shortest| shortest > len);
                    assert_eq!(now, count - usize::from(found.is_some()) + usize::from(cut));
                }
            }
            let behind = &runs.entries[runs.end..];
            assert!(behind.iter().all(Option::is_none));
            let bytes: usize = runs.entries.iter().flatten().map(|e| e.run.map.len).sum();
            assert_eq!(bytes, runs.bytes());
            let parts = || runs.entries.iter().flatten();
            assert!(parts().all(|e| e.bare < e.run.map.len));
            let bare: usize = parts().map(|e| e.bare).sum();
            assert_eq!(bytes - bare, runs.resident());
        }
        assert!(seen_full || cfg!(miri));
    }

    /// Joined and cut at random, the pieces have the addresses and the bare bytes that were put in.
    #[test]
    fn no_byte_is_lost_where_runs_are_joined_and_cut() {
        const SUPERSLABS: usize = 400;
        let mut runs = Runs::NONE;
        let mut random = 7u64;
        let piece = |i: usize| Mapping {
            addr: (1000 + 4 * i) * SUPERSLAB,
            len: 4 * SUPERSLAB,
        };
        let whole = |i| Entry::new(Run::new(piece(i)), 0, false, 0);
        let mut taken: std::vec::Vec<_> = (0..SUPERSLABS / 4).map(whole).collect();
        let (mut joins, mut cuts) = (0, 0);
        for _ in 0..if cfg!(miri) { 500 } else { 50_000 } {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (what, which) = ((random >> 33) % 6, (random >> 40) as usize);
            let few = (1 + which % 9) * SUPERSLAB;
            let count = runs.entries.iter().flatten().count();
            let got = match what {
                0 | 1 if !taken.is_empty() => {
                    let mut entry = taken.swap_remove(which % taken.len());
                    if what == 0 {
                        let bare = (random >> 13) as usize % (entry.run.map.len + 1);
                        entry.bare = Entry::bare_of(&entry.run, bare);
                    }
                    let refused = runs.put(entry);
                    let now = runs.entries.iter().flatten().count();
                    joins += usize::from(refused.is_none() && now <= count);
                    refused
                }
                2 => runs.best(few, SUPERSLAB << (which % 3)),
                3 => runs.longest(few, None),
                4 => runs.oldest().map(|(index, _)| index).map(|index| {
                    let entry = runs.take(index).expect("it is there");
                    runs.keep_but(entry, few)
                }),
                _ => runs.from((1000 + which % SUPERSLABS) * SUPERSLAB, few),
            };
            cuts += usize::from(what > 1 && got.is_some());
            taken.extend(got);
            let all = || runs.entries.iter().flatten();
            let mut every = all().chain(&taken);
            assert!(every.all(|e| e.bare < e.run.map.len && e.holding(1) > 0));
            assert_eq!(all().map(|e| e.run.map.len).sum::<usize>(), runs.bytes);
            assert_eq!(all().map(|e| e.bare).sum::<usize>(), runs.bare);
            let outside: usize = taken.iter().map(|e| e.run.map.len).sum();
            assert_eq!(runs.bytes + outside, SUPERSLABS * SUPERSLAB);
        }
        assert!(joins > 0 && cuts > 0, "{joins} joins, {cuts} cuts");
    }
}
