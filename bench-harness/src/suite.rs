//! The plans behind `all`: every workload at its default size, in a minute, or as thoroughly as an hour allows.
//!
//! Each line is the command of one workload, its series, and what one run takes, the start of the process included, as
//! seen on the reference machine (2 cores of a Xeon at 2 GHz, system malloc). The seconds only serve the estimate and
//! the number of rounds of `--quick`; what the machine at hand makes of them is found out by a short calibration.

use std::time::{Duration, Instant};

use crate::fail::Fail;
use crate::plan::{Entry, Plan};
use crate::record::{Order, Series};
use crate::runner::Launcher;
use crate::workloads::Spec;

/// One line of a suite.
struct Line {
    words: &'static str,
    series: &'static [Series],
    secs: f64,
    /// The most rounds; some tell all they have in one.
    most: usize,
}

const fn line(words: &'static str, series: &'static [Series], secs: f64) -> Line {
    Line {
        words,
        series,
        secs,
        most: usize::MAX,
    }
}

/// A line of at most so many rounds.
const fn at_most(most: usize, line: Line) -> Line {
    Line { most, ..line }
}

const WARM: &[Series] = &[Series::Warm];
const COLD: &[Series] = &[Series::Cold];
const BOTH: &[Series] = &[Series::Warm, Series::Cold];

/// About a second of runs per allocator and round. What is about first touch or about memory over time has a cold series
/// only, what is about the steady state a warm one.
const QUICK: &[Line] = &[
    line("random-mixed 2000000 256 42", BOTH, 0.04),
    line("random-mixed 2000000 8192 42", BOTH, 0.06),
    line("pair 48 4000000", WARM, 0.05),
    line("batch 50000 64 40", WARM, 0.05),
    line("replace 100000 500000", WARM, 0.1),
    line("huge 150", WARM, 0.07),
    line("producer-consumer 500000", WARM, 0.06),
    line("hand-over 2 1000 20000 40", WARM, 0.08),
    line("larson 2 1000 30000 30", WARM, 0.08),
    line("burst 10000 8", WARM, 0.09),
    line("thread-churn 300", WARM, 0.08),
    line("cache-sets 60 16 1000000", WARM, 0.05),
    line("false-sharing passive 100000", WARM, 0.04),
    line("false-sharing active 100000", WARM, 0.05),
    line("grow-vec 128", COLD, 0.1),
    line("huge-loop 20", WARM, 0.15),
    line("fragmentation 8", COLD, 0.2),
    line("program-json 0.03", WARM, 0.08),
    line("program-regex 0.03", WARM, 0.08),
    line("program-index 0.03", WARM, 0.08),
    line("program-image 0.03", WARM, 0.08),
    line("program-server 0.03", WARM, 0.08),
    line("program-store 0.03", WARM, 0.08),
    line("cold-start", COLD, 0.01),
    at_most(1, line("idle-return 32 1", COLD, 1.1)),
];

/// Runs of half a second or so, at the sizes the figures in the README are asked at.
const FULL: &[Line] = &[
    line("random-mixed 20000000 256 42", BOTH, 0.34),
    line("random-mixed 20000000 8192 42", BOTH, 0.5),
    line("random-mixed 1000000 256 42", BOTH, 0.03),
    line("random-mixed 10000000 8192 1234567", WARM, 0.26),
    line("pair 48 20000000", WARM, 0.22),
    line("pair 48 20000000 --threads 2", WARM, 0.25),
    line("batch 50000 64 300 --order fifo", BOTH, 0.27),
    line("batch 50000 64 300 --order lifo", WARM, 0.27),
    line("batch 50000 64 200 --order random", WARM, 0.3),
    line("replace 1000000 4000000", BOTH, 1.2),
    line("huge 1000", WARM, 0.35),
    line("producer-consumer 5000000", BOTH, 0.46),
    line(
        "producer-consumer 5000000 --min-size 64 --max-size 64",
        WARM,
        0.4,
    ),
    line("hand-over 2 1000 50000 60", WARM, 0.25),
    line("hand-over 8 1000 50000 40", WARM, 0.33),
    line("hand-over 2 1000 50000 60 --mode ring", WARM, 0.22),
    line("larson 2 1000 100000 40", WARM, 0.3),
    line("burst 50000 10", BOTH, 0.48),
    line("thread-churn 1000", WARM, 0.25),
    line("cache-sets", WARM, 0.15),
    line("false-sharing passive 300000", WARM, 0.1),
    line("false-sharing active 300000", WARM, 0.12),
    line("grow-vec 1024", BOTH, 1.8),
    line("huge-loop 50", WARM, 0.5),
    at_most(5, line("fragmentation 64", COLD, 1.6)),
    at_most(5, line("program-json", WARM, 1.8)),
    at_most(5, line("program-regex", WARM, 1.6)),
    at_most(5, line("program-index", WARM, 1.8)),
    at_most(5, line("program-image", WARM, 1.6)),
    at_most(5, line("program-server", WARM, 0.9)),
    at_most(5, line("program-store", WARM, 2.2)),
    line("cold-start", COLD, 0.01),
    at_most(2, line("idle-return 128 5", COLD, 5.4)),
];

/// Seconds `--quick` is meant to take.
const QUICK_BUDGET: f64 = 55.0;

/// Rounds of `--full`.
const FULL_RUNS: usize = 7;

/// What `all` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every workload at its default size.
    Default,
    /// About a minute.
    Quick,
    /// At most an hour.
    Full,
}

/// The entries of a suite. `series` and `runs` are the user's wish where there is one; `only` names workloads, none
/// standing for all.
pub fn entries(
    extent: Extent,
    allocators: usize,
    series: Option<&[Series]>,
    runs: Option<usize>,
    only: &[String],
) -> Result<Vec<Entry>, Fail> {
    let names = crate::workloads::WorkloadCommand::names();
    if let Some(unknown) = only.iter().find(|n| !names.contains(n)) {
        return Err(Fail::usage(format!(
            "--only: unknown workload {unknown:?}: expected any of {}",
            names.join(", ")
        )));
    }
    let wanted = |spec: &Spec| only.is_empty() || only.iter().any(|n| n == spec.name());
    let lines = match extent {
        Extent::Default => {
            let entry = |spec| Entry {
                spec,
                series: series.unwrap_or(BOTH).to_vec(),
                runs: runs.unwrap_or(5),
                secs: None,
            };
            return Ok(Spec::all_cases()
                .into_iter()
                .filter(wanted)
                .map(entry)
                .collect());
        }
        Extent::Quick => QUICK,
        Extent::Full => FULL,
    };
    let rounds = runs.unwrap_or(match extent {
        Extent::Quick => quick_rounds(lines, allocators),
        _ => FULL_RUNS,
    });
    let mut entries = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.words.split(' ').collect();
        let spec = Spec::parse(&words)
            .ok_or_else(|| Fail::run(format!("{:?} is no workload", line.words)))?;
        let series: Vec<Series> = line
            .series
            .iter()
            .copied()
            .filter(|s| series.is_none_or(|wish| wish.contains(s)))
            .collect();
        if series.is_empty() || !wanted(&spec) {
            continue;
        }
        entries.push(Entry {
            spec,
            series,
            runs: runs.unwrap_or(rounds.min(line.most)),
            secs: Some(line.secs),
        });
    }
    if entries.is_empty() {
        return Err(Fail::usage(
            "nothing is left to measure: no workload of this plan has the series asked for",
        ));
    }
    Ok(entries)
}

/// As many rounds as fit into the budget, within reason.
fn quick_rounds(lines: &[Line], allocators: usize) -> usize {
    let of = |repeated: bool| -> f64 {
        lines
            .iter()
            .filter(|l| (l.most == usize::MAX) == repeated)
            .map(|l| l.secs * l.series.len() as f64)
            .sum::<f64>()
            * allocators as f64
    };
    let rounds = (QUICK_BUDGET - of(false)) / of(true);
    (rounds as usize).clamp(3, 15)
}

/// What the calibrating run takes on the reference machine, in seconds.
const CALIBRATION_SECS: f64 = 0.025;

/// How many times as long as the reference machine this one takes, as it is loaded now: the best of three short runs.
pub fn calibrate(launcher: &Launcher) -> f64 {
    let Some(spec) = Spec::parse(&["pair", "48", "2000000"]) else {
        return 1.0;
    };
    let order = Order {
        spec,
        series: Series::Warm,
        settle_ms: None,
    };
    let one = |_| {
        let start = Instant::now();
        let outcome = launcher.run(crate::table::BASE, &order, Duration::from_secs(20));
        outcome
            .run
            .is_ok()
            .then(|| start.elapsed().as_secs_f64() / CALIBRATION_SECS)
    };
    let best = (0..3).filter_map(one).fold(f64::INFINITY, f64::min);
    if best.is_finite() { best } else { 1.0 }
}

/// The line that says what is to come.
pub fn estimate(plan: &Plan, jobs: usize, expected: Duration, factor: f64) -> String {
    let workloads: std::collections::BTreeSet<_> =
        plan.entries.iter().map(|e| e.spec.name()).collect();
    format!(
        "estimate: {} for {jobs} runs ({} cases of {} workloads, {} allocators; this machine takes {factor:.1} times as \
         long as the reference)",
        crate::progress::in_words(expected),
        plan.entries.iter().map(|e| e.series.len()).sum::<usize>(),
        workloads.len(),
        plan.allocators.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_workload_that_can_be_run() {
        for line in QUICK.iter().chain(FULL) {
            let words: Vec<&str> = line.words.split(' ').collect();
            let mut spec =
                Spec::parse(&words).unwrap_or_else(|| panic!("{} does not parse", line.words));
            spec.check().unwrap();
        }
    }

    #[test]
    fn both_suites_hold_every_workload() {
        for extent in [Extent::Quick, Extent::Full] {
            let entries = entries(extent, 2, None, None, &[]).unwrap();
            for name in crate::workloads::WorkloadCommand::names() {
                assert!(
                    entries.iter().any(|e| e.spec.name() == name),
                    "{name} is missing in {extent:?}"
                );
            }
        }
    }

    fn reference_secs(extent: Extent, allocators: usize) -> f64 {
        let entries = entries(extent, allocators, None, None, &[]).unwrap();
        let one = |e: &Entry| e.secs.unwrap() * (e.runs * e.series.len()) as f64;
        entries.iter().map(one).sum::<f64>() * allocators as f64
    }

    #[test]
    fn the_suites_keep_their_time_on_the_reference_machine() {
        for allocators in [2, 3, 8] {
            let secs = reference_secs(Extent::Quick, allocators);
            assert!((25.0..70.0).contains(&secs), "{allocators}: {secs} s");
        }
        let secs = reference_secs(Extent::Full, 8);
        assert!((15.0 * 60.0..30.0 * 60.0).contains(&secs), "{secs} s");
    }

    #[test]
    fn wishes_are_heeded() {
        let only = ["pair".to_owned(), "cold-start".to_owned()];
        let some = entries(Extent::Full, 2, Some(WARM), Some(2), &only).unwrap();
        assert!(
            some.iter()
                .all(|e| e.spec.name() == "pair" && e.runs == 2 && e.series == WARM)
        );
        let error = entries(Extent::Quick, 2, None, None, &["nosuch".to_owned()]).unwrap_err();
        assert!(
            error.line.contains("unknown workload \"nosuch\""),
            "{error}"
        );
        let none = entries(Extent::Full, 2, Some(WARM), None, &only[1..]).unwrap_err();
        assert!(none.line.starts_with("nothing is left"), "{none}");
    }
}
