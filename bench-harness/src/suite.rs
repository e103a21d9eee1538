//! The plans behind `all`: every workload at its default size, in ninety seconds, or thoroughly; and as small as it goes.
//!
//! The table of workloads says which sizes are in which plan and what one run takes on a machine of 2 GHz; what the machine
//! at hand makes of it is found out by a short calibration.

use std::time::{Duration, Instant};

use bench_subject::record::{Order, Series};

use crate::fail::Fail;
use crate::plan::{Entry, cases};
use crate::results::BASE;
use crate::runner;
use crate::stats::LEAST_PAIRS;
use crate::workloads::{self, Size, WORKLOADS};

/// Seconds after which `--quick` starts no further run; what follows is the table.
pub const QUICK_LIMIT: f64 = 78.0;

/// Seconds its runs are planned to take.
const QUICK_BUDGET: f64 = 62.0;

const FULL_RUNS: usize = LEAST_PAIRS;

/// What one start of a process takes, whatever is done in it, in seconds.
const START_SECS: f64 = 0.006;

/// What ageing a heap takes beyond that.
const AGED_SECS: f64 = 0.15;

/// What a run takes where no table says it.
const UNKNOWN_SECS: f64 = 0.5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Default,
    /// At most ninety seconds.
    Quick,
    /// At most some hours.
    Full,
    /// Each once, whatever its speed.
    Smoke,
}

/// The plan, of these workloads or all; of series and runs what is asked for, or what the plan has.
pub fn entries(
    extent: Extent,
    only: &[String],
    asked: Option<&[Series]>,
    runs: Option<usize>,
) -> Result<Vec<Entry>, Fail> {
    if let Some(unknown) = only.iter().find(|n| workloads::find(n).is_none()) {
        let known = WORKLOADS.iter().map(|w| w.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Fail::usage(format!("unknown workload {unknown:?}: expected any of {known}")));
    }
    let mut entries = Vec::new();
    for row in WORKLOADS.iter().filter(|w| only.is_empty() || only.contains(&w.name)) {
        let planned = |words: fn(&Size) -> Option<&String>, most: usize| {
            let size = move |s: &'static Size| {
                let series = s.series.as_ref().unwrap_or(&row.series);
                Some((words(s)?.as_str(), series.as_slice(), most.min(s.rounds.unwrap_or(most)), Some(s.secs)))
            };
            row.sizes.iter().filter_map(size)
        };
        let quick = |most| planned(|s| s.quick.as_ref(), most);
        let sizes: Vec<_> = match extent {
            Extent::Default => vec![("", row.series.as_slice(), 5, None)],
            Extent::Smoke => quick(1).take(1).map(|s| (s.0, row.series.as_slice(), s.2, None)).collect(),
            Extent::Full => planned(|s| s.full.as_ref(), FULL_RUNS).collect(),
            Extent::Quick => quick(LEAST_PAIRS).collect(),
        };
        for (words, mut series, usual, secs) in sizes {
            if extent == Extent::Quick && asked.is_none() {
                // In a minute there is no time for more than one series, unless it is asked for.
                series = &series[..1];
            }
            let wished = series.iter().copied().filter(|s| asked.is_none_or(|a| a.contains(s)));
            let series: Vec<Series> = wished.collect();
            if !series.is_empty() {
                let spec = workloads::of(&format!("{} {words}", row.name)).map_err(Fail::run)?;
                entries.push(Entry { spec, series, runs: runs.unwrap_or(usual), secs });
            }
        }
    }
    match entries.is_empty() {
        true => Err(Fail::usage("nothing is left to measure: no workload of this plan has the series asked for")),
        false => Ok(entries),
    }
}

/// Seconds a run takes on the machine of the table.
pub fn secs(of_table: Option<f64>, series: Series) -> f64 {
    of_table.unwrap_or(UNKNOWN_SECS) + if series == Series::Aged { AGED_SECS } else { 0.0 }
}

/// Seconds the runs of these entries take on a machine that takes `factor` times as long.
fn expected_secs(entries: &[Entry], allocators: &[String], factor: f64) -> f64 {
    let of = |c: &crate::results::CaseResult| c.planned as f64 * (secs(c.secs, c.series) * factor + START_SECS);
    cases(entries, allocators).iter().map(of).sum()
}

/// Cuts the timed parts, then the rounds, until `--quick` fits its budget on this machine: fewer rounds give no verdict.
pub fn cut(entries: &mut [Entry], allocators: &[String], factor: f64) {
    const LEAST_SHARE: f64 = 0.05;
    let too_long = |entries: &[Entry]| expected_secs(entries, allocators, factor) > QUICK_BUDGET;
    let (whole, mut share) = (entries.to_vec(), 1.0);
    while too_long(entries) && share > LEAST_SHARE {
        share *= 0.9;
        entries.clone_from_slice(&whole);
        entries.iter_mut().for_each(|e| e.scale(share));
    }
    while too_long(entries) && entries.iter().any(|e| e.runs > 1) {
        entries.iter_mut().for_each(|e| e.runs = (e.runs - 1).max(1));
    }
}

/// What the calibrating run takes on the machine of the table, in seconds.
const CALIBRATION_SECS: f64 = 0.025;

/// How many times as long this machine takes as the one of the table, as it is loaded now: the best of three short runs.
pub fn calibrate() -> f64 {
    let Ok(spec) = workloads::of("pair 48 2000000") else { return 1.0 };
    let order = Order { spec, series: Series::Warm };
    let one = |_| {
        let start = Instant::now();
        let run = runner::run(BASE, &order, Duration::from_secs(10), &[]);
        run.is_ok().then(|| start.elapsed().as_secs_f64() / CALIBRATION_SECS)
    };
    (0..3).filter_map(one).reduce(f64::min).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_fits_its_budget_on_any_machine() {
        let names = ["system", "hakmem", "a", "b", "c", "d", "e"].map(str::to_owned);
        for allocators in [&names[..2], &names] {
            for factor in [0.5, 1.0, 4.0, 20.0] {
                let mut plan = entries(Extent::Quick, &[], None, None).unwrap();
                cut(&mut plan, allocators, factor);
                let secs = expected_secs(&plan, allocators, factor);
                let least = plan.iter().all(|e| e.runs == 1);
                assert!(secs <= QUICK_BUDGET || least, "{} allocators, {factor}: {secs} s", allocators.len());
                plan.iter().for_each(|e| workloads::check(&e.spec).unwrap());
                let enough = plan.iter().any(|e| e.runs == LEAST_PAIRS);
                // Of a machine as loaded as a shared one is, too, and with all rivals on a usual one.
                let needed = factor <= if allocators.len() > 2 { 1.0 } else { 4.0 };
                assert!(enough || !needed, "{} allocators, {factor}: too few rounds for a verdict", allocators.len());
            }
        }
    }

    #[test]
    fn wishes_are_heeded() {
        let only = ["pair".to_owned(), "cold-start".to_owned()];
        let some = entries(Extent::Full, &only, Some(&[Series::Warm]), Some(2)).unwrap();
        assert!(some.iter().all(|e| e.spec.workload == "pair" && e.runs == 2 && e.series == [Series::Warm]));
        let aged = entries(Extent::Quick, &[], Some(&[Series::Aged]), None).unwrap();
        assert!(aged.len() > 15 && aged.iter().all(|e| e.series == [Series::Aged]));
        let none = entries(Extent::Full, &only[1..], Some(&[Series::Warm]), None).unwrap_err();
        assert!(none.line.starts_with("nothing is left"), "{none}");
    }
}
