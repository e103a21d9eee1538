//! What was measured means: each measurement with its places, verdicts, ratios and the floor, before anything is shown.
//!
//! A measurement is one workload with its parameters in one series. It is judged by elapsed time; where that is noise, by
//! processor time; where both are, it does not count. Values that are not finite and positive are left out, so that no file,
//! however odd, puts an axis at infinity.

use bench_subject::record::Series;
use itertools::Itertools;

use crate::results::{BASE, CaseResult, FLOOR, OURS, Results};
use crate::stats::{LEAST_PAIRS, Ratio, Summary, is_more, median, ratio};
use crate::{noise, text, workloads};

/// Processor time below which the kernel's account is too coarse, in seconds.
const LEAST_CPU: f64 = 0.005;

/// The later one counts where the earlier one is noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    Elapsed,
    /// Processor time, user and system, of all threads.
    Processor,
}

impl Measure {
    pub fn words(self) -> &'static str {
        match self {
            Measure::Elapsed => "elapsed time",
            Measure::Processor => "processor time",
        }
    }

    pub fn speeds(self, case: &CaseResult) -> Vec<(usize, f64)> {
        case.values(|r| match self {
            Measure::Elapsed => Some(r.ops_per_sec),
            Measure::Processor => (r.cpu_secs() >= LEAST_CPU).then(|| r.ops as f64 / r.cpu_secs()),
        })
    }
}

/// How an allocator stands to another, or to all others, in one measurement. Every measurement it takes part in is exactly
/// one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Measurably faster: than the other, or than every other.
    Faster,
    /// No measurable difference: to the other, or to the fastest.
    Level,
    /// Measurably slower: than the other, or than anybody.
    Slower,
    /// The machine was not quiet, or there are too few runs for a verdict.
    Noisy,
    Failed,
}

/// How often it was met.
pub fn count(verdicts: &[Verdict], wanted: Verdict) -> usize {
    verdicts.iter().filter(|v| **v == wanted).count()
}

#[derive(Debug)]
pub struct Entry<'a> {
    pub case: &'a CaseResult,
    /// Seconds per operation of the median run.
    pub time: Option<f64>,
    /// Seconds per operation of each run.
    pub times: Vec<f64>,
    /// Speed relative to system malloc, by the measurement's measure.
    pub ratio: Option<Ratio>,
    /// What that ratio means; nothing for system malloc itself and the floor.
    pub verdict: Option<Verdict>,
    /// How it stands to all others; nothing for the floor, and where there are no others.
    pub place: Option<Verdict>,
    /// The most KiB resident.
    pub peak_kib: Option<f64>,
}

#[derive(Debug)]
pub struct Group<'a> {
    /// Its anchor in the page.
    pub id: String,
    pub name: &'a str,
    /// Its parameters in words.
    pub title: String,
    pub series: Series,
    pub measure: Measure,
    /// Why it does not count, if it does not.
    pub noise: Option<String>,
    /// Its allocators, in the order of the file.
    pub entries: Vec<Entry<'a>>,
    /// The floor's seconds per operation.
    pub floor: Option<f64>,
}

impl Entry<'_> {
    pub fn name(&self) -> &str {
        &self.case.allocator
    }

    pub fn is_floor(&self) -> bool {
        self.name() == FLOOR
    }

    /// What the workload notes beside its speed, if it does, with its unit.
    pub fn figure(&self) -> Option<(Summary, &'static String)> {
        let all: Vec<f64> = self.case.runs.iter().filter_map(|r| r.figure).collect();
        let found = Summary::of(&all).filter(|s| s.max.is_finite() && s.min >= 0.0)?;
        Some((found, workloads::find(&self.case.spec.workload)?.figure.as_ref()?))
    }
}

impl<'a> Group<'a> {
    /// Seconds per operation above the floor; nothing where the floor did not run.
    pub fn above_floor(&self, entry: &Entry) -> Option<f64> {
        Some((entry.time? - self.floor?).max(0.0)).filter(|_| !entry.is_floor())
    }

    pub fn entry(&self, allocator: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|e| e.name() == allocator)
    }

    /// Peak memory of an allocator relative to the median of all others that are ranked.
    pub fn peak_to_others(&self, allocator: &str) -> Option<f64> {
        let own = self.entry(allocator)?.peak_kib?;
        let others = self.entries.iter().filter(|e| !e.is_floor() && e.name() != allocator);
        let others: Vec<f64> = others.filter_map(|e| e.peak_kib).collect();
        Some(own / median(&others)?)
    }

    pub fn words(&self) -> String {
        format!("{} {}, {}", self.name, self.title, self.series)
    }

    /// How often it was measured, and by which time it is judged.
    pub fn how(&self) -> String {
        let runs = self.entries.iter().map(|e| e.case.runs.len()).max().unwrap_or(0);
        format!("{} each, by {}", text::counted(runs, "run"), self.measure.words())
    }

    /// The head of a row with its mark where it does not count, and with its time where that is another than most rows'.
    pub fn marked(&self, head: &str) -> String {
        let noisy = if self.noise.is_some() { "~ " } else { "" };
        format!("{noisy}{head}{}", if self.measure == Measure::Processor { " (processor time)" } else { "" })
    }
}

/// All measurements of a file that have a run or a failure, in its order.
pub fn groups(results: &Results) -> Vec<Group<'_>> {
    let mut cases: Vec<Vec<&CaseResult>> = Vec::new();
    for case in results.results.iter().filter(|c| !c.runs.is_empty() || !c.failures.is_empty()) {
        match cases.iter_mut().find(|g| g[0].spec == case.spec && g[0].series == case.series) {
            Some(group) => group.push(case),
            None => cases.push(vec![case]),
        }
    }
    cases.iter().enumerate().map(|(i, cases)| group(i, cases, results.noise_bound)).collect()
}

/// The allocators of a file: system malloc, ours, the others in the order of the file, the floor last.
pub fn allocators(groups: &[Group]) -> Vec<String> {
    let names = groups.iter().flat_map(|g| &g.entries).map(|e| e.name().to_owned()).unique();
    let order = |name: &String| match name.as_str() {
        BASE => 0,
        OURS => 1,
        FLOOR => 3,
        _ => 2,
    };
    names.sorted_by_key(order).collect()
}

/// The same without the floor.
pub fn ranked(groups: &[Group]) -> Vec<String> {
    allocators(groups).into_iter().filter(|n| n != FLOOR).collect()
}

fn group<'a>(index: usize, cases: &[&'a CaseResult], bound: f64) -> Group<'a> {
    let (measure, noise) = measure_of(cases, bound);
    let mut entries: Vec<Entry> = cases.iter().map(|case| entry(case, cases, measure)).collect();
    judge(&mut entries, measure, noise.is_some());
    let floor = entries.iter().find(|e| e.is_floor()).and_then(|e| e.time);
    Group {
        id: format!("m{}", index + 1),
        name: &cases[0].spec.workload,
        title: workloads::label(&cases[0].spec),
        series: cases[0].series,
        measure,
        noise,
        floor,
        entries,
    }
}

/// Elapsed time where the gauge held still in it, else processor time, else a reason why neither counts.
fn measure_of(cases: &[&CaseResult], bound: f64) -> (Measure, Option<String>) {
    let ranked = || cases.iter().filter(|c| c.allocator != FLOOR && !c.runs.is_empty());
    let Some(gauge) = ranked().find(|c| c.allocator == BASE).or_else(|| ranked().next()) else {
        return (Measure::Elapsed, None);
    };
    let noise = |measure: Measure| {
        let speeds: Vec<f64> = measure.speeds(gauge).iter().map(|s| s.1).collect();
        noise::describe(&gauge.allocator, &speeds, bound)
    };
    let Some(why) = noise(Measure::Elapsed) else { return (Measure::Elapsed, None) };
    let measured = ranked().all(|c| Measure::Processor.speeds(c).len() == c.runs.len());
    match measured && noise(Measure::Processor).is_none() {
        true => (Measure::Processor, None),
        false => (Measure::Elapsed, Some(why)),
    }
}

fn entry<'a>(case: &'a CaseResult, cases: &[&'a CaseResult], measure: Measure) -> Entry<'a> {
    let times: Vec<f64> = case.values(|r| Some(1.0 / r.ops_per_sec)).iter().map(|v| v.1).collect();
    let base = cases.iter().find(|c| c.allocator == BASE && case.allocator != BASE && case.allocator != FLOOR);
    Entry {
        case,
        time: median(&times),
        times,
        ratio: base.and_then(|base| ratio(&measure.speeds(case), &measure.speeds(base))),
        verdict: None,
        place: None,
        peak_kib: case.middle(|r| r.max_rss_kib as f64).filter(|kib| *kib > 0.0),
    }
}

/// First is who is measurably faster than every other; level is whom nobody measurably beats.
fn judge(entries: &mut [Entry], measure: Measure, noisy: bool) {
    let has_base = entries.iter().any(|e| e.name() == BASE && e.time.is_some());
    let ranked: Vec<usize> =
        (0..entries.len()).filter(|&i| !entries[i].is_floor() && entries[i].time.is_some()).collect();
    let speeds: Vec<Vec<(usize, f64)>> = entries.iter().map(|e| measure.speeds(e.case)).collect();
    let beats = |a: usize, b: usize| is_more(&speeds[a], &speeds[b]);
    let few = |i: usize| noisy || speeds[i].len() < LEAST_PAIRS;
    let place = |i: usize| {
        let others = || ranked.iter().copied().filter(|&o| o != i);
        match i {
            i if !ranked.contains(&i) => Verdict::Failed,
            i if few(i) => Verdict::Noisy,
            i if others().any(|o| beats(o, i)) => Verdict::Slower,
            i if others().all(|o| beats(i, o)) => Verdict::Faster,
            _ if others().all(few) => Verdict::Noisy,
            _ => Verdict::Level,
        }
    };
    let others = entries.iter().filter(|e| !e.is_floor()).count() > 1;
    let places: Vec<Option<Verdict>> =
        (0..entries.len()).map(|i| (others && !entries[i].is_floor()).then(|| place(i))).collect();
    for (entry, place) in entries.iter_mut().zip(places) {
        entry.place = place;
        entry.verdict = (has_base && entry.name() != BASE && !entry.is_floor()).then(|| match entry.ratio {
            None if entry.time.is_none() => Verdict::Failed,
            None => Verdict::Noisy,
            Some(r) if noisy || r.pairs < LEAST_PAIRS => Verdict::Noisy,
            Some(r) if !r.is_difference() => Verdict::Level,
            Some(r) if r.value > 1.0 => Verdict::Faster,
            Some(_) => Verdict::Slower,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{case, results, spec};

    const WARM: Series = Series::Warm;

    fn steady(v: f64) -> Vec<f64> {
        [1.0, 1.01, 0.99, 1.005, 0.995].map(|f| v * f).to_vec()
    }

    #[test]
    fn places_and_verdicts_follow_the_intervals() {
        use Verdict::{Failed, Faster, Level, Slower};
        let (ten, twenty) = (steady(10.0), steady(20.0));
        let alone = [
            ("system", ten.clone(), (Some(Slower), None)),
            ("hakmem", twenty.clone(), (Some(Faster), Some(Faster))),
            ("jemalloc", vec![9.0, 13.0, 10.0, 8.0, 12.0], (Some(Slower), Some(Level))),
            ("rpmalloc", steady(5.0), (Some(Slower), Some(Slower))),
            ("broken", Vec::new(), (Some(Failed), Some(Failed))),
            ("null", steady(100.0), (None, None)),
        ];
        // First is only who beats every other.
        let together = [
            ("system", ten, (Some(Slower), None)),
            ("hakmem", twenty, (Some(Level), Some(Faster))),
            ("snmalloc", vec![20.1, 19.8, 20.2, 19.9, 20.0], (Some(Level), Some(Faster))),
        ];
        for rows in [&alone[..], &together] {
            let mut cases: Vec<_> = rows.iter().map(|r| case(&spec("pair"), r.0, WARM, &r.1)).collect();
            cases.iter_mut().filter(|c| c.runs.is_empty()).for_each(|c| c.add(0, Err("crashed".to_owned())));
            let file = results(cases);
            let group = &groups(&file)[0];
            for (name, _, wanted) in rows {
                assert_eq!(group.entry(name).map(|e| (e.place, e.verdict)), Some(*wanted), "{name}");
            }
            let above = group.above_floor(group.entry("hakmem").unwrap());
            assert!(above.is_none_or(|above| (above - 40e-9).abs() < 1e-12));
        }
    }

    #[test]
    fn a_noisy_row_is_judged_by_processor_time_or_not_at_all() {
        let pair = spec("pair");
        let noisy = [10.0, 20.0, 5.0, 18.0, 6.0, 12.0];
        let mut cases = vec![case(&pair, "system", WARM, &noisy), case(&pair, "hakmem", WARM, &noisy)];
        {
            let file = results(cases.clone());
            let groups = groups(&file);
            assert!(groups[0].noise.as_ref().unwrap().contains("spread") && groups[0].marked("row") == "~ row");
            let hakmem = groups[0].entry("hakmem").unwrap();
            assert_eq!((hakmem.verdict, hakmem.place), (Some(Verdict::Noisy), Some(Verdict::Noisy)));
        }
        // The same runs took the same processor time each: ours half of it.
        for (case, cpu) in cases.iter_mut().zip([0.2, 0.1]) {
            case.runs.iter_mut().for_each(|r| r.user_secs = cpu);
        }
        let file = results(cases);
        let groups = groups(&file);
        assert_eq!((groups[0].measure, &groups[0].noise), (Measure::Processor, &None));
        assert_eq!(groups[0].marked("row"), "row (processor time)");
        let hakmem = groups[0].entry("hakmem").unwrap();
        assert_eq!((hakmem.ratio.unwrap().value, hakmem.verdict), (2.0, Some(Verdict::Faster)));
    }
}
