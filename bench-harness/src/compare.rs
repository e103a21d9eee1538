//! Results files after the fact: two of them against each other, and one as Markdown.

use std::path::PathBuf;

use clap::Args;

use crate::fail::Fail;
use crate::output;
use crate::record::CaseResult;
use crate::stats::{Ratio, Summary, median, ratio};
use crate::table::{self, short};

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

/// Markdown tables, one per workload and series.
pub fn markdown(results: &[CaseResult]) -> String {
    let mut text = String::new();
    for group in table::groups(results) {
        let first = group[0];
        text += &format!(
            "\n**{}** {}, {}\n\n",
            first.spec.name(),
            first.spec.title(),
            first.series
        );
        text += "| allocator | M ops/s (min–max) | ratio to system [95 %] | page faults | RSS MiB |\n|---|---|---|---|---|\n";
        for case in &group {
            let speeds: Vec<f64> = case.runs.iter().map(|r| r.ops_per_sec / 1e6).collect();
            let Some(s) = Summary::of(&speeds) else {
                let why = case.failures.first().map_or("no run", |f| &f.error);
                text += &format!(
                    "| {} | failed: {} | | | |\n",
                    cell(&case.allocator),
                    cell(why)
                );
                continue;
            };
            let middle = |of: fn(&crate::record::Run) -> f64| {
                median(&case.runs.iter().map(of).collect::<Vec<_>>()).unwrap_or(0.0)
            };
            let ratio = match table::ratio_to_base(case, &group) {
                Some(r) if case.allocator != table::BASE => {
                    let mark = if r.is_difference() {
                        ""
                    } else {
                        ", no difference"
                    };
                    format!("{:.2} [{:.2}–{:.2}{mark}]", r.value, r.low, r.high)
                }
                _ => "1".to_owned(),
            };
            let lost = match case.failures.len() {
                0 => String::new(),
                n => format!(", {n} of {} runs failed", n + case.runs.len()),
            };
            text += &format!(
                "| {} | {} ({}–{}){lost} | {ratio} | {:.0} | {:.1} |\n",
                cell(&case.allocator),
                short(s.median),
                short(s.min),
                short(s.max),
                middle(|r| r.minor_faults_timed as f64),
                middle(|r| r.max_rss_kib as f64 / 1024.0),
            );
        }
    }
    text
}

/// Text that stays within one cell of a Markdown table.
fn cell(text: &str) -> String {
    crate::fail::one_line(text)
        .replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Run, Series};
    use crate::workloads::Spec;

    fn case(allocator: &str, speeds: &[f64]) -> CaseResult {
        CaseResult {
            spec: Spec::report_cases().remove(0),
            allocator: allocator.to_owned(),
            series: Series::Warm,
            runs: speeds
                .iter()
                .map(|&s| Run {
                    ops_per_sec: s * 1e6,
                    ..Run::default()
                })
                .collect(),
            rounds: (0..speeds.len()).collect(),
            failures: Vec::new(),
            instructions_per_op: None,
            latency: None,
        }
    }

    #[test]
    fn a_busier_machine_is_no_regression() {
        let old = [
            case("system", &[10.0, 10.0, 10.0]),
            case("hakmem", &[20.0, 20.0, 20.0]),
        ];
        let new = [
            case("system", &[5.0, 5.0, 5.0]),
            case("hakmem", &[10.0, 10.0, 10.0]),
        ];
        let lines = lines(&old, &new, "hakmem");
        assert_eq!(
            (lines.len(), lines[0].change.value, lines[0].verdict(0.05)),
            (1, 1.0, "no difference")
        );
    }

    #[test]
    fn a_regression_is_one_and_its_bound_counts() {
        let old = [case("hakmem", &[20.0, 20.0, 20.0])];
        let new = [case("hakmem", &[18.0, 18.0, 18.0])];
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
        let old = [case("hakmem", &[20.0, 20.0, 20.0])];
        let mut new = [case("hakmem", &[])];
        assert!(failed(&old, &new, "hakmem").is_empty());
        new[0].failures.push(failure("crashed: signal 11"));
        assert_eq!(failed(&old, &new, "hakmem").len(), 1);
        assert!(failed(&new, &new, "hakmem").is_empty());
    }

    #[test]
    fn markdown_names_failures_and_keeps_its_columns() {
        let mut partly = case("hakmem", &[20.0, 24.0]);
        partly.failures.push(failure("hung"));
        let mut wholly = case("null", &[]);
        wholly.failures.push(failure("a | b\nc <i>"));
        let text = markdown(&[partly, wholly]);
        assert!(
            text.contains("(20.0–24.0), 1 of 3 runs failed | "),
            "{text}"
        );
        assert!(
            text.contains("| null | failed: a \\| b c &lt;i> | | | |"),
            "{text}"
        );
    }

    #[test]
    fn markdown_has_a_row_per_allocator() {
        let text = markdown(&[
            case("system", &[10.0, 12.0, 11.0]),
            case("hakmem", &[20.0, 24.0, 22.0]),
            case("null", &[]),
        ]);
        assert!(
            text.contains("| hakmem | 22.0 (20.0–24.0) | 2.00 [2.00–2.00] | 0 | 0.0 |"),
            "{text}"
        );
        assert!(text.contains("| null | failed: no run | | | |"), "{text}");
    }
}
