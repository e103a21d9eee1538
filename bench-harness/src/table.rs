//! The table on stdout: one block per workload and series, one line per allocator.

use std::fmt::Write;

use crate::record::{CaseResult, Run, Series};
use crate::stats::{Ratio, Summary, median, ratio};

/// The allocator ratios refer to.
pub const BASE: &str = "system";

/// All results as text.
pub fn render(results: &[CaseResult]) -> String {
    let mut text = String::new();
    for group in groups(results) {
        render_group(&mut text, &group);
    }
    text + LEGEND
}

const LEGEND: &str = "\
M (K) ops/s: millions (thousands) of operations per second, the median run with the slowest and the fastest. ratio: that
median divided by system's, with its 95 % interval; \"=\" where the interval includes 1: no difference. by CPU: the ratio per
second of processor time, which other programs disturb less. faults: page faults inside the timed part, and of the whole
process. user, sys: seconds of the timed part. RSS: the most memory resident at a time. warm: prepared before the clock
starts; cold: the clock starts with the very first allocation. instr/op, at rest: what --callgrind and --settle add;
instructions per operation are those above null, whose own are in parentheses.
";

/// How many warnings a table shows; results files have them all.
const MOST_WARNINGS: usize = 6;

/// What a reader has to know before believing a figure, a line each.
pub fn warnings(warnings: &[String]) -> String {
    let mut text = String::new();
    for warning in warnings.iter().take(MOST_WARNINGS) {
        text += &format!("warning: {warning}\n");
    }
    if warnings.len() > MOST_WARNINGS {
        text += &format!(
            "warning: and {} more of the kind\n",
            warnings.len() - MOST_WARNINGS
        );
    }
    text
}

/// Results of the same workload, parameters and series, in the order in which they came.
pub fn groups(results: &[CaseResult]) -> Vec<Vec<&CaseResult>> {
    let mut groups: Vec<Vec<&CaseResult>> = Vec::new();
    for case in results {
        match groups
            .iter_mut()
            .find(|g| g[0].spec == case.spec && g[0].series == case.series)
        {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    groups
}

/// The ratio of a case to the base case of its group, if both ran.
pub fn ratio_to_base(case: &CaseResult, group: &[&CaseResult]) -> Option<Ratio> {
    let base = group.iter().find(|c| c.allocator == BASE)?;
    ratio(&throughputs(case), &throughputs(base))
}

/// The ratio of operations per second of processor time, user and system: what is left of the difference when other
/// programs take the processor away. Nothing where the clock of the kernel is too coarse for the runs.
pub fn cpu_ratio_to_base(case: &CaseResult, group: &[&CaseResult]) -> Option<Ratio> {
    let base = group.iter().find(|c| c.allocator == BASE)?;
    ratio(&per_cpu_second(case)?, &per_cpu_second(base)?)
}

fn per_cpu_second(case: &CaseResult) -> Option<Vec<(usize, f64)>> {
    let round = |i: usize| case.rounds.get(i).copied().unwrap_or(i);
    let of = |(i, r): (usize, &Run)| {
        let cpu = r.user_secs + r.sys_secs;
        (cpu >= 0.001).then(|| (round(i), r.ops as f64 / cpu))
    };
    case.runs.iter().enumerate().map(of).collect()
}

/// Operations per second of each run with its round.
pub fn throughputs(case: &CaseResult) -> Vec<(usize, f64)> {
    let round = |i: usize| case.rounds.get(i).copied().unwrap_or(i);
    case.runs
        .iter()
        .enumerate()
        .map(|(i, r)| (round(i), r.ops_per_sec))
        .collect()
}

fn render_group(text: &mut String, group: &[&CaseResult]) {
    let first = group[0];
    let runs = group.iter().map(|c| c.runs.len()).max().unwrap_or(0);
    let series = match first.series {
        Series::Warm => "warm",
        Series::Cold => "cold",
    };
    let settled = group
        .iter()
        .any(|c| c.runs.iter().any(|r| r.rss_after_kib.is_some()));
    let unit = unit_of(group);
    let counted = group.iter().any(|c| c.instructions_per_op.is_some());
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} {}, {series}, {runs} runs each",
        first.spec.name(),
        first.spec.title()
    );
    let _ = write!(
        text,
        "  {:<14} {:>9} {:>19}  {:>20} {:>7} {:>9} {:>9} {:>7} {:>7} {:>9}",
        "allocator",
        format!("{unit} ops/s"),
        "(min–max)",
        "ratio to system",
        "by CPU",
        "faults",
        "(total)",
        "user s",
        "sys s",
        "RSS MiB"
    );
    if settled {
        let _ = write!(text, " {:>17}", "at rest (growth)");
    }
    if counted {
        let _ = write!(text, " {:>9}", "instr/op");
    }
    text.push('\n');
    for case in group {
        render_case(text, case, group, unit, settled, counted);
    }
    text.push('\n');
}

fn render_case(
    text: &mut String,
    case: &CaseResult,
    group: &[&CaseResult],
    unit: char,
    settled: bool,
    counted: bool,
) {
    let speeds: Vec<f64> = case
        .runs
        .iter()
        .map(|r| r.ops_per_sec / if unit == 'M' { 1e6 } else { 1e3 })
        .collect();
    if let Some(speed) = Summary::of(&speeds) {
        let middle = |of: fn(&Run) -> f64| {
            median(&case.runs.iter().map(of).collect::<Vec<_>>()).unwrap_or(0.0)
        };
        let range = format!("({}–{})", short(speed.min), short(speed.max));
        let _ = write!(
            text,
            "  {:<14} {:>9} {:>19}  {:>20} {:>7} {:>9.0} {:>9.0} {:>7.3} {:>7.3} {:>9.1}",
            case.allocator,
            short(speed.median),
            range,
            ratio_text(case, group),
            cpu_ratio_to_base(case, group).map_or("–".to_owned(), |r| format!("{:.2}", r.value)),
            middle(|r| (r.minor_faults_timed + r.major_faults_timed) as f64),
            middle(|r| (r.minor_faults_total + r.major_faults_total) as f64),
            middle(|r| r.user_secs),
            middle(|r| r.sys_secs),
            middle(|r| r.max_rss_kib as f64 / 1024.0),
        );
        if settled {
            let rest = middle(|r| r.rss_after_kib.unwrap_or(r.rss_end_kib) as f64 / 1024.0);
            let start = middle(|r| r.rss_start_kib as f64 / 1024.0);
            let _ = write!(text, " {:>17}", format!("{rest:.1} ({:+.1})", rest - start));
        }
        if counted {
            let count = case.instructions_per_op.map(|n| {
                if case.allocator == "null" {
                    format!("({n:.1})")
                } else {
                    format!("{n:+.1}")
                }
            });
            let _ = write!(text, " {:>9}", count.unwrap_or_else(|| "–".to_owned()));
        }
        text.push('\n');
        if let Some(latency) = &case.latency {
            for (what, p) in [("alloc", &latency.alloc), ("free", &latency.free)] {
                let _ = writeln!(
                    text,
                    "  {:<14} one {what}: p50 {} ns, p99 {} ns, p99.9 {} ns, worst {} ns ({} samples)",
                    "", p.p50_ns, p.p99_ns, p.p999_ns, p.worst_ns, p.samples
                );
            }
        }
        if let Some(line) = figure_line(case) {
            let _ = writeln!(text, "  {:<14} {line}", "");
        }
        let refused: u64 = case.runs.iter().map(|r| r.failed_allocs).sum();
        if refused > 0 {
            let _ = writeln!(text, "  {:<14} {refused} allocations were refused", "");
        }
    }
    for failure in &case.failures {
        let _ = writeln!(
            text,
            "  {:<14} run {} FAILED: {}",
            case.allocator,
            failure.round + 1,
            failure.error
        );
    }
}

/// The median of the figure that has a bound, with the bound and, for our own allocator, whether it is kept.
fn figure_line(case: &CaseResult) -> Option<String> {
    let bound = case.spec.bound()?;
    let figures: Vec<f64> = case.runs.iter().filter_map(|r| r.figure).collect();
    let summary = Summary::of(&figures)?;
    let verdict = match case.allocator.as_str() {
        "hakmem" if bound.holds(summary.median) => format!(": {bound} asked for, kept"),
        "hakmem" => format!(": {bound} asked for, MISSED"),
        _ => String::new(),
    };
    Some(format!(
        "{} {} ({}–{}){verdict}",
        short(summary.median),
        bound.unit,
        short(summary.min),
        short(summary.max)
    ))
}

/// Millions, or thousands where a million is never reached.
fn unit_of(group: &[&CaseResult]) -> char {
    let best = group
        .iter()
        .flat_map(|c| &c.runs)
        .map(|r| r.ops_per_sec)
        .fold(0.0, f64::max);
    if best >= 1e6 { 'M' } else { 'K' }
}

fn ratio_text(case: &CaseResult, group: &[&CaseResult]) -> String {
    if case.allocator == BASE {
        return "1".to_owned();
    }
    match ratio_to_base(case, group) {
        Some(r) => {
            let mark = if r.is_difference() { "" } else { " =" };
            format!("{:.2} [{:.2}–{:.2}]{mark}", r.value, r.low, r.high)
        }
        None => "–".to_owned(),
    }
}

/// Three significant digits, as far as a table needs them.
pub fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v if v >= 0.1 => format!("{v:.3}"),
        v => format!("{v:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Failure;
    use crate::workloads::Spec;

    fn case(allocator: &str, speeds: &[f64]) -> CaseResult {
        let mut case = CaseResult::at_speeds(allocator, speeds);
        for run in &mut case.runs {
            (run.minor_faults_timed, run.max_rss_kib) = (12, 2048);
        }
        case
    }

    #[test]
    fn a_table_shows_medians_ratios_and_failures() {
        let mut broken = case("null", &[]);
        broken.failures.push(Failure {
            round: 2,
            error: "crashed: signal 11".to_owned(),
        });
        let text = render(&[
            case("system", &[10.0, 12.0, 11.0]),
            case("hakmem", &[20.0, 24.0, 22.0]),
            broken,
        ]);
        assert!(
            text.contains("random-mixed 1000000 256 42, warm, 3 runs each"),
            "{text}"
        );
        assert!(
            text.contains("11.0         (10.0–12.0)                     1       –        12"),
            "{text}"
        );
        assert!(text.contains("2.00 [2.00–2.00]"), "{text}");
        assert!(text.contains("run 3 FAILED: crashed: signal 11"), "{text}");
    }

    #[test]
    fn no_difference_is_marked() {
        let text = render(&[case("system", &[10.0, 12.0]), case("hakmem", &[12.0, 10.0])]);
        assert!(text.contains("] ="), "{text}");
    }

    #[test]
    fn a_figure_is_shown_with_its_bound() {
        let with = |allocator: &str, figures: [f64; 3]| {
            let mut case = case(allocator, &[1.0, 1.0, 1.0]);
            case.spec = Spec::parse(&["cache-sets"]).unwrap();
            for (run, figure) in case.runs.iter_mut().zip(figures) {
                run.figure = Some(figure);
            }
            case
        };
        let text = render(&[
            with("system", [3.0, 2.0, 4.0]),
            with("hakmem", [0.5, 1.0, 2.0]),
        ]);
        assert!(text.contains(" 3.00 ns per touch (2.00–4.00)\n"), "{text}");
        let kept = " 1.00 ns per touch (0.500–2.00): at most 1 asked for, kept\n";
        assert!(text.contains(kept), "{text}");
        let text = render(&[with("hakmem", [1.5, 1.0, 2.0])]);
        assert!(text.contains(": at most 1 asked for, MISSED\n"), "{text}");
    }

    #[test]
    fn three_digits() {
        assert_eq!(
            [1234.5, 12.34, 1.234, 0.1234, 0.00123].map(short),
            ["1234", "12.3", "1.23", "0.123", "0.00123"]
        );
    }
}
