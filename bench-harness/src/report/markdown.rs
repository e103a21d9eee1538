//! A results file as Markdown: a table per measurement, or who wins what in one table for a README.

use clap::Args;

use super::figures::{self, Entry, FLOOR, Group, Place};
use super::{summary, text};
use crate::fail::{Fail, one_line};
use crate::output;
use crate::record::Results;
use crate::stats::Summary;
use crate::table::{BASE, short};

/// What markdown is asked.
#[derive(Debug, Args)]
pub struct Markdown {
    /// The results file
    pub results: std::path::PathBuf,
    /// One table of all measurements: the ratio of each allocator to system malloc, and who is first
    #[arg(long)]
    pub summary: bool,
}

/// Prints the tables.
pub fn run(markdown: &Markdown) -> Result<(), Fail> {
    let results = output::read(&markdown.results)?;
    let groups = figures::groups(&results);
    let text = if markdown.summary {
        matrix(&groups)
    } else {
        tables(&groups)
    };
    print!("{}{text}", warnings(&results));
    Ok(())
}

fn warnings(results: &Results) -> String {
    let line = |w: &String| format!("> {}\n", cell(w));
    results.warnings.iter().map(line).collect()
}

/// One table per measurement.
pub fn tables(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        text += &format!(
            "\n**{}** {}, {}\n\n",
            group.name,
            cell(&group.title),
            group.series
        );
        text += "| allocator | M ops/s (min–max) | ratio to system [95 %] | above the floor | page faults | RSS MiB |\n";
        text += "|---|---|---|---|---|---|\n";
        for entry in &group.entries {
            text += &format!(
                "| {} | {} |\n",
                cell(entry.name()),
                row(group, entry).join(" | ")
            );
        }
    }
    text
}

fn row(group: &Group, entry: &Entry) -> [String; 5] {
    let speeds: Vec<f64> = entry
        .case
        .runs
        .iter()
        .map(|r| r.ops_per_sec / 1e6)
        .collect();
    let failures = &entry.case.failures;
    let Some(speed) = Summary::of(&speeds) else {
        let why = failures.first().map_or("no run", |f| &f.error);
        let failed = format!("failed: {}", cell(why));
        return [
            failed,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ];
    };
    let lost = match failures.len() {
        0 => String::new(),
        n => format!(", {n} of {} runs failed", n + speeds.len()),
    };
    let range = format!(
        "{} ({}–{}){lost}",
        short(speed.median),
        short(speed.min),
        short(speed.max)
    );
    let above = group.above_floor(entry).filter(|_| !entry.is_floor());
    let faults = entry.middle(|r| r.minor_faults_timed as f64);
    let peak = entry.middle(|r| r.max_rss_kib as f64 / 1024.0);
    [
        range,
        ratio(entry),
        above.map_or("–".to_owned(), text::duration),
        faults.map_or("–".to_owned(), |n| format!("{n:.0}")),
        peak.map_or("–".to_owned(), |m| format!("{m:.1}")),
    ]
}

fn ratio(entry: &Entry) -> String {
    if entry.name() == BASE {
        return "1".to_owned();
    }
    let Some(r) = entry.ratio else {
        return "–".to_owned();
    };
    let mark = if r.is_difference() {
        ""
    } else {
        ", no difference"
    };
    format!("{:.2} [{:.2}–{:.2}{mark}]", r.value, r.low, r.high)
}

/// Measurement × allocator; bold where nobody is measurably faster.
pub fn matrix(groups: &[Group]) -> String {
    let mut names = figures::allocators(groups);
    names.retain(|n| n != FLOOR);
    let mut text = String::new();
    let standings = figures::standings(groups);
    if let Some(s) = summary::subject(&standings) {
        text += &format!(
            "{} is first in {} of {} measurements: alone in {}, level with others in {}.\n\n",
            cell(&s.name),
            s.first + s.level,
            groups.len(),
            s.first,
            s.level
        );
    }
    let cells = |row: Vec<String>| format!("| {} |\n", row.join(" | "));
    let head = names.iter().map(|n| cell(n));
    text += &cells([vec!["measurement".to_owned()], head.collect()].concat());
    text += &cells(vec!["---".to_owned(); names.len() + 1]);
    for group in groups {
        let title = format!("{} {}, {}", group.name, cell(&group.title), group.series);
        let places = names.iter().map(|n| place(group.entry(n)));
        text += &cells([vec![title], places.collect()].concat());
    }
    text + "\nRatios of operations per second to system malloc, 95 % interval in brackets; \"=\" where it includes 1. Bold: first, \
            nobody is measurably faster.\n"
}

fn place(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else {
        return "–".to_owned();
    };
    let value = match entry.ratio {
        _ if entry.time.is_none() => return "failed".to_owned(),
        _ if entry.name() == BASE => "1".to_owned(),
        Some(r) => text::bare_ratio(r.value),
        None => return "–".to_owned(),
    };
    let value = match entry.place {
        Place::First | Place::Level => format!("**{value}**"),
        _ => value,
    };
    let equal = if entry.ratio.is_some_and(|r| !r.is_difference()) {
        "= "
    } else {
        ""
    };
    let interval = entry.ratio.map_or(String::new(), |r| {
        format!(
            " [{}–{}]",
            text::bare_ratio(r.low),
            text::bare_ratio(r.high)
        )
    });
    format!("{equal}{value}{interval}")
}

/// Text that stays within one cell of a table.
fn cell(text: &str) -> String {
    one_line(text)
        .replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{case, pair, results};
    use super::*;
    use crate::record::{Failure, Series};

    fn failure(error: &str) -> Failure {
        Failure {
            round: 0,
            error: error.to_owned(),
        }
    }

    #[test]
    fn a_table_has_a_row_per_allocator() {
        let of = |name: &str, speeds: &[f64]| case(&pair(), name, Series::Warm, speeds);
        let file = results(vec![
            of("system", &[10e6, 12e6, 11e6]),
            of("hakmem", &[20e6, 24e6, 22e6]),
            of("null", &[100e6; 3]),
        ]);
        let text = tables(&figures::groups(&file));
        let wanted = "| hakmem | 22.0 (20.0–24.0) | 2.00 [2.00–2.00] | 35.5 ns | 12 | 8.8 |";
        assert!(text.contains(wanted), "{text}");
        assert!(
            text.contains("| system | 11.0 (10.0–12.0) | 1 | 80.9 ns |"),
            "{text}"
        );
    }

    #[test]
    fn without_system_there_is_no_ratio() {
        let file = results(vec![case(&pair(), "hakmem", Series::Warm, &[1e6; 3])]);
        let text = tables(&figures::groups(&file));
        assert!(
            text.contains("| hakmem | 1.00 (1.00–1.00) | – | – |"),
            "{text}"
        );
    }

    #[test]
    fn failures_are_named_and_columns_kept() {
        let mut partly = case(&pair(), "hakmem", Series::Warm, &[20e6, 24e6]);
        partly.failures.push(failure("hung"));
        let mut wholly = case(&pair(), "null", Series::Warm, &[]);
        wholly.failures.push(failure("a | b\nc <i>"));
        let file = results(vec![partly, wholly]);
        let text = tables(&figures::groups(&file));
        assert!(
            text.contains("(20.0–24.0), 1 of 3 runs failed | "),
            "{text}"
        );
        assert!(
            text.contains("| null | failed: a \\| b c &lt;i> |  |  |  |  |"),
            "{text}"
        );
    }

    #[test]
    fn the_summary_marks_who_is_first() {
        let of = |name: &str, speeds: &[f64]| case(&pair(), name, Series::Warm, speeds);
        let file = results(vec![
            of("system", &[10e6, 10.1e6, 9.9e6]),
            of("hakmem", &[20e6, 20.1e6, 19.9e6]),
            of("jemalloc", &[10e6, 10.2e6, 9.8e6]),
            of("broken", &[]),
            of("null", &[100e6; 3]),
        ]);
        let text = matrix(&figures::groups(&file));
        assert!(
            text.starts_with("hakmem is first in 1 of 1 measurements: alone in 1"),
            "{text}"
        );
        assert!(
            text.contains("| measurement | system | hakmem | jemalloc | broken |"),
            "{text}"
        );
        assert!(
            text.contains("| 1 | **2.00** [1.99–2.01] | = 1.00 [0.99–1.01] | failed |"),
            "{text}"
        );
    }
}
