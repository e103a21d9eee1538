//! Two results files against each other.

use std::path::PathBuf;

use clap::Args;

use crate::fail::Fail;
use crate::output;
use crate::record::CaseResult;
use crate::stats::{Ratio, median, ratio};
use crate::table;

/// What compare is asked.
#[derive(Debug, Args)]
pub struct Compare {
    /// The older results
    pub old: PathBuf,
    /// The newer results
    pub new: PathBuf,
    /// The allocator to look at
    #[arg(long, default_value = "hakmem")]
    pub allocator: String,
    /// Per cent by which the new one may be slower
    #[arg(long, default_value_t = 5.0)]
    pub bound: f64,
}

/// Prints the comparison; fails with code 1 when anything became slower beyond the bound.
///
/// Each side is taken relative to system malloc's runs of the same file where both have them, so that a machine that was
/// busier on one day is not taken for a slower allocator.
pub fn run(compare: &Compare) -> Result<(), Fail> {
    if !(0.0..100.0).contains(&compare.bound) {
        return Err(Fail::usage(format!(
            "--bound {}: expected 0 to 100",
            compare.bound
        )));
    }
    let (old, new) = (output::read(&compare.old)?, output::read(&compare.new)?);
    let lines = lines(&old.results, &new.results, &compare.allocator);
    let failed = failed(&old.results, &new.results, &compare.allocator);
    if lines.is_empty() && failed.is_empty() {
        return Err(Fail::usage(format!(
            "the two files share no measurement of {}",
            compare.allocator
        )));
    }
    for title in &failed {
        println!("{title:<60} FAILED in every run of the new file");
    }
    let mut slower = 0;
    for line in &lines {
        let verdict = line.verdict(compare.bound / 100.0);
        slower += usize::from(verdict == "SLOWER");
        println!(
            "{:<60} {:>5.2}× [{:.2}–{:.2}] {verdict}",
            line.title, line.change.value, line.change.low, line.change.high
        );
    }
    if !failed.is_empty() {
        return Err(Fail::run(format!(
            "{} of {} measurements failed in the new file, {slower} are slower by more than {} %",
            failed.len(),
            lines.len() + failed.len(),
            compare.bound
        )));
    }
    if slower > 0 {
        return Err(Fail::run(format!(
            "{slower} of {} measurements are slower by more than {} %",
            lines.len(),
            compare.bound
        )));
    }
    Ok(())
}

/// How one measurement changed from the old file to the new one.
#[derive(Debug)]
struct Line {
    title: String,
    change: Ratio,
}

impl Line {
    fn verdict(&self, bound: f64) -> &'static str {
        match self.change {
            // Both the best guess and the whole interval must say so.
            c if c.value < 1.0 - bound && c.high < 1.0 => "SLOWER",
            c if c.value > 1.0 + bound && c.low > 1.0 => "faster",
            _ => "no difference",
        }
    }
}

fn lines(old: &[CaseResult], new: &[CaseResult], allocator: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for case in new.iter().filter(|c| c.allocator == allocator) {
        let Some(before) = find(old, case, allocator) else {
            continue;
        };
        let Some(change) = ratio(&relative(new, case), &relative(old, before)) else {
            continue;
        };
        lines.push(Line {
            title: title(case),
            change,
        });
    }
    lines
}

/// Measurements that gave figures before and now give none.
fn failed(old: &[CaseResult], new: &[CaseResult], allocator: &str) -> Vec<String> {
    let gave = |case: &CaseResult| !case.runs.is_empty();
    new.iter()
        .filter(|c| c.allocator == allocator && !gave(c) && !c.failures.is_empty())
        .filter(|c| find(old, c, allocator).is_some_and(gave))
        .map(title)
        .collect()
}

fn title(case: &CaseResult) -> String {
    format!(
        "{} {}, {}",
        case.spec.name(),
        case.spec.title(),
        case.series
    )
}

fn find<'a>(
    results: &'a [CaseResult],
    like: &CaseResult,
    allocator: &str,
) -> Option<&'a CaseResult> {
    results
        .iter()
        .find(|c| c.spec == like.spec && c.series == like.series && c.allocator == allocator)
}

/// Throughputs of a case, divided by the median of the base's in the same file.
fn relative(results: &[CaseResult], case: &CaseResult) -> Vec<(usize, f64)> {
    let base = find(results, case, table::BASE).filter(|b| b.allocator != case.allocator);
    let base = base.and_then(|b| median(&b.runs.iter().map(|r| r.ops_per_sec).collect::<Vec<_>>()));
    let base = base.unwrap_or(1.0);
    table::throughputs(case)
        .into_iter()
        .map(|(round, v)| (round, v / base))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busier_machine_is_no_regression() {
        let old = [
            CaseResult::at_speeds("system", &[10.0, 10.0, 10.0]),
            CaseResult::at_speeds("hakmem", &[20.0, 20.0, 20.0]),
        ];
        let new = [
            CaseResult::at_speeds("system", &[5.0, 5.0, 5.0]),
            CaseResult::at_speeds("hakmem", &[10.0, 10.0, 10.0]),
        ];
        let lines = lines(&old, &new, "hakmem");
        assert_eq!(
            (lines.len(), lines[0].change.value, lines[0].verdict(0.05)),
            (1, 1.0, "no difference")
        );
    }

    #[test]
    fn a_regression_is_one_and_its_bound_counts() {
        let old = [CaseResult::at_speeds("hakmem", &[20.0, 20.0, 20.0])];
        let new = [CaseResult::at_speeds("hakmem", &[18.0, 18.0, 18.0])];
        let found = lines(&old, &new, "hakmem");
        assert_eq!(
            (found[0].verdict(0.05), found[0].verdict(0.2)),
            ("SLOWER", "no difference")
        );
        assert_eq!(lines(&new, &old, "hakmem")[0].verdict(0.05), "faster");
        assert!(lines(&old, &new, "system").is_empty());
    }

    fn failure(error: &str) -> crate::record::Failure {
        crate::record::Failure {
            round: 0,
            error: error.to_owned(),
        }
    }

    #[test]
    fn what_fails_now_is_no_silence() {
        let old = [CaseResult::at_speeds("hakmem", &[20.0, 20.0, 20.0])];
        let mut new = [CaseResult::at_speeds("hakmem", &[])];
        assert!(failed(&old, &new, "hakmem").is_empty());
        new[0].failures.push(failure("crashed: signal 11"));
        assert_eq!(failed(&old, &new, "hakmem").len(), 1);
        assert!(failed(&new, &new, "hakmem").is_empty());
    }
}
