//! Two results files against each other, or our allocator against the one called before in the same file.
//!
//! Speeds are taken relative to system malloc's runs of the same file where both have them, so that a machine that was busier
//! on one day is not taken for a slower allocator. What was counted is compared as it is: an instruction more is an
//! instruction more.

use std::path::PathBuf;

use clap::Args;

use crate::fail::Fail;
use crate::figures::{Group, Measure, Verdict, groups};
use crate::output;
use crate::results::{BASE, CaseResult, OURS, Results};
use crate::stats::{Ratio, median, ratio};
use crate::subjects::BEFORE;
use crate::{table, text};

#[derive(Debug, Args)]
pub struct Compare {
    /// The older results
    pub old: PathBuf,
    /// The newer results [default: the same file, whose allocator before is the older one]
    pub new: Option<PathBuf>,
    /// The allocator to look at
    #[arg(long, default_value = "hakmem")]
    pub allocator: String,
    /// Per cent by which the new one may be slower
    #[arg(long, default_value_t = 5.0)]
    pub bound: f64,
    /// Compare though the files come from different machines
    #[arg(long)]
    pub across_machines: bool,
}

/// Prints the comparison; fails with code 1 when anything became slower beyond the bound, fails now, or counts more.
pub fn run(compare: &Compare) -> Result<(), Fail> {
    if !(0.0..100.0).contains(&compare.bound) {
        return Err(Fail::usage(format!("--bound {}: expected 0 to 100", compare.bound)));
    }
    let (mut old, new) = (Results::read(&compare.old)?, Results::read(compare.new.as_ref().unwrap_or(&compare.old))?);
    if compare.new.is_none() {
        if compare.allocator != OURS {
            let name = &compare.allocator;
            return Err(Fail::usage(format!("--allocator {name}: expected two files, as before is {OURS} in one")));
        }
        if !old.results.iter().any(|c| c.allocator == BEFORE) {
            let file = compare.old.display();
            let line = format!(
                "{file} has no allocator {BEFORE}: measure with --allocators {OURS},{BEFORE}=EXECUTABLE, or name two files"
            );
            return Err(Fail::usage(line));
        }
        old.results.retain(|c| c.allocator != OURS);
        old.results.iter_mut().filter(|c| c.allocator == BEFORE).for_each(|c| c.allocator = OURS.to_owned());
    }
    if let Some(difference) = new.machine.difference(&old.machine).filter(|_| !compare.across_machines) {
        return Err(Fail::usage(format!(
            "the files come from different machines: {difference}; --across-machines compares them all the same"
        )));
    }
    let found = compared(&old, &new, &compare.allocator, compare.bound / 100.0);
    if found.rows.is_empty() {
        return Err(Fail::usage(format!("no measurement of {} is in both", compare.allocator)));
    }
    let head = ["measurement", "speed, new to old", "", "exact figures"].map(str::to_owned);
    let cells = |r: &Row| {
        vec![
            r.title.clone(),
            r.change.as_ref().map_or(String::new(), text::ratio),
            word(r.verdict).to_owned(),
            r.exact.join("; "),
        ]
    };
    output::show(&table::plain(&head, found.rows.iter().map(cells).collect(), 4))?;
    for (which, titles) in [("old", &found.only_old), ("new", &found.only_new)] {
        for title in titles {
            output::show(&format!("only in the {which} file: {title}\n"))?;
        }
    }
    let of = |verdict: Verdict| found.rows.iter().filter(|r| r.verdict == verdict).count();
    let (slower, failed) = (of(Verdict::Slower), of(Verdict::Failed));
    let more = found.rows.iter().filter(|r| r.counts_more).count();
    let total = found.rows.len();
    output::show(&format!(
        "{}: faster in {}, no difference in {}, slower in {slower}, noisy in {}, failed in {failed}; more \
         instructions or system calls in {more}\n",
        text::counted(total, "measurement"),
        of(Verdict::Faster),
        of(Verdict::Level),
        of(Verdict::Noisy)
    ))?;
    match (slower, failed, more) {
        (0, 0, 0) => Ok(()),
        _ => Err(Fail::run(format!(
            "{slower} of {}: slower by more than {} %; {failed} failed in the new file; {more} with more instructions or \
             system calls",
            text::counted(total, "measurement"),
            compare.bound
        ))),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Level => "no difference",
        Verdict::Slower => "SLOWER",
        Verdict::Noisy => "noisy",
        Verdict::Failed => "FAILED",
    }
}

/// How one measurement changed from the old file to the new one.
#[derive(Debug)]
struct Row {
    title: String,
    change: Option<Ratio>,
    verdict: Verdict,
    exact: Vec<String>,
    counts_more: bool,
}

#[derive(Debug)]
struct Compared {
    rows: Vec<Row>,
    only_old: Vec<String>,
    only_new: Vec<String>,
}

fn compared(old: &Results, new: &Results, allocator: &str, bound: f64) -> Compared {
    let (before, after) = (groups(old), groups(new));
    let of = |g: &Group| g.entry(allocator).map(|e| (e.case.spec.clone(), e.case.series));
    let partner = |all: &[Group], g: &Group| all.iter().position(|o| of(o).is_some() && of(o) == of(g));
    let alone = |mine: &[Group], others: &[Group]| -> Vec<String> {
        mine.iter().filter(|g| of(g).is_some() && partner(others, g).is_none()).map(Group::words).collect()
    };
    let row = |g: &Group| {
        let then = &before[partner(&before, g)?];
        Some(row([then, g], [then.entry(allocator)?.case, g.entry(allocator)?.case], bound))
    };
    Compared {
        rows: after.iter().filter(|g| of(g).is_some()).filter_map(row).collect(),
        only_old: alone(&before, &after),
        only_new: alone(&after, &before),
    }
}

fn row([before, after]: [&Group; 2], [then, now]: [&CaseResult; 2], bound: f64) -> Row {
    // The same clock on both sides: the one that is no noise on either.
    let measure = before.measure.max(after.measure);
    let change = ratio(&relative(after, now, measure), &relative(before, then, measure));
    let verdict = match &change {
        None if now.runs.is_empty() => Verdict::Failed,
        Some(r) if before.noise.is_some() || after.noise.is_some() || !r.value.is_finite() => Verdict::Noisy,
        // Both the best guess and the whole interval must say so.
        Some(r) if r.is_difference() && r.value < 1.0 - bound => Verdict::Slower,
        Some(r) if r.is_difference() && r.value > 1.0 + bound => Verdict::Faster,
        _ => Verdict::Level,
    };
    let mut row = Row { title: after.words(), change, verdict, exact: Vec::new(), counts_more: false };
    // Calls of runs of another length are another number.
    let same_length = then.exact.syscall_ops == now.exact.syscall_ops;
    for Count { what, digits, of, rounding } in COUNTS.iter().filter(|c| c.what != CALLS || same_length) {
        if let (Some(a), Some(b)) = (of(then), of(now))
            && (a - b).abs() > rounding.unwrap_or((0.1 * a.max(b)).max(1.0))
        {
            row.exact.push(format!("{a:.digits$} → {b:.digits$} {what}"));
            row.counts_more |= rounding.is_some() && b > a;
        }
    }
    row
}

/// What is counted of a case and not timed.
struct Count {
    what: &'static str,
    digits: usize,
    of: fn(&CaseResult) -> Option<f64>,
    /// Of what is exact: the rounding. More of it is a fault by itself. Threads and the clock have a hand in the others: a tenth
    /// is no change.
    rounding: Option<f64>,
}

const CALLS: &str = "system calls";

const COUNTS: [Count; 4] = [
    Count { what: "instructions per operation", digits: 1, of: |c| c.exact.instructions_per_op, rounding: Some(0.05) },
    Count { what: CALLS, digits: 0, of: |c| c.exact.syscalls.map(|n| n as f64), rounding: Some(0.0) },
    Count { what: "faults", digits: 0, of: |c| c.middle(|r| r.faults() as f64), rounding: None },
    Count { what: "MiB at the peak", digits: 1, of: |c| c.middle(|r| r.max_rss_kib as f64 / 1024.0), rounding: None },
];

/// Speeds of a case, divided by the median of the base's in the same file.
fn relative(group: &Group, case: &CaseResult, measure: Measure) -> Vec<(usize, f64)> {
    let base = group.entry(BASE).filter(|_| case.allocator != BASE);
    let speeds = |c: &CaseResult| measure.speeds(c);
    let base = base.and_then(|b| median(&speeds(b.case).iter().map(|s| s.1).collect::<Vec<_>>())).unwrap_or(1.0);
    speeds(case).into_iter().map(|(round, v)| (round, v / base)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{case, results, spec};
    use bench_subject::record::Series::Warm;

    fn at(allocator: &str, speed: f64) -> CaseResult {
        case(&spec("pair"), allocator, Warm, &[speed; 5])
    }

    fn verdict(old: Vec<CaseResult>, new: Vec<CaseResult>, bound: f64) -> Verdict {
        compared(&results(old), &results(new), "hakmem", bound).rows[0].verdict
    }

    #[test]
    fn a_change_beyond_the_bound_is_one_and_a_busier_machine_is_none() {
        let (fast, slow) = (vec![at("hakmem", 20.0)], vec![at("hakmem", 18.0)]);
        let mut failing = case(&spec("pair"), "hakmem", Warm, &[]);
        failing.add(0, Err("crashed: signal 11".to_owned()));
        let beside = |system: f64, ours: f64| vec![at("system", system), at("hakmem", ours)];
        for (old, new, bound, wanted) in [
            (fast.clone(), slow.clone(), 0.05, Verdict::Slower),
            (fast.clone(), slow.clone(), 0.2, Verdict::Level),
            (slow, fast.clone(), 0.05, Verdict::Faster),
            (fast, vec![failing], 0.05, Verdict::Failed),
            (beside(10.0, 20.0), beside(5.0, 10.0), 0.05, Verdict::Level),
        ] {
            assert_eq!(verdict(old, new, bound), wanted, "{bound}");
        }
    }

    #[test]
    fn both_sides_are_measured_by_one_clock() {
        // Processor time is the same everywhere. Elapsed time is noise on one side.
        let ran = |speeds: &[f64]| {
            let mut case = case(&spec("pair"), "hakmem", Warm, speeds);
            case.runs.iter_mut().for_each(|r| r.user_secs = 0.2);
            case
        };
        let (quiet, noisy) = (ran(&[20.0; 5]), ran(&[20.0, 60.0, 5.0, 20.0, 40.0]));
        let found = compared(&results(vec![quiet]), &results(vec![noisy]), "hakmem", 0.05);
        let change = found.rows[0].change.as_ref().expect("both ran");
        assert!((change.value - 1.0).abs() < 1e-9, "{change:?}");
        assert_eq!(found.rows[0].verdict, Verdict::Level);
    }

    #[test]
    fn counts_are_compared_exactly_and_lone_rows_are_named() {
        let counted = |instructions: f64, syscalls: i64| {
            let mut case = at("hakmem", 20.0);
            (case.exact.instructions_per_op, case.exact.syscalls) = (Some(instructions), Some(syscalls));
            case
        };
        let old = results(vec![counted(30.0, 5), case(&spec("batch"), "hakmem", Warm, &[1.0])]);
        let new = results(vec![counted(31.0, 5), case(&spec("replace"), "hakmem", Warm, &[1.0])]);
        let found = compared(&old, &new, "hakmem", 0.05);
        assert_eq!(found.rows[0].exact, ["30.0 → 31.0 instructions per operation"]);
        assert!(found.rows[0].counts_more && found.rows[0].verdict == Verdict::Level);
        assert!(found.only_old[0].starts_with("batch ") && found.only_new[0].starts_with("replace "), "{found:?}");
        // Calls count where the runs are of one length.
        let longer = |ops| {
            let mut case = counted(30.0, 9);
            case.exact.syscall_ops = ops;
            compared(&old, &results(vec![case]), "hakmem", 0.05).rows[0].exact.len()
        };
        assert_eq!([longer(None), longer(Some(7))], [1, 0]);
        let fewer = compared(&new, &old, "hakmem", 0.05);
        assert!(!fewer.rows[0].counts_more);
    }
}
