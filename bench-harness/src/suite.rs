//! The plans behind `all`: every workload at its default size, in ninety seconds, or thoroughly.
//!
//! The table of workloads says which sizes are in which plan and what one run takes on a machine of 2 GHz; what the machine
//! at hand makes of it is found out by a short calibration.

use std::time::{Duration, Instant};

use bench_subject::record::{Order, Series};
use bench_subject::spec::Spec;
use bench_subject::table::WORKLOADS;
use bench_subject::workload::{When, Workload};

use crate::fail::Fail;
use crate::plan::{Entry, Plan};
use crate::results::BASE;
use crate::stats::LEAST_PAIRS;
use crate::{progress, runner};

/// Seconds after which `--quick` starts no further run; what follows is the table.
pub const QUICK_LIMIT: f64 = 78.0;

/// Seconds its runs are planned to take.
const QUICK_BUDGET: f64 = 62.0;

const FULL_RUNS: usize = 7;

/// What one start of a process takes, whatever is done in it, in seconds.
const START_SECS: f64 = 0.006;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Default,
    /// At most ninety seconds.
    Quick,
    /// At most some hours.
    Full,
}

/// What the user wishes of a plan; nothing where it is left to the plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    pub series: Option<&'a [Series]>,
    pub runs: Option<usize>,
    pub only: &'a [String],
}

/// The workloads of these names, or all of them.
pub fn chosen(names: &[String]) -> Result<impl Iterator<Item = &'static Workload>, Fail> {
    if let Some(unknown) = names.iter().find(|n| bench_subject::table::find(n).is_none()) {
        let known = WORKLOADS.iter().map(|w| w.name).collect::<Vec<_>>().join(", ");
        return Err(Fail::usage(format!("unknown workload {unknown:?}: expected any of {known}")));
    }
    Ok(WORKLOADS.iter().copied().filter(move |w| names.is_empty() || names.iter().any(|n| n == w.name)))
}

pub fn entries(extent: Extent, wish: Wish) -> Result<Vec<Entry>, Fail> {
    let mut entries = Vec::new();
    for row in chosen(wish.only)? {
        let wished = |s: &Series| row.series.contains(s) && wish.series.is_none_or(|w| w.contains(s));
        let mut add = |words: &str, all: &[Series], runs: usize, secs: Option<f64>| {
            let spec = Spec::of(row, words).map_err(Fail::run)?;
            let series: Vec<Series> = all.iter().copied().filter(wished).collect();
            if !series.is_empty() {
                entries.push(Entry { spec, series, runs: wish.runs.unwrap_or(runs), secs });
            }
            Ok(())
        };
        if extent == Extent::Default {
            add("", row.series, 5, None)?;
            continue;
        }
        let when = if extent == Extent::Quick { When::Quick } else { When::Full };
        for size in row.sizes.iter().filter(|s| s.when == when) {
            // In a minute there is no time for more than one series, unless it is asked for.
            let one = extent == Extent::Quick && wish.series.is_none();
            let series = if one { &size.series[..1] } else { size.series };
            let most = if extent == Extent::Quick { LEAST_PAIRS } else { FULL_RUNS };
            add(size.words, series, most.min(size.most), Some(size.secs))?;
        }
    }
    if entries.is_empty() {
        return Err(Fail::usage("nothing is left to measure: no workload of this plan has the series asked for"));
    }
    Ok(entries)
}

/// Seconds the runs of these entries take on a machine that takes `factor` times as long as the one of the table.
pub fn expected_secs(entries: &[Entry], allocators: &[String], factor: f64) -> f64 {
    let one = |e: &Entry, series: Series| {
        let aged = if series == Series::Aged { 0.15 } else { 0.0 };
        (e.secs.unwrap_or(0.5) + aged) * factor + START_SECS
    };
    let of = |e: &Entry| -> f64 {
        let runs = |series: Series| allocators.iter().filter(|a| e.takes(a, series, false)).count() * e.runs;
        e.series.iter().map(|&s| one(e, s) * runs(s) as f64).sum()
    };
    entries.iter().map(of).sum()
}

/// Cuts the timed parts, then the rounds, until `--quick` fits its budget on this machine.
pub fn cut(entries: &mut [Entry], allocators: &[String], factor: f64) {
    const LEAST_SHARE: f64 = 0.05;
    let over = expected_secs(entries, allocators, factor) / QUICK_BUDGET;
    if over > 1.0 {
        let share = (1.0 / over).max(LEAST_SHARE);
        entries.iter_mut().for_each(|e| e.scale(share));
    }
    while expected_secs(entries, allocators, factor) > QUICK_BUDGET && entries.iter().any(|e| e.runs > 1) {
        entries.iter_mut().for_each(|e| e.runs = (e.runs - 1).max(1));
    }
}

/// What the calibrating run takes on the machine of the table, in seconds.
const CALIBRATION_SECS: f64 = 0.025;

/// How many times as long this machine takes as the one of the table, as it is loaded now: the best of three short runs.
pub fn calibrate() -> f64 {
    let Ok(spec) = Spec::parse(&["pair", "48", "2000000"], |_| None) else { return 1.0 };
    let order = Order { spec, series: Series::Warm };
    let one = |_| {
        let start = Instant::now();
        let outcome = runner::run(BASE, &order, Duration::from_secs(10), &[]);
        outcome.run.is_ok().then(|| start.elapsed().as_secs_f64() / CALIBRATION_SECS)
    };
    let best = (0..3).filter_map(one).fold(f64::INFINITY, f64::min);
    if best.is_finite() { best } else { 1.0 }
}

/// The line that says what is to come.
pub fn estimate(plan: &Plan, jobs: usize, expected: Duration, factor: f64) -> String {
    format!(
        "estimate: {} for {jobs} runs ({} measurements, {} allocators; this machine takes {factor:.1} times as long as the \
         reference)\n",
        progress::in_words(expected),
        plan.entries.iter().map(|e| e.series.len()).sum::<usize>(),
        plan.allocators.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        ["system", "hakmem", "a", "b", "c", "d", "e"][..n].iter().map(|&s| s.to_owned()).collect()
    }

    #[test]
    fn quick_fits_its_budget_on_any_machine() {
        for allocators in [names(2), names(7)] {
            for factor in [0.5, 1.0, 4.0, 20.0] {
                let mut plan = entries(Extent::Quick, Wish::default()).unwrap();
                cut(&mut plan, &allocators, factor);
                let secs = expected_secs(&plan, &allocators, factor);
                let least = plan.iter().all(|e| e.runs == 1);
                assert!(secs <= QUICK_BUDGET || least, "{} allocators, {factor}: {secs} s", allocators.len());
                plan.iter().for_each(|e| e.spec.check().unwrap());
            }
        }
        let mut plan = entries(Extent::Quick, Wish::default()).unwrap();
        cut(&mut plan, &names(2), 1.0);
        assert!(plan.iter().any(|e| e.runs == LEAST_PAIRS), "a usual machine has enough rounds for a verdict");
    }

    #[test]
    fn wishes_are_heeded() {
        let only = ["pair".to_owned(), "cold-start".to_owned()];
        let wish = |series, only| Wish { series: Some(series), runs: Some(2), only };
        let some = entries(Extent::Full, wish(&[Series::Warm], &only)).unwrap();
        assert!(some.iter().all(|e| e.spec.workload == "pair" && e.runs == 2 && e.series == [Series::Warm]));
        let aged = entries(Extent::Quick, wish(&[Series::Aged], &[])).unwrap();
        assert!(aged.len() > 15 && aged.iter().all(|e| e.series == [Series::Aged]));
        let unknown = entries(Extent::Quick, Wish { only: &["nosuch".to_owned()], ..Wish::default() }).unwrap_err();
        assert!(unknown.line.contains("unknown workload \"nosuch\""), "{unknown}");
        let none = entries(Extent::Full, wish(&[Series::Warm], &only[1..])).unwrap_err();
        assert!(none.line.starts_with("nothing is left"), "{none}");
    }
}
