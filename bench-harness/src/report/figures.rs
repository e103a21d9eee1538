//! What the report says, as numbers: each measurement with its places, ratios and the floor, before anything is drawn.
//!
//! A measurement is one workload with its parameters in one series. Nothing here knows HTML. Values that are not finite
//! and positive are left out, so that no file, however odd, puts an axis at infinity.

use crate::record::{CaseResult, Results, Run};
use crate::stats::{Ratio, Summary, geometric_mean, median, ratio};
use crate::table::{self, BASE};

/// The allocator that does nothing: the floor, never a competitor.
pub const FLOOR: &str = "null";

/// The allocator the report is about where it takes part.
pub const OURS: &str = "hakmem";

/// How an allocator stands to system malloc in one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies above 1.
    Faster,
    /// The whole interval lies below 1.
    Slower,
    /// The interval includes 1.
    Same,
    /// Too few runs for an interval, so no verdict.
    Unsure,
}

/// How an allocator stands to all others of one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It alone is not measurably beaten by anybody.
    First,
    /// Nobody beats it measurably, but it is not alone in that.
    Level,
    /// Somebody is measurably faster.
    Behind,
    /// Not ranked: the floor, or without a single run.
    Out,
}

/// One allocator in one measurement.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Where the figures come from.
    pub case: &'a CaseResult,
    /// Seconds per operation: median, fastest, slowest.
    pub time: Option<Summary>,
    /// Seconds per operation of each run.
    pub times: Vec<f64>,
    /// Throughput relative to system malloc.
    pub ratio: Option<Ratio>,
    /// What that ratio means.
    pub verdict: Option<Verdict>,
    /// How it stands to the others.
    pub place: Place,
    /// The most KiB resident.
    pub peak_kib: Option<Summary>,
}

/// One measurement.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its anchor in the page.
    pub id: String,
    /// The workload's name.
    pub name: &'static str,
    /// Its parameters, with what tells it apart from others that would be called the same.
    pub title: String,
    /// Warm or cold.
    pub series: &'static str,
    /// Its allocators, in the order of the file.
    pub entries: Vec<Entry<'a>>,
    /// The floor's seconds per operation.
    pub floor: Option<f64>,
}

impl Entry<'_> {
    /// The allocator's name.
    pub fn name(&self) -> &str {
        &self.case.allocator
    }

    /// Whether it is the floor.
    pub fn is_floor(&self) -> bool {
        self.name() == FLOOR
    }

    /// The median of something over the runs; nothing without runs.
    pub fn middle(&self, of: impl Fn(&Run) -> f64) -> Option<f64> {
        median(&self.case.runs.iter().map(of).collect::<Vec<_>>())
    }
}

impl Group<'_> {
    /// Seconds per operation above the floor; nothing where the floor did not run.
    pub fn above_floor(&self, entry: &Entry) -> Option<f64> {
        Some((entry.time?.median - self.floor?).max(0.0))
    }

    /// What an allocator costs above the floor relative to what system malloc does; nothing where system malloc is at
    /// the floor itself.
    pub fn above_floor_ratio(&self, entry: &Entry) -> Option<f64> {
        let base = self.entries.iter().find(|e| e.name() == BASE)?;
        let (own, base) = (self.above_floor(entry)?, self.above_floor(base)?);
        (base > self.floor? * 0.01).then_some(own / base)
    }

    /// The entry of an allocator.
    pub fn entry(&self, allocator: &str) -> Option<&Entry<'_>> {
        self.entries.iter().find(|e| e.name() == allocator)
    }

    /// Peak memory of an allocator relative to the median of all others that are ranked.
    pub fn peak_to_others(&self, allocator: &str) -> Option<f64> {
        let own = self.entry(allocator)?.peak_kib?.median;
        let others = self.entries.iter();
        let others = others.filter(|e| !e.is_floor() && e.name() != allocator);
        let others: Vec<f64> = others.filter_map(|e| Some(e.peak_kib?.median)).collect();
        Some(own / median(&others)?)
    }
}

/// How one allocator did over all measurements.
#[derive(Debug, Default, PartialEq)]
pub struct Standing {
    /// The allocator.
    pub name: String,
    /// Measurements it finished.
    pub measured: usize,
    /// Where it was first alone.
    pub first: usize,
    /// Where it was first together with others.
    pub level: usize,
    /// Where it was faster than system malloc.
    pub faster: usize,
    /// Where it was slower than system malloc.
    pub slower: usize,
    /// Where there was no difference to system malloc.
    pub same: usize,
    /// Its ratios to system malloc.
    pub ratios: Vec<f64>,
}

impl Standing {
    /// The geometric mean of its ratios to system malloc.
    pub fn mean(&self) -> Option<f64> {
        geometric_mean(&self.ratios).filter(|m| m.is_finite())
    }
}

/// All measurements of a file, in its order.
pub fn groups(results: &Results) -> Vec<Group<'_>> {
    let cases = table::groups(&results.results);
    let titles: Vec<String> = cases.iter().map(|g| title(g[0], &cases)).collect();
    let named = cases.into_iter().zip(titles).enumerate();
    named.map(|(i, (cases, t))| group(i, &cases, t)).collect()
}

/// The allocators of a file: system malloc, ours, the others in the order of the file, the floor last.
pub fn allocators(groups: &[Group]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in groups.iter().flat_map(|g| &g.entries) {
        if !names.iter().any(|n| n == entry.name()) {
            names.push(entry.name().to_owned());
        }
    }
    names.sort_by_key(|n| match n.as_str() {
        BASE => 0,
        OURS => 1,
        FLOOR => 3,
        _ => 2,
    });
    names
}

/// The standings of all ranked allocators.
pub fn standings(groups: &[Group]) -> Vec<Standing> {
    let ranked = allocators(groups).into_iter().filter(|n| n != FLOOR);
    ranked.map(|name| standing(groups, name)).collect()
}

fn standing(groups: &[Group], name: String) -> Standing {
    let mut s = Standing::default();
    for entry in groups.iter().filter_map(|g| g.entry(&name)) {
        s.measured += usize::from(entry.place != Place::Out);
        s.first += usize::from(entry.place == Place::First);
        s.level += usize::from(entry.place == Place::Level);
        s.faster += usize::from(entry.verdict == Some(Verdict::Faster));
        s.slower += usize::from(entry.verdict == Some(Verdict::Slower));
        s.same += usize::from(entry.verdict == Some(Verdict::Same));
        s.ratios.extend(entry.ratio.map(|r| r.value));
    }
    Standing { name, ..s }
}

/// Parameters in words; those of others that read the same are told apart by what differs in the file.
fn title(case: &CaseResult, cases: &[Vec<&CaseResult>]) -> String {
    let same_words = |c: &&CaseResult| {
        c.spec != case.spec
            && c.spec.name() == case.spec.name()
            && c.spec.title() == case.spec.title()
    };
    let params = |c: &CaseResult| {
        let value = serde_json::to_value(&c.spec).unwrap_or_default();
        value["params"].as_object().cloned().unwrap_or_default()
    };
    let own = params(case);
    let mut differing: Vec<String> = Vec::new();
    for other in cases.iter().map(|g| g[0]).filter(same_words).map(params) {
        let differs = own.iter().filter(|(k, v)| other.get(*k) != Some(v));
        for text in differs.map(|(k, v)| format!("{}={v}", k.replace('_', "-"))) {
            if !differing.contains(&text) {
                differing.push(text);
            }
        }
    }
    [vec![case.spec.title()], differing].concat().join(", ")
}

fn group<'a>(index: usize, cases: &[&'a CaseResult], title: String) -> Group<'a> {
    let mut entries: Vec<Entry> = cases.iter().map(|case| entry(case, cases)).collect();
    places(&mut entries);
    let floor = entries.iter().find(|e| e.is_floor());
    Group {
        id: format!("m{}", index + 1),
        name: cases[0].spec.name(),
        title,
        series: cases[0].series.name(),
        floor: floor.and_then(|e| Some(e.time?.median)),
        entries,
    }
}

fn entry<'a>(case: &'a CaseResult, cases: &[&'a CaseResult]) -> Entry<'a> {
    let per_op = |r: &Run| Some(1.0 / r.ops_per_sec).filter(|t| t.is_finite() && *t > 0.0);
    let times: Vec<f64> = case.runs.iter().filter_map(per_op).collect();
    let against_base = case.allocator != BASE && case.allocator != FLOOR;
    let ratio = table::ratio_to_base(case, cases).filter(|r| {
        against_base
            && [r.value, r.low, r.high]
                .iter()
                .all(|v| v.is_finite() && *v > 0.0)
    });
    let peaks: Vec<f64> = case.runs.iter().map(|r| r.max_rss_kib as f64).collect();
    Entry {
        case,
        time: Summary::of(&times),
        times,
        verdict: ratio.as_ref().map(verdict),
        ratio,
        place: Place::Out,
        peak_kib: Summary::of(&peaks).filter(|s| s.median > 0.0),
    }
}

fn verdict(ratio: &Ratio) -> Verdict {
    match ratio {
        r if r.is_difference() && r.low > 1.0 => Verdict::Faster,
        r if r.is_difference() => Verdict::Slower,
        // Whether there are enough is for the ratio to say: an interval without 1 that is no difference rests on too few.
        r if r.low > 1.0 || r.high < 1.0 => Verdict::Unsure,
        _ => Verdict::Same,
    }
}

/// First is whom nobody measurably beats; where that is several, they are level.
fn places(entries: &mut [Entry]) {
    let ranked: Vec<usize> = (0..entries.len())
        .filter(|&i| !entries[i].is_floor() && entries[i].time.is_some())
        .collect();
    let beaten = |i: usize| {
        ranked
            .iter()
            .any(|&rival| rival != i && beats(&entries[rival], &entries[i]))
    };
    let places: Vec<(usize, bool)> = ranked.iter().map(|&i| (i, beaten(i))).collect();
    let unbeaten = places.iter().filter(|p| !p.1).count();
    for (i, beaten) in places {
        entries[i].place = match (beaten, unbeaten) {
            (true, _) => Place::Behind,
            (false, 1) => Place::First,
            (false, _) => Place::Level,
        };
    }
}

/// Whether the whole interval says so.
fn beats(rival: &Entry, entry: &Entry) -> bool {
    let median = |e: &Entry| e.time.map_or(f64::INFINITY, |t| t.median);
    let speeds = |e: &Entry| table::throughputs(e.case);
    // Only the better median can win, which spares half of the drawing.
    median(rival) < median(entry)
        && ratio(&speeds(rival), &speeds(entry)).is_some_and(|r| r.is_difference() && r.low > 1.0)
}
